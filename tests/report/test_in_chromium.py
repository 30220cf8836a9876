"""The report in a real browser: it is drawn, its script runs; screenshots are kept in `build/screenshots`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_evaluation_page import data  # noqa: F401  (a fixture)

from blemish.detector import Detector
from blemish.evaluation.evaluate import evaluate
from blemish.report.evaluation_page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture
def report(darkness: Detector, data: Path, tmp_path: Path) -> Path:  # noqa: F811
    path = tmp_path / "report.html"
    write_report(path, darkness, evaluate(darkness, data), "parts")
    return path


def chromium(profile: Path, *arguments: str) -> str:
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
    done = subprocess.run(
        [str(CHROMIUM), *options, f"--user-data-dir={profile}", *arguments],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return done.stdout.decode()


@pytest.mark.parametrize(("width_px", "height_px"), [(1100, 1600), (420, 2400)])
def test_the_report_fills_a_wide_and_a_narrow_window(
    report: Path, tmp_path: Path, width_px: int, height_px: int
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = SCREENSHOTS / f"report-{width_px}.png"
    picture.unlink(missing_ok=True)
    chromium(
        tmp_path / "profile", f"--window-size={width_px},{height_px}", f"--screenshot={picture}", report.as_uri()
    )
    pixels = cv2.imread(str(picture))
    assert pixels.shape[:2] == (height_px, width_px)
    is_paper = (pixels == pixels[2, 2]).all(axis=2)
    margin_px = np.flatnonzero((~is_paper).any(axis=0))
    assert margin_px[0] >= 8, "something is cut off at the left"
    assert width_px - margin_px[-1] >= 8, "something reaches beyond the right edge"
    assert 0.2 < (~is_paper).mean() < 0.95


def test_filter_and_order_work(report: Path, tmp_path: Path) -> None:
    page = report.read_text(encoding="utf-8")
    choice = 'show.value = "truth:dent"; order.value = "high"; update();\n</script>'
    chosen = page.replace("update();\n</script>", choice)
    assert chosen != page
    report.write_text(chosen, encoding="utf-8")
    dom = chromium(tmp_path / "profile", "--dump-dom", report.as_uri())
    sections = re.findall(r"<section ([^>]*)>", dom)
    scores = [
        float(re.search(r'data-score="([^"]*)"', attributes).group(1))  # type: ignore[union-attr]
        for attributes in sections
    ]
    assert scores == sorted(scores, reverse=True)
    shown = [attributes for attributes in sections if "hidden" not in attributes]
    assert len(shown) == 1
    assert 'data-truth="dent"' in shown[0]
    assert "1 shown" in dom
