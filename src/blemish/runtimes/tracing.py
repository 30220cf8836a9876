"""Modules as graphs: traced by torch, and written in ONNX."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def traced(module: nn.Module, *inputs: Tensor, n_free_axes: Sequence[int] = (1,)) -> torch.export.ExportedProgram:
    """Return a module as one graph.

    Parameters
    ----------
    n_free_axes : how many of the first axes of each input may have any length; they are 2 or longer in ``inputs``.
    """
    free = tuple(dict.fromkeys(range(n), torch.export.Dim.DYNAMIC) or None for n in n_free_axes)
    with torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes=free)


def in_onnx(program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """Return a traced graph as an ONNX model (``onnx.ModelProto``) with these names of inputs and outputs."""
    names = {"input_names": inputs, "output_names": outputs}
    exported = torch.onnx.export(program, dynamo=True, verbose=False, **names)  # type: ignore[arg-type]
    assert exported is not None
    return exported.model_proto


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hold back what torch, OpenVINO and NNCF say while they export: it is about their own code, not about the model.

    Warnings and messages of their loggers are shown only if the export fails, when they may tell why. The warnings
    change with each version of the libraries, so they are not told apart by their words.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "nncf", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(record=True) as held_back:
        warnings.simplefilter("always")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        except Exception:
            for warning in held_back:
                print(f"{warning.category.__name__}: {warning.message}", file=sys.stderr)
            raise
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
