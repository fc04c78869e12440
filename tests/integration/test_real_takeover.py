"""A process stopped past its session, or told to end: its successor is not blocked, and nothing of it comes too late."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from saga.failpoints import Failpoint
from tests.integration.stage import LANES, Hotels, Stage, first_published_in_order, one_epoch_after_the_other, staged
from tests.waiting import until

pytestmark = pytest.mark.slow

TAKEOVER = 40.0
"""Seconds in which a successor must be at work: well below the 60 for which a transaction that nobody ends holds its rows."""
FENCED = "was taken over by another owner"


def test_a_process_stopped_between_two_units_of_work_is_fenced_when_it_goes_on(
    kafka: str, database: str, tmp_path: Path
) -> None:
    dawdling = f"{Failpoint.UNIT_COMMITTED}:delay=1"
    with staged("stopped-between", kafka, database, tmp_path) as stage:
        stopped = stage.hotels(dawdling)
        until(lambda: stage.shared_by(stopped), what="the lanes")
        early = stage.book(30)
        several = "SELECT 1 FROM commits HAVING count(DISTINCT lane) > 1"  # more wait their turn in the same poll
        until(lambda: stage.rows(several), what="the first lanes to be committed")
        stopped.send(signal.SIGSTOP)

        successor = _taken_over(stage, stopped, early)
        stopped.send(signal.SIGCONT)

        until(lambda: stage.shared_by(stopped, successor), what="both to share again")
        assert stopped.said(FENCED)
        _all_is_well(stage, stopped, successor)


@pytest.mark.parametrize("idle_timeout", [4.0, 60.0], ids=["ended by the server", "ended by the successor"])
def test_a_process_stopped_inside_its_transaction_does_not_block_its_successor(
    kafka: str, database: str, tmp_path: Path, idle_timeout: float
) -> None:
    name = f"stopped-inside-{idle_timeout:.0f}"
    with staged(name, kafka, database, tmp_path) as stage:
        stopped = stage.hotels(f"{Failpoint.UNIT_INSIDE}:delay=1", idle_timeout=idle_timeout)
        until(lambda: stage.shared_by(stopped), what="the lanes")
        early = stage.book(30)
        until(lambda: _is_stopped_inside(stage, stopped), what="a process stopped while its transaction holds rows")

        successor = _taken_over(stage, stopped, early)
        stopped.send(signal.SIGCONT)

        until(lambda: stage.shared_by(stopped, successor), what="both to share again")
        assert stopped.said("the server has ended the session, nothing was committed")
        _all_is_well(stage, stopped, successor)


def test_a_process_told_to_end_finishes_what_it_has_in_hand(kafka: str, database: str, tmp_path: Path) -> None:
    with staged("drain", kafka, database, tmp_path) as stage:
        hotels = stage.hotels(f"{Failpoint.UNIT_INSIDE}:delay=0.3", batch=20)
        until(lambda: stage.shared_by(hotels), what="the lanes")
        stage.book(400)
        until(lambda: _is_inside(stage), what="a transaction in the midst of the load")

        code = hotels.end()

        assert code == 0
        assert stage.owners() == {}
        assert stage.rows("SELECT lane FROM saga_lane WHERE NOT clean") == []
        assert stage.pending() == 0
        fences = {
            (topic, lane): offset
            for lane, offsets in stage.rows("SELECT lane, offsets FROM saga_lane")
            for topic, offset in offsets.items()
        }
        assert stage.offsets() == fences
        assert {*stage.effects()} == {(workflow, "action") for workflow in stage.stated()}
        assert {*stage.effects().values()} == {1}


def _taken_over(stage: Stage, stopped: Hotels, early: list[str]) -> Hotels:
    """Start a successor, which handles what was there and what comes on the same lanes while the first is stopped."""
    successor = stage.hotels()
    until(lambda: stage.shared_by(successor), seconds=TAKEOVER, what="the successor to own all lanes")
    late = stage.book(30)
    until(lambda: stage.handled(early + late), seconds=TAKEOVER, what="the successor to handle everything")
    assert stopped.process.poll() is None
    return successor


def _is_inside(stage: Stage) -> bool:
    """Whether the owner of some lane is idle in its open transaction."""
    inside = """
        SELECT 1 FROM saga_lane JOIN pg_stat_activity AS session ON session.pid = backend
        WHERE session.state = 'idle in transaction' AND session.xact_start < now() - interval '50 ms'
    """
    return bool(stage.rows(inside))


def _is_stopped_inside(stage: Stage, hotels: Hotels) -> bool:
    """Stop the process; let it go on again if that was not in the midst of a transaction."""
    hotels.send(signal.SIGSTOP)
    if not (inside := _is_inside(stage)):
        hotels.send(signal.SIGCONT)
    return inside


def _all_is_well(stage: Stage, *processes: Hotels) -> None:
    """Both go on together, and at the end every booking has been handled once, by one owner after the other."""
    stage.book(30)
    until(lambda: stage.handled(stage.started), what="both to handle what comes")
    until(lambda: not stage.pending(), what="the outbox to be marked")
    assert [process.end() for process in processes] == [0] * len(processes)
    one_epoch_after_the_other(stage)
    assert stage.effects() == dict.fromkeys(((workflow, "action") for workflow in stage.started), 1)
    published = first_published_in_order(stage.records())
    assert {workflow for source, workflow in published if source == "hotels"} == {*stage.started}
    assert {lane for (lane,) in stage.rows("SELECT lane FROM saga_lane WHERE clean")} == {*range(LANES)}
