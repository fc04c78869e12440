"""One lane as its owner holds it: the row that decides whose commits count, and how far they go."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

from saga.errors import DefinitionError, StoreReplaced

PROJECTION = "projection:"
"""What the name begins with that stands for a saga's in lanes of a projection."""


@dataclass(slots=True)
class Lane:
    """Partition `number` of all topics of a saga, as its owner holds it.

    `offsets`: topic to the next offset to be read, all before it is in the store; `batch` numbers the last unit of work that
    was committed, or may have been, `committed` the last one that surely was; `clean`: the previous owner ended in order.
    `acks` is what the owner keeps of acknowledgments, JSON to the store; `gaps` are spans never taken in; `trials`: what was
    begun, how often, as a process might die of it. `pruned`: see `forget`. `timeline`: that of the unit that claimed it.
    """

    saga: str
    number: int
    epoch: int
    batch: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    clean: bool = True
    acks: dict[str, Any] = field(default_factory=dict)
    gaps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    trials: dict[str, int] = field(default_factory=dict)
    pruned: datetime | None = None
    committed: int = 0
    timeline: str | None = None

    def is_kept(self, epoch: int, batch: int) -> bool:
        """Whether it is still its owner's in a store with this epoch and batch, which has lost nothing of it."""
        return epoch == self.epoch and batch >= self.committed

    def is_of(self, timeline: str | None) -> bool:
        """Whether it was claimed from the server that follows this timeline, unless that is not told."""
        return timeline == self.timeline or None in (timeline, self.timeline)

    @property
    def has_moved(self) -> bool:
        """Whether its row was last written on a server of another timeline, so that what an owner did since may be lost."""
        return not self.is_of(self.acks.get("timeline"))

    def require_same_server(self, timeline: str | None) -> None:
        """Raise StoreReplaced if another one has taken the database's place since the lane was claimed."""
        if not self.is_of(timeline):
            raise StoreReplaced(self.saga, self.number, self.epoch)

    def copy(self) -> Lane:
        """One that shares nothing with this."""
        acks: dict[str, Any] = orjson.loads(orjson.dumps(self.acks))
        gaps = {topic: [*spans] for topic, spans in self.gaps.items()}
        return replace(self, offsets=dict(self.offsets), acks=acks, gaps=gaps, trials=dict(self.trials))

    def forget(self, until: datetime | None) -> None:
        """Workflows closed up to then are gone: one that began before `pruned`, which never moves back, may have run here."""
        self.pruned = max(filter(None, (self.pruned, until)), default=None)


def require_author(recorded: str | None, participant: str) -> None:
    """Refuse to state anything as `participant` in the database of another one, where its worker would publish it."""
    if recorded not in {None, participant}:
        raise DefinitionError(
            f"found the database of participant {recorded!r}; expected that of {participant!r}. Name it with SAGA_DATABASE or "
            f"--database; if {recorded!r} is what it was called before, run its worker once"
        )


def require_own(lane: Lane, recorded: str | None, participant: str | None) -> None:
    """Refuse a lane that another participant's worker holds or left unclean: each would pass over what the other has read."""
    if participant is not None and recorded not in {None, participant} and not lane.clean:
        raise DefinitionError(
            f"this database has lane {lane.saga}/{lane.number} of participant {recorded!r}, whose worker runs or did not end "
            f"in order; {participant!r} needs a database or schema of its own, since two would each pass over what the other "
            f"has read. If {recorded!r} is what it was called before, let that worker end in order first"
        )
