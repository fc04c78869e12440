"""The shop's HTTP API: takes an order in (202 once order and workflow are committed, together), tells how it stands."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from saga import LifecycleError, Overloaded
from saga.errors import EventTooLarge, StoreError
from saga.store.port import Store
from services.orders.app import OrderConflict, place
from services.orders.events import OrderPlaced
from services.orders.sql import FIND, run

Name = Annotated[str, Field(min_length=1, max_length=100)]


class LineRequest(BaseModel):
    """`unit_price` is in pence."""

    model_config = ConfigDict(extra="forbid", strict=True)
    sku: Name
    quantity: int = Field(ge=1, lt=2**31)
    unit_price: int = Field(ge=0, lt=2**31)


class OrderRequest(BaseModel):
    """`customer_id` is null for a guest."""

    model_config = ConfigDict(extra="forbid", strict=True)
    order_id: Name
    customer_id: Name | None = None
    country: Name
    lines: list[LineRequest] = Field(min_length=1, max_length=10_000)

    @property
    def total(self) -> int:
        return sum(line.quantity * line.unit_price for line in self.lines)

    @model_validator(mode="after")
    def _total_fits(self) -> Self:
        if self.total >= 2**63:
            raise ValueError(f"the total of {self.total} pence does not fit the contract")
        return self

    def event(self) -> OrderPlaced:
        return OrderPlaced.model_validate({**self.model_dump(), "total": self.total})


def api(store: Store, health: ASGIApp | None = None) -> Starlette:
    """`POST /orders`, `GET /orders/{order_id}`; the store's transactions run in threads. `health` answers below `/saga`."""

    def take_in(order: OrderPlaced) -> str:
        with store.transaction() as tx:
            return place(order, tx)

    def look_up(order_id: str) -> dict[str, Any] | None:
        with store.transaction() as tx:
            row = run(tx, FIND, order_id).fetchone()
        if row is None:
            return None
        workflow_id, request, status, parcel = row
        return {"workflow_id": workflow_id, "status": status, "parcel": parcel, **orjson.loads(request)}

    async def post_order(request: Request) -> Response:
        order = OrderRequest.model_validate_json(await request.body()).event()
        workflow_id = await run_in_threadpool(take_in, order)
        return JSONResponse({"workflow_id": workflow_id, "order_id": order.order_id}, HTTPStatus.ACCEPTED)

    async def get_order(request: Request) -> Response:
        order_id = request.path_params["order_id"]
        order = await run_in_threadpool(look_up, order_id)
        if order is None:
            return _problem(HTTPStatus.NOT_FOUND, f"no order {order_id}; POST /orders places one")
        return JSONResponse(order)

    routes: list[BaseRoute] = [Route("/orders", post_order, methods=["POST"]), Route("/orders/{order_id}", get_order)]
    if health is not None:
        routes.append(Mount("/saga", health))
    return Starlette(routes=routes, exception_handlers=dict.fromkeys(_STATUS, _refuse))


_STATUS = {
    ValidationError: HTTPStatus.BAD_REQUEST,
    OrderConflict: HTTPStatus.CONFLICT,
    EventTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    LifecycleError: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
}

log = logging.getLogger("orders")


async def _refuse(_: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    if not isinstance(error, ValidationError):
        retry_after = getattr(error, "retry_after", 1.0)
        headers = {"Retry-After": f"{max(1, round(retry_after))}"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        if isinstance(error, StoreError):
            log.error("%s", error)  # it names the database, which is nobody's business outside
            return _problem(status, "the order book is away; send the request again", headers=headers)
        return _problem(status, str(error), headers=headers)
    found = [f"{_path(wrong['loc'])}: {wrong['msg']}, found {wrong['input']!r:.80}" for wrong in error.errors()]
    return _problem(status, "this is no order: " + "; ".join(found[:10]))


def _path(location: tuple[int | str, ...]) -> str:
    """`lines[0].quantity`, as the customer's programmer would write it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or "body"


def _problem(status: HTTPStatus, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
