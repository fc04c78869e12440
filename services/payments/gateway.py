"""A payment gateway to play against, a process of its own: `python -m services.payments.gateway`.

It stands for a foreign system, so it shares nothing with payments but HTTP. Its ledger is append-only and keyed by
Idempotency-Key: a repeated request gets the first answer and adds no entry.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

import uvicorn
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

Kind = Literal["authorised", "declined", "voided"]

TABLE = """
CREATE TABLE IF NOT EXISTS ledger (
    idempotency_key TEXT PRIMARY KEY,
    kind            TEXT NOT NULL,
    authorisation   TEXT,
    order_id        TEXT NOT NULL,
    amount          INTEGER NOT NULL,
    reason          TEXT
)
"""
COLUMNS = "idempotency_key, kind, authorisation, order_id, amount, reason"
BY_KEY = "SELECT * FROM ledger WHERE idempotency_key = ?"
BY_AUTHORISATION = "SELECT * FROM ledger WHERE authorisation = ? AND kind = ?"
APPEND = "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)"


class GatewaySettings(BaseSettings):
    """Read from the environment, `GATEWAY_...`; `limit` is the largest amount it authorises, in pence."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")
    host: str = "127.0.0.1"
    port: int = 8200
    database: Path = Path("gateway.db")
    limit: int = 1_000_000_00


class KeyReused(Exception):
    """An idempotency key came back with another request."""


class Ledger:
    """What the gateway has promised. One connection, one thread: each method is one transaction."""

    def __init__(self, connection: sqlite3.Connection, limit: int) -> None:
        self.connection, self.limit = connection, limit
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(TABLE)

    def authorise(self, key: str, order_id: str, amount: int) -> Mapping[str, Any]:
        if (known := self._one(BY_KEY, key)) is not None:
            if (known["order_id"], known["amount"]) != (order_id, amount) or known["kind"] == "voided":
                raise KeyReused(f"key {key} was used for order {known['order_id']}, {known['kind']} {known['amount']}")
            return known
        if amount > self.limit:
            return self._append(key, "declined", None, order_id, amount, f"above the limit of {self.limit} pence")
        return self._append(key, "authorised", f"auth-{uuid5(NAMESPACE_URL, key)}", order_id, amount, None)

    def void(self, key: str, authorisation: str) -> Mapping[str, Any] | None:
        """The entry that voids the authorisation, whoever wrote it first; None if there is nothing to void."""
        if (known := self._one(BY_AUTHORISATION, authorisation, "voided")) is not None:
            return known
        held = self._one(BY_AUTHORISATION, authorisation, "authorised")
        return held and self._append(key, "voided", authorisation, held["order_id"], held["amount"], None)

    def entries(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.connection.execute("SELECT * FROM ledger ORDER BY rowid")]

    def _one(self, sql: str, *parameters: str) -> Mapping[str, Any] | None:
        row = self.connection.execute(sql, parameters).fetchone()
        return dict(row) if row else None

    def _append(self, key: str, kind: Kind, *rest: Any) -> Mapping[str, Any]:
        if (known := self._one(BY_KEY, key)) is not None:
            raise KeyReused(f"key {key} was used to write {known['kind']} of order {known['order_id']}")
        with self.connection:
            self.connection.execute(APPEND, (key, kind, *rest))
        return dict(zip(COLUMNS.split(", "), (key, kind, *rest), strict=True))


def api(ledger: Ledger) -> Starlette:
    """Its endpoints are coroutines that never wait, so the event loop itself keeps requests from overlapping."""

    async def authorise(request: Request) -> JSONResponse:
        body = await _body(request)
        order_id, amount = body.get("order_id"), body.get("amount")
        if not isinstance(order_id, str) or type(amount) is not int or amount < 0:
            raise HTTPException(400, f"found {body}; expected order_id, a string, and amount, pence of at least 0")
        entry = ledger.authorise(_key(request), order_id, amount)
        return JSONResponse(entry, 201 if entry["kind"] == "authorised" else 402)

    async def void(request: Request) -> JSONResponse:
        authorisation = request.path_params["authorisation"]
        if (entry := ledger.void(_key(request), authorisation)) is None:
            raise HTTPException(404, f"no authorisation {authorisation}")
        return JSONResponse(entry)

    async def entries(_: Request) -> JSONResponse:
        return JSONResponse(ledger.entries())

    async def refuse(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": getattr(error, "detail", str(error))}, getattr(error, "status_code", 422))

    routes = [
        Route("/authorisations", authorise, methods=["POST"]),
        Route("/authorisations/{authorisation}/void", void, methods=["POST"]),
        Route("/ledger", entries),
    ]
    return Starlette(routes=routes, exception_handlers={KeyReused: refuse, HTTPException: refuse})


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(400, f"found {type(body).__name__}; expected a JSON object")
    return body


def _key(request: Request) -> str:
    if not (key := request.headers.get("idempotency-key")):
        raise HTTPException(400, "found no Idempotency-Key header; send one, the same for every try of one request")
    return key


def main() -> None:
    settings = GatewaySettings()
    with closing(sqlite3.connect(settings.database, check_same_thread=False)) as connection:
        uvicorn.run(api(Ledger(connection, settings.limit)), host=settings.host, port=settings.port, log_level="warning")


if __name__ == "__main__":
    main()
