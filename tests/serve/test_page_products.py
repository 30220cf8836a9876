"""The pages of products: another detector, and the threshold anew from reviews, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser, tab  # noqa: F401  (a fixture)
from services import Running, png, running, wait_for

from blemish.detector import Detector
from blemish.methods.draem import DRAEM, DRAEMSettings

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

expect.set_options(timeout=60_000)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "service") as each:
        yield each


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service for what changes nothing."""
    with running(tmp_path_factory.mktemp("unchanged")) as each:
        yield each


@pytest.fixture
def reader(browser: Any, unchanged: Running) -> Iterator[Any]:  # noqa: F811
    with tab(browser, unchanged.url) as each:
        yield each


@pytest.fixture
def page(browser: Any, line: Running) -> Iterator[Any]:  # noqa: F811
    with tab(browser, line.url) as each:
        yield each


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The file of another detector."""
    settings = DRAEMSettings(
        image_size_px=32, score_window_px=5, reconstructive_widths=(4, 4), discriminative_widths=(4, 4)
    )
    path = tmp_path / "other.blemish"
    Detector.uncalibrated(DRAEM(settings), 0.75, 0.01).save(path)
    return path


def test_reviews_make_a_threshold_which_is_told_before_it_is_taken(page: Any, line: Running) -> None:
    falsely = [line.inspect(png(grey), part=f"P{grey}").json()["id"] for grey in (120, 115, 110)]
    damaged = line.inspect(png(20)).json()["id"]
    page.goto("/recalibrate/gasket")
    expect(page.get_by_text("Reviewed: 0 parts")).to_be_visible()
    for number in falsely:
        line.service.review(number, False, None, None)
    line.service.review(damaged, True, None, None)
    page.reload()
    expect(page.get_by_text("Reviewed: 4 parts, 3 good, 1 defective")).to_be_visible()
    line.service.review(damaged, True, None, "again")
    before = line.service.product("gasket")["threshold"]
    page.get_by_label("Good parts that may be rejected").fill("4")
    page.get_by_role("button", name="Compute").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator(".message.plain")).to_contain_text("false-reject rate of 4 %")
    assert line.service.product("gasket")["threshold"] == before
    page.get_by_role("button", name="Take the threshold").click()
    expect(page.get_by_role("status")).to_contain_text("The threshold is taken")
    after = line.service.product("gasket")["threshold"]
    assert after > before
    expect(page.get_by_text("The threshold stays as it is")).to_be_visible()
    page.goto("/log")
    expect(page.get_by_role("row", name="threshold").first).to_contain_text("from reviews")
    page.goto(f"/parts/{falsely[0]}")  # scores before and after mean the same
    expect(page.locator("#others")).to_contain_text("Of the last 4 parts")


def test_a_threshold_that_is_another_by_now_is_not_taken(page: Any, line: Running) -> None:
    falsely = [line.inspect(png(grey)).json()["id"] for grey in (120, 110)]
    line.service.review(falsely[0], False, None, None)
    page.goto("/recalibrate/gasket?rate=4")
    before = line.service.product("gasket")["threshold"]
    line.service.review(falsely[1], False, None, None)
    page.get_by_role("button", name="Take the threshold").click()
    expect(page.get_by_role("alert")).to_contain_text("look at it again")
    assert line.service.product("gasket")["threshold"] == before


@pytest.mark.parametrize("rate", ["0", "100", "nan", "x"])
def test_a_rate_that_is_none_is_told(reader: Any, rate: str) -> None:
    reader.goto(f"/recalibrate/gasket?rate={rate}")
    expect(reader.get_by_role("alert")).to_contain_text(f"{rate} %: should be a number between 0 and 100")


def test_an_unknown_product_is_told(reader: Any) -> None:
    reader.goto("/recalibrate/nothing")
    expect(reader.get_by_role("heading", name="Not found")).to_be_visible()


def test_another_detector_is_put_by_upload(page: Any, line: Running, other: Path) -> None:
    before = line.service.product("gasket")["detector"]
    page.goto("/setup")
    page.get_by_text("Put another detector").click()
    page.locator("details input[type=file]").set_input_files(other)
    page.get_by_role("button", name="Put this detector").click()
    expect(page.get_by_role("status")).to_contain_text("gasket: judged by this detector from now on")
    expect(page.locator("section").first).to_contain_text("0.750")
    assert line.service.product("gasket")["detector"] != before
    assert line.inspect(png(0)).json()["detector"] == line.service.product("gasket")["detector"]


def test_a_product_is_added_by_path(page: Any, line: Running, other: Path) -> None:
    page.goto("/setup")
    form = page.locator("form").last
    form.get_by_label("Name").fill("bolt")
    form.get_by_label("or a path").fill(str(other))
    form.get_by_role("button", name="Add").click()
    expect(page.locator("section h2").first).to_have_text("bolt")
    wait_for(lambda: line.inspect(png(0), "bolt").status_code == 200)


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("a/b", "x", "is no name of a product"),
        ("bolt", "", "Choose a .blemish file"),
        ("bolt", "/nowhere", "no file here"),
        ("gasket", "/nowhere", "exists already"),
    ],
)
def test_what_cannot_be_put_is_told(reader: Any, unchanged: Running, name: str, path: str, message: str) -> None:
    reader.goto("/setup")
    form = reader.locator("form").last
    form.get_by_label("Name").fill(name)
    form.get_by_label("or a path").fill(path)
    form.get_by_role("button", name="Add").click()
    expect(reader.get_by_role("alert")).to_contain_text(message)
    assert [each["name"] for each in unchanged.service.products()] == ["gasket"]


def test_a_file_that_is_no_detector_is_told(reader: Any, tmp_path: Path) -> None:
    file = tmp_path / "holiday.blemish"
    file.write_bytes(b"sun and sea")
    reader.goto("/setup")
    reader.get_by_text("Put another detector").click()
    reader.locator("details input[type=file]").set_input_files(file)
    reader.get_by_role("button", name="Put this detector").click()
    expect(reader.get_by_role("alert")).to_contain_text("holiday.blemish")
