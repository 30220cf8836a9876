"""The pages of products: which detector judges, another one, and the threshold anew from reviews."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import Response

from blemish.errors import BlemishError
from blemish.record.rows import PRODUCT_NAME
from blemish.serve import views
from blemish.serve.jobs import Conflict, Refused
from blemish.serve.page import Page

MOST_REVIEWED, MOST_CHANGED = 1000, 100
"""So many reviewed parts are counted, and so many with another verdict are shown."""


def add_routes(routes: APIRouter, page: Page) -> None:
    """The products, another detector, recalibration."""
    _add_products(routes, page)
    _add_removal(routes, page)
    _add_recalibration(routes, page)


def _add_products(routes: APIRouter, page: Page) -> None:
    def shown(status: int = 200, **said: str) -> Response:
        products = [views.product_view(each, page.detector_of(each["name"])) for each in page.service.products()]
        return page.show("products.html", status, here="/setup", products=products, **said)

    @routes.get("/setup")
    def products(put: str = "", removed: str = "") -> Response:
        gone = f"{removed}: is served no more." if removed else ""
        return shown(message=f"{put}: judged by this detector from now on." if put else gone)

    @routes.post("/setup")
    def put(
        request: Request,
        product: Annotated[str, Form(max_length=200)],
        file: UploadFile | None = None,
        path: Annotated[str, Form(max_length=4000)] = "",
        is_new: Annotated[bool, Form()] = False,
    ) -> Response:
        name, given, by = product.strip(), path.strip(), page.name_of(request)
        if not re.fullmatch(PRODUCT_NAME, name):
            text = f"{name}: is no name of a product; take up to 64 letters without accents, digits, and . _ -"
            return shown(400, error=text)
        if is_new and page.detector_of(name) is not None:
            return shown(409, error=f"{name}: exists already; choose another name, or put another detector there")
        try:
            if file is not None and file.filename:
                _put_file(page, name, file, by)
            elif given:
                page.service.catalogue.put(name, detector=given, by=by)
            else:
                return shown(400, error="Choose a .blemish file, or give the path of one.")
        except BlemishError as error:
            return shown(400, error=str(error))
        return page.go("/setup", put=name)


def _add_removal(routes: APIRouter, page: Page) -> None:
    @routes.post("/setup/remove")
    def remove(request: Request, product: Annotated[str, Form(max_length=200)]) -> Response:
        try:
            page.service.catalogue.remove(product, page.name_of(request))
        except Refused as error:
            raise page.refuse(error.status, str(error)) from None
        return page.go("/setup", removed=product)


def _put_file(page: Page, product: str, file: UploadFile, by: str | None) -> None:
    """Let a product be judged by a detector that was sent; raises BlemishError."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "detector.blemish"
        with copy.open("wb") as into:
            shutil.copyfileobj(file.file, into)
        try:
            page.service.catalogue.put(product, detector=str(copy), by=by)
        except BlemishError as error:
            raise BlemishError(str(error).replace(str(copy), file.filename or "the file")) from error


def _add_recalibration(routes: APIRouter, page: Page) -> None:
    def shown(product: str, rate: str, status: int = 200, *, message: str = "", error: str = "") -> Response:
        detector = page.detector_of(product)
        if detector is None:
            raise page.refuse(404, f"There is no product {product}.")
        rate = rate or f"{100 * detector.threshold.false_reject_rate:g}"
        plan: dict[str, Any] | None = None
        try:
            plan = page.service.catalogue.recalibrate(product, _share(rate))
        except BlemishError as mistake:
            error = error or str(mistake)
        reviewed, more = page.record.verdicts(product=product, reviewed=True, limit=MOST_REVIEWED)
        n_defective = sum(row["review"]["is_defective"] for row in reviewed)
        return page.show(
            "recalibrate.html",
            status,
            here="/setup",
            product=product,
            rate=rate,
            plan=None
            if plan is None
            else views.plan_view(plan, _rows(page, [each["id"] for each in plan["changed"]])),
            missed=[] if plan is None else _rows(page, plan["missed"]),
            n_reviewed=f"{len(reviewed)}{' or more' if more else ''}",
            n_good=len(reviewed) - n_defective,
            n_defective=n_defective,
            message=message,
            error=error,
        )

    @routes.get("/recalibrate/{product}")
    def plan(product: str, rate: str = "", done: str = "") -> Response:
        return shown(product, rate, message="The threshold is taken. It judges from now on." if done else "")

    @routes.post("/recalibrate/{product}")
    def take(
        request: Request, product: str, rate: Annotated[str, Form()], expected: Annotated[float, Form()]
    ) -> Response:
        by = page.name_of(request)
        try:
            page.service.catalogue.recalibrate(product, _share(rate), take=True, expected=expected, by=by)
        except BlemishError as mistake:
            return shown(product, rate, 409 if isinstance(mistake, Conflict) else 400, error=str(mistake))
        return page.go(f"/recalibrate/{quote(product)}", rate=rate, done="yes")


def _rows(page: Page, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The first of the parts with these ids."""
    rows = (page.record.verdict(number) for number in ids[:MOST_CHANGED])
    return [row for row in rows if row is not None]


def _share(percent: str) -> float:
    """A share in (0, 1) from a number of percent."""
    try:
        share = float(percent) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise BlemishError(f"{percent} %: should be a number between 0 and 100, such as 1")
    return float(f"{share:.6g}")
