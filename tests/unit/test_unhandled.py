"""An event is kept until everybody that it concerns has acknowledged it; one that was passed over in silence is sent again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from saga.contracts.acknowledged import RECORD
from saga.contracts.avro import AvroCodec
from saga.contracts.topics import group
from saga.delivery import unhandled
from saga.engine.worker import Worker
from saga.participant.versions import Versions
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.outbox import OutboxRow
from saga.testing.harness import Harness
from saga.transport.port import Partition
from tests.simulation import releases
from tests.travel import Script, TripBooked, effects, harness

Travel = Callable[..., Harness]
EVENTS, ACKS = Partition("travel.events", 0), Partition("travel.acks", 0)


@pytest.fixture
def travel() -> Iterator[Travel]:
    opened: list[Harness] = []

    def make(script: Script | None = None, **options: Any) -> Harness:
        opened.append(harness(script or Script(), partitions=1, **options))
        return opened[-1]

    yield make
    for fleet in opened:
        fleet.close()


def kept(fleet: Harness, participant: str) -> list[OutboxRow]:
    return fleet.stores[participant].outstanding(fleet.clock.now() + timedelta(days=1), 99)


def lost(fleet: Harness) -> int:
    return sum(loop.unhandled.lost for loop in fleet.loops.values())


def work(fleet: Harness, *names: str) -> None:
    for _ in range(10):
        for name in names:
            fleet.turn(name)


@pytest.mark.parametrize("hold", [0.0, 10.0], ids=["marked first", "held until it is acknowledged"])
def test_the_outbox_is_empty_once_all_have_acknowledged(travel: Travel, hold: float) -> None:
    fleet = travel(hold=hold)
    fleet.start(TripBooked(trip="rome"))

    fleet.settle()

    assert {name: kept(fleet, name) for name in fleet.stores} == {name: [] for name in fleet.stores}


def test_what_lies_before_everybody_is_cleaned_without_a_look_at_each(travel: Travel, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, looks = travel(), list[object]()

    def look(*place: object) -> list[OutboxRow]:
        looks.append(place)
        return []

    for name, loop in fleet.loops.items():
        loop.unhandled._judge_at = math.inf
        monkeypatch.setattr(fleet.stores[name], "unhandled", look)
    fleet.start(TripBooked(trip="rome"))

    fleet.settle()

    assert {name: kept(fleet, name) for name in fleet.stores} == {name: [] for name in fleet.stores}
    assert len(looks) <= 2 * len(fleet.loops)  # those that find that nothing is left


def test_an_event_is_kept_as_long_as_one_of_its_audience_is_silent(travel: Travel) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))

    work(fleet, "agency", "hotels")
    before = kept(fleet, "agency")
    work(fleet, "agency", "airline")

    assert [(row.type, row.offset) for row in before] == [("travel.TripBooked", 0)]
    assert kept(fleet, "agency") == []


def test_an_event_that_is_parked_there_is_kept_and_not_sent_again(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 3}), retry=None)
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    before = kept(fleet, "agency")

    for _ in range(5):
        fleet.advance(301)

    assert [row.type for row in before] == ["travel.TripBooked"]
    assert kept(fleet, "agency") == []
    assert lost(fleet) == 0


def test_what_a_lane_skipped_is_noticed_and_sent_again(travel: Travel, caplog: pytest.LogCaptureFixture) -> None:
    fleet = travel()
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    lane = fleet.loops["hotels"].lanes.owned[0].lane
    lane.offsets, lane.gaps = {"travel.events": 1}, {"travel.events": [(0, 1)]}
    fleet.loops["hotels"].consumer.seek(EVENTS, 1)
    fleet.broker.offsets[group("travel", "hotels")][EVENTS] = 1
    fleet.settle()
    before = fleet.steps(workflow)["hotel"]

    fleet.advance(31)

    assert before is StepStatus.IDLE
    assert "lost: travel.TripBooked of workflow" in caplog.text
    assert "travel.events/0@0, was passed by hotels" in caplog.text
    assert fleet.workflow("agency", workflow).status is WorkflowStatus.COMPLETED  # type: ignore[union-attr]
    assert len(effects(fleet)) == 4
    assert {name: kept(fleet, name) for name in fleet.stores} == {name: [] for name in fleet.stores}


def test_what_was_sent_again_is_not_sent_a_third_time_before_it_is_passed_again(travel: Travel) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    fleet.broker.offsets[group("travel", "hotels")][EVENTS] = 1
    work(fleet, "agency", "airline", "bank")

    fleet.clock.advance(31)
    work(fleet, "agency")
    once = lost(fleet)
    for _ in range(5):
        fleet.clock.advance(31)
        work(fleet, "agency")

    assert once == lost(fleet) == 1


@pytest.mark.parametrize("told", [None, 0], ids=["absent", "behind"])
def test_what_a_group_has_not_passed_is_not_lost(travel: Travel, told: int | None) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    fleet.broker.offsets[group("travel", "hotels")] = {} if told is None else {EVENTS: told}

    for _ in range(3):
        work(fleet, "agency", "airline", "bank")
        fleet.clock.advance(31)

    assert lost(fleet) == 0
    assert [row.type for row in kept(fleet, "agency")] == ["travel.TripBooked"]


def test_no_verdict_before_the_acks_were_read_to_their_end(travel: Travel) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    work(fleet, "agency")
    fleet.loops["agency"].consumer.pause([ACKS])
    work(fleet, "agency", "hotels", "airline")
    fleet.clock.advance(31)
    work(fleet, "agency")
    before = lost(fleet)

    fleet.loops["agency"].consumer.resume([ACKS])
    fleet.settle()

    assert before == lost(fleet) == 0
    assert kept(fleet, "agency") == []


def test_a_step_that_does_without_is_handled_when_it_is_published(travel: Travel) -> None:
    fleet = travel()
    saga = fleet.saga
    steps = tuple(replace(step, acknowledged=step.name != "book") for step in saga.steps)
    fleet.loops["agency"].deliveries.versions = Versions("agency", [replace(saga, steps=steps)])
    fleet.start(TripBooked(trip="rome"))

    work(fleet, "agency")

    assert kept(fleet, "agency") == []


def test_a_new_owner_knows_what_was_acknowledged_to_the_old_one(travel: Travel) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    work(fleet, "agency", "hotels")
    fleet.crash("agency")
    fleet.broker.logs[ACKS].clear()

    work(fleet, "agency")
    known = fleet.loops["agency"].acks.known[0]

    assert known.missing(["hotels", "airline"], "travel.events", 0) == ["airline"]


def test_acknowledgments_that_are_gone_stop_no_lane(travel: Travel) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    fleet.broker.logs[ACKS].clear()

    fleet.start(TripBooked(trip="oslo"), workflow_id="w2")
    fleet.settle()

    assert not fleet.stopped()
    assert fleet.workflow("agency", "w2").status is WorkflowStatus.COMPLETED  # type: ignore[union-attr]


def test_a_record_that_is_no_acknowledgment_is_passed_over(travel: Travel, caplog: pytest.LogCaptureFixture) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    log = fleet.broker.logs[ACKS]

    log.append(log[0]._replace(offset=len(log), value=b"nonsense"))
    fleet.start(TripBooked(trip="oslo"), workflow_id="w2")
    fleet.settle()

    assert "is no acknowledgment" in caplog.text
    assert kept(fleet, "agency") == []


@pytest.mark.parametrize(
    "forged",
    [
        {"topic": "other.events"},
        {"begin": -1},
        {"begin": 9, "end": 3},
        {"exceptions": [{"offset": 1 << 40, "reason": "parked"}]},
        {"exceptions": [{"offset": -7, "reason": "parked"}]},
    ],
    ids=str,
)
def test_nor_is_one_that_speaks_of_what_there_cannot_be(
    travel: Travel, caplog: pytest.LogCaptureFixture, forged: dict[str, Any]
) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    codec, log = AvroCodec(fleet.saga), fleet.broker.logs[ACKS]
    before = fleet.loops["agency"].acks.known[0].json()

    said = codec.decode(RECORD, log[0].value or b"") | forged
    log.append(log[0]._replace(offset=len(log), value=codec.encode(RECORD, said)))
    fleet.settle()

    assert "expected a span of travel.events or travel.compensations" in caplog.text
    assert fleet.loops["agency"].acks.known[0].json() == before


def test_a_stopped_lane_that_was_skipped_on_goes_on_by_itself_and_what_is_gone_is_sent_again(travel: Travel) -> None:
    fleet = travel()
    workflow = fleet.start(TripBooked(trip="rome"))
    work(fleet, "agency", "airline", "bank")
    fleet.broker.begins[EVENTS] = 1
    work(fleet, "hotels")
    stopped = fleet.stopped()
    store = fleet.stores["hotels"]

    lane = store.claim("travel", 0, 1)
    with store.unit() as unit:
        unit.advance(replace(lane, batch=lane.batch + 1, offsets={EVENTS.topic: 1}, gaps={EVENTS.topic: [(0, 1)]}))
    for _ in range(6):
        fleet.advance(31)

    assert [*stopped] == ["hotels"]
    assert fleet.broker.offsets[group("travel", "hotels")][EVENTS] == len(fleet.broker.logs[EVENTS])
    assert not fleet.stopped()
    assert fleet.workflow("agency", workflow).status is WorkflowStatus.COMPLETED  # type: ignore[union-attr]
    assert {name: kept(fleet, name) for name in fleet.stores} == {name: [] for name in fleet.stores}


def test_what_was_gone_before_a_lane_began_is_never_acknowledged(travel: Travel) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    fleet.start(TripBooked(trip="oslo"), workflow_id="w2")
    fleet.turn("agency")
    fleet.broker.begins[EVENTS] = 1
    fleet.loops["hotels"].consumer.seek(EVENTS, None)

    work(fleet, "hotels", "agency")

    known = fleet.loops["agency"].acks.known[0]
    assert known.missing(["hotels"], EVENTS.topic, 0) == ["hotels"]
    assert known.missing(["hotels"], EVENTS.topic, 1) == []
    assert fleet.loops["hotels"].lanes.owned[0].lane.gaps == {EVENTS.topic: [(0, 1)]}


def test_what_was_lost_is_noticed_wherever_it_stands_among_what_waits_for_others(
    travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unhandled, "PAGE", 10)
    monkeypatch.setattr(unhandled, "PROBE", 1)
    fleet = travel()
    sweeps = fleet.loops["agency"].unhandled
    sweeps.sweep_every, sweeps.judge_every = unhandled.SWEEP_EVERY, unhandled.JUDGE_EVERY

    def start(*numbers: int) -> None:
        for number in numbers:
            fleet.start(TripBooked(trip="rome"), workflow_id=f"w{number}")
        fleet.turn("agency")

    start(*range(12))
    work(fleet, "agency", "hotels")  # the airline is absent
    start(12)
    lost_at = len(fleet.broker.logs[EVENTS]) - 1
    lane = fleet.loops["hotels"].lanes.owned[0].lane
    lane.offsets, lane.gaps = {**lane.offsets, EVENTS.topic: lost_at + 1}, {EVENTS.topic: [(lost_at, lost_at + 1)]}
    fleet.loops["hotels"].consumer.seek(EVENTS, lost_at + 1)
    start(*range(13, 33))
    for _ in range(200):
        fleet.clock.advance(1)
        fleet.turn("agency")
        fleet.turn("hotels")

    assert [fleet.steps(f"w{number}")["hotel"] for number in range(33)] == [StepStatus.DONE] * 33


def test_who_has_lost_a_lane_tells_no_more_of_what_waits_there(travel: Travel) -> None:
    fleet = travel()
    fleet.start(TripBooked(trip="rome"))
    work(fleet, "agency", "hotels")  # the airline is silent
    loop = fleet.loops["agency"]
    worker = Worker(fleet.participants["agency"], store=fleet.stores["agency"], broker=fleet.broker)
    worker._loops.append(loop)
    before = worker.standing().unhandled_since

    loop.lanes.lost(loop.lanes.twins(0))
    loop.turn()

    assert before == fleet.clock.now()
    assert worker.standing().unhandled_since is None


@pytest.mark.parametrize("publishes", ["newer", "older"])
def test_what_may_concern_somebody_of_whom_only_a_newer_release_knows_waits_for_that(publishes: str) -> None:
    (older, *_), (newer, *others) = releases.fleet([1]), releases.fleet([1, 2])
    with Harness(newer, *others, partitions=1) as fleet:
        fleet.start(releases.OrderPlaced(order="heavy"), workflow_id="w2")
        if publishes == "newer":
            fleet.turn("shop")
            fleet.turn("shop")
        fleet.deploy(older)
        work(fleet, "shop", "stock", "bank", "depot")
        fleet.clock.advance(31)
        work(fleet, "shop", "stock", "bank", "depot")
        before = kept(fleet, "shop")
        fleet.deploy(newer)
        fleet.settle()

        assert [(row.type, row.offset) for row in before] == [("orders.OrderPlaced", 0)]
        assert {name: kept(fleet, name) for name in fleet.stores} == {name: [] for name in fleet.stores}
        assert lost(fleet) == 0
