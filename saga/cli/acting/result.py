"""What the action of a step ended with, for whoever states how it was undone: what to fill in, and what is stated otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saga.cli.acting.bulk import Differing
from saga.contracts.event import Event
from saga.contracts.saga import Saga
from saga.contracts.sensitive import redact
from saga.errors import ContractError, RegistryUnavailable
from saga.participant.participant import Participant
from saga.store.workflow import Workflow

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec


@dataclass(frozen=True, slots=True)
class Result:
    """The event that a step recorded, as bytes; None where it has none."""

    saga: Saga
    codec: AvroCodec
    event: str | None
    payload: bytes | None

    @classmethod
    def of(cls, participant: Participant, workflow: Workflow, step: str) -> Result:
        fence = workflow.fences[step]
        codec = participant.versions.codec(workflow.version)
        return cls(participant.versions.of(workflow), codec, fence.event, fence.result)

    @property
    def fields(self) -> Mapping[str, Any]:
        """Its fields; raises ContractError, RegistryUnavailable where they cannot be read."""
        if self.event is None or self.payload is None:
            return {}
        return self.codec.decode(self.event, self.payload)

    def differing(self, workflow: str, event: str, stated: Event) -> Iterator[Differing]:
        """The fields that both events have and that are not the same; that is for a person to judge, so it hinders nothing."""
        with suppress(ContractError, RegistryUnavailable):
            recorded, written = self.fields, self.codec.decode(event, self.codec.encode(event, stated.model_dump()))
            if not recorded or self.event is None:
                return
            before, now = redact(self.saga.contract(self.event), recorded), redact(self.saga.contract(event), written)
            for name in recorded.keys() & written.keys():
                if recorded[name] != written[name]:
                    yield Differing(workflow=workflow, field=name, stated=now[name], recorded=before[name])
