"""What a participant refuses to be told, each refusal with what was found, expected and to be done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from saga import DefinitionError, Event, ExternalCall, Participant, Pending, Projection, Saga, Transaction

CHECKOUT = Path(__file__).parents[2] / "schemas" / "checkout"


class OrderPlaced(Event):
    order_id: str


class StockReserved(Event):
    order_id: str
    units: int
    country: str


class OutOfStock(Event):
    order_id: str
    sku: str
    wanted: int
    available: int


class StockReleased(Event):
    order_id: str
    units: int


class PaymentAuthorised(Event):
    order_id: str
    authorisation: str
    amount: int


class PaymentDeclined(Event):
    order_id: str
    reason: str


class ParcelDispatched(Event):
    order_id: str
    courier: str
    parcel: str


class DispatchRefused(Event):
    order_id: str
    country: str


class Misspelt(Event, name="OrderPlaced"):
    order_identity: str


class Mistyped(Event, name="OrderPlaced"):
    order_id: int


class Incomplete(Event, name="StockReserved"):
    order_id: str


class Unknown(Event):
    order_id: str


@pytest.fixture(scope="module")
def saga() -> Saga:
    return Saga.load(CHECKOUT)


@pytest.fixture
def stock(saga: Saga) -> Participant:
    return Participant("stock", saga)


def reserve(order: OrderPlaced, tx: Transaction) -> StockReserved | OutOfStock:
    return StockReserved(order_id=order.order_id, units=1, country="France")


def test_a_decorated_handler_is_the_very_function_that_was_written(stock: Participant) -> None:
    assert stock.step(reserve) is reserve


def test_a_participant_that_the_saga_does_not_know_is_refused(saga: Saga) -> None:
    with pytest.raises(DefinitionError, match=r"no participant 'stick'; its steps are by orders, payments, shipping, stock"):
        Participant("stick", saga)


@pytest.mark.parametrize("given", ["contracts", Path("contracts"), ["contracts"]], ids=repr)
def test_a_folder_s_name_in_the_place_of_its_saga_is_refused(given: Any) -> None:
    with pytest.raises(DefinitionError, match=r"'stock' was given .*; expected a Saga, or a list of its versions"):
        Participant("stock", given)


def test_an_unknown_step_is_refused_with_the_steps_that_there_are(stock: Participant) -> None:
    def reserv(order: OrderPlaced, tx: Transaction) -> StockReserved | OutOfStock:
        raise NotImplementedError

    with pytest.raises(DefinitionError, match=r"no step 'reserv' .*Its steps are reserve; a handler is named after its step"):
        stock.step(reserv)


def test_a_step_s_name_in_the_place_of_its_function_is_refused_with_the_way_to_say_it(stock: Participant) -> None:
    with pytest.raises(DefinitionError, match=r"found \.step\('reserve'\); expected \.step alone, or \.step\(step='reserve'\)"):
        stock.step("reserve")  # type: ignore[call-overload]


def test_what_is_declared_for_no_event_is_refused_where_it_would_be_lost(stock: Participant) -> None:
    """`@stock.evolve` without its brackets took the function for an event, and declared nothing."""
    fold = Projection("orders", stock.saga, tables=["orders"])

    for declare, name in ((stock.evolve, "evolve"), (stock.unchanged_by, "unchanged_by"), (fold.on, "on")):
        for given, told in ((), ""), ((reserve,), "reserve"), ((OrderPlaced, "StockReserved"), "OrderPlaced, 'StockReserved'"):
            with pytest.raises(DefinitionError, match=re.escape(f"found .{name}({told}); expected the classes of one event")):
                declare(*given)


def test_a_step_of_another_participant_is_refused_with_its_owner(stock: Participant) -> None:
    with pytest.raises(DefinitionError, match=r"it belongs to 'shipping'"):
        stock.step(step="dispatch")(reserve)


def test_a_second_handler_for_a_step_is_refused(stock: Participant) -> None:
    stock.step(reserve)

    with pytest.raises(DefinitionError, match=r"has reserve \(action of step 'reserve'\) already"):
        stock.step(reserve)


def test_an_annotation_that_is_not_of_the_contract_is_refused(stock: Participant) -> None:
    def takes(order: Unknown, tx: Transaction) -> StockReserved | OutOfStock:
        raise NotImplementedError

    def returns(order: OrderPlaced, tx: Transaction) -> StockReserved | Unknown:
        raise NotImplementedError

    def lacks(order: OrderPlaced, tx: Transaction) -> StockReserved:
        raise NotImplementedError

    def words(order: str, tx: Transaction) -> StockReserved | OutOfStock:
        raise NotImplementedError

    for function, found in (
        (takes, "has no event 'Unknown'; its contracts are"),
        (returns, "has no event 'Unknown'; its contracts are"),
        (lacks, "expected all of checkout.OutOfStock, checkout.StockReserved"),
        (words, "expected an event class, or a union of them"),
    ):
        with pytest.raises(DefinitionError, match=found):
            stock.step(step="reserve")(function)


def test_a_handler_without_the_transaction_is_refused(stock: Participant) -> None:
    def alone(order: OrderPlaced) -> StockReserved | OutOfStock:
        raise NotImplementedError

    def wrong(order: OrderPlaced, call: ExternalCall) -> StockReserved | OutOfStock:
        raise NotImplementedError

    with pytest.raises(DefinitionError, match="expected the event or events, and last the transaction"):
        stock.step(step="reserve")(alone)
    with pytest.raises(DefinitionError, match=r"last parameter call: .*expected Transaction"):
        stock.step(step="reserve")(wrong)


def test_an_external_step_gets_a_call_and_no_transaction(saga: Saga) -> None:
    payments = Participant("payments", saga)

    def authorise(order: OrderPlaced, tx: Transaction) -> PaymentAuthorised | PaymentDeclined:
        raise NotImplementedError

    with pytest.raises(DefinitionError, match="expected ExternalCall, since the step is external"):
        payments.step(authorise)


def test_a_join_needs_one_parameter_for_each_of_its_events(saga: Saga) -> None:
    shipping = Participant("shipping", saga)

    def half(reserved: StockReserved, tx: Transaction) -> ParcelDispatched | DispatchRefused:
        raise NotImplementedError

    def whole(
        paid: PaymentAuthorised, reserved: StockReserved, tx: Transaction
    ) -> ParcelDispatched | DispatchRefused | Pending:
        raise NotImplementedError

    with pytest.raises(DefinitionError, match=r"exactly one for each event of checkout.PaymentAuthorised, checkout"):
        shipping.step(step="dispatch")(half)
    assert shipping.step(step="dispatch")(whole) is whole


def test_a_view_that_disagrees_with_the_contract_is_refused_with_the_field(stock: Participant) -> None:
    def misspelt(order: Misspelt, tx: Transaction) -> StockReserved | OutOfStock:
        raise NotImplementedError

    def mistyped(order: Mistyped, tx: Transaction) -> StockReserved | OutOfStock:
        raise NotImplementedError

    def incomplete(order: OrderPlaced, tx: Transaction) -> Incomplete | OutOfStock:
        raise NotImplementedError

    for function, found in (
        (misspelt, r"Misspelt.order_identity: the contract checkout.OrderPlaced has no such field; it has order_id"),
        (mistyped, r"Mistyped.order_id: found <class 'int'>; the contract says string"),
        (incomplete, r"Incomplete is emitted as checkout.StockReserved but lacks units, country"),
    ):
        with pytest.raises(DefinitionError, match=found):
            stock.step(step="reserve")(function)


def test_a_compensation_takes_what_was_done_and_reports_the_undoing(stock: Participant) -> None:
    stock.step(reserve)

    def takes_the_trigger(order: OrderPlaced, tx: Transaction) -> StockReleased:
        raise NotImplementedError

    def release(reserved: StockReserved, tx: Transaction) -> StockReleased:
        raise NotImplementedError

    with pytest.raises(DefinitionError, match=r"expected one that takes checkout.StockReserved"):
        stock.compensation(of=reserve)(takes_the_trigger)
    assert stock.compensation(of=reserve)(release) is release


def test_a_participant_without_all_its_handlers_does_not_run(stock: Participant) -> None:
    with pytest.raises(DefinitionError, match="no handler for its step 'reserve'; write a function reserve"):
        stock.check()

    stock.step(reserve)

    with pytest.raises(DefinitionError, match=r"cannot undo its step 'reserve'.*\.compensation\(of=reserve\)"):
        stock.check()


def test_what_undoes_a_step_that_may_wait_must_take_that_it_was_never_done(saga: Saga) -> None:
    def may_wait(order: OrderPlaced, tx: Transaction) -> StockReserved | OutOfStock | Pending:
        raise NotImplementedError

    def blind(reserved: StockReserved, tx: Transaction) -> StockReleased:
        raise NotImplementedError

    def release(reserved: StockReserved | None, tx: Transaction) -> StockReleased:
        raise NotImplementedError

    refused, taken = Participant("stock", saga), Participant("stock", saga)
    for stock, undo in ((refused, blind), (taken, release)):
        stock.compensation(of="reserve")(undo)
        stock.step(step="reserve")(may_wait)

    with pytest.raises(DefinitionError, match=r"blind.*reserved.*expected `\| None`, since may_wait may answer Pending"):
        refused.check()
    taken.check()


def test_the_root_has_no_handler_but_start(saga: Saga) -> None:
    orders = Participant("orders", saga)

    def place(order: OrderPlaced, tx: Transaction) -> OrderPlaced:
        raise NotImplementedError

    with pytest.raises(DefinitionError, match="begins the saga: call `start`"):
        orders.step(place)


def test_a_contract_folder_that_is_missing_or_inconsistent_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"found no such folder, expected a folder of .avsc files"):
        Saga.load(tmp_path / "nowhere")

    (tmp_path / "Broken.avsc").write_text("{")

    with pytest.raises(DefinitionError, match=r"Broken.avsc: not JSON"):
        Saga.load(tmp_path)
