"""`saga dead-letters`: what could not be taken in is seen, and somebody's decision on it stays on record."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from saga import Saga as Contracts
from saga import assembly
from saga.cli.acting import connect, dead_letters
from saga.cli.acting.connect import connect_headers
from saga.contracts.avro import AvroCodec
from saga.contracts.schema import Schema
from saga.contracts.sensitive import MASK
from saga.contracts.topics import saga_topics
from saga.errors import StoreError
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Place, Reason
from saga.store.sqlite import SqliteStore
from saga.store.sqlite_unit import SqliteUnit
from saga.transport.memory import MemoryBroker
from saga.transport.port import Outbound, Partition
from tests.commands import Commands, Said, schemas, written
from tests.laid import sqlite_store

Saga = Callable[..., Said]
KEPT = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
CHECKOUT = Path(__file__).parents[2] / "schemas" / "checkout"


@pytest.fixture
def saga(tmp_path: Path) -> Saga:
    """Commands that find the database `stock.db`."""
    return partial(Commands(tmp_path), SAGA_DATABASE="sqlite:///stock.db")


def letter(offset: int, *, topic: str = "checkout.events", **fields: Any) -> DeadLetter:
    known: dict[str, Any] = {
        "key": b"order-1",
        "value": b"\x00garbage",
        "headers": (("trace", b"\xff"), ("empty", None)),
        "reason": Reason.HEADERS,
        "error": f"record {topic}/0@{offset} has no header 'ce_type'",
        "recorded": KEPT + timedelta(seconds=offset),
    }
    return DeadLetter(place=Place("checkout", topic, 0, offset), **{**known, **fields})


def headers(event: str, source: str, step: str) -> tuple[tuple[str, bytes], ...]:
    told = {
        "ce_id": "e1", "ce_subject": "w1", "ce_time": "2026-03-01T03:00:00Z", "ce_sequence": "1", "ce_saga": "checkout",
        "ce_type": event, "ce_source": source, "ce_sagaversion": "7", "ce_step": step, "ce_status": "done",
    }  # fmt: skip
    return tuple((name, text.encode()) for name, text in told.items())


def known(folder: Path, *letters: DeadLetter) -> None:
    with closing(sqlite_store(folder / "stock.db")) as store, store.unit() as unit:
        unit.bury(letters)


def states(folder: Path) -> dict[int, LetterState]:
    with closing(SqliteStore(folder / "stock.db")) as store, store.unit() as unit:
        return {one.place.offset: one.state for one in unit.letters(LetterSearch(), 100)}


def test_letters_of_one_cause_are_one_line(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, *(letter(n) for n in range(3)), letter(9, reason=Reason.KEY, error="its key is None"))

    head, first, second = saga("dead-letters", "list").out.splitlines()

    assert head.split() == ["count", "saga", "topic", "reason", "state", "since", "error", "for", "example"]
    assert first.split()[:5] == ["3", "checkout", "checkout.events", "headers", "waiting"]
    assert first.endswith("record # has no header 'ce_type'  checkout.events/0@0")
    assert second.split()[:5] == ["1", "checkout", "checkout.events", "key", "waiting"]


def test_each_letter_can_be_seen_and_filtered(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(1), letter(2, reason=Reason.KEY), letter(3, topic="checkout.compensations", reason=Reason.KEY))

    found = saga("dead-letters", "list", "--all", "--reason-class", "key", "--topic", "checkout.events", "--json").json

    [one] = found["letters"]
    assert (one["place"], one["reason"], one["value"]) == ("checkout.events/0@2", "key", b"\x00garbage".hex())
    assert one["headers"] == [["trace", "ff"], ["empty", None]]


def test_a_database_without_letters_says_so(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path)

    said = saga("dead-letters", "list")

    assert (said.code, said.out) == (0, "")
    assert "no dead letters in sqlite:///stock.db" in said.err


def test_a_letter_is_shown_with_its_bytes_and_what_can_be_done(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(7, value=bytes(range(48, 66))))

    lines = saga("dead-letters", "show", "checkout.events/0@7").out.splitlines()

    assert any(line.startswith("  readable, headers: record checkout.events/0@7 has no header") for line in lines)
    assert lines[0] == "checkout.events/0@7 of saga checkout: waiting, headers"
    assert "  > saga dead-letters requeue checkout.events/0@7" in lines
    assert "  header trace '\\xff'" in lines
    assert "  header empty null" in lines
    assert "    00000000  30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f  0123456789:;<=>?" in lines
    assert "    00000010  40 41                                            @A" in lines


def test_what_can_be_read_of_a_letter_is_told(saga: Saga, tmp_path: Path) -> None:
    value = AvroCodec(Contracts.load(CHECKOUT)).encode(
        "checkout.StockReserved", {"order_id": "w1", "units": 2, "country": "Spain"}
    )
    raw = headers("checkout.StockReserved", "stock", "reserve")
    known(tmp_path, letter(1, headers=raw, value=value), letter(2, headers=raw))

    readable = saga("dead-letters", "show", "checkout.events/0@1", "--schemas", CHECKOUT, "--json").json["readable"]
    broken = saga("dead-letters", "show", "checkout.events/0@2", "--schemas", CHECKOUT, "--json").json["readable"]

    assert (readable["type"], readable["workflow"]) == ("checkout.StockReserved", "w1")
    assert readable["value"] == {"order_id": "w1", "units": 2, "country": "Spain"}
    assert "expected 00 and the schema id" in broken["value"]


def test_what_is_read_of_a_letter_is_read_by_the_registry_that_gave_its_id_and_nothing_sensitive_is_told(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Registry:
        def id_of(self, subject: str, schema: Schema) -> int:
            return 7

    contracts = schemas({"name": "place", "by": "orders", "emits": ["OrderPlaced"], "pivot": True})
    placed = next(one for one in contracts if one["name"] == "OrderPlaced")
    placed["fields"].append({"name": "card", "type": "string", "sensitive": True})
    written(tmp_path / "contracts", contracts)
    own = AvroCodec(Contracts.of(*contracts)).encode("checkout.OrderPlaced", {"order_id": "w1", "card": "4111"})
    known(tmp_path, letter(1, headers=headers("checkout.OrderPlaced", "orders", "place"), value=b"\0\0\0\0\7" + own[5:]))
    monkeypatch.setattr(assembly, "registry", lambda settings: Registry())

    readable = saga("dead-letters", "show", "checkout.events/0@1", "--schemas", "contracts", "--json").json["readable"]

    assert readable["value"] == {"order_id": "w1", "card": MASK}


@pytest.mark.parametrize("place", ["checkout.events", "checkout.events/0", "a/b@c", "@1"])
def test_a_place_that_is_none_is_refused(saga: Saga, tmp_path: Path, place: str) -> None:
    known(tmp_path)

    said = saga("dead-letters", "show", place)

    assert said.code == 2
    assert "expected TOPIC/PARTITION@OFFSET" in said.err


def test_a_letter_that_is_not_there_is_not_shown(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path)

    said = saga("dead-letters", "show", "checkout.events/0@1")

    assert said.code == 1
    assert "no dead letter in sqlite:///stock.db: checkout.events/0@1" in said.err


def test_a_dry_run_says_which_and_changes_nothing(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(1), letter(2))

    said = saga("dead-letters", "discard", "--saga", "checkout", "--reason", "a test", "--dry-run")

    assert said.out.splitlines() == ["checkout.events/0@1 would be discarded", "checkout.events/0@2 would be discarded"]
    assert set(states(tmp_path).values()) == {LetterState.WAITING}


def test_discarded_letters_stay_with_who_and_why(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(1), letter(2, reason=Reason.KEY))

    said = saga("dead-letters", "discard", "--reason-class", "headers", "--reason", "a test record", "--by", "ann")

    assert said.out == "checkout.events/0@1 is discarded\n"
    assert states(tmp_path) == {1: LetterState.DISCARDED, 2: LetterState.WAITING}
    one = saga("dead-letters", "show", "checkout.events/0@1", "--json").json
    assert (one["changed_by"], one["note"]) == ("ann", "a test record")


def test_one_that_was_requeued_in_vain_says_by_whom(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(3))
    saga("dead-letters", "requeue", "checkout.events/0@3", "--by", "ann")
    known(tmp_path, letter(3))  # as a worker does that cannot take it in

    said = saga("dead-letters", "show", "checkout.events/0@3")

    assert re.search(r"^  requeued in vain by ann at \S+ \S+$", said.out, re.MULTILINE)


def test_letters_that_wait_are_found_behind_many_that_were_decided_on(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST", 2)
    known(tmp_path, *map(letter, range(5)))
    for _ in range(2):
        said = saga("dead-letters", "discard", "--saga", "checkout", "--reason", "noise")
        assert (said.code, said.out.count("is discarded")) == (0, 2)
        assert "these are the 2 oldest; there may be more" in said.err

    last = saga("dead-letters", "discard", "--saga", "checkout", "--reason", "noise")

    assert last.out == "checkout.events/0@4 is discarded\n"
    assert {*states(tmp_path).values()} == {LetterState.DISCARDED}


def test_bulk_commands_leave_alone_what_was_decided_and_a_named_one_is_decided_anew(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(1, state=LetterState.DISCARDED), letter(2))

    bulk = saga("dead-letters", "requeue", "--topic", "checkout.events", "--json").json["requeued"]
    named = saga("dead-letters", "requeue", "checkout.events/0@1", "--json").json["requeued"]

    assert (bulk, named) == (["checkout.events/0@2"], ["checkout.events/0@1"])
    assert set(states(tmp_path).values()) == {LetterState.REQUEUED}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize("verb", [["requeue"], ["discard", "--reason", "noise"], ["export", "--to", "dead"]])
def test_a_place_without_a_letter_is_named_and_the_others_are_decided_on(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str], dry: list[str]
) -> None:
    monkeypatch.setattr(assembly, "broker", lambda settings: MemoryBroker(["dead"], partitions=1))
    known(tmp_path, letter(1))

    said = saga("dead-letters", *verb, "checkout.events/0@1", "checkout.events/0@2", "checkout.events/1@1", *dry)

    assert said.code == 1
    assert said.out.startswith("checkout.events/0@1 ")
    assert len(said.out.splitlines()) == 1
    assert "no dead letter in sqlite:///stock.db: checkout.events/0@2, checkout.events/1@1." in said.err
    assert (states(tmp_path)[1] is LetterState.WAITING) == bool(dry)


def test_a_program_is_told_which_places_have_no_letter(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(1))

    said = saga("dead-letters", "requeue", "checkout.events/0@1", "checkout.events/0@2", "--json")

    assert said.code == 1
    assert (said.json["requeued"], said.json["not_found"]) == (["checkout.events/0@1"], ["checkout.events/0@2"])


def test_a_place_that_is_named_twice_is_exported_once(saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker(["dead"], partitions=1)
    monkeypatch.setattr(assembly, "broker", lambda settings: broker)
    known(tmp_path, letter(1))

    said = saga("dead-letters", "export", "checkout.events/0@1", "checkout.events/0@1", "--to", "dead")

    assert (said.code, said.out) == (0, "checkout.events/0@1 is exported\n")
    assert len(broker.logs[Partition("dead", 0)]) == 1


@pytest.mark.parametrize("arguments", [[], ["checkout.events/0@1", "--saga", "checkout"]])
def test_which_letters_must_be_said_in_one_way(saga: Saga, tmp_path: Path, arguments: list[str]) -> None:
    known(tmp_path)

    said = saga("dead-letters", "requeue", *arguments)

    assert said.code == 2
    assert "say which: either places, or some of" in said.err


def test_exported_letters_are_on_the_topic_as_they_were_with_the_headers_of_kafka_connect(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker(["dead"], partitions=1)
    monkeypatch.setattr(assembly, "broker", lambda settings: broker)
    known(tmp_path, letter(5), letter(6, key=None, value=None))

    said = saga("dead-letters", "export", "--saga", "checkout", "--to", "dead")

    assert said.out.splitlines() == ["checkout.events/0@5 is exported", "checkout.events/0@6 is exported"]
    first, second = broker.logs[Partition("dead", 0)]
    assert (first.key, first.value, second.key, second.value) == (b"order-1", b"\x00garbage", None, None)
    headers = dict(first.headers)
    assert (headers["trace"], headers["empty"]) == (b"\xff", None)
    assert [headers[f"__connect.errors.{name}"] for name in ("topic", "partition", "offset", "connector.name")] == [
        b"checkout.events", b"0", b"5", b"checkout",
    ]  # fmt: skip
    assert states(tmp_path) == {5: LetterState.EXPORTED, 6: LetterState.EXPORTED}


def test_connects_headers_are_all_there() -> None:
    said = [name for name, _ in connect_headers(letter(1)) if name.startswith("__connect")]

    assert said == [f"__connect.errors.{name}" for name in (
        "topic", "partition", "offset", "connector.name", "task.id", "stage", "class.name", "exception.class.name",
        "exception.message", "exception.stacktrace",
    )]  # fmt: skip


def test_what_the_broker_did_not_take_stays_as_it_was(saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(outbound: Outbound) -> str | None:
        return "the disk is full" if outbound.key is None else None

    broker = MemoryBroker(["dead"], partitions=1, fault=full)
    monkeypatch.setattr(assembly, "broker", lambda settings: broker)
    known(tmp_path, letter(1), letter(2, key=None))

    said = saga("dead-letters", "export", "--saga", "checkout", "--to", "dead")

    assert said.code == 1
    assert "1 of 2 were not delivered" in said.err
    assert states(tmp_path) == {1: LetterState.EXPORTED, 2: LetterState.WAITING}


def test_ctrl_c_waits_for_what_is_under_way_and_nothing_is_exported_a_second_time(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(outbound: Outbound) -> str | None:
        if outbound.key == b"4":
            signal.raise_signal(signal.SIGINT)
        return None

    broker = MemoryBroker(["dead"], partitions=1, fault=pressed)
    monkeypatch.setattr(assembly, "broker", lambda settings: broker)
    monkeypatch.setattr(connect, "AT_ONCE", 3)
    known(tmp_path, *(letter(n, key=str(n).encode()) for n in range(9)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        said = saga("dead-letters", "export", "--saga", "checkout", "--to", "dead")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)

    assert said.code == 130
    assert len(said.out.splitlines()) == len(broker.logs[Partition("dead", 0)]) == 6
    assert "3 of 9 were not delivered and stay as they are; try again" in said.err
    waiting = [offset for offset, state in states(tmp_path).items() if state is LetterState.WAITING]
    assert waiting == [6, 7, 8]


def test_a_topic_that_does_not_exist_is_named(saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "broker", lambda settings: MemoryBroker())
    known(tmp_path, letter(1))

    said = saga("dead-letters", "export", "--saga", "checkout", "--to", "dead")

    assert said.code == 1
    assert "there is no topic dead; create it" in said.err


@pytest.mark.parametrize("topic", ["checkout.events", "checkout.compensations", "checkout.acks"])
def test_letters_are_not_exported_to_a_topic_whose_readers_would_take_them_in(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    broker = MemoryBroker(saga_topics("checkout"), partitions=1)
    monkeypatch.setattr(assembly, "broker", lambda settings: broker)
    known(tmp_path, letter(1))

    said = saga("dead-letters", "export", "--saga", "checkout", "--to", topic)

    assert said.code == 2
    assert f"found --to {topic}, which is a topic of saga checkout" in said.err
    assert not any(broker.logs.values())
    assert states(tmp_path) == {1: LetterState.WAITING}


def test_a_workflow_is_shown_with_its_records_that_could_not_be_taken_in(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(1, reason=Reason.UNKNOWN_VERSION, workflow_id="w1", version=2, error="it is of version 2"))

    said = saga("show", "w1")

    assert said.out.splitlines() == [
        "dead letter checkout.events/0@1, waiting (unknown-version): it is of version 2",
        "  > saga dead-letters show checkout.events/0@1",
    ]
    assert saga("show", "w1", "--json").json["dead_letters"] == ["checkout.events/0@1"]


def test_reading_waits_for_nobody_who_writes(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(1, workflow_id="order-1"))
    with closing(sqlite3.connect(tmp_path / "stock.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")

        said = [
            saga("dead-letters", "list"),
            saga("dead-letters", "show", "checkout.events/0@1"),
            saga("show", "order-1"),
            saga("drain", "checkout", "--version", "1", "--never-seen"),
        ]

    assert [one.code for one in said] == [0, 0, 0, 0]


def test_the_doctor_counts_the_letters_that_nobody_has_decided_on(saga: Saga, tmp_path: Path) -> None:
    known(tmp_path, letter(1), letter(2), letter(3, state=LetterState.DISCARDED))

    findings = {one["subject"]: one for one in saga("doctor", "--json").json["findings"]}

    assert findings["dead letters"]["level"] == "warn"
    assert findings["dead letters"]["text"] == "2 records could not be taken in"


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (StoreError("the disk is full"), 1)], ids=["ctrl-c", "full disk"]
)
def test_a_decision_that_is_cut_off_tells_on_which_it_was_made(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr(dead_letters, "AT_ONCE", 2)
    known(tmp_path, *(letter(n) for n in range(5)))
    settle, settled = SqliteUnit.settle, list[object]()

    def cut_off(unit: SqliteUnit, *places: Any, **decided: Any) -> None:
        settle(unit, *places, **decided)
        settled.append(places)
        if len(settled) == 2:
            raise error

    with monkeypatch.context() as patched:
        patched.setattr(SqliteUnit, "settle", cut_off)
        said = saga("dead-letters", "discard", "--reason", "known", "--saga", "checkout", "--json")

    assert said.code == code
    assert said.json["discarded"] == ["checkout.events/0@0", "checkout.events/0@1"]
    assert "3 of 5 are left as they are: repeat the command for them" in said.err
    assert [n for n, state in states(tmp_path).items() if state is LetterState.WAITING] == [2, 3, 4]
    again = saga("dead-letters", "discard", "--reason", "known", "--saga", "checkout", "--json")
    assert (again.code, len(again.json["discarded"])) == (0, 3)


@pytest.mark.parametrize("which", [("--saga", "checkout"), ("checkout.events/0@0", "checkout.events/0@1")])
def test_what_somebody_else_requeues_meanwhile_is_not_discarded_after_all(
    saga: Saga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: tuple[str, ...]
) -> None:
    known(tmp_path, letter(0), letter(1))
    chosen = dead_letters._chosen

    def slowly(store: SqliteStore, wanted: list[LetterSearch]) -> list[DeadLetter]:
        found = chosen(store, wanted)
        with store.unit() as unit:
            unit.settle(found[:1], LetterState.REQUEUED, datetime.now(UTC), by="ann", note=None)
        return found

    monkeypatch.setattr(dead_letters, "_chosen", slowly)

    said = saga("dead-letters", "discard", "--reason", "known", *which)

    assert (said.code, said.out) == (1, "checkout.events/0@1 is discarded\n")
    assert "error: about 1 of 2 somebody else has decided meanwhile. See: saga dead-letters list --all" in said.err
    assert states(tmp_path) == {0: LetterState.REQUEUED, 1: LetterState.DISCARDED}
