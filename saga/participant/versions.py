"""The versions of one saga that a participant knows, each with its codec, and in the variants that gates make of it.

A workflow runs in the version and behind the gates with which it was started, to its end: both travel with every event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from saga.contracts.message import open_gates
from saga.contracts.saga import Saga
from saga.errors import DefinitionError, LaneStopped, LifecycleError
from saga.protocol.gates import variant
from saga.store.workflow import Workflow

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec
    from saga.contracts.registry import Registry


class Versions:
    """What `participant` knows of its saga; `latest` has the highest number. Raises DefinitionError where it owns no step."""

    def __init__(self, participant: str, given: Saga | Sequence[Saga]) -> None:
        sagas = _sagas(participant, given)
        if not sagas:
            raise DefinitionError(f"participant {participant!r} was given no saga; expected at least one version of it")
        self._sagas = {saga.version: saga for saga in sagas}
        self._variants: dict[tuple[int, str], Saga] = {}
        self._codecs: dict[int, AvroCodec] = {}
        self._registry: Registry | None = None
        self._max_event_bytes: int | None = None
        self.latest = self._sagas[max(self._sagas)]
        self._refuse_strangers(sagas)
        self._refuse_idlers(participant)

    @property
    def name(self) -> str:
        """The saga's."""
        return self.latest.name

    def __iter__(self) -> Iterator[Saga]:
        """The sagas, all gates open, the oldest version first."""
        return iter(self._sagas[number] for number in self.numbers)

    @property
    def numbers(self) -> list[int]:
        """The versions, the oldest first."""
        return sorted(self._sagas)

    def __contains__(self, version: object) -> bool:
        return version in self._sagas

    def saga_of(self, version: int) -> Saga:
        """A version, all gates open; LookupError if it is not known."""
        return self._sagas[version]

    def saga(self, version: int, gates: str = "") -> Saga:
        """A version as it is behind these open gates, written as in a header; LookupError if it is not known."""
        if (known := self._variants.get((version, gates))) is None:
            try:
                known = self._variants[version, gates] = variant(self._sagas[version], open_gates(gates))
            except DefinitionError as error:
                raise LookupError(str(error)) from error
        return known

    def of(self, workflow: Workflow) -> Saga:
        """The saga as this workflow runs it; LaneStopped where its version is no more what it was when it began."""
        try:
            return self.saga(workflow.version, workflow.gates or "")
        except LookupError:
            if workflow.version not in self:
                raise
            hint = "A version must stay as it is while workflows run in it: deploy it with the gate, then it goes on"
            why = f"workflow {workflow.id} {self.lost(workflow)}. {hint}"
            raise LaneStopped(self.name, workflow.lane, why) from None

    def lost(self, workflow: Workflow) -> str | None:
        """Why nobody here can go on with the workflow, if its version has lost the gates behind which it began."""
        try:
            self.saga(workflow.version, workflow.gates or "")
        except LookupError as error:
            return f"runs in version {workflow.version} behind the gates {workflow.gates}, and {error}"
        return None

    def codec(self, version: int) -> AvroCodec:
        """Turns the events of a version into bytes and back; loads the Avro library at first use."""
        if (codec := self._codecs.get(version)) is None:
            from saga.contracts.avro import AvroCodec

            codec = AvroCodec(self._sagas[version], self._registry, max_bytes=self._max_event_bytes)
            self._codecs[version] = codec
        return codec

    def limit(self, max_event_bytes: int) -> None:
        """Encode and decode no event that is larger."""
        self._max_event_bytes = max_event_bytes
        for codec in self._codecs.values():
            codec.max_bytes = max_event_bytes

    def use(self, registry: Registry) -> None:
        """Take the ids of schemas from this registry."""
        if self._codecs and self._registry is not registry:
            raise LifecycleError(
                f"events of saga {self.name!r} have been encoded already; say `use(registry)` before anything is started"
            )
        self._registry = registry

    def warm(self) -> None:
        """Learn the ids of all schemas; raises SchemaNotFound, RegistryUnavailable."""
        for number in self._sagas:
            self.codec(number).warm()

    def _refuse_strangers(self, sagas: Sequence[Saga]) -> None:
        if len(names := {saga.name for saga in sagas}) != 1:
            raise DefinitionError(
                f"found the sagas {', '.join(sorted(names))}; expected versions of one; embed a participant in each"
            )
        if len(self._sagas) != len(sagas):
            numbers = ", ".join(str(saga.version) for saga in sagas)
            raise DefinitionError(f"saga {self.name!r}: found versions {numbers}; expected each of them once")

    def _refuse_idlers(self, participant: str) -> None:
        if any(saga.owned(participant) for saga in self):
            return
        known = sorted(frozenset().union(*(saga.participants for saga in self)))
        raise DefinitionError(
            f"saga {self.name!r} has no participant {participant!r}; its steps are by {', '.join(known)}. "
            f"Use one of these names, or add the step to the saga schema."
        )


def _sagas(participant: str, given: object) -> list[Saga]:
    """One or several; a folder's name is not yet what is in it."""
    found: list[Any] = [*given] if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    for each in found:
        if not isinstance(each, Saga):
            raise DefinitionError(
                f"participant {participant!r} was given {each!r}; expected a Saga, or a list of its versions, as of "
                f"Saga.load('contracts')"
            )
    return found
