"""The files of an evaluation: ``metrics.json``, ``scores.csv`` and ``report.html``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from blemish.detector import Detector
from blemish.evaluation.evaluate import Evaluation
from blemish.files import check_own, write_text
from blemish.report.evaluation_page import write_report

METRICS, SCORES, REPORT = "metrics.json", "scores.csv", "report.html"


def check_results(folder: Path) -> None:
    """Check that files which ``write_results`` would replace are results of blemish.

    Raises
    ------
    BlemishError
        If one of them is not, or cannot be read.
    """
    check_own(folder / METRICS, lambda content: b'"image_auroc": ' in content)
    check_own(folder / SCORES, lambda content: content.startswith(b"path,defect,score,"))
    check_own(folder / REPORT, lambda content: content.startswith(b'<!doctype html>\n<html lang="en"><head>'))


def write_results(folder: Path, detector: Detector, evaluation: Evaluation) -> None:
    """Write the three files; ``metrics.json`` is the last, so where it is, the others are too.

    Raises
    ------
    BlemishError
        If a file cannot be written.
    """
    (folder / METRICS).unlink(missing_ok=True)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "defect", "score", "is_rejected", "unlike"])
    verdicts = zip(evaluation.scores.tolist(), evaluation.is_rejected.tolist(), evaluation.unlike, strict=True)
    for sample, (score, is_rejected, unlike) in zip(evaluation.samples, verdicts, strict=True):
        writer.writerow([sample.path, sample.defect, score, is_rejected, "; ".join(unlike)])
    write_text(folder / SCORES, text.getvalue())
    write_report(folder / REPORT, detector, evaluation, evaluation.metrics["data"])
    write_text(folder / METRICS, json.dumps(evaluation.metrics, indent=2) + "\n")
