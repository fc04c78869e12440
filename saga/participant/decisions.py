"""`decide`, remembered: facts and fences name no workflow, so the same few situations come again and again."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from saga.protocol.decide import Action, decide
from saga.protocol.decide import status as status_of
from saga.protocol.definition import Definition
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus, stated
from saga.store.workflow import Workflow

REMEMBERED = 16_384


class Situation(NamedTuple):
    """What one own step looks like to `decide`."""

    status: StepStatus
    pending: bool
    refused: bool


Stated = tuple[str, FactStatus, str]
Key = tuple[str, StepStatus, bool, bool]


class Decisions:
    """What a participant must do about a workflow, and how the workflow stands."""

    def __init__(self, participant: str) -> None:
        self.participant = participant
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._decide)

    def __call__(self, saga: Definition, workflow: Workflow) -> tuple[tuple[Action, ...], WorkflowStatus]:
        """The actions in order, of which the first is to be carried out before asking again."""
        facts = tuple([(received.step, received.status, received.type) for received in workflow.inbox.values()])
        fences = tuple([(f.step, f.status, f.pending, f.refused) for f in workflow.fences.values()])
        return self._remembered(saga, facts, fences)

    def _decide(
        self, saga: Definition, known: tuple[Stated, ...], keys: tuple[Key, ...]
    ) -> tuple[tuple[Action, ...], WorkflowStatus]:
        facts = tuple(stated(*fact) for fact in known)
        fences = {step: Situation(status, pending, refused) for step, status, pending, refused in keys}
        return decide(saga, self.participant, facts, fences), status_of(saga, facts, fences)
