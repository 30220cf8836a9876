"""The pages of products: which detector judges, another one, and the threshold anew from reviews."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, UploadFile
from fastapi.responses import Response

from blemish.errors import BlemishError
from blemish.serve import views
from blemish.serve.jobs import UnknownProduct
from blemish.serve.page import Page

USUAL_RATE = "1"
"""Good parts that may be rejected, %."""


def add_routes(routes: APIRouter, page: Page) -> None:
    """The products, another detector, recalibration."""
    _add_products(routes, page)
    _add_recalibration(routes, page)


def _add_products(routes: APIRouter, page: Page) -> None:
    def shown(status: int = 200, **said: str) -> Response:
        products = [views.product_view(each, page.detector_of(each["name"])) for each in page.service.products()]
        return page.show("products.html", status, here="/setup", products=products, **said)

    @routes.get("/setup")
    def products(put: str = "") -> Response:
        return shown(message=f"{put}: judged by this detector from now on." if put else "")

    @routes.post("/setup")
    def put(
        product: Annotated[str, Form(max_length=100)],
        file: UploadFile | None = None,
        path: Annotated[str, Form(max_length=4000)] = "",
    ) -> Response:
        name = product.strip()
        try:
            if file is not None and file.filename:
                with tempfile.TemporaryDirectory() as folder:
                    copy = Path(folder) / "detector.blemish"
                    with copy.open("wb") as into:
                        shutil.copyfileobj(file.file, into)
                    page.service.put_product(name, {"detector": str(copy)})
            elif path.strip():
                page.service.put_product(name, {"detector": path.strip()})
            else:
                return shown(400, error="Choose a .blemish file, or give the path of one.")
        except BlemishError as error:
            return shown(400, error=str(error))
        return page.go("/setup", put=name)


def _add_recalibration(routes: APIRouter, page: Page) -> None:
    def shown(product: str, rate: str, status: int = 200, **said: str) -> Response:
        plan: dict[str, Any] | None = None
        error = said.pop("error", "")
        try:
            plan = page.service.recalibrate(product, _share(rate), dry_run=True)
        except UnknownProduct as unknown:
            raise page.refuse(404, str(unknown)) from None
        except BlemishError as mistake:
            error = error or str(mistake)
        return page.show(
            "recalibrate.html",
            status,
            here="/setup",
            product=product,
            rate=rate,
            plan=None if plan is None else views.plan_view(plan, page.record),
            n_reviewed=page.record.n_reviewed(product),
            error=error,
            **said,
        )

    @routes.get("/recalibrate/{product:path}")
    def plan(product: str, rate: str = USUAL_RATE, done: str = "") -> Response:
        message = "The new threshold is taken. It judges from now on." if done else ""
        return shown(product, rate, message=message)

    @routes.post("/recalibrate/{product:path}")
    def take(product: str, rate: Annotated[str, Form()], seen: Annotated[str, Form()]) -> Response:
        try:
            planned = page.service.recalibrate(product, _share(rate), dry_run=True)
            if views.seen_of(planned) != seen:
                text = "Other reviews have come in the meantime, so the threshold is another. Look again, then take it."
                return shown(product, rate, 409, error=text)
            page.service.recalibrate(product, _share(rate))
        except UnknownProduct as unknown:
            raise page.refuse(404, str(unknown)) from None
        except BlemishError as mistake:
            return shown(product, rate, 400, error=str(mistake))
        return page.go(f"/recalibrate/{quote(product)}", rate=rate, done="yes")


def _share(percent: str) -> float:
    """A share in (0, 1) from a number of percent."""
    try:
        share = float(percent) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise BlemishError(f"{percent} %: should be a number between 0 and 100, such as 1")
    return float(f"{share:.6g}")
