"""The process that works at one cell: ``python -m blemish.fleet.worker CELL.json``.

It trains unless the run is finished (from the checkpoint if there is one), makes the evaluations that are missing,
and ends. Its output is the log. With ``--stop-at-eof`` it stops, with a checkpoint, when its standard input is
closed: by whoever started it, or by the system when that process dies, however it dies.
"""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

from blemish.errors import BlemishError, print_notices
from blemish.fleet.cells import DETECTOR, FAILED, LOCK, METRICS, Cell, Evaluation
from blemish.fleet.locks import held

DONE, FAULT, STOPPED = 0, 1, 130
"""Exit codes. After FAULT the reason is in ``failed.txt``."""
LINE_EVERY_S = 10.0


def run_cell(cell: Cell, folder: Path) -> None:
    """Do what is left of a cell; done twice, it changes nothing.

    Parameters
    ----------
    folder : the cell's own folder, which becomes the run folder.

    Raises
    ------
    BlemishError
        If the folder holds a run with other data, options or settings, or the training or an evaluation fails.
    TrainingInterrupted
        After Ctrl-C, once the checkpoint is written.
    """
    with held(folder / LOCK):  # before the seconds that torch takes to import
        from blemish.learning.fit import fit, state_of

        (folder / FAILED).unlink(missing_ok=True)
        options = vars(cell.fit_options)
        state, has_detector = state_of(folder, **options), (folder / DETECTOR).exists()
        if state == "empty" and (has_detector or (folder / "checkpoint.pt").exists()):
            raise BlemishError(f"{folder}: holds another run, without its config.yaml; move it away")
        if state != "finished" or not has_detector:
            for evaluation in cell.evaluations:  # of an earlier detector
                (folder / evaluation.name / METRICS).unlink(missing_ok=True)
            fit(**options, out=folder, resume=state != "empty", reporter=_Lines())
        for evaluation in cell.evaluations:
            if not (folder / evaluation.name / METRICS).exists():
                _evaluate(cell, evaluation, folder)


def _evaluate(cell: Cell, evaluation: Evaluation, folder: Path) -> None:
    from blemish.detector import Detector
    from blemish.devices import resolve_device
    from blemish.evaluation.evaluate import evaluate
    from blemish.files import owned_folder
    from blemish.learning.fit import part_of
    from blemish.report.results import check_results, write_results

    out = folder / evaluation.name
    check_results(out)
    options = cell.fit_options
    detector = Detector.load(folder / DETECTOR, resolve_device(options.device), options.precision)
    if evaluation.part:
        detector = part_of(detector, evaluation.part, options)
    with owned_folder(out):
        result = evaluate(detector, evaluation.data, evaluation.layout, evaluation.protocol, evaluation.mask_values)
        print_notices(result.notices)
        write_results(out, detector, result)
    print(f"evaluated: {evaluation.name}", flush=True)


class _Lines:
    """Progress of the training as lines of the log; a ``learning.record.Reporter``."""

    def __init__(self) -> None:
        self.last_line_s = -LINE_EVERY_S

    def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
        """Print a line, but not more often than every ten seconds."""
        if step == n_steps or time.monotonic() - self.last_line_s >= LINE_EVERY_S:
            self.last_line_s = time.monotonic()
            values = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            print(f"{stage} {step}/{n_steps}  {values}", flush=True)


def main(arguments: list[str]) -> int:
    """Run the cell of ``cell.json``; return the exit code."""
    path = Path(arguments[0])
    if "--stop-at-eof" in arguments:
        threading.Thread(target=_stop_at_eof, daemon=True).start()
    try:
        run_cell(Cell.from_json(json.loads(path.read_text(encoding="utf-8"))), path.parent)
    except KeyboardInterrupt as stop:
        print(f"blemish: {str(stop) or 'stopped'}", file=sys.stderr)
        return STOPPED
    except Exception as error:
        if isinstance(error, BlemishError):
            reason = " ".join(line.strip() for line in str(error).splitlines())
        else:
            traceback.print_exc()
            first_line = (str(error).strip() or "no message").splitlines()[0]
            reason = f"{type(error).__name__}: {first_line} (a fault of blemish, or of the machine)"
        print(f"blemish: {reason}", file=sys.stderr)
        (path.parent / FAILED).write_text(f"{reason}\n", encoding="utf-8", errors="backslashreplace")
        return FAULT
    return DONE


def _stop_at_eof() -> None:
    """Interrupt the main thread as Ctrl-C does, once standard input is closed."""
    while os.read(0, 1):
        pass
    _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
