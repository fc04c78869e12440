"""What an operator may do about a parked workflow: have it tried again, give a step up, or state an outcome found out by hand.

Every verb works under the workflow's lock in the store of the step's owner, changes state through facts only, and says who did
it and why: in the workflow's row, in a record on the topics, and in the log, as a warning, since many log no more than those.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from saga.errors import Refused
from saga.participant.ledger import Ledger
from saga.participant.note import Notes, remember
from saga.protocol.definition import Definition, Step
from saga.protocol.facts import StepStatus
from saga.store.port import Changes, Unit
from saga.store.workflow import Fence, Intervention, Workflow
from saga.text import storable, storable_if_any

log = logging.getLogger("saga.operator")

RESOLVED = "resolved by hand"
"""What a fence says from then until a worker has seen to what was suspended meanwhile: nothing of its step waits any more."""

_ENDED = frozenset({StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.COMPENSATED})


def retry(
    unit: Unit,
    saga: str,
    workflows: Iterable[Workflow],
    now: datetime,
    notes: Notes | None,
    *,
    by: str,
    reason: str | None = None,
) -> list[str]:
    """Have parked workflows tried again now, their attempts counted anew; answers the ids of those that were parked.

    `workflows` come from `unit.load`, which locks them. Needs no contract, so it works on a database alone; without `notes`
    only this database knows that it was done.
    """
    changes, by, reason = Changes(), storable(by), storable_if_any(reason)
    for workflow in workflows:
        for fence in filter(is_parked, workflow.fences.values()):
            fence.attempt, fence.due, fence.changed = 0, now, now
            act = Intervention("retry", fence.step, None, reason, by, now)
            remember(workflow, act)
            changes.fences.append((workflow.id, fence))
            changes.outbox += [notes.write(workflow, act, now)] if notes else []
            changes.workflows.append(workflow)
            log.warning("retry of step %s of %s workflow %s, by %s", fence.step, saga, workflow.id, by)
    if changes.fences:
        unit.save(saga, changes)
    return [*dict.fromkeys(workflow_id for workflow_id, _ in changes.fences)]


def skip(ledger: Ledger, workflow: Workflow, step: Step, *, reason: str, by: str) -> None:
    """Give a parked action up: it is skipped, and the workflow unwinds. Raises Refused where that would be no end."""
    fence = workflow.fences.get(step.name)
    if (why := _not_to_be_skipped(ledger.saga(workflow), step, fence)) is not None:
        raise Refused(f"cannot skip step {step.name!r} of workflow {workflow.id}: {why}")
    ledger.remember(workflow, Intervention("skip", step.name, None, reason, by, ledger.now))
    ledger.skip(workflow, step.name, reason=reason, by=by)
    ledger.abort(workflow, reason, by=by)
    log.warning("skip of step %s of %s workflow %s, by %s: %s", step.name, ledger.versions.name, workflow.id, by, reason)


def abort(ledger: Ledger, workflow: Workflow, *, reason: str, by: str) -> None:
    """Wish that a workflow unwinds."""
    ledger.remember(workflow, Intervention("abort", "", None, reason, by, ledger.now))
    ledger.abort(workflow, reason, by=by)


def resolve(
    ledger: Ledger, workflow: Workflow, step: Step, event: str, payload: bytes, *, reason: str | None, by: str | None
) -> None:
    """State the outcome of a step that waits for the world, or of what is parked or stuck. Raises Refused if neither is so.

    `by` None is the service itself: what it was waiting for anyhow is no operator's act.
    """
    fence = require_waiting(workflow, step.name)
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
    if not (parked or by):
        return
    ledger.note(workflow, Intervention("resolve", step.name, event, reason, by or ledger.participant, ledger.now))
    log.warning(
        "resolve of step %s of %s workflow %s with %s, by %s: %s",
        step.name, ledger.versions.name, workflow.id, event, by or ledger.participant, reason or "no reason given",
    )  # fmt: skip
    if parked:
        # due at once: no fact need come back here, so this is what makes a worker see to all that was suspended meanwhile
        ledger.park(workflow, step.name, attempt=0, due=ledger.now, error=RESOLVED)


def require_waiting(workflow: Workflow, step: str) -> Fence:
    """The fence of a step whose outcome may be stated; raises Refused if it waits for none."""
    fence = workflow.fences.get(step)
    if fence is None or fence.error == RESOLVED or not (is_parked(fence) or waits_for_the_world(fence)):
        status = fence.status if fence else "idle"
        raise Refused(f"step {step!r} of workflow {workflow.id} is {status}, not waiting for an outcome")
    return fence


def is_parked(fence: Fence) -> bool:
    """Whether the latest try of the step failed; a stuck one is parked too."""
    return fence.error is not None


def is_undoing(saga: Definition, fence: Fence) -> bool:
    """Whether what is parked or stuck is the step's compensation; `pending` tells of an action that was withdrawn."""
    if fence.status is StepStatus.STUCK:
        return fence.step not in saga.after_pivot and (fence.event is not None or fence.pending)
    return fence.status in {StepStatus.DONE, StepStatus.COMPENSATING}


def waits_for_the_world(fence: Fence) -> bool:
    """Whether its handler returned `Pending` and nobody has resolved it yet."""
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
    if fence.status is StepStatus.DONE and fence.error in (None, RESOLVED):
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
