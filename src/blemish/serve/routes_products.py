"""What is served."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Request

from blemish.record.rows import PRODUCT_NAME
from blemish.serve.jobs import Json
from blemish.serve.schemas import (
    Name,
    Product,
    ProductChange,
    Products,
    Recalibrated,
    RecalibrationOrder,
    Removed,
    errors,
)
from blemish.serve.service import Service

router = APIRouter(tags=["products"])


@router.get("/products", responses={**errors(), 200: {"model": Products}})
async def products(request: Request) -> Json:
    """All products."""
    service: Service = request.app.state.service
    return {"products": service.products()}


@router.get("/products/{product}", responses={**errors(404), 200: {"model": Product}})
async def product(product: str, request: Request) -> Json:
    """What is served of one product."""
    service: Service = request.app.state.service
    return service.product(product)


@router.put("/products/{product}", responses={**errors(409, 503), 200: {"model": Product}})
def put_product(
    product: Annotated[str, Path(pattern=f"^{PRODUCT_NAME}$")],
    change: Annotated[ProductChange, Body()],
    request: Request,
) -> Json:
    """Add a product, or change its detector or threshold, without a gap: what waits is judged by the new one."""
    service: Service = request.app.state.service
    service.catalogue.put(product, **change.model_dump())
    return service.product(product)


@router.delete("/products/{product}", responses={**errors(404, 503), 200: {"model": Removed}})
def delete_product(product: str, request: Request, by: Name | None = None) -> Json:
    """Serve a product no more, once what was accepted is recorded. Its verdicts stay."""
    service: Service = request.app.state.service
    service.catalogue.remove(product, by)
    return {"removed": product}


@router.post("/products/{product}/recalibrate", responses={**errors(404, 409, 503), 200: {"model": Recalibrated}})
def recalibrate(product: str, order: Annotated[RecalibrationOrder, Body()], request: Request) -> Json:
    """A new threshold from reviews and the held-out good photographs: what it promises, and which verdicts change."""
    service: Service = request.app.state.service
    service.line(product)
    return service.catalogue.recalibrate(
        product, order.false_rejects, take=not order.dry_run, expected=order.threshold, by=order.by
    )
