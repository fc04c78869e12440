"""What happens when time is up: for a step without an outcome, and for the whole workflow.

A timeout decides nothing by itself. It is a wish to unwind, stated by whoever waited, and the owner of the pivot decides
whether it came in time; after a pivot it is only an alarm, and so is an unwinding that lasts too long.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from saga.participant.ledger import Ledger
from saga.protocol.awaiting import awaited, told
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.store.workflow import Workflow

log = logging.getLogger("saga.timers")


@dataclass(frozen=True, slots=True)
class Late:
    """A workflow here, of which a timeout or the deadline has passed at a moment before which nothing is left unread."""

    workflow_id: str
    moment: datetime


def expire(ledger: Ledger, workflow: Workflow, moment: datetime) -> None:
    """See to every timeout that has passed then: wish to unwind, or, where there is no way back, raise the alarm."""
    reasons = [_overdue(ledger, workflow, step) for step in ledger.expire(workflow, moment)]
    if _deadline_passed(ledger, workflow, moment):
        workflow.error = f"the deadline passed at {workflow.deadline:%F %T %Z}"
        ledger.touch(workflow)
        reasons.append(workflow.error)
    _watch_the_unwinding(ledger, workflow, moment)
    if not reasons:
        return
    log.warning("workflow %s: %s", workflow.id, "; ".join(reasons))
    if workflow.status is not WorkflowStatus.FAILED and not _is_past_pivot(ledger, workflow):
        ledger.abort(workflow, "; ".join(reasons))


def _watch_the_unwinding(ledger: Ledger, workflow: Workflow, moment: datetime) -> None:
    """An unwinding that lasts too long is an alarm, raised once by the initiator, and decides nothing."""
    if workflow.unwind_by is None or workflow.unwind_by > moment:
        return
    workflow.unwind_by = None
    ledger.touch(workflow)
    if workflow.status is not WorkflowStatus.FAILED:
        return
    saga = ledger.saga(workflow)
    waits = awaited(saga, ledger.participant, workflow.facts, workflow.fences)
    others = frozenset[str]().union(*waits.values())
    whom = told(saga, others, workflow.facts) or f"here: {', '.join(waits) or 'its end'}"
    alarm = f"unwinding has lasted for more than {saga.unwind}; awaited: {whom}"
    workflow.error = f"{workflow.error}; {alarm}" if workflow.error else alarm
    log.error("workflow %s: %s", workflow.id, alarm)


def _overdue(ledger: Ledger, workflow: Workflow, step: str) -> str:
    saga = ledger.saga(workflow)
    reason = f"step {step} had no outcome in {saga[step].timeout}"
    if step in saga.after_pivot and workflow.fences[step].status is not StepStatus.STUCK:
        ledger.stick(workflow, saga[step], reason)
    return reason


def _deadline_passed(ledger: Ledger, workflow: Workflow, moment: datetime) -> bool:
    """The deadline is the initiator's to watch; others carry it for information."""
    mine = ledger.saga(workflow).initiator == ledger.participant and workflow.error is None
    return mine and workflow.deadline is not None and workflow.deadline <= moment


def _is_past_pivot(ledger: Ledger, workflow: Workflow) -> bool:
    done = {received.step for received in workflow.inbox.values() if received.status is FactStatus.DONE}
    done.update(name for name, fence in workflow.fences.items() if fence.status is StepStatus.DONE)
    return bool(done & ledger.saga(workflow).from_pivot)
