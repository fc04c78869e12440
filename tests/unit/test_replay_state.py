"""The fold against the live stores, whatever the order, and Avro files of it that others read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import avro.datafile
import avro.io
import fastavro
import pytest

from saga.errors import BrokerError
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.replay import avro_file
from saga.replay.contracts import Contracts
from saga.replay.gathering import histories
from saga.replay.source import TopicSource
from saga.replay.state import State, state
from saga.testing.harness import Harness
from saga.transport.port import Partition, Record
from tests.histories import ListSource, history, lived, made_again, records
from tests.travel import FlightBooked, saga

TRAVEL = Contracts([saga()])


def told(source: Any, **options: Any) -> dict[str, State]:
    found = (state(TRAVEL, one) for one in histories(source, TRAVEL, **options))
    return {one.id: one for one in found if one is not None}


def live(fleet: Harness, trip: str) -> dict[str, StepStatus]:
    """What the owners' stores say; that a step has begun is told to nobody."""
    return {step: StepStatus.IDLE if s is StepStatus.RUNNING else s for step, s in fleet.steps(trip).items()}


def test_the_topics_tell_what_the_stores_of_all_participants_hold() -> None:
    with lived() as fleet:
        found = told(TopicSource(fleet.broker, "travel"))

        assert {trip: one.steps for trip, one in found.items()} == {
            trip: live(fleet, trip) for trip in ("smooth", "full", "poor", "open")
        }
        assert {trip: one.status for trip, one in found.items()} == {
            "smooth": WorkflowStatus.COMPLETED,
            "full": WorkflowStatus.COMPENSATED,
            "poor": WorkflowStatus.COMPENSATED,
            "open": WorkflowStatus.IN_PROGRESS,
        }
        assert all(one.holes == () for one in found.values())
        assert [trip for trip, one in found.items() if one.closed is None] == ["open"]


def test_what_is_deleted_while_lanes_are_read_one_after_the_other_is_told() -> None:
    with lived() as fleet:
        source = TopicSource(fleet.broker, "travel")
        told(source, lanes=[0])
        fleet.broker.begins[Partition("travel.events", 1)] = 2
        told(source, lanes=[1])

        assert source.aged == ["travel.events/1 begins at offset 2"]


def test_a_topic_that_is_made_again_while_lanes_are_read_is_not_read_on() -> None:
    with lived() as fleet:
        source = TopicSource(fleet.broker, "travel")
        told(source, lanes=[0])
        made_again(fleet.broker, "travel.events")

        with pytest.raises(BrokerError, match="made again while it was read"):
            told(source, lanes=[1])


def test_a_step_shows_the_event_that_tells_its_latest_outcome() -> None:
    with lived() as fleet:
        poor = told(TopicSource(fleet.broker, "travel"))["poor"]

    assert poor.events["hotel"] == ("travel.HotelFreed", {"trip": "poor"})
    assert poor.events["pay"] == ("travel.TripDeclined", {"trip": "poor"})
    assert poor.events["confirm"] is None


@pytest.mark.parametrize("seed", range(20))
def test_order_and_repetition_of_the_records_change_nothing(seed: int) -> None:
    with lived() as fleet:
        found = records(fleet.broker)
    straight = told(ListSource(found))

    shuffled = [*found, *found[:7]]
    random.Random(seed).shuffle(shuffled)

    assert told(ListSource(shuffled)) == straight


def test_a_workflow_that_ended_is_told_and_forgotten_and_told_to_be_late_if_something_follows() -> None:
    with lived() as fleet:
        found = records(fleet.broker)
    smooth = [one for one in found if one.key == b"smooth"]
    others = [one for one in found if one.key != b"smooth"]
    abort = foreign_abort(smooth[0])

    one_by_one = [*histories(ListSource([*smooth, *others, abort]), TRAVEL, linger=0)]

    assert [(h.workflow, len(h.entries), h.late) for h in one_by_one if h.workflow == "smooth"] == [
        ("smooth", len(smooth), False),
        ("smooth", 1, True),
    ]


def foreign_abort(like: Record) -> Record:
    headers = {**dict(like.headers), "ce_status": b"abort", "ce_step": b"", "ce_id": b"late", "ce_source": b"bank"}
    return like._replace(headers=[*headers.items()])


def test_a_moment_in_between_shows_how_things_stood() -> None:
    with lived() as fleet:
        began = fleet.clock.now()
        fleet.advance(30)
        with fleet.transaction("airline") as tx:
            fleet.participants["airline"].resolve("open", "flight", FlightBooked(trip="open"), tx)
        fleet.settle()
        found = history(records(fleet.broker), "open")

    before, after = state(TRAVEL, found, at=began), state(TRAVEL, found)

    assert before is not None
    assert after is not None
    assert (before.status, before.steps["flight"]) == (WorkflowStatus.IN_PROGRESS, StepStatus.IDLE)
    assert (after.status, after.closed) == (WorkflowStatus.COMPLETED, began + timedelta(seconds=30))
    assert state(TRAVEL, found, at=began - timedelta(seconds=1)) is None


def test_states_are_records_of_the_saga_schema_that_any_avro_tool_reads(tmp_path: Path) -> None:
    with lived() as fleet:
        found = told(TopicSource(fleet.broker, "travel"))
    file = tmp_path / "travel.avro"
    subject, schema = TRAVEL.latest.state

    avro_file.write(file, schema, (one.record() for one in found.values()), {"saga.subject": subject})

    with file.open("rb") as opened:
        ours: list[Any] = [*fastavro.reader(opened)]
    with avro.datafile.DataFileReader(file.open("rb"), avro.io.DatumReader()) as reader:
        written_with = json.loads(reader.meta["avro.schema"])
        theirs: list[Any] = [*reader]
    assert written_with["name"] == "travel.Travel"
    assert [one["workflow"]["steps"] for one in theirs] == [one["workflow"]["steps"] for one in ours]
    assert {one["workflow"]["id"]: one["hotel"] for one in theirs} == {
        trip: one.events["hotel"] and one.events["hotel"][1] for trip, one in found.items()
    }
    assert {one["workflow"]["opened"] for one in theirs} == {one.opened for one in found.values()}


def test_a_file_that_could_not_be_written_whole_is_not_there(tmp_path: Path) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from [1 / 0 for _ in range(1)]  # type: ignore[misc]

    with pytest.raises(ZeroDivisionError):
        avro_file.write(tmp_path / "travel.avro", TRAVEL.latest.state[1], failing(), {})

    assert [*tmp_path.iterdir()] == []
