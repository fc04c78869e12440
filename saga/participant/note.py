"""What an operator did: a line in the workflow's own row, and a record for everybody else, on which nobody acts.

An abort and a skip are told by their own facts; a retry and a resolution state nothing that names a person, so they leave a
note (`saga.OperatorActed`) beside them. It needs no contract of the saga's, so it can be left from a database alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from saga.contracts.message import Kind
from saga.participant.statement import statement
from saga.protocol.facts import FactStatus
from saga.store.outbox import OutboxRow
from saga.store.workflow import Intervention, Workflow

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

KEPT = 50
RECORD = "saga.OperatorActed"


def remember(workflow: Workflow, act: Intervention) -> None:
    """Keep it in the workflow's row, the latest `KEPT` of them."""
    workflow.interventions = (*workflow.interventions, act)[-KEPT:]


@dataclass(frozen=True, slots=True)
class Notes:
    """Writes notes of `participant` about workflows of `saga`; any codec that knows the control records will do."""

    saga: str
    participant: str
    codec: AvroCodec

    def write(self, workflow: Workflow, act: Intervention, now: datetime) -> OutboxRow:
        """The note as a row of the outbox; the workflow's row is to be saved with it."""
        fields = {"verb": act.verb, "step": act.step, "event": act.event, "reason": act.reason, "requested_by": act.by}
        gates = workflow.gates or ""
        kind = Kind(RECORD, self.participant, self.saga, workflow.version, act.step, FactStatus.NOTE, gates=gates)
        return statement(kind, workflow, self.codec.encode(RECORD, fields), now, index=workflow.sequence + 1)
