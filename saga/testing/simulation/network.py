"""What goes wrong between the processes of a fleet and their broker."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from saga.store.memory import MemoryStore
from saga.transport.memory import MemoryConsumer
from saga.transport.port import Outbound

NOT_DELIVERED = "a record was not delivered, and later ones were"
FOLLOWED = "an event was not delivered while another of its workflow was to follow it on its topic"


class Network:
    """Of one saga's fleet: `consumers` answers those of a participant's processes, `seen` counts rare states.

    `refused` are those whose next record the broker will refuse; with `overtakes` it refuses the next event, whosever it is,
    that another one of its workflow is to follow.
    """

    def __init__(
        self,
        saga: str,
        stores: Mapping[str, MemoryStore],
        consumers: Callable[[str], list[MemoryConsumer]],
        seen: Counter[str],
    ) -> None:
        self.saga, self.stores, self.consumers, self.seen = saga, stores, consumers, seen
        self.refused: set[str] = set()
        self.overtakes = False
        self._cut: set[str] = set()
        self._held: dict[str, set[str]] = defaultdict(set)

    def hold(self, name: str, topic: str) -> None:
        """Nothing of this topic reaches the participant for now, though the others do."""
        self._held[name] = {topic}
        for consumer in self.consumers(name):
            consumer.held = {topic}

    def cut(self, name: str) -> None:
        """The participant cannot reach the broker."""
        self._cut.add(name)
        for consumer in self.consumers(name):
            consumer.unreachable = True

    def heal(self, name: str) -> None:
        """It has the broker and all topics again."""
        self._cut.discard(name)
        self._held.pop(name, None)
        self.admit(name)

    def admit(self, name: str) -> None:
        """A process of it is new: it is no better off than the one before."""
        for consumer in self.consumers(name):
            consumer.held = {*self._held[name]}
            consumer.unreachable = name in self._cut

    def refuses(self, outbound: Outbound) -> str | None:
        """Why the broker does not take this record, if so."""
        source = str(next((value for key, value in outbound.headers if key == "ce_source"), ""))
        if source in self._cut:
            return "simulated: cut off"
        if source in self.refused:
            self.refused.discard(source)
            self.seen[NOT_DELIVERED] += 1
            return "simulated: refused"
        if self.overtakes and self._is_followed(source, outbound):
            self.overtakes = False
            self.seen[FOLLOWED] += 1
            return "simulated: refused"
        return None

    def _is_followed(self, source: str, outbound: Outbound) -> bool:
        """Whether it is an event behind which its participant has another one of the workflow for the same topic."""
        rows = self.stores[source]._tables.rows(self.saga, (outbound.key or b"").decode())
        return outbound.token in [row.id for row in rows if row.offset is None and row.topic == outbound.topic][:-1]
