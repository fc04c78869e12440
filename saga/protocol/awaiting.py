"""Whom an unwinding waits for, as far as one participant knows: for people who ask why it does not end. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from saga.protocol.decide import FenceView
from saga.protocol.definition import Definition
from saga.protocol.facts import REPORTS, Fact, FactStatus, StepStatus

_UNDONE = frozenset({StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.COMPENSATED})


def awaited(
    saga: Definition, participant: str, facts: Collection[Fact], fences: Mapping[str, FenceView]
) -> dict[str, frozenset[str]]:
    """Own steps that are still to be undone, each with the steps whose reports it waits for; none for what is held up here."""
    reported = {fact.step for fact in facts if fact.status in REPORTS}
    reported.update(f.step for f in facts if f.status is FactStatus.STUCK and f.step in saga.passed_over)
    reported.update(name for name, fence in fences.items() if fence.status in _UNDONE)
    own = (step.name for step in saga.owned(participant) if step.name not in saga.from_pivot)
    standing = (name for name in own if name in fences and fences[name].status not in _UNDONE)
    return {name: saga.awaited_reports[name] - reported for name in standing}


def told(saga: Definition, steps: Collection[str], facts: Collection[Fact]) -> str:
    """The steps with their owners, for a sentence; of a stuck one it says so."""
    stuck = {fact.step for fact in facts if fact.status is FactStatus.STUCK}
    return ", ".join(f"{step} by {saga[step].by}{', which is stuck' if step in stuck else ''}" for step in sorted(steps))
