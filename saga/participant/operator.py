"""What an operator may do about a parked workflow: have it tried again, give a step up, or state an outcome found out by hand.

Every verb works under the workflow's lock in the store of the step's owner, changes state through facts only, and leaves a line
in the log. It is logged as a warning, so that a service that logs no more than those keeps the trace too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from saga.errors import Refused
from saga.participant.ledger import Ledger
from saga.protocol.definition import Definition, Step
from saga.protocol.facts import StepStatus
from saga.store.port import Changes, Fence, Unit, Workflow

log = logging.getLogger("saga.operator")

_ENDED = frozenset({StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.COMPENSATED})


def retry(unit: Unit, saga: str, workflows: Iterable[Workflow], now: datetime, *, by: str) -> list[str]:
    """Have parked workflows tried again now, their attempts counted anew; answers the ids of those that were parked.

    `workflows` come from `unit.load`, which locks them. Needs no contract, so it works on a database alone.
    """
    parked = [(workflow.id, fence) for workflow in workflows for fence in workflow.fences.values() if is_parked(fence)]
    for workflow_id, fence in parked:
        fence.attempt, fence.due, fence.changed = 0, now, now
        log.warning("retry of step %s of %s workflow %s, by %s", fence.step, saga, workflow_id, by)
    if parked:
        unit.save(saga, Changes(fences=parked))
    return [*dict.fromkeys(workflow_id for workflow_id, _ in parked)]


def skip(ledger: Ledger, workflow: Workflow, step: Step, *, reason: str, by: str) -> None:
    """Give a parked action up: it is skipped, and the workflow unwinds. Raises Refused where that would be no end."""
    fence = workflow.fences.get(step.name)
    if (why := _not_to_be_skipped(ledger.saga(workflow), step, fence)) is not None:
        raise Refused(f"cannot skip step {step.name!r} of workflow {workflow.id}: {why}")
    ledger.skip(workflow, step.name, reason=reason, by=by)
    ledger.abort(workflow, reason, by=by)
    log.warning("skip of step %s of %s workflow %s, by %s: %s", step.name, ledger.versions.name, workflow.id, by, reason)


def resolve(ledger: Ledger, workflow: Workflow, step: Step, event: str, payload: bytes, *, reason: str, by: str) -> None:
    """State the outcome of a step that waits for the world, or of what is parked or stuck. Raises Refused if neither is so."""
    fence = workflow.fences.get(step.name)
    if fence is None or not (is_parked(fence) or _waits_for_the_world(fence)):
        raise Refused(
            f"step {step.name!r} of workflow {workflow.id} is {fence.status if fence else 'idle'}, not waiting for an outcome"
        )
    undoing, parked = is_undoing(ledger.saga(workflow), fence), is_parked(fence)
    if event not in (expected := (step.compensated,) if undoing else step.outcomes):
        raise Refused(
            f"cannot resolve step {step.name!r} of workflow {workflow.id} with {event}: what waits is its "
            f"{'compensation' if undoing else 'action'}; expected {_either(expected)}"
        )
    if undoing:
        ledger.make_exception(workflow, step.name)
        ledger.undo(workflow, step, payload)
    else:
        ledger.finish(workflow, step, event, payload)
    if parked:
        log.warning(
            "resolve of step %s of %s workflow %s with %s, by %s: %s",
            step.name, ledger.versions.name, workflow.id, event, by, reason,
        )  # fmt: skip
        # due at once: no fact need come back here, so this is what makes a worker see to all that was suspended meanwhile
        ledger.park(workflow, step.name, attempt=0, due=ledger.now, error=f"resolved by {by}: {reason}")


def is_parked(fence: Fence) -> bool:
    """Whether the latest try of the step failed; a stuck one is parked too."""
    return fence.error is not None


def is_undoing(saga: Definition, fence: Fence) -> bool:
    """Whether what is parked or stuck is the step's compensation; `pending` tells of an action that was withdrawn."""
    if fence.status is StepStatus.STUCK:
        return fence.step not in saga.after_pivot and (fence.event is not None or fence.pending)
    return fence.status in {StepStatus.DONE, StepStatus.COMPENSATING}


def _waits_for_the_world(fence: Fence) -> bool:
    return fence.status is StepStatus.RUNNING and fence.pending


def _not_to_be_skipped(saga: Definition, step: Step, fence: Fence | None) -> str | None:
    """Why, and what to do instead."""
    if step.name in saga.after_pivot:
        return f"it comes after the pivot, and others wait for it: retry it, or resolve it with {_either(step.emits)}"
    if step.name in saga.pivots:
        return f"it is the pivot, which alone decides: retry it, abort the workflow, or resolve with {_either(step.outcomes)}"
    if fence is None or (fence.status is StepStatus.IDLE and not is_parked(fence)):
        return "it is not parked; abort the workflow, and it will not happen"
    if fence.status in _ENDED:
        return f"it is {fence.status} already"
    if fence.status is StepStatus.DONE and not is_parked(fence):
        return "it is done; abort the workflow, and it is compensated"
    if is_undoing(saga, fence):
        return f"it is being undone: retry its compensation, or resolve it with {_either((step.compensated,))}"
    if fence.pending:
        return f"it waits for its outcome: resolve it with {_either(step.outcomes)}, or abort the workflow"
    if fence.status is StepStatus.RUNNING:
        return (
            f"the world may have been asked already: find out what it did, and resolve the step with {_either(step.outcomes)}; "
            f"or retry, which asks again with the same idempotency key"
        )
    return None


def _either(events: Iterable[object]) -> str:
    return " or ".join(str(event) for event in events)
