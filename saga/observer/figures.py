"""The figures of an observer: all workflows of a saga, as Prometheus scrapes them."""

from __future__ import annotations

from datetime import datetime

from saga.observe.prometheus import told
from saga.observer.overview import EXCEPTIONS, UNKNOWN, Overview
from saga.observer.standing import Concern
from saga.protocol.facts import WorkflowStatus

WORKFLOWS, ALARMED = "saga_workflows", "saga_workflows_alarmed"
BEHIND = "saga_observer_age_seconds"
_STATUSES = (*(status.value for status in WorkflowStatus if status is not WorkflowStatus.ACCEPTED), EXCEPTIONS, UNKNOWN)


def exposition(found: Overview, now: datetime) -> str:
    """The workflows by status and by concern, and how long ago the topics were last read to their end.

    Nothing of workflows is told before they have been for the first time: it would be too few, and look like the truth.
    """
    common = {"saga.name": found.saga}
    if found.looked is None:
        return ""
    statuses = [(found.counts.get(status, 0), {"saga.status": status}) for status in _STATUSES]
    concerns = [(found.concerns.get(concern.value, 0), {"saga.concern": concern.value}) for concern in Concern]
    return "".join(
        (
            told(WORKFLOWS, "Workflows by how they stand", statuses, common),
            told(ALARMED, "Workflows that need a person, by why", concerns, common),
            told(BEHIND, "Since the topics were last read to their end", [((now - found.looked).total_seconds(), {})], common),
        )
    )
