"""The pages of verdicts: the search, and a part with its review."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse, Response

from blemish.errors import BlemishError
from blemish.serve import views
from blemish.serve.charts import scores_chart
from blemish.serve.page import FOLDER, NAME_COOKIE, Page
from blemish.serve.page_pictures import Again
from blemish.serve.schemas import MAX_ID

N_ROWS = 50
N_SCORES = 1000
"""Scores of so many parts are behind the slider."""
NAMES = ("product", "verdict", "reviewed", "part", "lot", "since", "until")
"""What is searched for, in links."""
PICTURE_HEADERS = {"Cache-Control": "private, max-age=600", "X-Content-Type-Options": "nosniff"}
PartId = Annotated[int, PathParameter(ge=0, le=MAX_ID)]
PageId = Annotated[int | None, Query(ge=0, le=MAX_ID)]


class Search:
    """What is searched for, as the form says it and as the record takes it."""

    def __init__(self, request: Request) -> None:
        self.texts = {name: request.query_params.get(name, "").strip() for name in NAMES}
        self.error = ""
        self.filters: dict[str, Any] = {
            name: self.texts[name] or None for name in ("product", "verdict", "part", "lot")
        }
        self.filters["reviewed"] = {"yes": True, "no": False}.get(self.texts["reviewed"])
        for name in ("since", "until"):
            text = self.texts[name]
            try:
                self.filters[name] = datetime.fromisoformat(text).timestamp() if text else None
            except (ValueError, OverflowError, OSError):
                self.filters[name] = None
                self.error = f"{text}: is no time; it should be like 2026-11-29T14:30"

    def query(self, **more: Any) -> str:
        """The search as the end of an address, with ``?``; empty if everything is searched."""
        items = {name: text for name, text in (self.texts | more).items() if text}
        return f"?{urlencode(items)}" if items else ""


def add_routes(routes: APIRouter, page: Page) -> None:
    """The search, a part, its pictures, its review."""
    _add_search(routes, page)
    _add_part(routes, page)
    _add_pictures(routes, page)

    @routes.post("/parts/{part_id}/review")
    def review(
        request: Request,
        part_id: PartId,
        is_defective: Annotated[bool, Form()],
        note: Annotated[str, Form(max_length=2000)] = "",
        by: Annotated[str, Form(max_length=100)] = "",
    ) -> Response:
        name = by.strip()
        try:
            page.service.review(part_id, is_defective, name or None, note.strip() or None)
        except LookupError:
            raise page.refuse(404, f"There is no part {part_id}.") from None
        response = page.go(f"/parts/{part_id}{Search(request).query()}", done="yes")
        page.set_cookie(request, response, NAME_COOKIE, quote(name))
        return response


def _add_search(routes: APIRouter, page: Page) -> None:
    @routes.get("/parts")
    def search(request: Request, before: PageId = None, after: PageId = None) -> Response:
        wanted = Search(request)
        is_back = after is not None
        rows, more = page.record.verdicts(
            **wanted.filters, cursor=after if is_back else before, limit=N_ROWS, newest_first=not is_back
        )
        rows = rows[::-1] if is_back else rows
        is_first = not (is_back and more) and (is_back or before is None)
        has_older = is_back or more is not None
        return page.show(
            "parts.html",
            here="/parts",
            rows=[views.part_view(row) for row in rows],
            filters=wanted.texts,
            error=wanted.error,
            query=wanted.query(),
            is_unfiltered=not wanted.query(),
            products=views.names(page.service.products(), wanted.texts["product"]),
            newest="" if is_first else f"/parts{wanted.query()}",
            newer="" if is_first or not rows else f"/parts{wanted.query(after=rows[0]['id'])}",
            older=f"/parts{wanted.query(before=rows[-1]['id'])}" if has_older and rows else "",
        )


def _add_part(routes: APIRouter, page: Page) -> None:
    @routes.get("/parts/{part_id}")
    def part(request: Request, part_id: PartId, done: str = "") -> Response:
        row = page.record.verdict(part_id)
        if row is None:
            raise page.refuse(404, f"There is no part {part_id}.")
        wanted = Search(request)
        agree, disagree = views.review_choices(row["verdict"])
        review = row["review"]
        said = "" if not review else "defective" if review["is_defective"] else "good"
        message = f"Recorded: this part is {said}. To take it back, review it again." if done and review else ""
        return page.show(
            "part.html",
            here="/parts",
            row=views.part_view(row),
            query=wanted.query(),
            agree=agree,
            disagree=disagree,
            message=message,
            note=(review or {}).get("note") or "",
            by=page.name_of(request) or "",
            next=_unreviewed(page, wanted, part_id, newest_first=True),
            previous=_unreviewed(page, wanted, part_id, newest_first=False),
            **_what_if(page, row),
            **_can_judge(page, row),
        )


def _unreviewed(page: Page, wanted: Search, part_id: int, *, newest_first: bool) -> int | None:
    """The next part of a search that nobody has reviewed."""
    filters = wanted.filters | {"reviewed": False}
    rows, _ = page.record.verdicts(**filters, cursor=part_id, limit=1, newest_first=newest_first)
    return rows[0]["id"] if rows else None


def _what_if(page: Page, row: dict[str, Any]) -> dict[str, Any]:
    """What the slider needs: the scores of the last parts that this detector judged, whatever its threshold was."""
    score, threshold = row["score"], row["threshold"]
    if score is None or threshold is None or row["verdict"] == "unlike":  # unlike is unlike at any threshold
        return {"scores": []}
    same = _same_scores(page, row)
    others, _ = page.record.verdicts(product=row["product"], limit=N_SCORES)
    scores = [each["score"] for each in others if each["score"] is not None and each["detector"] in same]
    high = float(f"{max(2 * threshold, 1.1 * score, threshold + 1e-6):.2g}")
    return {
        "scores": [f"{each:.9g}" for each in scores],
        "n_above": sum(each > threshold for each in scores),
        "slider_max": high,
        "histogram": scores_chart(scores, score, threshold, high),
    }


def _same_scores(page: Page, row: dict[str, Any]) -> set[str]:
    """The digests of detectors that score as this part's does: those it became by setting its threshold anew."""
    same, links = {row["detector"]}, list[set[str]]()
    for event in page.record.events(limit=N_SCORES):
        details = event["details"] or {}
        if event["kind"] == "threshold" and event["product"] == row["product"]:
            links.append({each for key in ("detector", "detector_before") if (each := details.get(key))})
    for link in [*links, *links[::-1]]:  # they are in order of time, so once in each direction finds all
        if same & link:
            same |= link
    return same


def _can_judge(page: Page, row: dict[str, Any]) -> dict[str, Any]:
    """Whether a map can be made, and if not, why."""
    if row["verdict"] == "not_inspected":
        return {"can_judge": False, "why_no_map": "It was not inspected, so it has no map."}
    if not row["has_image"]:
        return {"can_judge": False, "why_no_map": "Its photograph was not kept, so its map cannot be made again."}
    return {"can_judge": True, "why_no_map": ""}


def _add_pictures(routes: APIRouter, page: Page) -> None:
    async def made(make: Callable[[], bytes]) -> Response:
        """A picture, or the sign that it is gone."""
        try:
            content = await asyncio.get_running_loop().run_in_executor(page.pictures.drawing, make)
        except BlemishError:
            return FileResponse(FOLDER / "static" / "missing.svg", 404, {"Cache-Control": "no-store"})
        return Response(content, 200, PICTURE_HEADERS, "image/jpeg")

    async def again(part_id: int) -> Again:
        row = await asyncio.to_thread(page.record.verdict, part_id)
        if row is None or row["detector"] is None:
            raise BlemishError("it was not judged")
        run = asyncio.get_running_loop().run_in_executor
        return await run(page.pictures.judging, page.pictures.again, part_id, row["detector"])

    async def seen(part_id: int) -> tuple[tuple[int, int] | None, int | None]:
        """Size of a photograph, px, and how many of its bits are used."""
        row = await asyncio.to_thread(page.record.verdict, part_id)
        if row is None:
            return None, 16
        served = page.detector_of(row["product"])
        return row["size_wh"] and tuple(row["size_wh"]), 16 if served is None else served.bits

    @routes.get("/parts/{part_id}/picture.jpg")
    async def picture(part_id: PartId, size: Literal["small", "large"] = "small") -> Response:
        size_wh, bits = await seen(part_id)
        return await made(lambda: page.pictures.picture(part_id, size, size_wh, bits))

    @routes.get("/parts/{part_id}/photograph.jpg")
    async def photograph(part_id: PartId) -> Response:
        _, bits = await seen(part_id)
        return await made(lambda: page.pictures.photograph(part_id, bits))

    @routes.get("/parts/{part_id}/layer.jpg")
    async def layer(part_id: PartId, map: bool = False, outline: bool = False) -> Response:
        try:
            judged = await again(part_id)
        except BlemishError:
            return FileResponse(FOLDER / "static" / "missing.svg", 404, {"Cache-Control": "no-store"})
        return await made(lambda: judged.layer(map, outline))

    @routes.get("/parts/{part_id}/again")
    async def ask_again(part_id: PartId) -> Response:
        try:
            judged = await again(part_id)
        except BlemishError as error:
            return JSONResponse({"error": str(error)}, 404)
        return JSONResponse({"score": judged.score, "has_region": judged.has_region})
