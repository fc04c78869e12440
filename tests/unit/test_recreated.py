"""A topic that is deleted and made again under a fleet: noticed, said, and begun anew without a loss."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from saga.contracts.acknowledged import RECORD, Acknowledged
from saga.contracts.topics import acks_topic, compensations_topic, events_topic, fact_topics
from saga.delivery.recreated import begin_anew, changed
from saga.engine.watch import Watch
from saga.errors import TopicRecreated
from saga.protocol.facts import WorkflowStatus
from saga.store.outbox import OutboxRow
from saga.testing.harness import Harness
from saga.transport.port import Record
from tests.travel import Script, TripBooked, harness

EVENTS, COMPENSATIONS = events_topic("travel"), compensations_topic("travel")
TRIPS = ["w0", "w1", "w2", "w3", "w4", "w5"]


def on_their_way(fleet: Harness) -> None:
    """Trips that have come differently far, with the hotels silent and everything else taken in."""
    for trip in TRIPS:
        fleet.start(TripBooked(trip=trip), workflow_id=trip)
        for name in ("agency", "airline"):
            while fleet.turn(name):
                pass


def repaired(fleet: Harness) -> None:
    """What an operator does in each database, and the time after which the workers take their lanes up again."""
    for store in fleet.stores.values():
        ids = fleet.broker.ids(fact_topics("travel"))
        for lane in store.lanes():
            if topics := changed(lane, ids):
                begin_anew(store, lane, fleet.partitions, topics, ids)
    for _ in range(4):  # until the workers notice, take their lanes up again, and see what is overdue
        fleet.advance(20)


def is_recreated(fleet: Harness, name: str) -> bool:
    return all(isinstance(owned.stopped, TopicRecreated) for owned in fleet.loops[name].lanes.owned.values())


@pytest.mark.parametrize("topic", [EVENTS, COMPENSATIONS])
def test_a_new_owner_finds_another_topic_and_after_the_repair_everything_ends(topic: str) -> None:
    with harness(Script(failing={("pay", "w1")})) as fleet:
        on_their_way(fleet)
        fleet.broker.recreate(topic)
        for name in fleet.stores:
            fleet.crash(name)
        fleet.settle()
        assert {name for name in fleet.stores if is_recreated(fleet, name)} == {"agency", "airline"}  # others had read nothing
        assert f"{topic} was deleted and made again" in str(fleet.stopped()["airline"][0])
        assert "saga lanes reset travel" in str(fleet.stopped()["airline"][0])

        repaired(fleet)

        assert not fleet.stopped()
        ends = {fleet.workflow(name, trip).status for name in fleet.stores for trip in TRIPS}  # type: ignore[union-attr]
        assert ends == {WorkflowStatus.COMPLETED, WorkflowStatus.COMPENSATED}
        assert [row for store in fleet.stores.values() for row in store.outstanding(fleet.clock.now(), 99)] == []


def test_the_watch_finds_it_under_a_running_worker_and_nothing_is_published_any_more() -> None:
    with harness(Script()) as fleet:
        on_their_way(fleet)
        loop, agency = fleet.loops["agency"], fleet.participants["agency"]
        loop.topics.watch = watch = Watch(agency, None, fleet.broker)
        watch.look()
        fleet.turn("agency")
        assert not fleet.stopped()
        lengths = {p: len(log) for p, log in fleet.broker.logs.items()}
        fleet.broker.recreate(EVENTS)
        for partition, length in lengths.items():  # so that nobody's offset is beyond its end
            if partition.topic == EVENTS:
                fleet.broker.logs[partition] = [Record(*partition, n, b"k", b"", []) for n in range(length)]

        watch.look()
        fleet.turn("agency")
        fleet.start(TripBooked(trip="w6"), workflow_id="w6")
        fleet.advance(1)

        assert is_recreated(fleet, "agency")
        assert all(len(fleet.broker.logs[p]) == length for p, length in lengths.items() if p.topic in fact_topics("travel"))


def test_a_worker_that_is_beyond_the_end_of_the_new_topic_says_that_it_is_another_one() -> None:
    with harness(Script()) as fleet:
        on_their_way(fleet)

        fleet.broker.recreate(EVENTS)
        fleet.settle()

        assert is_recreated(fleet, "airline")


def test_a_delivery_below_what_was_read_stops_the_lane_where_no_ids_are_known_and_its_event_is_kept() -> None:
    with harness(Script()) as fleet:
        on_their_way(fleet)
        loop = fleet.loops["agency"]
        for owned in loop.lanes.owned.values():
            loop.deliveries.begin(replace(owned.lane, offsets={EVENTS: 1000}))

        fleet.start(TripBooked(trip="w6"), workflow_id="w6")
        while fleet.turn("agency"):
            pass

        [stopped] = fleet.stopped()["agency"]
        assert isinstance(stopped, TopicRecreated)
        kept = fleet.stores["agency"].outstanding(datetime.max.replace(tzinfo=UTC), 99)
        assert [(row.workflow_id, row.offset) for row in kept if row.workflow_id == "w6"] == [("w6", None)]


def test_a_delivery_from_before_others_had_the_lane_says_nothing_of_its_topic() -> None:
    with harness(Script()) as fleet:
        on_their_way(fleet)
        loop, first, second = fleet.loops["agency"], *stated(fleet, "w0", "w1")
        lane = replace(loop.lanes.owned[first.lane].lane, offsets={EVENTS: 1000})

        loop.relay.publish(lane, {"w0": [first]}, {})
        loop.relay.begin(lane)
        loop.deliveries.begin(lane)
        loop.relay.collect(())
        assert loop.relay.astray == {}

        loop.relay.waiting.clear()
        loop.relay.publish(lane, {"w1": [second]}, {})
        loop.relay.collect(())
        assert loop.relay.astray == {lane.number: {EVENTS}}


def stated(fleet: Harness, *ids: str) -> list[OutboxRow]:
    """What the agency has stated about these workflows first, as rows of one lane."""
    kept = fleet.stores["agency"].outstanding(datetime.max.replace(tzinfo=UTC), 99)
    return [next(row for row in kept if row.workflow_id == id)._replace(lane=0) for id in ids]


@pytest.mark.parametrize(("said_of", "counts"), [(None, True), ("travel.events#0", True), ("travel.events#1", False)])
def test_what_is_acknowledged_of_another_topic_of_that_name_does_not_count(said_of: str | None, counts: bool) -> None:
    with harness(Script()) as fleet:
        loop = fleet.loops["agency"]
        lane = loop.lanes.owned[0].lane
        said = Acknowledged("stranger", EVENTS, 0, 9, said_of)
        value = fleet.participants["agency"].codec.encode(RECORD, said.fields())

        loop.acks.hear(lane, [Record(acks_topic("travel"), 0, 0, None, value, [])])

        assert (4 in loop.acks.known[0].of("stranger", EVENTS).spans) is counts


def test_acknowledgments_name_the_topic_that_was_read() -> None:
    with harness(Script()) as fleet:
        on_their_way(fleet)

        codec = fleet.participants["agency"].codec
        logs = [log for p, log in fleet.broker.logs.items() if p.topic == acks_topic("travel")]
        told = {Acknowledged.of(codec.decode(RECORD, record.value or b"")) for log in logs for record in log}

        assert {(one.topic, one.topic_id) for one in told} <= {(EVENTS, f"{EVENTS}#0"), (COMPENSATIONS, f"{COMPENSATIONS}#0")}
        assert told


def test_acknowledgments_on_another_topic_are_read_from_its_beginning_and_nobody_need_act() -> None:
    with harness(Script()) as fleet:
        on_their_way(fleet)
        fleet.broker.recreate(acks_topic("travel"))

        for name in fleet.stores:
            fleet.crash(name)
        fleet.settle()
        fleet.advance(60)

        assert not fleet.stopped()
        assert [row for store in fleet.stores.values() for row in store.outstanding(fleet.clock.now(), 99)] == []
