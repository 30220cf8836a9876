"""Who may see the page and act on it, and that it fits screens, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from browser import SCREENSHOTS, browser, tab  # noqa: F401  (a fixture)
from services import DEFECTIVE, GOOD, Running, running, wait_for

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

expect.set_options(timeout=60_000)
TOKEN = "a token with spaces"
SMALL = """() => [...document.querySelectorAll("a, button, input, select, textarea, summary")].filter((each) => {
    const box = each.getBoundingClientRect(), target = each.closest("label.check") || each;
    return box.width && Math.min(target.getBoundingClientRect().width, target.getBoundingClientRect().height) < 43.5;
}).map((each) => each.outerHTML.slice(0, 120))"""
ATTACK = """<form action="{url}/parts/1/review" method="post"><input name="is_defective" value="no"></form>
<script>document.forms[0].submit()</script>"""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("open")) as each:
        each.inspect(DEFECTIVE, part="17", lot="A3")
        each.inspect(GOOD, part="with-a-name-that-goes-on-and-on-and-on" * 3, lot="x" * 60)
        each.inspect(b"no photograph")
        yield each


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with a token."""
    with running(tmp_path_factory.mktemp("closed"), token=TOKEN) as each:
        each.inspect(DEFECTIVE)
        yield each


def test_the_token_opens_the_page_and_its_live_feed(browser: Any, closed: Running) -> None:  # noqa: F811
    with tab(browser, closed.url) as page:
        page.goto("/parts?lot=7")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not the token")
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_label("Lot")).to_have_value("7")  # it goes on where it was asked for
        (cookie,) = page.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert "token" not in cookie["value"]
        page.goto("/")
        expect(page.locator("#way")).to_have_text("live")
        wait_for(lambda: page.locator(".last img").evaluate("image => image.complete && image.naturalWidth") > 0)
        page.goto("/parts/1")
        page.keyboard.press("a")
        expect(page.get_by_role("status").first).to_contain_text("Recorded")
        page.get_by_role("button", name="Log out").click()
        page.goto("/")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.parametrize("path", ["/", "/now", "/parts", "/parts/1", "/parts/1/picture.jpg", "/setup", "/log"])
def test_without_the_token_nothing_is_shown(closed: Running, path: str) -> None:
    answer = httpx.get(closed.url + path, headers={"Cookie": "blemish=0"}, timeout=60)
    assert answer.status_code == 401


def test_another_site_cannot_review_with_the_browser_of_an_operator(browser: Any, line: Running) -> None:  # noqa: F811
    with tab(browser, line.url) as page:
        page.goto("/parts/1")
        page.route("http://elsewhere.example/", lambda route: route.fulfill(
            body=ATTACK.format(url=line.url), content_type="text/html"
        ))  # fmt: skip
        page.goto("http://elsewhere.example/")
        expect(page.get_by_text("This was not sent by a page of this service")).to_be_visible()
    assert line.record.verdict(1)["review"] is None


@pytest.mark.parametrize(
    "path", ["/parts/1/review", "/setup", "/recalibrate/gasket", "/login", "/logout"]
)  # fmt: skip
def test_what_does_not_say_where_it_comes_from_changes_nothing(line: Running, path: str) -> None:
    values = {"is_defective": "yes", "product": "x", "rate": "1", "expected": "1", "token": "1"}
    answer = line.http.post(path, data=values)
    assert answer.status_code == 403


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 800), (768, 1024), (1920, 1080), (390, 844)])
def test_pages_fit_screens_and_fingers(
    browser: Any,  # noqa: F811
    line: Running,
    width_px: int,
    height_px: int,
    is_dark: bool,
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    scheme = "dark" if is_dark else "light"
    with tab(browser, line.url, width_px, height_px, color_scheme=scheme) as page:
        for name, path in {
            "now": "/", "parts": "/parts", "part": "/parts/1", "long": "/parts/2", "bad": "/parts/3",
            "setup": "/setup", "recalibrate": "/recalibrate/gasket", "log": "/log", "missing": "/parts/99",
        }.items():  # fmt: skip
            page.goto(path)
            page.wait_for_load_state("load")
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
            assert page.evaluate(SMALL) == [], path
            page.screenshot(path=SCREENSHOTS / f"serve-{name}-{width_px}-{scheme}.png")
