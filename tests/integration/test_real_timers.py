"""Timers against completion, on Kafka and PostgreSQL: whichever comes first, in whoever's process, everybody ends alike.

Who comes first is not left to chance: a handler is held inside its transaction, or a transaction is left open, until the other
side has done its part. The clock is put forward, so nobody waits for minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from threading import Event as Flag
from uuid import uuid4

import pytest

from saga import Refused
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.store.postgres import PostgresStore
from tests.integration.crew import NAMES, Crew, on_servers
from tests.travel import FlightBooked, Script, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

DEADLINE, TIMEOUT = 600, 60
COMPLETED, COMPENSATED = {WorkflowStatus.COMPLETED}, {WorkflowStatus.COMPENSATED}


class HeldScript(Script):
    """A script whose step `held` stays inside its transaction until `let_go`; `entered` says that it is there."""

    held = ""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.let_go = Flag(), Flag()

    def reach(self, step: str, trip: str) -> bool:
        if step == self.held:
            self.entered.set()
            assert self.let_go.wait(60)
        return super().reach(step, trip)


@pytest.fixture
def script() -> Iterator[HeldScript]:
    script = HeldScript()
    yield script
    script.let_go.set()


@pytest.fixture
def crew(kafka: str, postgres: str, script: HeldScript) -> Iterator[Crew]:
    with on_servers(kafka, postgres, fleet(script, name=f"timers-{uuid4().hex[:8]}"), idle_timeout=60.0) as crew:
        try:
            yield crew
        finally:
            script.let_go.set()


def test_a_deadline_that_passes_while_the_pivot_is_at_work_elsewhere_is_refused(crew: Crew, script: HeldScript) -> None:
    script.held = "pay"
    crew.begin(*NAMES)
    crew.start("rome")
    assert script.entered.wait(60)

    crew.clock.jump(DEADLINE)
    until(lambda: crew.sources("rome", FactStatus.ABORT), what="the initiator to wish that it unwinds")
    script.let_go.set()
    crew.await_end("rome")

    assert crew.ends("rome") == COMPLETED
    assert crew.sources("rome", FactStatus.ABORT) == ["agency"]
    assert crew.sources("rome", FactStatus.REFUSED) == ["bank"]
    assert "compensation" not in {act for _, act in crew.effects("rome")}


def test_a_deadline_that_passes_before_the_pivot_begins_undoes_what_is_done_and_what_is_at_work(
    crew: Crew, script: HeldScript
) -> None:
    script.held = "hotel"
    crew.begin(*NAMES)
    crew.start("rome")
    assert script.entered.wait(60)

    crew.clock.jump(DEADLINE)
    until(lambda: is_given_up(crew, "rome"), what="the tombstone of pay")
    script.let_go.set()
    crew.await_end("rome")

    assert crew.ends("rome") == COMPENSATED
    assert ("pay", "action") not in crew.effects("rome")
    assert [act for step, act in crew.effects("rome") if step == "hotel"] == ["action", "compensation"]
    assert len(crew.sources("rome", FactStatus.ABORT)) == 1


def test_a_timeout_that_passes_while_the_outcome_is_being_committed_elsewhere_comes_too_late(
    crew: Crew, script: HeldScript
) -> None:
    script.waiting.add("rome")
    crew.begin(*NAMES)
    crew.start("rome")
    until(lambda: is_awaited(crew, "rome"), what="the flight to be awaited")

    with answering(crew, "rome"):
        crew.clock.jump(TIMEOUT)
        until(lambda: waits_for_a_row(crew, "airline"), what="the timer to wait for the open transaction")
    crew.await_end("rome")

    assert crew.ends("rome") == COMPLETED
    assert crew.sources("rome", FactStatus.ABORT) == []


def test_an_outcome_that_comes_after_the_timeout_is_refused(crew: Crew, script: HeldScript) -> None:
    script.waiting.add("rome")
    crew.begin(*NAMES)
    crew.start("rome")
    until(lambda: is_awaited(crew, "rome"), what="the flight to be awaited")

    crew.clock.jump(TIMEOUT)
    until(lambda: not is_awaited(crew, "rome"), what="the airline to hear its own wish that it unwinds")
    with pytest.raises(Refused), answering(crew, "rome"):
        pass
    crew.await_end("rome")

    assert crew.ends("rome") == COMPENSATED
    assert crew.sources("rome", FactStatus.ABORT) == ["airline"]


def test_a_deadline_due_while_the_initiator_was_down_passes_once_and_only_for_what_did_not_end_in_time(
    crew: Crew, script: HeldScript
) -> None:
    in_time, late = [f"in time {n}" for n in range(20)], [f"late {n}" for n in range(5)]
    script.raising.update({("hotel", trip): 10**6 for trip in late})
    crew.begin("agency", "hotels", "airline")
    crew.start(*in_time, *late)
    until(lambda: all(crew.fence("hotels", trip, "hotel") for trip in in_time + late), what="the trips to be known")
    crew.end("agency")
    crew.begin("bank")
    until(lambda: paid(crew) == {*in_time}, what="the bank to have been in time")

    crew.clock.jump(DEADLINE)
    crew.begin("agency")
    crew.await_end(*in_time, *late)

    assert {t: crew.ends(t) for t in in_time + late} == dict.fromkeys(in_time, COMPLETED) | dict.fromkeys(late, COMPENSATED)
    assert aborts(crew) == {trip: ["agency"] for trip in late}


def test_a_timeout_due_while_its_participant_was_down_passes_once_and_only_for_what_had_no_outcome(
    crew: Crew, script: HeldScript
) -> None:
    answered, open_ = [f"answered {n}" for n in range(20)], [f"open {n}" for n in range(5)]
    script.waiting.update(answered, open_)
    crew.begin(*NAMES)
    crew.start(*answered, *open_)
    until(lambda: all(map(partial(is_awaited, crew), answered + open_)), what="all flights to be awaited")
    crew.end("airline")
    for trip in answered:
        with answering(crew, trip):
            pass

    crew.clock.jump(TIMEOUT)
    crew.begin("airline")
    crew.await_end(*answered, *open_)

    assert {t: crew.ends(t) for t in answered + open_} == dict.fromkeys(answered, COMPLETED) | dict.fromkeys(open_, COMPENSATED)
    assert aborts(crew) == {trip: ["airline"] for trip in open_}


def is_awaited(crew: Crew, trip: str) -> bool:
    """Whether the flight waits for the world."""
    fence = crew.fence("airline", trip, "flight")
    return fence is not None and fence.pending


def is_given_up(crew: Crew, trip: str) -> bool:
    """Whether the bank will not take money any more."""
    fence = crew.fence("bank", trip, "pay")
    return fence is not None and fence.status is StepStatus.SKIPPED


def paid(crew: Crew) -> set[str]:
    return {m.workflow_id for m in crew.facts() if (m.kind.step, m.kind.status) == ("pay", FactStatus.DONE)}


def aborts(crew: Crew) -> dict[str, list[str]]:
    """Who wished that a trip unwinds, by trip."""
    found: dict[str, list[str]] = defaultdict(list)
    for message in crew.facts():
        if message.kind.status is FactStatus.ABORT:
            found[message.workflow_id].append(message.kind.source)
    return found


@contextmanager
def answering(crew: Crew, trip: str) -> Iterator[None]:
    """A web process of the airline says how the world answered, and commits that at the end of the block."""
    with crew.stores["airline"].transaction() as tx:
        crew.participants["airline"].resolve(trip, "flight", FlightBooked(trip=trip), tx)
        yield


def waits_for_a_row(crew: Crew, name: str) -> bool:
    """Whether a transaction on this participant's database waits for another one's row."""
    store = crew.stores[name]
    assert isinstance(store, PostgresStore)
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with closing(store.address.connect()) as connection:
        return bool((connection.execute(asked).fetchone() or [0])[0])
