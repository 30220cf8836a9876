"""Charts, and the report of an evaluation."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.layouts import Sample
from blemish.detector import Detector
from blemish.evaluation.evaluate import Evaluation, evaluate
from blemish.metrics import Curve
from blemish.report import evaluation_page
from blemish.report.charts import BOTTOM, LEFT, RIGHT, TOP, Axis, curves_chart, scores_chart
from blemish.report.evaluation_page import write_report
from blemish.report.overlay import EXTRA_RGB, HIT_RGB, MISSED_RGB, draw_hits_and_misses


def svg_of(figure: str) -> ET.Element:
    match = re.search(r"<svg.*?</svg>", figure, re.S)
    assert match
    return ET.fromstring(match.group())  # fails if it is not valid XML, which a browser would not draw


# --- charts --------------------------------------------------------------------------------------------------


def test_a_curve_goes_from_corner_to_corner() -> None:
    curve = Curve(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    figure = curves_chart("ROC", Axis("rate"), Axis("recall"), [("a < b", curve)])
    (line,) = svg_of(figure).iter("polyline")
    assert line.get("points") == f"{LEFT}.0,{BOTTOM}.0 {LEFT}.0,{TOP}.0 {RIGHT}.0,{TOP}.0"
    assert "a &lt; b" in figure


def test_a_chart_without_points_says_why() -> None:
    nothing = Curve(np.empty(0), np.empty(0))
    assert "Not defined" in curves_chart("ROC", Axis("rate"), Axis("recall"), [("images", nothing)])


@pytest.mark.parametrize(
    ("good", "defective"), [([0.1, 0.2, 0.2], [0.5, 0.9]), ([0.3], []), ([], [0.4, 0.4]), ([0.0, 0.0], [0.0])]
)
def test_all_scores_are_counted_and_all_bars_inside(good: list[float], defective: list[float]) -> None:
    svg = svg_of(scores_chart("Scores", np.array(good), np.array(defective), 0.35))
    middle = (TOP + BOTTOM) / 2
    heights = {"first": 0.0, "second": 0.0}
    for bar in svg.iter("rect"):
        x, y, width, height = (float(bar.get(name, "nan")) for name in ("x", "y", "width", "height"))
        assert LEFT - 0.1 <= x <= x + width <= RIGHT + 0.5
        assert TOP - 0.1 <= y <= y + height <= BOTTOM + 0.1
        if bar.get("class") in heights:
            heights[str(bar.get("class"))] += height
            assert (y < middle - 0.05) == (bar.get("class") == "first")
    if good and defective:
        assert heights["first"] / heights["second"] == pytest.approx(len(good) / len(defective), rel=0.01)
    assert (heights["first"] > 0, heights["second"] > 0) == (bool(good), bool(defective))


def test_found_and_missed_have_their_colours() -> None:
    image = np.zeros((1, 4, 3), np.uint8)
    mask, truth = np.array([[True, True, False, False]]), np.array([[True, False, True, False]])
    picture = draw_hits_and_misses(image, mask, truth).astype(int)
    for pixel, colour in zip(picture[0], (HIT_RGB, EXTRA_RGB, MISSED_RGB), strict=False):
        np.testing.assert_allclose(pixel, 0.35 * 40 + 0.65 * np.array(colour), atol=1)
    assert (picture[0, 3] == 40).all()
    lightness = [picture[0, n] @ [0.299, 0.587, 0.114] for n in range(3)]
    assert np.diff(sorted(lightness)).min() > 8  # distinguishable in grey, too


# --- the report ----------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dark good image (a false alarm), a light dent (a miss), and a <b> defect without a mask (found)."""
    rows = ["path,label,mask,split"]
    for name, grey, label in (("a", 200, "good"), ("b", 20, "good"), ("c", 230, "dent"), ("d", 10, "<b>hole")):
        Image.fromarray(np.full((30, 40), grey, np.uint8)).save(tmp_path / f"{name}.png")
        rows.append(f"{name}.png,{label},{'mask.png' if label == 'dent' else ''},test")
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 5:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "parts.csv").write_text("\n".join(rows))
    return tmp_path / "parts.csv"


def test_the_report_lists_images_figures_and_charts(darkness: Detector, data: Path) -> None:
    report = data.parent / "report.html"
    write_report(report, darkness, evaluate(darkness, data), "parts")
    page = report.read_text(encoding="utf-8")
    order = re.findall(r'<section data-score="[^"]*" data-truth="([^"]*)" data-judgement="([^"]*)"', page)
    assert order == [("dent", "missed"), ("good", "false-alarm"), ("&lt;b&gt;hole", "found"), ("good", "passed")]
    assert "1 of 2" in page
    assert "<b>hole" not in page
    assert page.count("<svg") == 4
    assert not re.search(r'(src|href)="(?!data:)', page), "the page must be self-contained"
    assert page.count("data:image/jpeg") == 4 * 4
    assert '<option value="truth:dent">' in page
    assert "All 4 images" in page


def test_of_many_images_every_wrong_verdict_is_shown(
    darkness: Detector, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_page, "MAX_ROWS", 3)
    report = data.parent / "report.html"
    write_report(report, darkness, evaluate(darkness, data), "parts")
    page = report.read_text(encoding="utf-8")
    assert re.findall(r'data-judgement="([^"]*)"', page) == ["missed", "false-alarm", "found"]
    assert "3 of 4 images: 2 of 2 wrong verdicts, the worst first, and others" in page


def test_of_too_many_images_some_of_each_judgement_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_page, "MAX_ROWS", 40)
    n = 1000
    scores = np.random.default_rng(0).random(n)
    kinds = ("dent", "good")
    samples = tuple(Sample(Path(str(i)), "test", i % 2 == 0, kinds[i % 2], None) for i in range(n))
    evaluation = Evaluation({"threshold": 0.5}, samples, scores, rankings=None)  # type: ignore[arg-type]
    chosen = evaluation_page._chosen(evaluation)
    assert len(set(chosen)) == len(chosen) == 40
    wrong = [(scores[i] > 0.5) != samples[i].is_defective for i in chosen]
    assert sum(wrong) == 30
    misses = [i for i in chosen if samples[i].is_defective and scores[i] <= 0.5]
    assert misses[0] == min((i for i in range(0, n, 2)), key=lambda i: scores[i])  # the worst first


def test_one_class_only_still_makes_a_report(darkness: Detector, data: Path) -> None:
    data.write_text("path,label,split\na.png,good,test\n")
    report = data.parent / "report.html"
    write_report(report, darkness, evaluate(darkness, data), "parts")
    page = report.read_text(encoding="utf-8")
    assert "Not defined" in page
    assert "good images only" in page
