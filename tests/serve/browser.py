"""A real browser for the tests of the page; they are skipped without Chromium or playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
WAIT_MS = 60_000


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that runs."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Any, url: str, width_px: int = 1280, height_px: int = 800, **options: Any) -> Iterator[Any]:
    """A tab of its own, with its own cookies; errors of its scripts, and what the policy blocks, fail the test."""
    size = {"width": width_px, "height": height_px}
    context = browser.new_context(base_url=url, viewport=size, **options)
    context.set_default_timeout(WAIT_MS)
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
    try:
        yield page
        assert not faults
    finally:
        context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the tests of a file."""
    with chromium() as each:
        yield each
