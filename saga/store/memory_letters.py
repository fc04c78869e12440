"""The dead letters of the memory store."""

from __future__ import annotations

import sys
from collections.abc import Collection, MutableMapping, Sequence
from dataclasses import replace
from datetime import datetime

from saga.store.dead_letter import GIVEN_UP, DeadLetter, LetterSearch, LetterState, Place, Reason

Letters = MutableMapping[Place, DeadLetter | None]
"""By place; None is one that was forgotten, so that an overlay can hold it."""


class MemoryLetters:
    """What one transaction does about dead letters; it writes into the overlay `letters`."""

    def __init__(self, letters: Letters) -> None:
        self._letters = letters

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            if (known := self._letters.get(letter.place)) is None:
                self._letters[letter.place] = letter
            elif known.is_recalled:
                anew = {name: getattr(letter, name) for name in ("reason", "error", "workflow_id", "version", "state")}
                self._letters[letter.place] = replace(known, **anew)

    def exhume(self, places: Collection[Place]) -> None:
        self._letters.update(dict.fromkeys(places))

    def recalled(self, saga: str, lanes: Collection[int], versions: Collection[int], limit: int) -> list[DeadLetter]:
        requeued = self.letters(LetterSearch(saga=saga, state=LetterState.REQUEUED), sys.maxsize)
        found = [*requeued, *(letter for letter in self.queued(saga) if letter.version in versions)]
        return sorted((one for one in found if one.lane in lanes), key=lambda one: (one.recorded, one.place))[:limit]

    def queued(self, saga: str) -> list[DeadLetter]:
        """Those that wait for a participant which knows their version."""
        wanted = LetterSearch(saga=saga, state=LetterState.WAITING, reason=Reason.UNKNOWN_VERSION)
        return self.letters(wanted, sys.maxsize)

    def letters(self, wanted: LetterSearch, limit: int) -> list[DeadLetter]:
        found = [letter for letter in self._letters.values() if letter is not None and wanted.fits(letter)]
        return sorted(found, key=lambda one: (one.recorded, one.place))[:limit]

    def settle(self, letters: Collection[DeadLetter], state: LetterState, now: datetime, *, by: str, note: str | None) -> None:
        for one in letters:
            if (letter := self._letters.get(one.place)) is not None and letter.state is one.state:
                self._letters[one.place] = replace(letter, state=state, changed=now, changed_by=by, note=note)

    def forget(self, saga: str, before: datetime, limit: int) -> int:
        old = [
            (one.changed, one.place)
            for one in self._letters.values()
            if one is not None and one.place.saga == saga and one.state in GIVEN_UP and one.changed and one.changed < before
        ]
        going = sorted(old)[:limit]
        self.exhume([place for _, place in going])
        return len(going)
