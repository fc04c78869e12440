"""Events of one workflow leave one after the other: what fails on its way is passed by nothing of its workflow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from saga.contracts.acknowledged import RECORD, Acknowledged, Reason
from saga.contracts.message import from_headers
from saga.delivery import relay
from saga.delivery.acks import Acks, Remark
from saga.delivery.deliveries import Deliveries
from saga.delivery.single_file import SingleFile
from saga.engine.health import State
from saga.participant.versions import Versions
from saga.protocol.facts import StepStatus
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow, Published
from saga.testing.clock import ManualClock
from saga.transport.memory import MemoryProducer
from saga.transport.port import Outbound, Partition
from tests.travel import Script, TripBooked, fleet, harness, saga


def row(workflow: str, sequence: int, *, lane: int = 0) -> OutboxRow:
    return OutboxRow(
        id=f"{workflow}#{sequence}", saga="travel", lane=lane, topic="travel.events", workflow_id=workflow, type="travel.X",
        sequence=sequence, headers=[], payload=b"", created=None,  # type: ignore[arg-type]
    )  # fmt: skip


def test_of_one_workflow_only_the_first_is_handed_over_and_the_next_when_it_has_arrived() -> None:
    flight, first, second, other = SingleFile(), row("w1", 1), row("w1", 2), row("w2", 1, lane=1)

    assert flight.begin([first, second, other]) == [first, other]
    assert [one.id in flight for one in (first, second, other)] == [True, True, True]
    assert flight.lanes() == {0, 1}
    assert flight.end(first.id) == (first, second)
    assert flight.end(second.id) == (second, None)
    assert flight.end(second.id) is None
    assert flight.begin([row("w1", 3)]) == [row("w1", 3)]


def test_an_event_whose_delivery_fails_is_passed_by_no_later_one_of_its_workflow() -> None:
    numbers: Iterator[int] = count(1)

    def second_fails(outbound: Outbound) -> str | None:
        mine = dict(outbound.headers).get("ce_source") == "agency" and outbound.topic != "travel.acks"
        return "refused" if mine and next(numbers) == 2 else None

    with harness(Script(failing={("hotel", "rome")})) as running:
        running.broker.fault = second_fails
        running.start(TripBooked(trip="rome"), workflow_id="w1")
        running.turn("agency")
        running.abort("w1", by="agency")
        for name in ("hotels", "airline", "bank", "agency", "agency"):
            running.turn(name)
        running.advance(5)

        told = [from_headers(dict(r.headers), r.value or b"") for log in running.facts() for r in log]
        sequences = [message.sequence for message in told if message.kind.source == "agency"]

    assert sequences == sorted(sequences)
    assert len(sequences) > 2


def test_while_the_broker_takes_nothing_the_thread_is_degraded_and_says_since_when_and_why() -> None:
    with harness(Script()) as running:
        running.broker.fault = lambda _: "forbidden"
        running.start(TripBooked(trip="rome"), workflow_id="w1")
        running.turn("agency")
        running.turn("agency")
        since, refused = running.clock.now(), running.loops["agency"].parts()[0]
        running.clock.sleep(5)
        running.turn("agency")
        running.turn("agency")
        later = running.loops["agency"].parts()[0]
        running.broker.fault = None
        running.advance(5)
        afterwards = running.loops["agency"].parts()[0]

    assert (refused.state, afterwards.state) == (State.DEGRADED, State.READY)
    assert refused.text == later.text == f"nothing is published since {since:%F %T %Z}: forbidden"


def test_a_broker_that_neither_takes_nor_refuses_anything_is_noticed_before_the_client_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with harness(Script()) as running, monkeypatch.context() as silent:
        silent.setattr(MemoryProducer, "reports", lambda _: [])
        running.start(TripBooked(trip="rome"), workflow_id="w1")
        running.turn("agency")
        running.turn("agency")
        since = running.clock.now()
        running.clock.sleep(9)
        running.turn("agency")
        patient = running.loops["agency"].parts()[0]
        running.clock.sleep(2)
        running.turn("agency")
        stalled = running.loops["agency"].parts()[0]
        silent.undo()
        running.advance(5)
        afterwards = running.loops["agency"].parts()[0]

    assert (patient.state, stalled.state, afterwards.state) == (State.READY, State.DEGRADED, State.READY)
    assert stalled.text.startswith(
        f"nothing is published since {since:%F %T %Z}: the broker has neither taken nor refused 1 event "
    )


def test_nothing_counts_as_told_behind_an_acknowledgment_that_has_not_arrived() -> None:
    acks, partition = Acks(fleet(Script())[1]), Partition("travel.events", 0)
    acks.took_in(Lane("travel", 0, 1, offsets={"travel.events": 1}), {}, [])
    [first] = (record.token for record in acks.take())
    acks.took_in(Lane("travel", 0, 1, offsets={"travel.events": 5}), {"travel.events": 1}, [])
    [second] = (record.token for record in acks.take())

    acks.arrived([second])
    assert acks.told.get(partition, 0) == 0

    acks.arrived([first])
    assert acks.told[partition] == 5


def test_spans_that_follow_one_another_before_they_are_sent_are_one_acknowledgment() -> None:
    acks, partition = Acks(fleet(Script())[1]), Partition("travel.events", 0)
    parked = Remark("travel.events", 1, Reason.PARKED)
    acks.took_in(Lane("travel", 0, 1, offsets={"travel.events": 1}), {}, [])
    acks.took_in(Lane("travel", 0, 1, offsets={"travel.events": 5}), {"travel.events": 1}, [parked])

    [record] = acks.take()
    acks.arrived([record.token])

    said = Acknowledged.of(acks.codec.decode(RECORD, record.value or b""))
    assert (said.begin, said.end, said.exceptions) == (0, 5, ((1, "parked"),))
    assert acks.told[partition] == 5
    assert not acks.unsaid


def test_what_is_written_twice_since_an_answer_was_lost_takes_nothing_with_it_that_was_delivered_meanwhile() -> None:
    deliveries = Deliveries(Versions("agency", [saga()]), hold=0.0)
    headers = [("ce_sagaversion", "1"), ("ce_step", "book"), ("ce_status", "done")]

    def deliver(sequence: int) -> None:
        one = row("w1", sequence)._replace(headers=headers, type="travel.TripBooked")
        assert deliveries.add(one, sequence, now=0.0)

    deliver(1)
    in_doubt = deliveries.settle({}, now=1.0)
    of_another_lane = deliveries.settle({}, now=1.0)
    deliveries.settled(of_another_lane)
    deliver(2)
    deliveries.settle({}, now=1.0)
    deliveries.settled(in_doubt)

    assert in_doubt.marked == of_another_lane.marked == [Published("travel", "w1", 1, 1)]
    assert deliveries.settle({}, now=1.0).marked == [Published("travel", "w1", 2, 2)]


class Slow(Script):
    """Whose step `hotel` takes longer than a broker may be silent."""

    clock: ManualClock

    def reach(self, step: str, trip: str) -> bool:
        if step == "hotel":
            self.clock.sleep(11)
        return super().reach(step, trip)


def test_a_handler_that_takes_long_is_no_silence_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Slow()
    with harness(script) as running:
        script.clock, hotels = running.clock, running.loops["hotels"]
        running.start(TripBooked(trip="rome"), workflow_id="w1")
        running.turn("agency")
        monkeypatch.setattr(MemoryProducer, "reports", lambda _: [])
        told = [hotels.relay.failing for _ in range(2) if running.turn("hotels")]

        assert running.steps("w1")["hotel"] is StepStatus.DONE
        assert told == [None, None]


def test_a_thread_that_has_nothing_to_publish_any_more_fails_at_nothing() -> None:
    with harness(Script()) as running:
        running.broker.fault = lambda _: "forbidden"
        running.start(TripBooked(trip="rome"), workflow_id="w1")
        running.turn("agency")
        running.turn("agency")
        loop = running.loops["agency"]
        failing = loop.relay.failing

        loop.lanes.lost([twin for number in range(2) for twin in loop.lanes.twins(number)])
        running.broker.fault = None
        running.clock.sleep(5)
        running.turn("agency")

        assert failing is not None
        assert loop.relay.failing is None


def test_a_lane_with_much_to_be_published_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "SCAN_ROWS", 2)
    monkeypatch.setattr(relay, "MAX_IN_FLIGHT", 4)
    sent: list[int] = []
    with harness(Script()) as running:
        running.broker.fault = lambda outbound: sent.append(outbound.partition) if outbound.key else None
        for number in range(20):
            running.start(TripBooked(trip="rome"), workflow_id=f"w{number}")
        running.turn("agency")
        running.turn("agency")

    assert [sent.count(lane) for lane in range(2)] == [2, 2]
