"""What is served."""

from __future__ import annotations

from fastapi import APIRouter, Request

from blemish.serve.jobs import Json
from blemish.serve.schemas import Product, Products, errors
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
