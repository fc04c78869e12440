"""How payments talks to the gateway: two calls over HTTP, each with an idempotency key. Opened at first use."""

from __future__ import annotations

import logging
from functools import cache

import httpx
from pydantic import BaseModel
from pydantic_settings import BaseSettings, SettingsConfigDict


class PaymentsSettings(BaseSettings):
    """Read from the environment, `PAYMENTS_...`: where the gateway is, how many seconds it gets, the guests' limit in pence."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_")
    gateway: str = "http://127.0.0.1:8200"
    gateway_timeout: float = 5.0
    guest_limit: int = 500_00


class Answer(BaseModel):
    """`authorisation` is the gateway's reference, None when it declined for `reason`."""

    authorisation: str | None = None
    reason: str | None = None


class GatewayAway(Exception):
    """No answer (no connection, a time-out, a 5xx): the outcome is unknown, and is to be asked for again with the same key."""


class Gateway:
    """A connection to the payment gateway; one serves all threads.

    Raises GatewayAway, and httpx.HTTPStatusError for a request that the gateway refuses and would refuse again.
    """

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def authorise(self, key: str, order_id: str, amount: int) -> Answer:
        response = self._post("/authorisations", key, {"order_id": order_id, "amount": amount})
        return Answer.model_validate_json(response.content)

    def void(self, key: str, authorisation: str) -> None:
        """Harmless if it is void already."""
        self._post(f"/authorisations/{authorisation}/void", key, {})

    def _post(self, path: str, key: str, body: dict[str, object]) -> httpx.Response:
        try:
            response = self.http.post(path, json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            raise GatewayAway(f"{type(error).__name__}: {error}") from error
        if response.is_server_error:
            raise GatewayAway(f"HTTP status {response.status_code}")
        return response if response.status_code == httpx.codes.PAYMENT_REQUIRED else response.raise_for_status()


@cache
def settings() -> PaymentsSettings:
    return PaymentsSettings()


@cache
def gateway() -> Gateway:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would report every request
    return Gateway(httpx.Client(base_url=settings().gateway, timeout=settings().gateway_timeout))
