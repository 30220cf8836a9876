"""The page: complete, self-contained, escaped."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.detector import Finding
from blemish.errors import BlemishError
from blemish.report.page import HEADINGS, Figure, Row, make_row, write_page


def row(name: str, score: float = 0.9, truth: str | None = None, note: str = "", explain: bool = False) -> Row:
    image = np.full((64, 64, 3), 120, np.uint8)
    mask = np.zeros((64, 64), np.bool_)
    mask[20:30, 40:50] = score > 0.5
    explanation = {"reconstruction": image} if explain else {}
    finding = Finding(name, score, 0.5, score > 0.5, mask * np.float32(0.9), mask, [], explanation)
    return make_row(name, image, finding, 0.3, truth=truth, note=note)


class Content(HTMLParser):
    """The text of a page, and the tags and attributes of its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.open = "", [], []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(folder: Path, *rows: Row, title: str = "Title", figures: tuple[Figure, ...] = ()) -> str:
    write_page(
        folder / "index.html", title, "<p>An <em>introduction</em>.</p>", rows, figures=figures, footer="The <end>"
    )
    return (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_holds_every_row_with_its_verdict_and_pictures(tmp_path: Path) -> None:
    figures = (Figure("Defects found", "1 of 2", "Count them."),)
    page = Content(
        written(tmp_path, row("a.png", 0.9, "crack", "A note."), row("b.png", 0.25, "crack"), figures=figures)
    )
    assert not page.open
    for words in (
        "a.png",
        "b.png",
        "Score 0.9, above the limit 0.5",
        "Score 0.25, not above the limit 0.5",
        "A note.",
    ):
        assert words in page.text
    for words in ("Defects found", "1 of 2", "Count them.", "introduction", "The <end>"):
        assert words in page.text
    assert page.tags.count("img") == 6
    assert page.tags.count("em") == 1
    assert ("alt", "Outline of a.png") in page.attributes


@pytest.mark.parametrize(
    ("score", "truth", "words"),
    [
        (0.9, "crack", "Found."),
        (0.1, "crack", "Missed."),
        (0.9, "good", "False alarm."),
        (0.1, "good", "Correctly passed."),
    ],
)
def test_verdicts_are_judged_where_the_truth_is_known(tmp_path: Path, score: float, truth: str, words: str) -> None:
    page = Content(written(tmp_path, row("a.png", score, truth)))
    assert f"True label: {truth}. {words}" in page.text
    assert "True label" not in Content(written(tmp_path, row("a.png", score))).text


def test_the_reconstruction_is_explained_only_where_there_is_one(tmp_path: Path) -> None:
    heading = HEADINGS["reconstruction"]
    assert heading not in written(tmp_path, row("a.png"))
    page = Content(written(tmp_path, row("a.png", explain=True)))
    assert page.text.count(heading) == 2  # its caption and the legend
    assert page.tags.count("img") == 4


def test_pictures_of_joined_methods_are_explained_together(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    headings = ("draem map", "draem reconstruction", "ssae map", "dsr object-specific", "dsr general")
    shown = replace(row("a.png"), pictures=tuple((heading, picture) for heading in headings))
    text = Content(written(tmp_path, shown)).text
    assert "draem map, ssae map: how unusual each pixel is to one of the joined methods" in text
    assert "draem reconstruction: the model's reconstruction" in text
    assert "dsr object-specific: the image as" in text
    assert "dsr general: the image as" in text


def test_the_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    html = written(tmp_path, row("a.png", explain=True))
    page = Content(html)
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    sources = [value or "" for key, value in page.attributes if key in ("src", "href", "srcset")]
    assert len(sources) == 4
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?:|url\(|@import", html)


def test_what_is_not_trusted_is_escaped(tmp_path: Path) -> None:
    nasty = "x/<script>alert(1)</script> & \"quoted\" 'name'.png"
    html = written(tmp_path, row(nasty, truth=nasty, note=nasty), title=nasty, figures=(Figure(nasty, nasty, nasty),))
    page = Content(html)
    assert "script" not in page.tags
    assert page.text.count(nasty) >= 7
    assert ("alt", f"Photograph of {nasty}") in page.attributes
    assert not page.open


def embedded(html: str, number: int) -> NDArray[np.uint8]:
    data = re.findall(r"base64,([^\"]+)", html)[number]
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(decoded, dtype=np.uint8)[..., ::-1]


def test_pictures_are_embedded_in_their_true_colours(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 200
    empty = np.zeros((64, 64), np.bool_)
    finding = Finding("red.png", 0.1, 0.5, False, empty.astype(np.float32), empty, [])
    html = written(tmp_path, make_row("red.png", image, finding, 0.3))
    assert np.abs(embedded(html, 0).astype(int) - [200, 0, 0]).max() < 12


def test_a_hairline_of_a_large_image_is_still_outlined(tmp_path: Path) -> None:
    image = np.full((3000, 4000, 3), 120, np.uint8)
    mask = np.zeros((3000, 4000), np.bool_)
    mask[1500, 1000:3000] = True
    finding = Finding("large.png", 0.9, 0.5, True, mask.astype(np.float32), mask, [])
    outline = embedded(written(tmp_path, make_row("large.png", image, finding, 0.3)), 2)
    assert outline.shape == (240, 320, 3)
    yellow = (outline[..., 0] > 180) & (outline[..., 2] < 90)
    assert yellow[110:130, 80:240].any(axis=0).all()
    assert not yellow[:100].any()


def test_a_row_says_that_the_least_area_decided(tmp_path: Path) -> None:
    image, empty = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.bool_)
    finding = Finding("specks.png", 0.9, 0.5, False, empty.astype(np.float32), empty, [], min_area_px=50)
    html = written(tmp_path, make_row("specks.png", image, finding, 0.3))
    assert "<strong>PASS</strong><p>Score 0.9, above the limit 0.5.</p>" in html
    assert "<p>It is good, as it has no region of 50 px or more.</p>" in html


def test_wide_pictures_get_a_line_of_their_own(tmp_path: Path) -> None:
    image, empty = np.zeros((40, 2000, 3), np.uint8), np.zeros((40, 2000), np.bool_)
    finding = Finding("wide.png", 0.1, 0.5, False, empty.astype(np.float32), empty, [])
    page = Content(written(tmp_path, make_row("wide.png", image, finding, 0.3)))
    assert page.attributes.count(("class", "wide")) == 3
    assert ("width", "1200") in page.attributes


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="cannot be written"):
        written(tmp_path / "missing", row("a.png"))
