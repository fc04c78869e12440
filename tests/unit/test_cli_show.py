from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import split

import pytest

from saga import assembly
from saga.contracts.avro import AvroCodec
from saga.contracts.message import Kind, Message, event_id, to_headers
from saga.contracts.saga import Saga
from saga.contracts.schema import Schema
from saga.errors import RegistryUnavailable
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.store.outbox import OutboxRow, Published
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Received, Workflow
from tests.commands import Commands, schemas, written
from tests.laid import sqlite_store

OPENED = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
CONTRACTS = schemas(
    {"name": "place", "by": "orders", "emits": ["OrderPlaced"], "compensated": "OrderCancelled"},
    {
        "name": "reserve", "by": "stock", "on": ["OrderPlaced"], "emits": ["StockReserved"], "fails": "OutOfStock",
        "compensated": "StockReleased",
    },
    {
        "name": "authorise", "by": "payments", "on": ["OrderPlaced"], "emits": ["PaymentAuthorised"],
        "fails": "PaymentDeclined", "compensated": "PaymentVoided",
    },
    {
        "name": "dispatch", "by": "shipping", "on": ["StockReserved", "PaymentAuthorised"], "emits": ["ParcelDispatched"],
        "fails": "DispatchRefused", "pivot": True,
    },
    {"name": "confirm", "by": "orders", "on": ["ParcelDispatched"], "emits": ["OrderConfirmed"]},
)  # fmt: skip
RESERVED = AvroCodec(Saga.of(*CONTRACTS)).encode("checkout.StockReserved", {"order_id": "w1"})


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    """Commands beside a folder `contracts`."""
    written(tmp_path / "contracts", CONTRACTS)
    return Commands(tmp_path)


def workflow(status: WorkflowStatus = WorkflowStatus.IN_PROGRESS, *, closed: bool = False) -> Workflow:
    """`w1`, opened and due long ago."""
    end = OPENED + timedelta(minutes=2, seconds=5) if closed else None
    return Workflow(
        id="w1", version=1, lane=3, status=status, sequence=1, opened=OPENED, closed=end,
        deadline=OPENED + timedelta(minutes=10),
    )  # fmt: skip


def received(event: str, step: str, status: FactStatus = FactStatus.DONE, *, offset: int = 7) -> Received:
    """A fact that somebody else stated."""
    topic = "checkout.events" if status is FactStatus.DONE else "checkout.compensations"
    return Received(
        id=event_id("checkout", "w1", step, status), step=step, status=status, type=event,
        topic=topic, partition=3, offset=offset, received=OPENED + timedelta(seconds=offset),
    )  # fmt: skip


def stated(event: str, step: str, status: FactStatus, *, by: str = "stock") -> OutboxRow:
    """An own fact, in the outbox."""
    message = Message(
        Kind(event, by, "checkout", 1, step, status),
        id=event_id("checkout", "w1", step, status), workflow_id="w1", time=OPENED, sequence=1,
    )  # fmt: skip
    return OutboxRow(
        id=message.id, saga="checkout", lane=3, topic="checkout.events", workflow_id="w1", type=event, sequence=1,
        headers=to_headers(message), payload=RESERVED, created=OPENED,
    )  # fmt: skip


def saved(folder: Path, changes: Changes, *published: OutboxRow) -> None:
    """A database `stock.db` that holds this."""
    store = sqlite_store(folder / "stock.db")
    with store.unit() as unit:
        unit.save("checkout", changes)
        unit.mark([Published(row.saga, row.workflow_id, row.sequence, 9) for row in published])
    store.close()


def reserved(folder: Path) -> None:
    """Stock has reserved, and its fact is on the topic."""
    fence = Fence(step="reserve", status=StepStatus.DONE, event="checkout.StockReserved", result=RESERVED, changed=OPENED)
    row = stated("checkout.StockReserved", "reserve", FactStatus.DONE)
    changes = Changes(
        workflows=[workflow()], fences=[("w1", fence)], inbox=[("w1", received("checkout.OrderPlaced", "place"))], outbox=[row]
    )
    saved(folder, changes, row)


def test_an_unknown_workflow_is_not_found_and_the_place_is_named(saga: Commands, tmp_path: Path) -> None:
    reserved(tmp_path)

    said = saga("show", "w2", "--database", "sqlite:///stock.db")

    assert said.code == 1
    assert said.out == ""
    assert said.err.startswith("error: no workflow 'w2' in sqlite:///stock.db: a service knows only")


def test_one_that_may_have_been_pruned_is_not_said_to_have_never_been_there(saga: Commands, tmp_path: Path) -> None:
    saved(tmp_path, Changes(workflows=[workflow(WorkflowStatus.COMPLETED, closed=True)]))
    store = SqliteStore(tmp_path / "stock.db")
    lane = store.claim("checkout", 3, 4)
    with store.unit() as unit:
        unit.prune(lane, OPENED + timedelta(days=1), 10)
    store.close()

    said = saga("show", "w1", "--database", "sqlite:///stock.db")

    assert said.code == 1
    assert "those that ended up to 2026-03-01" in said.err


def test_the_first_lines_say_how_it_stands_and_what_is_wrong(saga: Commands, tmp_path: Path) -> None:
    reserved(tmp_path)

    first, second, *_ = saga("show", "w1", "--database", "sqlite:///stock.db").out.splitlines()

    assert first.startswith("checkout v1 w1: IN_PROGRESS, open for ")
    assert second == "  ! its deadline passed at 2026-03-01 03:10:00Z and it is still open"


def test_steps_and_facts_come_as_columns(saga: Commands, tmp_path: Path) -> None:
    reserved(tmp_path)

    lines = saga("show", "w1", "--database", "sqlite:///stock.db").out.splitlines()

    rows = [line.split() for line in lines]
    assert ["reserve", "done", "StockReserved", "03:00:00Z", f"{len(RESERVED)}", "bytes"] in rows
    assert ["03:00:07Z", "place", "done", "OrderPlaced", "handled", "checkout.events/3@7"] in rows
    assert ["1", "03:00:00Z", "reserve", "done", "StockReserved", "published"] in rows
    assert "  stock, lane 3, sqlite:///stock.db" in lines


def test_the_contracts_decode_results(saga: Commands, tmp_path: Path) -> None:
    reserved(tmp_path)

    said = saga("show", "w1", "--schemas", "contracts", "--json", SAGA_DATABASE="sqlite:///stock.db")

    (found,) = said.json["workflows"]
    assert found["steps"][0]["result"] == {"order_id": "w1"}
    assert found["stated"][0]["published"] is True
    assert found["awaits"] == ["the end: confirm by orders done"]


class Registered:
    """A registry in which every schema has the id 7."""

    def id_of(self, subject: str, schema: Schema) -> int:
        return 7


class Away:
    """A registry that does not answer."""

    def id_of(self, subject: str, schema: Schema) -> int:
        raise RegistryUnavailable("the registry http://registry does not answer: connection refused")


@pytest.mark.parametrize(
    ("registry", "shown"),
    [
        (Registered(), {"order_id": "w1"}),
        (Away(), {"undecoded": "the registry http://registry does not answer: connection refused", "bytes": 8}),
    ],
    ids=["answers", "is away"],
)
def test_results_are_decoded_by_the_registry_that_gave_their_ids_and_shown_without_it_if_it_is_away(
    saga: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registered | Away, shown: object
) -> None:
    result = b"\0\0\0\0\7" + RESERVED[5:]
    fence = Fence(step="reserve", status=StepStatus.DONE, event="checkout.StockReserved", result=result)
    saved(tmp_path, Changes(workflows=[workflow()], fences=[("w1", fence)]))
    monkeypatch.setattr(assembly, "registry", lambda settings: registry)

    said = saga("show", "w1", "--schemas", "contracts", "--json", SAGA_DATABASE="sqlite:///stock.db")

    assert said.json["workflows"][0]["steps"][0]["result"] == shown


def test_contracts_of_another_version_are_named_and_not_used(saga: Commands, tmp_path: Path) -> None:
    other = workflow()
    other.version = 2
    fence = Fence(step="reserve", status=StepStatus.DONE, event="checkout.StockReserved", result=RESERVED)
    saved(tmp_path, Changes(workflows=[other], fences=[("w1", fence)]))

    said = saga("show", "w1", "--schemas", "contracts", SAGA_DATABASE="sqlite:///stock.db")

    assert "the contracts given are of checkout v1: nothing was decoded with them" in said.out
    assert f"{len(RESERVED)} bytes" in said.out


def test_bytes_that_the_contract_cannot_read_are_shown_as_such(saga: Commands, tmp_path: Path) -> None:
    fence = Fence(step="reserve", status=StepStatus.DONE, event="checkout.StockReserved", result=b"rubbish")
    saved(tmp_path, Changes(workflows=[workflow()], fences=[("w1", fence)]))

    said = saga("show", "w1", "--schemas", "contracts", "--json", SAGA_DATABASE="sqlite:///stock.db")

    result = said.json["workflows"][0]["steps"][0]["result"]
    assert result["bytes"] == 7
    assert "expected 00 and the schema id" in result["undecoded"]


def test_a_join_awaits_what_is_missing_and_names_who_owes_it(saga: Commands, tmp_path: Path) -> None:
    facts = [received("checkout.OrderPlaced", "place"), received("checkout.StockReserved", "reserve", offset=8)]
    tombstone = stated("saga.Refused", "dispatch", FactStatus.REFUSED, by="shipping")
    saved(tmp_path, Changes(workflows=[workflow()], inbox=[("w1", fact) for fact in facts], outbox=[tombstone]), tombstone)

    said = saga("show", "w1", "--schemas", "contracts", "--json", SAGA_DATABASE="sqlite:///stock.db")

    assert said.json["workflows"][0]["awaits"] == ["step dispatch: PaymentAuthorised (authorise by payments)"]


def test_an_unwinding_step_awaits_the_reports_of_those_behind_it(saga: Commands, tmp_path: Path) -> None:
    fence = Fence(step="reserve", status=StepStatus.DONE, event="checkout.StockReserved", result=RESERVED)
    declined = received("checkout.PaymentDeclined", "authorise", FactStatus.FAILED)
    changes = Changes(workflows=[workflow(WorkflowStatus.FAILED)], fences=[("w1", fence)], inbox=[("w1", declined)])
    saved(tmp_path, changes)

    said = saga("show", "w1", "--schemas", "contracts", SAGA_DATABASE="sqlite:///stock.db")

    assert said.out.startswith("checkout v1 w1: FAILED, unwinding, open for ")
    assert "  awaits undoing step reserve: reports of dispatch by shipping\n" in said.out


def test_a_root_that_unwinds_awaits_reports_and_nothing_that_goes_forward(saga: Commands, tmp_path: Path) -> None:
    fence = Fence(step="place", status=StepStatus.DONE, event="checkout.OrderPlaced", result=RESERVED)
    declined = received("checkout.PaymentDeclined", "authorise", FactStatus.FAILED)
    changes = Changes(workflows=[workflow(WorkflowStatus.FAILED)], fences=[("w1", fence)], inbox=[("w1", declined)])
    saved(tmp_path, changes)

    said = saga("show", "w1", "--schemas", "contracts", "--json", SAGA_DATABASE="sqlite:///stock.db")

    assert said.json["workflows"][0]["awaits"] == ["undoing step place: reports of reserve by stock"]


@pytest.mark.parametrize(
    ("fence", "told"),
    [
        (
            Fence(step="reserve", status=StepStatus.STUCK, attempt=5, error="ValueError: no shelf"),
            "! step reserve is stuck after attempt 5: ValueError: no shelf",
        ),
        (
            Fence(step="reserve", status=StepStatus.RUNNING, attempt=2, error="timeout", due=OPENED + timedelta(minutes=1)),
            "! step reserve: attempt 2 failed: timeout; next try 2026-03-01 03:01:00Z",
        ),
        (
            Fence(
                step="reserve",
                status=StepStatus.IDLE,
                attempt=1,
                error="waits for courier-api: Timeout: no",
                due=OPENED + timedelta(minutes=1),
            ),
            "! step reserve waits for courier-api: Timeout: no; next try 2026-03-01 03:01:00Z",
        ),
        (Fence(step="reserve", status=StepStatus.RUNNING), "awaits step reserve: the answer to the call that is in hand"),
        (Fence(step="reserve", status=StepStatus.RUNNING, pending=True), "awaits step reserve: its outcome, which the service"),
        (Fence(step="reserve", status=StepStatus.COMPENSATING), "awaits step reserve: the end of its compensation"),
    ],
)
def test_what_a_step_is_at_is_told_without_contracts(saga: Commands, tmp_path: Path, fence: Fence, told: str) -> None:
    saved(tmp_path, Changes(workflows=[workflow()], fences=[("w1", fence)]))

    said = saga("show", "w1", SAGA_DATABASE="sqlite:///stock.db")

    assert told in said.out
    assert "with --schemas DIR" in said.out


def parked(saga: Commands, tmp_path: Path, fence: Fence, *options: str) -> list[str]:
    """The first lines of `saga show` when this fence is parked."""
    saved(tmp_path, Changes(workflows=[workflow(WorkflowStatus.FAILED)], fences=[("w1", fence)]))
    return saga("show", "w1", *options, SAGA_DATABASE="sqlite:///stock.db").out.splitlines()


def test_what_is_parked_comes_first_with_the_commands_that_end_it(saga: Commands, tmp_path: Path) -> None:
    fence = Fence(step="reserve", status=StepStatus.IDLE, attempt=12, error="OSError: no shelf")

    head, trouble, late, retry, skip, *_ = parked(saga, tmp_path, fence)

    assert head.startswith("checkout v1 w1: FAILED, unwinding, PARKED, open for ")
    assert trouble == "  ! step reserve: attempt 12 failed: OSError: no shelf; waits for an operator"
    assert retry == "  > saga retry w1"
    assert skip == "  > saga skip MODULE:PARTICIPANT w1 reserve --reason TEXT"
    assert "deadline passed" in late


@pytest.mark.parametrize(
    ("fence", "remedies"),
    [
        (Fence(step="reserve", status=StepStatus.IDLE, error="no"), "skip MODULE:stock w1 reserve"),
        (Fence(step="dispatch", status=StepStatus.IDLE, error="no"), "abort MODULE:shipping w1"),
        (Fence(step="confirm", status=StepStatus.IDLE, error="no"), "resolve MODULE:orders w1 confirm --event OrderConfirmed"),
        (
            Fence(step="authorise", status=StepStatus.RUNNING, error="no"),
            "resolve MODULE:payments w1 authorise --event PaymentAuthorised; "
            "resolve MODULE:payments w1 authorise --event PaymentDeclined",
        ),
        (
            Fence(step="reserve", status=StepStatus.STUCK, event="checkout.StockReserved", result=RESERVED, error="no"),
            "resolve MODULE:stock w1 reserve --event StockReleased",
        ),
        (
            Fence(step="reserve", status=StepStatus.DONE, event="checkout.StockReserved", result=RESERVED, error="no"),
            "resolve MODULE:stock w1 reserve --event StockReleased",
        ),
    ],
    ids=["action", "pivot", "after the pivot", "external", "stuck compensation", "parked compensation"],
)
def test_with_contracts_the_commands_that_help_are_named(saga: Commands, tmp_path: Path, fence: Fence, remedies: str) -> None:
    lines = parked(saga, tmp_path, fence, "--schemas", "contracts")

    said = [line.removeprefix("  > saga ") for line in lines if line.startswith("  > ")]
    given = [line.removesuffix(" --reason TEXT").removesuffix(" --fields JSON") for line in said]
    assert given == ["retry w1", *remedies.split("; ")]


def test_a_command_for_an_id_that_looks_like_an_option_can_be_copied(saga: Commands, tmp_path: Path) -> None:
    fence = Fence(step="reserve", status=StepStatus.IDLE, error="no")
    saved(tmp_path, Changes(workflows=[replace(workflow(), id="-w 1")], fences=[("-w 1", fence)]))
    database = "sqlite:///stock.db"

    lines = saga("show", "--schemas", "contracts", "--", "-w 1", SAGA_DATABASE=database).out.splitlines()
    retry, skip = [line.removeprefix("  > saga ") for line in lines if line.startswith("  > ")]
    said = saga(*split(retry), SAGA_DATABASE=database)

    assert skip == "skip --reason TEXT -- MODULE:stock '-w 1' reserve"
    assert (said.code, said.out) == (0, "checkout -w 1 is tried again now\n")


def test_a_compensation_that_waits_is_told_from_an_action(saga: Commands, tmp_path: Path) -> None:
    due = OPENED + timedelta(minutes=1)
    fence = Fence(step="reserve", status=StepStatus.DONE, attempt=2, event="checkout.StockReserved", error="no", due=due)

    lines = parked(saga, tmp_path, fence)

    assert lines[1] == "  ! compensation of step reserve: attempt 2 failed: no; next try 2026-03-01 03:01:00Z"


def test_an_own_fact_that_is_not_published_is_trouble(saga: Commands, tmp_path: Path) -> None:
    saved(tmp_path, Changes(workflows=[workflow()], outbox=[stated("checkout.StockReserved", "reserve", FactStatus.DONE)]))

    said = saga("show", "w1", SAGA_DATABASE="sqlite:///stock.db")

    assert (
        "! 1 own facts are not published, the oldest of 2026-03-01 03:00:00Z: does a worker run? see: saga doctor" in said.out
    )
    assert "awaits 1 own facts are to be published" in said.out
    assert said.out.splitlines()[-1].split()[-1] == "recorded"


def test_a_closed_workflow_says_how_long_it_took_and_awaits_nothing(saga: Commands, tmp_path: Path) -> None:
    ended = workflow(WorkflowStatus.COMPLETED, closed=True)
    ended.fences = {"reserve": Fence(step="reserve", status=StepStatus.DONE)}
    saved(tmp_path, Changes(closed=[ended]))

    said = saga("show", "w1", "--schemas", "contracts", SAGA_DATABASE="sqlite:///stock.db")

    assert said.out.startswith("checkout v1 w1: COMPLETED after 2 min 5 s\n")
    assert "!" not in said.out
    assert "awaits" not in said.out
    assert ["reserve", "done"] in [line.split() for line in said.out.splitlines()]


def test_gates_are_shown_as_they_were_when_it_began_and_nobody_waits_for_what_is_behind_a_shut_one(
    saga: Commands, tmp_path: Path
) -> None:
    contracts = [dict(schema) for schema in CONTRACTS]
    fields = contracts[-1]["fields"]
    contracts[-1]["fields"] = [
        field | {"step": field["step"] | {"gate": "prepaid"}} if field["name"] == "authorise" else field for field in fields
    ]
    written(tmp_path / "gated", contracts)
    facts = [received("checkout.OrderPlaced", "place"), received("checkout.StockReserved", "reserve", offset=8)]
    tombstone = stated("saga.Refused", "dispatch", FactStatus.REFUSED, by="shipping")
    saved(tmp_path, Changes(workflows=[workflow()], inbox=[("w1", fact) for fact in facts], outbox=[tombstone]), tombstone)

    said = saga("show", "w1", "--schemas", "gated", SAGA_DATABASE="sqlite:///stock.db")

    assert "gates: prepaid shut" in said.out
    assert "PaymentAuthorised" not in said.out
