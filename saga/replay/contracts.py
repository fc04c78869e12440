"""The contracts by which histories are read: the versions of one saga that are at hand, in the variants that gates make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from saga.contracts.message import open_gates
from saga.contracts.saga import Saga
from saga.errors import DefinitionError
from saga.protocol.gates import variant
from saga.replay.history import History

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec
    from saga.contracts.registry import Registry


class Contracts:
    """Versions of one saga; `latest` has the highest number. Raises DefinitionError for none, one twice, or several sagas."""

    def __init__(self, sagas: Sequence[Saga], registry: Registry | None = None) -> None:
        if len(names := {saga.name for saga in sagas}) != 1:
            raise DefinitionError(f"found the sagas {', '.join(sorted(names)) or 'none'}; expected versions of one")
        self.sagas, self.registry = {saga.version: saga for saga in sagas}, registry
        if len(self.sagas) != len(sagas):
            numbers = ", ".join(str(saga.version) for saga in sagas)
            raise DefinitionError(f"found versions {numbers} of saga {sagas[0].name!r}; expected each of them once")
        self.latest = self.sagas[max(self.sagas)]
        self._codecs: dict[int, AvroCodec] = {}
        self._variants: dict[tuple[int, str], Saga | None] = {}

    @property
    def name(self) -> str:
        """The saga's."""
        return self.latest.name

    def use(self, registry: Registry) -> None:
        """Ask this registry for schemas of other ids, before anything is read."""
        self.registry = registry

    def codec(self, version: int) -> AvroCodec:
        """Reads the events of a version that is at hand."""
        from saga.contracts.avro import AvroCodec

        if version not in self._codecs:
            self._codecs[version] = AvroCodec(self.sagas[version], self.registry, others=self.sagas.values())
        return self._codecs[version]

    def of(self, history: History) -> Saga | None:
        """The saga as this workflow runs it; None where its records do not agree on that, or it is not at hand."""
        kinds = {(e.message.kind.version, e.message.kind.gates) for e in history.entries.values() if e.message is not None}
        return self._variant(*kinds.pop()) if len(kinds) == 1 else None

    def _variant(self, version: int, gates: str) -> Saga | None:
        if (version, gates) not in self._variants:
            try:
                found = variant(self.sagas[version], open_gates(gates)) if version in self.sagas else None
            except (DefinitionError, ValueError):
                found = None
            self._variants[version, gates] = found
        return self._variants[version, gates]
