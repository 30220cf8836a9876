"""Fixtures for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes that tests start and interrupt inherit it
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # must be set before Triton is imported

from blemish.detector import Detector
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.runtimes.torch import TorchRuntime
from blemish.thresholds import Threshold
from card import a_card


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a process that ran tests died: by which signal, or with which code."""
    process = getattr(node.gateway._io, "popen", None)
    if error is not None and process is not None:
        print(f"\n{node.gateway.id} ended with {process.wait(timeout=60)}", flush=True)


LONGEST = (
    "test_docs", "test_exported_files", "test_cli", "test_dsr", "test_tables", "test_draem", "test_ssae",
    "test_export", "test_combined", "test_grid", "test_pretraining", "test_fit", "test_exported_tiles", "test_ray",
    "test_features", "test_patchcore", "test_nearest_codes", "test_serve_command", "test_openapi", "test_products",
    "test_watch_record", "test_watch", "test_dsr_codebook", "test_combining", "test_crash",
)  # fmt: skip
"""The files that take longest, with the longest about first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let processes that share the files begin with the longest, so that none works at one alone in the end.

    They take them in the order of the collection, if pytest is told ``--no-loadscope-reorder``.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


class Darkness(DRAEM):
    """Stands in for a trained network: dark pixels are anomalous."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        anomaly_map = 1.0 - images.mean(1, keepdim=True)  # (B, 1, H, W)
        return anomaly_map, anomaly_map.amax((1, 2, 3))  # scores (B,)


@pytest.fixture
def darkness() -> Detector:
    """A detector of dark pixels, at 16 px, with the threshold at middle grey."""
    widths = {"reconstructive_widths": (4, 4), "discriminative_widths": (4, 4)}
    settings = DRAEMSettings(image_size_px=16, score_window_px=5, **widths)
    return Detector(TorchRuntime(Darkness(settings)), Threshold(0.5, 0.01, n_calibration=0, n_needed=99), 0.5, (), {})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the repository; tests that use it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is missing")
    return folder


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A simulated GPU."""
    with a_card(monkeypatch) as device:
        yield device
