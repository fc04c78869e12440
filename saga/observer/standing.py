"""How one workflow stands, as short as a list shows it, and what of that is a person's business. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.replay.contracts import Contracts
from saga.replay.history import History
from saga.replay.holes import UNREAD, holes
from saga.replay.state import end, step_statuses
from saga.replay.timeline import Awaited, awaited

GRACE = timedelta(seconds=30)
"""Beyond a time limit, in which a participant that is at work sees to it by itself, and what was published later is there."""


class Concern(Enum):
    """Why somebody should look, the gravest first."""

    STUCK = "stuck"
    TORN = "not whole"
    OVERDUE = "overdue"
    IDLE = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`status` is None where the records cannot be folded, and `holes` then says why; `moved` is the time of the latest one.

    `unread` are those of the holes that are no want of records.
    """

    id: str
    version: int
    status: WorkflowStatus | None
    exceptions: bool
    opened: datetime
    moved: datetime
    closed: datetime | None
    steps: Mapping[str, StepStatus]
    awaited: tuple[Awaited, ...]
    holes: tuple[str, ...]
    unread: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A workflow that needs a person, and since when; `awaited` are the participants from whom something must come."""

    workflow: str
    concern: Concern
    text: str
    since: datetime
    awaited: tuple[str, ...]


def standing(contracts: Contracts, history: History) -> Standing:
    """How a workflow stands of which there is one record at least."""
    saga, found = contracts.of(history), holes(history, contracts)
    messages = history.messages(saga) if saga is not None else []
    times = [message.time for message in messages] or [entry.time for entry in history.entries.values()]
    status, closed = end(saga, messages) if saga is not None and messages else (None, None)
    is_open = saga is not None and status is not None and closed is None
    return Standing(
        id=history.workflow,
        version=max(history.versions),
        status=status,
        exceptions=any(message.exceptions for message in messages),
        opened=min(times),
        moved=max(times),
        closed=closed,
        steps=step_statuses(saga, messages) if saga is not None else {},
        awaited=tuple(awaited(saga, messages)) if saga is not None and is_open else (),
        holes=tuple(hole.text for hole in found),
        unread=tuple(hole.text for hole in found if hole.kind in UNREAD),
    )


def is_overdue(one: Awaited, now: datetime) -> bool:
    """Whether its time limit has passed so long ago that its participant does not see to it."""
    return one.until is not None and now - one.until > GRACE


def alarm(stands: Standing, now: datetime, idle: timedelta, *, aged: bool) -> Alarm | None:
    """The gravest concern of a workflow, if there is one; what is missing is none where records have `aged` out.

    It is `idle` if nothing was heard of it for so long, whatever its own time limits are.
    """
    found = _concern(stands, now, idle, aged=aged)
    if found is None:
        return None
    concern, text, since = found
    late = {one.keeper for one in stands.awaited if one.keeper is not None and is_overdue(one, now)}
    names = tuple(sorted({one.participant for one in stands.awaited} | late))
    return Alarm(workflow=stands.id, concern=concern, text=text, since=since, awaited=names)


def _concern(stands: Standing, now: datetime, idle: timedelta, *, aged: bool) -> tuple[Concern, str, datetime] | None:
    # one participant's records are in two partitions, of which either may be ahead
    if (torn_by := stands.unread if aged else stands.holes) and now - stands.moved > GRACE:
        torn = Concern.TORN, torn_by[0], stands.moved
    else:
        torn = None
    if stands.closed is not None or stands.status is None:
        return torn
    if stuck := sorted(name for name, step in stands.steps.items() if step is StepStatus.STUCK):
        return Concern.STUCK, f"the undoing of {' and '.join(stuck)} is stuck, and waits for an operator", stands.moved
    if torn is not None:
        return torn
    late = [one for one in stands.awaited if is_overdue(one, now)]
    if late:
        first = min(late, key=lambda one: one.until or now)
        unseen = f", and {first.keeper}, who keeps the deadline, has not ended it" if first.keeper else ""
        return Concern.OVERDUE, f"{first.what} by {first.participant} is overdue{unseen}", first.until or now
    if now - stands.moved > idle:
        return Concern.IDLE, "nothing has been heard of it", stands.moved
    return None
