"""How much may wait at a participant: beyond it nothing more is taken in, until it has fallen well below.

Nothing is dropped: what is not taken in waits on the topics. What is parked is tried again meanwhile, and the outbox published.
"""

from __future__ import annotations

from saga.participant.participant import Participant
from saga.store.port import Unit

RESUME_BELOW = 0.9


class Bounds:
    """`full` says why nothing may be taken in, None while it may."""

    def __init__(self) -> None:
        self.full: str | None = None

    def look(self, unit: Unit, participant: Participant) -> bool:
        """As `measure`, of what the store holds for a participant."""
        saga, most_unpublished, most_parked = participant.saga.name, participant.max_backlog, participant.max_parked
        return self.measure(
            unpublished=unit.backlog(saga, most_unpublished + 1),
            most_unpublished=most_unpublished,
            parked=unit.count_parked(saga, most_parked + 1),
            most_parked=most_parked,
        )

    def measure(self, *, unpublished: int, most_unpublished: int, parked: int, most_parked: int) -> bool:
        """Compare what waits with what may; answers whether it became full, or is so no more."""
        share = 1.0 if self.full is None else RESUME_BELOW
        reasons = []
        if unpublished > share * most_unpublished:
            reasons.append(_too_many(unpublished, most_unpublished, "events wait to be published"))
        if parked > share * most_parked:
            reasons.append(f"{_too_many(parked, most_parked, 'workflows are parked')}; look at: saga parked")
        before, self.full = self.full, " and ".join(reasons) or None
        return (before is None) is not (self.full is None)


def _too_many(found: int, most: int, what: str) -> str:
    """In words; beyond the bound nobody has counted on."""
    return f"more than {most} {what}" if found > most else f"{found} {what}, and it goes on at {int(RESUME_BELOW * most)}"
