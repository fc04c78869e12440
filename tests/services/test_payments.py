from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest

from saga import ExternalCall, Failure
from saga.participant.failure import failure_of
from services.payments import app
from services.payments.app import authorise, card_gateway, payments, record, void
from services.payments.client import Gateway, GatewayAway
from services.payments.events import OrderPlaced, PaymentAuthorised, PaymentDeclined, PaymentVoided
from services.payments.gateway import Ledger, api
from tests.services.asgi import client
from tests.services.tables import transaction

PAYMENTS = "SELECT order_id, kind, authorisation, amount, reason FROM payments"


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with closing(sqlite3.connect(":memory:")) as connection:
        yield Ledger(connection, limit=1000_00)


@pytest.fixture
def http(ledger: Ledger) -> Iterator[httpx.Client]:
    with client(api(ledger)) as http:
        yield http


@pytest.fixture
def gateway(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    reached = Gateway(http)
    monkeypatch.setattr(app, "gateway", lambda: reached)
    return reached


def call(key: str) -> ExternalCall:
    return ExternalCall(workflow_id="w", idempotency_key=key)


def order(total: int, customer_id: str | None = "4711") -> OrderPlaced:
    return OrderPlaced(order_id="1", customer_id=customer_id, total=total)


@pytest.mark.usefixtures("gateway")
def test_the_gateway_holds_the_amount_of_an_order(ledger: Ledger) -> None:
    outcome = authorise(order(750_00), call("key"))

    assert isinstance(outcome, PaymentAuthorised)
    [entry] = ledger.entries()
    assert (entry["kind"], entry["authorisation"], entry["amount"]) == ("authorised", outcome.authorisation, 750_00)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(("total", "declined"), [(500_00, False), (500_01, True)], ids=["at the limit", "a penny above"])
def test_guests_pay_up_to_their_limit(total: int, declined: bool, ledger: Ledger) -> None:
    outcome = authorise(order(total, customer_id=None), call("key"))

    assert isinstance(outcome, PaymentDeclined) is declined
    assert len(ledger.entries()) == (0 if declined else 1)


@pytest.mark.usefixtures("gateway")
def test_what_the_gateway_declines_is_declined_with_its_reason(ledger: Ledger) -> None:
    outcome = authorise(order(1000_01), call("key"))

    assert outcome == PaymentDeclined(order_id="1", reason="above the limit of 100000 pence")
    assert [entry["kind"] for entry in ledger.entries()] == ["declined"]


@pytest.mark.usefixtures("gateway")
def test_asking_again_with_the_same_key_holds_the_amount_once(ledger: Ledger) -> None:
    first, second = authorise(order(750_00), call("key")), authorise(order(750_00), call("key"))

    assert first == second
    assert len(ledger.entries()) == 1


@pytest.mark.usefixtures("gateway")
def test_voiding_gives_the_amount_free_once(ledger: Ledger) -> None:
    authorised = authorise(order(750_00), call("key"))
    assert isinstance(authorised, PaymentAuthorised)

    outcomes = [void(authorised, call("another key")) for _ in range(2)]

    expected = PaymentVoided(order_id="1", authorisation=authorised.authorisation, amount=750_00)
    assert outcomes == [expected, expected]
    assert [(entry["kind"], entry["amount"]) for entry in ledger.entries()] == [("authorised", 750_00), ("voided", 750_00)]


def broken(request: httpx.Request) -> httpx.Response:
    return httpx.Response(503)


def hung_up(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("no answer in 5 s")


def refusing(request: httpx.Request) -> httpx.Response:
    return httpx.Response(422)


@pytest.mark.parametrize(
    ("reached", "expected"),
    [(broken, Failure.of(card_gateway)), (hung_up, Failure.of(card_gateway)), (refusing, Failure.PERMANENT)],
)
def test_a_gateway_that_gives_no_answer_is_awaited_and_one_that_refuses_is_not(
    reached: Callable[[httpx.Request], httpx.Response], expected: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(reached)) as http:
        monkeypatch.setattr(app, "gateway", lambda: Gateway(http))

        with pytest.raises((GatewayAway, httpx.HTTPStatusError)) as raised:
            authorise(order(1_00), call("key"))

    [handler] = [handler for handler in payments.handlers.values() if handler.function is authorise]
    assert isinstance(raised.value, Exception)
    assert failure_of(raised.value, payments.classifier, handler.needs) == expected


def test_every_outcome_is_a_line_in_the_journal() -> None:
    with transaction("payments") as tx:
        record(PaymentAuthorised(order_id="1", authorisation="auth-1", amount=500), tx)
        record(PaymentVoided(order_id="1", authorisation="auth-1", amount=500), tx)
        record(PaymentDeclined(order_id="2", reason="no"), tx)

        assert tx.execute(PAYMENTS).fetchall() == [
            ("1", "authorised", "auth-1", 500, None),
            ("1", "voided", "auth-1", 500, None),
            ("2", "declined", None, 0, "no"),
        ]


@pytest.mark.parametrize(
    ("path", "key", "body", "status"),
    [
        ("/authorisations", None, '{"order_id": "1", "amount": 5}', 400),
        ("/authorisations", "key", "nonsense", 400),
        ("/authorisations", "key", "[]", 400),
        ("/authorisations", "key", '{"order_id": "1", "amount": -5}', 400),
        ("/authorisations", "key", '{"order_id": "1", "amount": 5.5}', 400),
        ("/authorisations", "used", '{"order_id": "1", "amount": 6}', 422),
        ("/authorisations/auth-none/void", "key", "{}", 404),
    ],
)
def test_the_gateway_refuses_what_it_cannot_understand(
    path: str, key: str | None, body: str, status: int, http: httpx.Client, ledger: Ledger
) -> None:
    ledger.authorise("used", "1", 5)

    response = http.post(path, content=body, headers={"Idempotency-Key": key} if key else {})

    assert response.status_code == status
    assert response.json()["error"]
    assert len(ledger.entries()) == 1


def test_a_key_that_authorised_cannot_void(http: httpx.Client, ledger: Ledger) -> None:
    entry = ledger.authorise("used", "1", 5)

    response = http.post(f"/authorisations/{entry['authorisation']}/void", headers={"Idempotency-Key": "used"})

    assert response.status_code == 422
    assert http.get("/ledger").json() == [entry]
