"""A service with a tiny detector, on a real server and a real database."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from breakable import read_or_crash
from numpy.typing import NDArray
from PIL import Image

from blemish.detector import Detector
from blemish.methods import METHODS
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.record.record import VerdictRecord
from blemish.record.storage import Storage
from blemish.record.writer import Writer
from blemish.runtimes.torch import TorchRuntime
from blemish.serve.app import create_app
from blemish.serve.decoding import Reader
from blemish.serve.detectors import Served
from blemish.serve.service import Limits, Service
from blemish.thresholds import Threshold

WAIT_S = 60.0


def png(grey: int | NDArray[np.uint8] = 255, side_px: int = 16, format_name: str = "PNG") -> bytes:
    """A photograph, light unless told otherwise: what is dark is defective."""
    pixels = np.full((side_px, side_px, 3), grey, np.uint8) if isinstance(grey, int) else grey
    file = BytesIO()
    Image.fromarray(pixels).save(file, format_name)
    return file.getvalue()


def spotted() -> bytes:
    """A photograph with a dark square."""
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[16:32, 16:32] = 0
    return png(pixels)


GOOD, DEFECTIVE = png(), spotted()


class Darkness(DRAEM):
    """Stands in for a trained network: dark pixels are anomalous. It waits for ``gate`` before each batch."""

    gate = threading.Event()
    gate.set()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.gate.wait(WAIT_S)
        anomaly_map = 1.0 - images.mean(1, keepdim=True)  # (B, 1, H, W)
        return anomaly_map, anomaly_map.amax((1, 2, 3))  # scores (B,)


def darkness(threshold: float = 0.5) -> Detector:
    """A detector of dark pixels, at 16 px, with the threshold at middle grey."""
    settings = DRAEMSettings(
        image_size_px=16, score_window_px=5, reconstructive_widths=(4, 4), discriminative_widths=(4, 4)
    )
    scores = [0.01 * number for number in range(20)]
    return Detector(TorchRuntime(Darkness(settings)), Threshold(threshold, 0.05, 20, 19), 0.5, scores, {})


@contextmanager
def named() -> Iterator[None]:
    """Lets files of that detector be loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "draem", Darkness)
        yield


def served(threshold: float = 0.5, digest: str = "d" * 64) -> Served:
    """That detector, as it is served."""
    return Served(darkness(threshold), digest)


@dataclass
class Running:
    """A service on a server in a thread of this process."""

    service: Service
    record: VerdictRecord
    http: httpx.Client
    url: str
    gate: threading.Event

    def inspect(self, content: bytes, product: str = "gasket", **about: Any) -> httpx.Response:
        """Send a photograph."""
        headers = {"Content-Type": "image/png"} | about.pop("headers", {})
        return self.http.post(f"/products/{product}/inspect", content=content, headers=headers, params=about)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, oldest first."""
        return self.record.verdicts(limit=1000, newest_first=False)[0]


@contextmanager
def running(
    folder: Path,
    *,
    limits: Limits | None = None,
    products: Mapping[str, Served] | None = None,
    read: Reader = read_or_crash,
    given: Mapping[str, Path] | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] | None = None,
) -> Iterator[Running]:
    """A service that runs; with ``gasket`` unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    Darkness.gate.set()
    with ExitStack() as stack:
        record = stack.enter_context(VerdictRecord.open(str(folder / "verdicts.db")))
        storage = stack.enter_context(Storage(folder / "storage", record=record))
        writer = stack.enter_context(Writer(record))
        service = Service(record, writer, storage, limits=limits, read=read)
        service.decoders.start()
        if given is not None:
            service.catalogue.open(given)
        for name, each in (products or {"gasket": served()}).items() if given is None else ():
            service.serve(name, each)
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(service, token, hosts)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            # To load certificates, which no test needs, would take 0.2 s.
            with httpx.Client(base_url=url, timeout=WAIT_S, headers=headers, verify=False) as http:
                yield Running(service, record, http, url, Darkness.gate)
        finally:
            Darkness.gate.set()
            service.stop_accepting()
            server.should_exit = True
            thread.join()
            listener.close()
            app.state.page.close()
            service.close()


def wait_for(what: Callable[[], Any]) -> Any:
    """Wait until something is true."""
    until_s = time.monotonic() + WAIT_S
    while not (result := what()):
        assert time.monotonic() < until_s, "it did not come"
        time.sleep(0.01)
    return result
