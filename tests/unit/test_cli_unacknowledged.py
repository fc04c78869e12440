"""`saga unacknowledged` and `saga lanes`: who is silent about what, and how a lane goes on where its records are gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from saga import assembly
from saga.contracts.message import Kind, Message, to_headers
from saga.contracts.topics import saga_topics
from saga.errors import BrokerError
from saga.protocol.facts import FactStatus
from saga.store.outbox import OutboxRow, Published
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Workflow
from saga.transport.memory import MemoryBroker
from saga.transport.port import Outbound, Partition
from tests.commands import Commands
from tests.laid import sqlite_store

OPENED = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
CHECKOUT = Path(__file__).parents[2] / "schemas" / "checkout"
PLACE = Partition("checkout.events", 0)
HERE = {"SAGA_DATABASE": "sqlite:///orders.db", "SAGA_BROKER": "nowhere:1", "SAGA_SCHEMAS": str(CHECKOUT)}


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    cluster = MemoryBroker(saga_topics("checkout"), partitions=1)
    monkeypatch.setattr(assembly, "broker", lambda settings: cluster)
    return cluster


@pytest.fixture
def orders(tmp_path: Path) -> Iterator[SqliteStore]:
    """Orders placed w1, which is at offset 4 and concerns stock and payments, and w2, which is not published."""
    with closing(sqlite_store(tmp_path / "orders.db")) as store:
        for number in (1, 2):
            workflow = Workflow(id=f"w{number}", version=1, lane=0, opened=OPENED, sequence=1)
            with store.unit() as unit:
                unit.save("checkout", Changes(workflows=[workflow], outbox=[placed(workflow.id)]))
        with store.unit() as unit:
            unit.mark([Published("checkout", "w1", 1, 4)])
        yield store


def placed(workflow_id: str) -> OutboxRow:
    kind = Kind("checkout.OrderPlaced", "orders", "checkout", 1, "place", FactStatus.DONE)
    message = Message(kind, id=f"{workflow_id}-1", workflow_id=workflow_id, time=OPENED, sequence=1)
    return OutboxRow(
        id=message.id, saga="checkout", lane=0, topic=PLACE.topic, workflow_id=workflow_id, type=kind.type, sequence=1,
        headers=to_headers(message), payload=b"x", created=OPENED,
    )  # fmt: skip


def told(store: SqliteStore, **spans: dict[str, object]) -> None:
    """What lane 0 has heard of acknowledgments."""
    advance(store, acks={"participant": "orders", "told": {name: {PLACE.topic: taken} for name, taken in spans.items()}})


def advance(store: SqliteStore, **changes: Any) -> None:
    """Be a worker on the same file for a moment."""
    with closing(SqliteStore(store.path)) as worker:
        lane = worker.claim("checkout", 0, 1)
        with worker.unit() as unit:
            unit.advance(replace(lane, batch=lane.batch + 1, **changes))
        worker.release(lane)


def silent(saga: Commands) -> dict[str, dict[str, str]]:
    events = saga("unacknowledged", "--json", **HERE).json["events"]
    return {event["workflow"]: event["silent"] for event in events}


def test_events_of_others_and_handled_ones_leave_room_for_those_that_are_asked_for(
    saga: Commands, orders: SqliteStore, broker: MemoryBroker
) -> None:
    taken: dict[str, object] = {"spans": [[0, 9]]}
    told(orders, stock=taken, payments=taken)

    said = saga("unacknowledged", "--limit", "1", "--json", **HERE)
    of_nobody = saga("unacknowledged", "--limit", "1", "--saga", "travel", "--json", **HERE)

    assert [event["id"] for event in said.json["events"]] == ["w2-1"]
    assert of_nobody.json["events"] == []


def test_a_list_that_is_cut_short_says_so(saga: Commands, broker: MemoryBroker, orders: SqliteStore) -> None:
    told(orders)

    cut, whole = saga("unacknowledged", "--limit", "1", "--json", **HERE), saga("unacknowledged", "--json", **HERE)

    assert (cut.json["more"], whole.json["more"]) == (True, False)
    assert "there are more" in cut.err
    assert "there are more" not in whole.err


def test_each_silent_participant_is_told_with_its_reason(saga: Commands, broker: MemoryBroker, orders: SqliteStore) -> None:
    told(orders, stock={"spans": [[0, 4], [5, 9]], "parked": [4]})
    absent = silent(saga)
    broker.offsets["checkout.payments"][PLACE] = 4
    behind = silent(saga)
    broker.offsets["checkout.payments"][PLACE] = 5

    assert absent["w1"] == {"payments": "absent", "stock": "parked"}
    assert behind["w1"] == {"payments": "behind", "stock": "parked"}
    assert silent(saga)["w1"] == {"payments": "lost", "stock": "parked"}


def test_the_table_says_how_far_each_event_has_come(saga: Commands, broker: MemoryBroker, orders: SqliteStore) -> None:
    said = saga("unacknowledged", **HERE)

    rows = {line.split()[1]: line for line in said.out.splitlines()[1:]}
    assert " published " in rows["w1"]
    assert "checkout.events/0@4" in rows["w1"]
    assert rows["w1"].endswith("payments: absent, stock: absent")
    assert " recorded " in rows["w2"]
    assert "does a worker run? see: saga doctor" in said.err


def test_what_is_handled_young_or_of_another_saga_is_left_out(
    saga: Commands, broker: MemoryBroker, orders: SqliteStore
) -> None:
    told(orders, stock={"spans": [[0, 9]]}, payments={"spans": [[0, 9]]})

    assert [*silent(saga)] == ["w2"]
    assert saga("unacknowledged", "--older-than", "P9999D", **HERE).err.startswith("nothing in sqlite:///orders.db is overdue")
    assert saga("unacknowledged", "--saga", "returns", "--json", **HERE).json["events"] == []


def test_without_contracts_or_broker_it_says_what_would_tell_more(saga: Commands, orders: SqliteStore) -> None:
    bare = saga("unacknowledged", SAGA_DATABASE="sqlite:///orders.db")
    alone = saga("unacknowledged", SAGA_DATABASE="sqlite:///orders.db", SAGA_SCHEMAS=str(CHECKOUT))

    assert "with --schemas DIR" in bare.err
    assert "payments: not acknowledged, stock: not acknowledged" in alone.out
    assert "with --broker HOST:PORT" in alone.err


def test_show_says_which_level_each_fact_has_reached(saga: Commands, orders: SqliteStore) -> None:
    told(orders, stock={"spans": [[0, 9]]})
    with orders.unit() as unit:
        unit.clean([Published("checkout", "w2", 1, 9)])

    first, second = (saga("show", id, **HERE) for id in ("w1", "w2"))

    assert first.out.splitlines()[-1].split()[-2:] == ["published", "payments"]
    assert second.out.splitlines()[-1] == "facts stated and handled by all that they concern: 1"
    assert "  orders, lane 0, sqlite:///orders.db" in second.out.splitlines()


# --- lanes


def adrift(store: SqliteStore, broker: MemoryBroker, *, offset: int = 2, records: int = 5, first: int = 3) -> None:
    """Lane 0 has come to `offset`, and of `records` only those from `first` on are left."""
    advance(store, offsets={PLACE.topic: offset})
    for number in range(records):
        broker.append(Outbound(str(number), *PLACE, b"w", b"x", []))
    broker.begins[PLACE] = first


def test_lanes_are_listed_with_what_keeps_them(saga: Commands, broker: MemoryBroker, orders: SqliteStore) -> None:
    adrift(orders, broker)

    said = saga("lanes", "list", **HERE)
    (lane,) = saga("lanes", "list", "--json", **HERE).json["lanes"]

    assert said.out.splitlines()[1].split()[:7] == ["checkout/0", "1", "1", "ended", "in", "order", "events"]
    assert "checkout.events@2 is gone, the first is 3: saga lanes skip" in said.out
    assert lane["adrift"] == {"checkout.events": {"offset": 2, "first": 3}}


class Silent(MemoryBroker):
    """Does not answer."""

    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        raise BrokerError("nobody answers at nowhere:1", retriable=True)

    def spans(self, partitions: Sequence[Partition]) -> dict[Partition, range]:
        raise BrokerError("nobody answers at nowhere:1", retriable=True)


def test_lanes_are_listed_though_the_broker_does_not_answer(
    saga: Commands, orders: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance(orders, offsets={PLACE.topic: 2})
    monkeypatch.setattr(assembly, "broker", lambda settings: Silent())

    said = saga("lanes", "list", **HERE)
    listed = saga("lanes", "list", "--json", **HERE)

    assert (said.code, listed.code) == (1, 1)
    assert "events 2" in said.out
    assert "not known: the broker does not answer" in said.out
    assert "nobody answers at nowhere:1" in said.err
    [lane] = listed.json["lanes"]
    assert (lane["offsets"], lane["adrift"], lane["recreated"]) == ({PLACE.topic: 2}, None, None)


def test_what_is_overdue_is_told_though_the_broker_does_not_answer(
    saga: Commands, orders: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(orders, stock={"spans": [[0, 4], [5, 9]], "parked": [4]})
    monkeypatch.setattr(assembly, "broker", lambda settings: Silent())

    said = saga("unacknowledged", "--json", **HERE)

    assert said.code == 1
    assert "nobody answers at nowhere:1" in said.err
    [silence] = [event["silent"] for event in said.json["events"] if event["workflow"] == "w1"]
    assert silence == {"payments": "not acknowledged", "stock": "parked"}


def test_a_lane_that_is_skipped_on_remembers_the_gap(
    saga: Commands, broker: MemoryBroker, orders: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    adrift(orders, broker)
    trial = saga("lanes", "skip", "checkout", "0", "--reason", "r", "--dry-run", **HERE)
    before = orders.lanes()[0].offsets[PLACE.topic]

    said = saga("lanes", "skip", "checkout", "0", "--reason", "retention was too short", "--by", "alice", **HERE)

    [lane] = orders.lanes()
    assert (trial.code, before) == (0, 2)
    assert said.out == "checkout.events/0 goes on from 3, after 2; a worker takes it up within seconds\n"
    assert (lane.offsets, lane.gaps, lane.clean, lane.epoch) == ({PLACE.topic: 3}, {PLACE.topic: [(2, 3)]}, True, 2)
    assert "skip of checkout.events/0 from 2 to 3, by alice: retention was too short" in caplog.text


def test_a_lane_behind_the_end_of_its_topic_begins_anew(saga: Commands, broker: MemoryBroker, orders: SqliteStore) -> None:
    adrift(orders, broker, offset=7, first=0)

    said = saga("lanes", "skip", "checkout", "0", "--reason", "the topic was made anew", **HERE)

    assert said.code == 0
    assert (orders.lanes()[0].offsets, orders.lanes()[0].gaps) == ({PLACE.topic: 0}, {PLACE.topic: []})


def on_topics(store: SqliteStore, broker: MemoryBroker) -> None:
    """Lane 0 has come to offset 2 of a topic that it knows, and heard of others."""
    told = {"stock": {PLACE.topic: {"spans": [[0, 5]]}, "checkout.compensations": {"spans": [[0, 1]]}}}
    acks = {"participant": "orders", "told": told, "topics": broker.ids([PLACE.topic])}
    advance(store, offsets={PLACE.topic: 2, "checkout.compensations": 1}, gaps={PLACE.topic: [(0, 1)]}, acks=acks)


def test_lanes_begin_anew_on_a_topic_that_was_made_again(
    saga: Commands, broker: MemoryBroker, orders: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    on_topics(orders, broker)
    broker.recreate(PLACE.topic)
    listed = saga("lanes", "list", **HERE)
    trial = saga("lanes", "reset", "checkout", "--reason", "r", "--dry-run", "--json", **HERE)
    before = orders.lanes()[0]

    said = saga("lanes", "reset", "checkout", "--reason", "somebody cleaned up", "--by", "alice", **HERE)

    [lane] = orders.lanes()
    assert "checkout.events was made again: saga lanes reset" in listed.out
    assert trial.json["lanes"] == [{"lane": 0, "topics": [PLACE.topic], "sent_again": 1}]
    assert before.offsets[PLACE.topic] == 2
    assert said.out == "checkout/0 begins anew on checkout.events, and sends 1 event again\n"
    assert (lane.offsets, lane.gaps, lane.clean) == ({"checkout.compensations": 1}, {}, True)
    assert lane.acks["told"] == {"stock": {"checkout.compensations": {"spans": [[0, 1]]}}}
    assert lane.acks["topics"] == broker.ids([PLACE.topic])
    assert [(row.workflow_id, row.offset) for row in orders.outstanding(datetime.now(UTC), 9)] == [("w1", None), ("w2", None)]
    assert "reset of checkout on checkout.events, by alice: somebody cleaned up" in caplog.text
    assert saga("lanes", "list", "--json", **HERE).json["lanes"][0]["recreated"] == []


@pytest.mark.parametrize("named", [[], ["--topic", "chekout.events"]])
def test_a_misspelt_saga_is_told_from_one_whose_topics_are_as_they_were(
    saga: Commands, broker: MemoryBroker, orders: SqliteStore, named: list[str]
) -> None:
    advance(orders, offsets={PLACE.topic: 0})

    said = saga("lanes", "reset", "chekout", "--reason", "a mistake", *named, **HERE)

    assert said.code == 1
    assert "no lane of saga 'chekout' in sqlite:///orders.db; it has lanes of checkout" in said.err


def test_lanes_on_the_topics_that_are_there_are_not_reset_unless_a_topic_is_named(
    saga: Commands, broker: MemoryBroker, orders: SqliteStore
) -> None:
    on_topics(orders, broker)

    refused = saga("lanes", "reset", "checkout", "--reason", "r", **HERE)
    named = saga("lanes", "reset", "checkout", "--reason", "r", "--topic", PLACE.topic, **HERE)

    assert refused.code == 1
    assert "name one: --topic checkout.events" in refused.err
    assert named.code == 0
    assert orders.lanes()[0].offsets == {"checkout.compensations": 1}


@pytest.mark.parametrize(("lane", "why"), [("0", "nothing keeps it there"), ("7", "there is no lane checkout/7")])
def test_a_lane_that_nothing_keeps_is_not_skipped(
    saga: Commands, broker: MemoryBroker, orders: SqliteStore, lane: str, why: str
) -> None:
    adrift(orders, broker, first=0)

    said = saga("lanes", "skip", "checkout", lane, "--reason", "r", **HERE)

    assert said.code == 1
    assert why in said.err
    assert orders.lanes()[0].offsets == {PLACE.topic: 2}
