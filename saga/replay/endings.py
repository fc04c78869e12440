"""How workflows end whose whole history is read at once: found once for each course of facts, then copied.

Facts name no workflow in what decides about them, so the same few courses come again and again. Each is found by applying its
facts as any others, so that there is one place that knows how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from saga.contracts.message import Message
from saga.participant.handler import Handler
from saga.participant.ledger import first_met
from saga.protocol.facts import FactStatus, WorkflowStatus
from saga.replay.restoring import Fact
from saga.store.workflow import Fence, Workflow

REMEMBERED = 4096
LONGEST = 64
"""Of facts: longer courses hardly come twice."""
_TOLD_BY_HEADERS = frozenset({FactStatus.DONE, FactStatus.FAILED, FactStatus.COMPENSATED})


class Call(NamedTuple):
    """A function of the service's, called for the fact at `place` with the values of those at `sources`, by type."""

    bound: Handler
    place: int
    sources: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a course of facts comes to; `opening`, `dated` (which tells the deadline) and `closing` are places in it.

    `is_whole` if no number is missing.
    """

    status: WorkflowStatus
    sequence: int
    fences: dict[str, Fence]
    opening: int
    dated: int
    closing: int
    is_whole: bool
    calls: tuple[Call, ...]

    def workflow(self, messages: Sequence[Message], lane: int) -> Workflow:
        """The closed workflow of these messages, whose course this is."""
        workflow = first_met(messages[self.opening], lane, min([message.time for message in messages]))
        workflow.status, workflow.sequence, workflow.fences = self.status, self.sequence, self.fences
        workflow.deadline, workflow.closed = messages[self.dated].deadline, messages[self.closing].time
        return workflow


class Endings:
    """Remembers endings by course; `find` finds one, None for what does not end or cannot be told by headers alone."""

    def __init__(self, find: Callable[[Sequence[Fact]], Ending | None]) -> None:
        self._find = find
        self.known: dict[tuple[int, ...], Ending | None] = {}

    def of(self, facts: Sequence[Fact]) -> Ending | None:
        """The ending of these facts of one workflow, in the order in which they were read."""
        course = tuple([number for message, part in facts for number in (part.number, message.sequence)])
        try:
            ending = self.known[course]
        except KeyError:
            if len(self.known) >= REMEMBERED:
                self.known.clear()
            ending = self.known[course] = self._find(facts) if _is_plain(facts) else None
        return ending if ending is not None and _is_told_once(facts) else None


def _is_plain(facts: Sequence[Fact]) -> bool:
    """Whether headers tell all of it, with no fact twice."""
    places = {(fact.message.kind.source, fact.message.sequence) for fact in facts}
    return len(places) == len(facts) <= LONGEST and all(f.message.kind.status in _TOLD_BY_HEADERS for f in facts)


def _is_told_once(facts: Sequence[Fact]) -> bool:
    """Whether no id comes twice, and nothing was passed over or stated by hand."""
    return len({fact.message.id for fact in facts}) == len(facts) and not any([fact.message.exceptions for fact in facts])
