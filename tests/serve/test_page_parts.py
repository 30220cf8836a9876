"""The search, and a part with its layers, its slider and its review, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser, tab  # noqa: F401  (a fixture)
from PIL import Image
from services import DEFECTIVE, GOOD, Running, png, running, wait_for

from blemish.detector import Detector
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.record.rows import NewVerdict
from blemish.serve.detectors import load

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

expect.set_options(timeout=60_000)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as each:
        yield each


@pytest.fixture
def page(browser: Any, line: Running) -> Iterator[Any]:  # noqa: F811
    with tab(browser, line.url) as each:
        yield each


def add(line: Running, n: int, **columns: Any) -> list[int]:
    """Record parts without photographs."""
    verdicts = [
        NewVerdict(**{"product": "gasket", "verdict": "good", "part": f"P{number}", "score": 0.1, "threshold": 0.5,
                      "detector": "d" * 64, **columns}) for number in range(n)
    ]  # fmt: skip
    return line.record.add(verdicts)


def test_pages_of_a_search_hold_each_part_once(page: Any, line: Running) -> None:
    add(line, 120)
    page.goto("/parts")
    seen = list[str]()
    while True:
        expect(page.locator("tbody tr").first).to_be_visible()
        seen += page.locator("tbody tr td:nth-child(3)").all_inner_texts()
        older = page.get_by_role("link", name="Older")
        if not older.count():
            break
        add(line, 1, part="later")
        older.click()
    assert seen == [f"P{number}" for number in reversed(range(120))]
    page.get_by_role("link", name="Newer").click()
    expect(page.locator("tbody tr td:nth-child(3)").first).to_have_text("P69")
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("tbody tr td:nth-child(3)").first).to_have_text("later")


def test_a_search_finds_what_is_asked_for_and_its_links_carry_it(page: Any, line: Running) -> None:
    add(line, 3, lot="A&B=3", verdict="defective")
    add(line, 2, lot="A&B=3")
    add(line, 2, lot="other", verdict="defective")
    page.goto("/parts")
    page.get_by_label("Verdict", exact=True).select_option("Defective")
    page.get_by_label("Lot").fill("A&B=3")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("link", name="P1").last.click()
    page.locator("#next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Part P0")
    page.get_by_role("link", name="All verdicts").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("From").fill("2001-01-01T00:00")
    page.get_by_label("To (").fill("2001-01-02T00:00")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No part is like that")).to_be_visible()


def test_a_search_for_no_time_says_so(page: Any, line: Running) -> None:
    add(line, 1)
    page.goto("/parts?since=yesterday")
    expect(page.get_by_role("alert")).to_contain_text("yesterday: is no time")


def test_a_part_is_reviewed_by_keyboard(page: Any, line: Running) -> None:
    numbers = add(line, 3, verdict="defective", score=0.9)
    page.goto(f"/parts/{numbers[1]}")
    expect(page.get_by_text("Nobody has looked at it yet")).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.type("a dad saw it")  # no letter of it is an order
    page.keyboard.press("Escape")
    page.get_by_label("Your name").fill("Ann Ö.")
    page.keyboard.press("Enter")  # reviews nothing
    page.keyboard.press("Escape")
    assert line.record.verdict(numbers[1])["review"] is None
    page.keyboard.press("d")
    expect(page.get_by_role("status").first).to_contain_text("Recorded: this part is good")
    review = line.record.verdict(numbers[1])["review"]
    assert (review["is_defective"], review["by"], review["note"]) == (False, "Ann Ö.", "a dad saw it")
    page.keyboard.press("a")  # taken back
    expect(page.get_by_role("status").first).to_contain_text("Recorded: this part is defective")
    assert [each["is_defective"] for each in line.record.verdict(numbers[1])["reviews"]] == [True, False]
    page.keyboard.press("j")
    expect(page.get_by_role("heading", level=1)).to_have_text("Part P0")
    expect(page.get_by_label("Your name")).to_have_value("Ann Ö.")
    page.keyboard.press("a")
    expect(page.get_by_role("status").first).to_contain_text("defective")
    page.keyboard.press("k")  # the one between is reviewed
    expect(page.get_by_role("heading", level=1)).to_have_text("Part P2")
    assert line.record.verdict(numbers[0])["review"]["is_defective"] is True


def test_to_agree_that_a_part_is_unlike_rejects_it(page: Any, line: Running) -> None:
    (number,) = add(line, 1, verdict="unlike", reason="darker than all good images", score=0.2)
    page.goto(f"/parts/{number}")
    expect(page.get_by_text("darker than all good images")).to_be_visible()
    page.get_by_role("button", name="Agree it is defective").click()
    expect(page.get_by_role("status").first).to_contain_text("Recorded: this part is defective")


def test_the_slider_shows_what_another_threshold_would_change(page: Any, line: Running) -> None:
    for score in (0.1, 0.2, 0.3, 0.6, 0.7):
        add(line, 1, score=score, verdict="defective" if score > 0.5 else "good")
    add(line, 1, score=0.9, detector="e" * 64)  # its scores mean something else
    page.goto("/parts/4")
    others, would, slider = page.locator("#others"), page.locator("#would"), page.locator("#slider")
    expect(others).to_contain_text("Of the last 5 parts of this detector, 2 are above it")
    slider.fill("0.65")
    expect(would).to_have_text("This part would be good: another verdict than it was given.")
    expect(others).to_contain_text("1 (20.0 %) would be above it; 2 are above 0.500")
    x = float(page.locator("#limit").get_attribute("x1"))
    slider.fill("0.25")
    expect(would).to_have_text("This part would be defective: as it was judged.")
    expect(others).to_contain_text("3 (60.0 %)")
    assert float(page.locator("#limit").get_attribute("x1")) < x
    slider.press("ArrowRight")
    page.get_by_role("button", name="Back to 0.500").click()
    expect(others).to_contain_text("2 (40.0 %)")
    assert page.locator("#slider").input_value() == "0.5"


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Running]:
    """A service whose detector is a file, which calls everything defective."""
    settings = DRAEMSettings(
        image_size_px=32, score_window_px=5, reconstructive_widths=(4, 4), discriminative_widths=(4, 4)
    )
    path = tmp_path / "detector.blemish"
    Detector.uncalibrated(DRAEM(settings), 1e-6, 0.01).save(path)
    with running(tmp_path / "service") as each:
        each.service.serve("gasket", load(path, each.service.storage))
        yield each


def test_map_and_outline_come_from_judging_the_photograph_again(browser: Any, kept: Running) -> None:  # noqa: F811
    number = kept.inspect(DEFECTIVE).json()["id"]
    with tab(browser, kept.url) as page:
        page.goto(f"/parts/{number}")
        picture = page.locator("#photograph")
        expect(page.locator("#again")).to_have_text("Judged again: the same score.")
        expect(picture).to_have_attribute("src", re.compile("map=false&outline=true"))
        page.keyboard.press("m")
        expect(picture).to_have_attribute("src", re.compile("map=true&outline=true"))
        page.keyboard.press("o")
        expect(picture).to_have_attribute("src", re.compile("map=true&outline=false"))
        page.keyboard.press("o")
        page.locator("#slider").press("End")  # now it is good, and has no outline
        expect(picture).to_have_attribute("src", re.compile("map=true&outline=false"))
        wait_for(lambda: picture.evaluate("image => image.complete && image.naturalWidth") > 500)
    layers = {
        kept.http.get(f"/parts/{number}/layer.jpg?map={has_map}&outline={has_outline}").content
        for has_map in ("true", "false") for has_outline in ("true", "false")
    }  # fmt: skip
    assert len(layers) == 4


def test_a_photograph_that_is_gone_is_told(browser: Any, kept: Running) -> None:  # noqa: F811
    number = kept.inspect(DEFECTIVE).json()["id"]
    for name in kept.record.pictures(number)[1:]:
        kept.service.storage.path(name).unlink()
    with tab(browser, kept.url) as page:
        page.goto(f"/parts/{number}")
        expect(page.locator("#again")).to_contain_text("No map: its photograph was not kept")
    answer = kept.http.get(f"/parts/{number}/picture.jpg")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "image/svg+xml")


def test_a_part_without_pictures_says_so(page: Any, line: Running) -> None:
    add(line, 1)
    page.goto("/parts/1")
    expect(page.get_by_text("No picture was kept of this part")).to_be_visible()
    expect(page.get_by_text("Its photograph was not kept")).to_be_visible()


@pytest.mark.parametrize("shape_hw", [(8, 4000), (4000, 8), (8, 8)])
def test_strips_and_specks_have_pictures(line: Running, shape_hw: tuple[int, int]) -> None:
    pixels = np.zeros((*shape_hw, 3), np.uint8)  # dark, so that there is an overlay, too
    number = line.inspect(png(pixels)).json()["id"]
    for name in ("picture.jpg?size=small", "picture.jpg?size=large", "photograph.jpg"):
        answer = line.http.get(f"/parts/{number}/{name}")
        assert answer.status_code == 200
        width, height = Image.open(BytesIO(answer.content)).size
        assert max(width, height) <= 3 * 1400
        assert (width > height) == (shape_hw[1] > shape_hw[0])


def test_a_picture_without_its_caption_is_as_wide_as_high(line: Running) -> None:
    defective, good = (line.inspect(each).json()["id"] for each in (DEFECTIVE, GOOD))
    assert line.record.pictures(defective).overlay is not None
    for number in (defective, good):
        answer = line.http.get(f"/parts/{number}/picture.jpg?size=large")
        width, height = Image.open(BytesIO(answer.content)).size
        assert width == height


def test_without_its_detector_the_outline_is_the_one_that_was_drawn(page: Any, line: Running) -> None:
    number = line.inspect(DEFECTIVE).json()["id"]  # by a detector that is no file
    page.goto(f"/parts/{number}")
    expect(page.locator("#again")).to_have_text("No map: its detector was not kept.")
    expect(page.locator("#photograph")).to_have_attribute("src", f"/parts/{number}/picture.jpg?size=large")
