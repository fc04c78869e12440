"""The figures of a worker: one table of what can be measured, from which metrics of every form are made.

Like health they are what was seen last; reading them asks nothing of anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from saga.engine.health import State
from saga.engine.worker import Standing, Worker
from saga.handling.breaker import Circuit

Value = tuple[float, Mapping[str, str]]
"""A number with the attributes that tell it from others of the same figure."""

_STATES = {State.READY: 0, State.DEGRADED: 1, State.DEAD: 2}
_CIRCUITS = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}


class Reading(NamedTuple):
    """Everything that figures are taken from, read once."""

    standing: Standing
    state: State
    now: datetime


class Figure(NamedTuple):
    """One thing that is measured; `unit` in UCUM, as OpenTelemetry wants it. `counter`: it only grows while a worker runs."""

    name: str
    unit: str
    text: str
    values: Callable[[Reading], Iterable[Value]]
    counter: bool = False


def reading(worker: Worker) -> Reading:
    """How the worker stands now."""
    return Reading(worker.standing(), worker.health().state, worker.participant.clock.now())


def _facts(found: Reading) -> Iterable[Value]:
    counts = found.standing.counts
    outcomes = {
        "handled": counts.handled,
        "ignored": counts.ignored,
        "duplicate": counts.duplicates,
        "refused": counts.refused,
        "dead": counts.dead,
    }
    return [(count, {"saga.outcome": outcome}) for outcome, count in outcomes.items()]


def _age(since: datetime | None, found: Reading) -> Iterable[Value]:
    return [(max(0.0, (found.now - since).total_seconds()) if since else 0.0, {})]


FIGURES: tuple[Figure, ...] = (
    Figure("saga.worker.state", "1", "0 ready, 1 degraded, 2 dead", lambda r: [(_STATES[r.state], {})]),
    Figure("saga.lanes.owned", "{lane}", "Lanes in this process's hands", lambda r: [(len(r.standing.lanes), {})]),
    Figure("saga.lanes.stopped", "{lane}", "Lanes that wait for a person", lambda r: [(len(r.standing.stopped), {})]),
    Figure("saga.lanes.resting", "{lane}", "Lanes that begin again by themselves", lambda r: [(len(r.standing.resting), {})]),
    Figure(
        "saga.lane.lag",
        "{record}",
        "Records of a lane that are not taken in",
        lambda r: [(behind, {"saga.lane": str(lane)}) for lane, behind in sorted(r.standing.lag.items())],
    ),
    Figure("saga.facts", "{fact}", "Records that came in, by what became of them", _facts, counter=True),
    Figure("saga.workflows.parked", "{workflow}", "Workflows parked here", lambda r: [(r.standing.stock.parked, {})]),
    Figure(
        "saga.workflows.pruned",
        "{workflow}",
        "Workflows deleted long after their end",
        lambda r: [(r.standing.pruned, {})],
        counter=True,
    ),
    Figure("saga.outbox.unpublished", "{event}", "Events to be published", lambda r: [(r.standing.stock.unpublished, {})]),
    Figure(
        "saga.outbox.oldest_age", "s", "Age of the oldest event to be published", lambda r: _age(r.standing.stock.oldest, r)
    ),
    Figure(
        "saga.unhandled.oldest_age", "s", "Age of the oldest event not handled", lambda r: _age(r.standing.unhandled_since, r)
    ),
    Figure(
        "saga.events.lost", "{event}", "Events that were lost and sent again", lambda r: [(r.standing.lost, {})], counter=True
    ),
    Figure(
        "saga.breaker.state",
        "1",
        "0 closed, 1 half-open, 2 open",
        lambda r: [(_CIRCUITS[b.circuit], {"saga.dependency": name}) for name, b in sorted(r.standing.breakers.items())],
    ),
)


def whose(worker: Worker) -> dict[str, str]:
    """The attributes that every figure of this worker has."""
    return {"saga.name": worker.participant.saga.name, "saga.participant": worker.participant.name}
