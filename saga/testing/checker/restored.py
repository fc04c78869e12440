"""Each participant's rows made anew of the facts of one workflow, held against those that its store has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from saga.contracts.topics import lane_of
from saga.errors import SagaError
from saga.handling.intake import Intake
from saga.participant.participant import Participant
from saga.replay.batch import Batch
from saga.replay.comparison import differences
from saga.replay.contracts import Contracts
from saga.replay.reading import Held, Reading
from saga.replay.restoring import Fact, Restoring
from saga.store.lane import Lane
from saga.store.workflow import Fence, Workflow
from saga.testing.checker.case import Case
from saga.testing.checker.invariant import Problem

_NOW = datetime(1970, 1, 1, tzinfo=UTC)


class Restored:
    """Rebuilds one workflow after the other, in memory, without a store; `count` is the number of lanes."""

    def __init__(self, contracts: Contracts, count: int) -> None:
        self.contracts, self.count = contracts, count
        self._restorings: dict[str, tuple[Participant, Restoring]] = {}

    def __call__(self, case: Case) -> Iterator[Problem]:
        for name, workflow in case.books.items():
            if workflow is None or workflow.unpublished or case.saga is None or name not in case.saga.participants:
                continue  # what a store lacks, or has not published, is said by other rules
            try:
                rebuilt = self._rebuilt(name, case)
            except SagaError as error:
                yield Problem(f"a history of which the rows of {name} cannot be made: {error}", "a whole one")
                continue
            if rebuilt is None:
                yield Problem(f"no fact of it that concerns {name}, which has a row of it", "its facts")
                continue
            for one in differences(workflow, rebuilt):
                yield Problem(f"{one.table} of {name}: {one.text}", "the rebuilt one")

    def _rebuilt(self, name: str, case: Case) -> Workflow | None:
        participant, restoring = self._of(name)
        lane = Lane(self.contracts.name, lane_of(case.id, self.count), 1)
        reading = _reading(restoring, case) or Reading.of(restoring, lane, [e.record for e in case.entries], None, _NOW)
        batch = Batch(participant, restoring, lane, Held(), {}, _NOW, False)
        batch.take(reading)
        if case.id in batch.held.own:
            raise SagaError(next(iter(batch.held.own[case.id].values())).why)
        batch.settle({})
        found = batch.workflows.get(case.id)
        return _folded(found) if found is not None and found.closed else found

    def _of(self, name: str) -> tuple[Participant, Restoring]:
        if name not in self._restorings:
            concerned = [saga for saga in self.contracts.sagas.values() if name in saga.participants]
            participant = Participant(name, concerned)
            if self.contracts.registry is not None:
                participant.versions.use(self.contracts.registry)
            intake = Intake(participant.versions, name, self.count)
            self._restorings[name] = participant, Restoring(participant.versions, name, intake)
        return self._restorings[name]


def _reading(restoring: Restoring, case: Case) -> Reading | None:
    """What was read already need not be read again; None where something of it makes no sense."""
    reading = Reading()
    try:
        for entry in case.entries:
            if entry.message is None:
                return None
            part = restoring.part(entry.message.kind)
            if part.own or part.heard:
                reading.add(entry.record, Fact(entry.message, part))
    except ValueError:
        return None
    return reading


def _folded(workflow: Workflow) -> Workflow:
    """As every store keeps one that has ended."""
    fences = {name: Fence(step=name, status=one.status, refused=one.refused) for name, one in workflow.fences.items()}
    return replace(workflow, inbox={}, fences=fences)
