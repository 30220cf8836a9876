"""What happens now, in a real browser: it is live, and says so when it is not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser, tab  # noqa: F401  (a fixture)
from services import DEFECTIVE, GOOD, Running, running, served, wait_for

from blemish.record.rows import NewVerdict
from blemish.serve.views import N_STRIP

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

expect.set_options(timeout=60_000)
HOSTILE = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>\"'>"


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as each:
        yield each


@pytest.fixture
def now(browser: Any, line: Running) -> Iterator[Any]:  # noqa: F811
    with tab(browser, line.url) as page:
        page.goto("/")
        yield page


def test_parts_appear_as_they_come(now: Any, line: Running) -> None:
    expect(now.locator(".banner")).to_have_text("No part yet")
    expect(now.locator("#way")).to_have_text("live")
    line.inspect(DEFECTIVE, part="17", lot="A3")
    expect(now.locator(".banner")).to_have_text("Defective")
    expect(now.locator(".figures").first).to_contain_text("17")
    defective = now.locator(".banner svg").inner_html()
    line.inspect(GOOD, part="18")
    expect(now.locator(".banner")).to_have_text("Good")
    assert now.locator(".banner svg").inner_html() != defective  # told by the shape, too
    expect(now.locator(".strip li")).to_have_count(2)
    expect(now.locator(".strip li").first).to_contain_text("good")
    expect(now.locator(".figures").first).to_contain_text("50 %")
    wait_for(lambda: now.locator(".last img").evaluate("image => image.naturalWidth") > 0)


def test_without_events_it_asks(browser: Any, line: Running) -> None:  # noqa: F811
    with tab(browser, line.url) as page:
        page.route("**/events", lambda route: route.abort())
        page.goto("/")
        expect(page.locator("#way")).to_contain_text("no events")
        line.inspect(DEFECTIVE)
        expect(page.locator(".banner")).to_have_text("Defective")


def test_a_lost_connection_is_told_until_it_is_back(now: Any, line: Running) -> None:
    line.inspect(GOOD)
    expect(now.locator(".banner")).to_have_text("Good")
    expect(now.locator("#lost")).to_be_hidden()
    now.route("**/now", lambda route: route.abort())
    expect(now.locator("#lost")).to_contain_text(re.compile(r"Connection lost for \d+ s"))
    assert float(now.locator("#live").evaluate("live => getComputedStyle(live).opacity")) < 0.5
    now.unroute("**/now")
    expect(now.locator("#lost")).to_be_hidden()


def test_the_clock_goes_by_the_clock_of_the_service(browser: Any, line: Running) -> None:  # noqa: F811
    with tab(browser, line.url) as page:
        page.clock.install(time="2001-01-01T00:00:00Z")  # a tablet whose clock is wrong
        page.goto("/")
        page.clock.run_for(1500)
        expect(page.locator("#clock")).to_have_text(re.compile(time.strftime("%H:%M|") + re.escape(
            time.strftime("%H:%M", time.localtime(time.time() + 30))
        )))  # fmt: skip


def test_a_line_without_parts_says_for_how_long(now: Any, line: Running) -> None:
    line.record.add([NewVerdict(product="gasket", verdict="good", time=time.time() - 7260, score=0.1, threshold=0.5)])
    expect(now.locator(".quiet")).to_contain_text("No part for 2 h")
    line.inspect(GOOD)
    expect(now.locator(".banner")).to_have_text("Good")
    expect(now.locator(".quiet")).to_be_hidden()


def test_what_was_not_inspected_says_why(now: Any, line: Running) -> None:
    line.inspect(b"no photograph", headers={"Content-Type": "image/png"})
    expect(now.locator(".banner")).to_have_text("Not inspected")
    assert now.locator(".why").inner_text().strip()
    expect(now.locator(".figures").first).to_contain_text("1 not inspected")


def test_text_from_elsewhere_stays_text(now: Any, line: Running) -> None:
    line.inspect(DEFECTIVE, part=HOSTILE, lot=HOSTILE, name=HOSTILE)
    number = line.rows()[-1]["id"]
    line.service.review(number, True, HOSTILE, HOSTILE)
    line.record.add_event("storage", HOSTILE, HOSTILE)
    expect(now.locator(".banner")).to_have_text("Defective")
    expect(now.locator(".figures").first).to_contain_text(HOSTILE)
    for address in (f"/parts/{number}", "/parts", "/log", "/setup"):
        now.goto(address)
        if address != "/setup":
            expect(now.locator("main")).to_contain_text(HOSTILE)
        assert now.evaluate("window.hit") is None


def test_two_products_stand_side_by_side_and_each_alone(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    products = {"gasket": served(), "a b/c?&": served()}
    with running(tmp_path, products=products) as line, tab(browser, line.url) as page:
        line.inspect(DEFECTIVE)
        page.goto("/")
        expect(page.locator(".line")).to_have_count(2)
        page.get_by_role("link", name="a b/c?&").click()
        expect(page.locator(".line")).to_have_count(1)
        expect(page.locator(".banner")).to_have_text("No part yet")
        expect(page.locator("#way")).to_have_text("live")  # it asks for this product alone
        expect(page.locator(".line")).to_have_count(1)


def test_a_strip_ends_after_so_many_parts(now: Any, line: Running) -> None:
    for _ in range(N_STRIP + 3):
        line.inspect(GOOD)
    expect(now.locator(".strip li")).to_have_count(N_STRIP)
    wait_for(lambda: now.locator(".figures").first.inner_text().find(f"of {N_STRIP + 3}") > 0)


def test_a_page_has_a_policy_and_no_script_of_its_own(line: Running) -> None:
    line.inspect(DEFECTIVE)
    for address in ("/", "/parts", "/parts/1", "/setup", "/log", "/parts/99"):
        answer = line.http.get(address)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"\son\w+=|<script>|style=|javascript:", answer.text)
        assert '<html lang="en">' in answer.text
