"""All workflows of a saga in short: how many stand how, who is awaited, and which of them need a person. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from saga.contracts.saga import Saga
from saga.observer.standing import Alarm, Concern, Standing, alarm, is_overdue
from saga.replay.timeline import Awaited

MOST_ALARMS = 200
EXCEPTIONS, UNKNOWN = "with exceptions", "unknown"
"""Counted beside the statuses: workflows that ended with exceptions, and those that cannot be folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How many workflows wait for a participant's word of a step, since when the longest, and how many beyond a time limit."""

    participant: str
    step: str
    what: str
    workflows: int
    since: datetime
    overdue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """`counts` are workflows by status, see `EXCEPTIONS` and `UNKNOWN`; `alarms` the gravest and longest of `alarmed`,
    `concerns` all of those by concern.

    `looked` is when the topics were last read to their end, `trouble` why they cannot be, `aged` where records are gone.
    """

    saga: str
    version: int
    counts: Mapping[str, int]
    alarmed: int
    concerns: Mapping[str, int]
    alarms: tuple[Alarm, ...]
    waiting: tuple[Waiting, ...]
    records: int = 0
    looked: datetime | None = None
    trouble: str | None = None
    aged: tuple[str, ...] = ()


def overview(saga: Saga, standings: Sequence[Standing], now: datetime, idle: timedelta, *, aged: Sequence[str]) -> Overview:
    """Of these workflows, whatever their version; `saga` is the latest one."""
    found = [alarm(stands, now, idle, aged=bool(aged)) for stands in standings]
    alarms = sorted((one for one in found if one is not None), key=_gravity)
    return Overview(
        saga=saga.name,
        version=saga.version,
        counts=sum(map(counted, standings), Counter[str]()),
        alarmed=len(alarms),
        concerns=Counter(one.concern.value for one in alarms),
        alarms=tuple(alarms[:MOST_ALARMS]),
        waiting=tuple(_waiting(standings, now)),
    )


def counted(stands: Standing) -> Counter[str]:
    """What a workflow adds to the counts."""
    status = stands.status.value if stands.status is not None else UNKNOWN
    return Counter({status: 1, EXCEPTIONS: int(stands.exceptions and stands.closed is not None)})


def _gravity(one: Alarm) -> tuple[int, datetime]:
    return [*Concern].index(one.concern), one.since


def _waiting(standings: Iterable[Standing], now: datetime) -> list[Waiting]:
    """Where most wait first."""
    found: dict[tuple[str, str, str], list[tuple[Standing, Awaited]]] = defaultdict(list)
    for stands in standings:
        for one in stands.awaited:
            found[one.participant, one.step, one.what].append((stands, one))
    waiting = [
        Waiting(
            participant=participant,
            step=step,
            what=what,
            workflows=len(of),
            since=min(stands.moved for stands, _ in of),
            overdue=sum(is_overdue(one, now) for _, one in of),
        )
        for (participant, step, what), of in found.items()
    ]
    return sorted(waiting, key=lambda one: (-one.workflows, one.since))
