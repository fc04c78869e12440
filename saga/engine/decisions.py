"""`decide`, remembered: facts and fences name no workflow, so the same few situations come again and again."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from saga.protocol.decide import Action, decide, status
from saga.protocol.definition import Definition
from saga.protocol.facts import Fact, StepStatus, WorkflowStatus
from saga.store.port import Workflow

REMEMBERED = 16_384


class Situation(NamedTuple):
    """What one own step looks like to `decide`."""

    status: StepStatus
    pending: bool
    refused: bool


Situations = tuple[tuple[str, Situation], ...]


class Decisions:
    """What a participant must do about a workflow, and how the workflow stands."""

    def __init__(self, saga: Definition, participant: str) -> None:
        self.saga, self.participant = saga, participant
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._decide)

    def __call__(self, workflow: Workflow) -> tuple[tuple[Action, ...], WorkflowStatus]:
        """The actions in order, of which the first is to be carried out before asking again."""
        facts = tuple([received.fact for received in workflow.inbox.values()])
        fences = tuple([(f.step, Situation(f.status, f.pending, f.refused)) for f in workflow.fences.values()])
        return self._remembered(facts, fences)

    def _decide(self, facts: tuple[Fact, ...], situations: Situations) -> tuple[tuple[Action, ...], WorkflowStatus]:
        fences = dict(situations)
        return decide(self.saga, self.participant, facts, fences), status(self.saga, facts, fences)
