"""What a course of facts comes to, found by applying them in memory, with places in it instead of moments and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from saga.contracts.message import Message
from saga.participant.participant import Participant
from saga.replay.batch import Batch
from saga.replay.endings import Call, Ending
from saga.replay.history import MOST_FACTS
from saga.replay.reading import Held, is_whole
from saga.replay.restoring import Fact, Restoring
from saga.store.lane import Lane
from saga.store.workflow import Workflow

_BEGAN = datetime(1970, 1, 1, tzinfo=UTC)
_APART = timedelta(seconds=1)


class Course:
    """Finds the endings of workflows of `participant`; with `evolving` also what of the service's own is to be called."""

    def __init__(self, participant: Participant, restoring: Restoring, evolving: bool) -> None:
        self.participant, self.restoring, self.evolving = participant, restoring, evolving

    def __call__(self, facts: Sequence[Fact]) -> Ending | None:
        """The ending of these facts of one workflow, None if it does not end or a fact waits for another."""
        if any(fact.message.sequence >= MOST_FACTS for fact in facts):
            return None
        rising = _Trial(self.participant, self.restoring, self.evolving)
        falling = _Trial(self.participant, self.restoring, self.evolving)
        ended, again = rising.end(facts, _APART), falling.end(facts, -_APART)
        if ended is None or again is None or ended.closed is None or again.closed is None or ended.deadline is None:
            return None
        closing = (ended.closed - _BEGAN) // _APART
        if closing != (_BEGAN - again.closed) // _APART:
            return None  # it is the latest of several that tells when it ended
        return Ending(
            status=ended.status,
            sequence=ended.sequence,
            fences=ended.fences,
            opening=int(ended.traceparent or 0),
            dated=(ended.deadline - _BEGAN) // _APART,
            closing=closing,
            is_whole=is_whole(rising.seen[ended.id]),
            calls=tuple(rising.calls),
        )


class _Trial(Batch):
    """Takes facts whose bytes are their places, and notes what would be called."""

    def __init__(self, participant: Participant, restoring: Restoring, evolving: bool) -> None:
        super().__init__(participant, restoring, Lane(participant.saga.name, 0, 0), Held(), {}, _BEGAN, evolving)
        self.calls: list[Call] = []

    def end(self, facts: Sequence[Fact], apart: timedelta) -> Workflow | None:
        for place, (message, part) in enumerate(facts):
            moment = _BEGAN + place * apart
            marked = message._replace(time=moment, value=b"%d" % place, traceparent=str(place), deadline=moment)
            self._take(Fact(marked, part))
        self.settle({})
        workflow = self.workflows.get(facts[0].message.workflow_id)
        is_alone = workflow is not None and workflow.closed and not (self.held.own or self.held.answers)
        return workflow if is_alone else None

    def _prepare(self, workflow: Workflow, message: Message) -> None:
        bound = self.participant.evolution.by_event.get((workflow.version, message.kind.type))
        if bound is not None:
            sources = self.restoring.events(workflow, message)
            self.calls.append(Call(bound, int(message.value), {type: int(value) for type, value in sources.items()}))
