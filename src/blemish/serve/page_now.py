"""The page of what happens now, and the log."""

from __future__ import annotations

import threading
import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from blemish.serve import views
from blemish.serve.charts import rate_chart
from blemish.serve.page import HEADERS, Page

FRESH_S = 0.7
"""What was found out is shown for so long to all screens."""
HOUR_S, N_BUCKETS = 3600.0, 12
N_EVENTS = 200


class Now:
    """Finds out what happens now: once for all screens that ask at about the same time."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._lock = threading.Lock()
        self._at_s = -FRESH_S
        self._lines: list[dict[str, Any]] = []
        self._health: list[dict[str, Any]] = []

    def values(self, product: str | None) -> dict[str, Any]:
        """Values for ``live.html``, of all products or of one."""
        with self._lock:
            if time.monotonic() - self._at_s > FRESH_S:
                products = self._page.service.products()
                self._lines = [self._line(each) for each in products]
                self._health = self._page.health()
                self._at_s = time.monotonic()
        lines = [line for line in self._lines if product in (None, line["product"])]
        return {"lines": lines, "health": self._health, "is_single": product is not None}

    def _line(self, product: dict[str, Any]) -> dict[str, Any]:
        """What is shown of a product."""
        name, record, now_s = product["name"], self._page.record, time.time()
        rows, _ = record.verdicts(product=name, limit=views.N_RECENT)
        strip = [views.part_view(row) for row in rows[: views.N_STRIP]]
        last = strip[0] if strip else None
        hour = record.rates(name, now_s - HOUR_S, N_BUCKETS, now_s)
        buckets = [views.shares_pair(bucket) for bucket in hour]
        totals = {verdict: sum(bucket[verdict] for bucket in hour) for verdict in views.WORDS}
        return {
            "product": name, "last": last, "strip": strip, "quiet_after_s": views.quiet_after_s(strip),
            "age_s": max(0.0, now_s - views.local(last["time"]).timestamp()) if last else 0.0,
            "recent": views.shares(views.counts_of(rows)), "hour": views.shares(totals),
            "latency": views.latency(rows), "drift": views.drift(product.get("drift")),
            "chart": rate_chart(buckets, "1 h"),
        }  # fmt: skip


def add_routes(routes: APIRouter, page: Page) -> None:
    """Now, whole and what of it is fetched again, and the log."""
    now = Now(page)

    @routes.get("/")
    def whole(product: str | None = None) -> Response:
        address = "/now" + (f"?{views.query(product=product)}" if product else "")
        return page.show("now.html", here="/", live_address=address, **now.values(product or None))

    @routes.get("/now")
    def fragment(product: str | None = None) -> Response:
        return HTMLResponse(page.markup("live.html", **now.values(product or None)), headers=HEADERS)

    @routes.get("/log")
    def log() -> Response:
        events = page.record.events(limit=N_EVENTS)
        return page.show("log.html", here="/log", events=events, n_events=N_EVENTS)
