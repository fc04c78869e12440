"""Dead letters: records that could not be taken in, kept whole, so that a lane never stops for one and none is lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

import orjson

RawHeaders = tuple[tuple[str, bytes | None], ...]


class Reason(StrEnum):
    """Why a record could not be taken in."""

    HEADERS = "headers"
    KEY = "key"
    LANE = "lane"
    FOREIGN = "foreign"
    UNKNOWN_VERSION = "unknown-version"
    CONTRADICTION = "contradiction"
    PRUNED = "pruned"


class LetterState(StrEnum):
    """What is to become of a dead letter, or became of it."""

    WAITING = "waiting"
    REQUEUED = "requeued"
    DISCARDED = "discarded"
    EXPORTED = "exported"


GIVEN_UP = frozenset({LetterState.DISCARDED, LetterState.EXPORTED})
"""Nothing more is to become of these: the row is there for whoever asks, and no fact rests on it."""


class Place(NamedTuple):
    """Where a record stands: this names a dead letter."""

    saga: str
    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One record as it was consumed, and why it was kept.

    `workflow_id` and `version` are known where the headers could be read. `changed`, `changed_by` and `note` say who decided
    on its state, when and why; of one that waits, who had requeued it in vain.
    """

    place: Place
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    reason: Reason
    error: str
    recorded: datetime
    workflow_id: str | None = None
    version: int | None = None
    state: LetterState = LetterState.WAITING
    changed: datetime | None = None
    changed_by: str | None = None
    note: str | None = None

    @property
    def lane(self) -> int:
        return self.place.partition

    @property
    def is_recalled(self) -> bool:
        """Whether it is to be taken in: somebody has requeued it, or it waits for a release that knows its version."""
        is_queued = self.state is LetterState.WAITING and self.reason is Reason.UNKNOWN_VERSION
        return is_queued or self.state is LetterState.REQUEUED


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterSearch:
    """Which dead letters a person asks for; what is None does not matter."""

    saga: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    reason: Reason | None = None
    state: LetterState | None = None
    workflow_id: str | None = None

    def fits(self, letter: DeadLetter) -> bool:
        return (
            self.saga in {None, letter.place.saga}
            and self.topic in {None, letter.place.topic}
            and self.partition in {None, letter.place.partition}
            and self.offset in {None, letter.place.offset}
            and self.reason in {None, letter.reason}
            and self.state in {None, letter.state}
            and self.workflow_id in {None, letter.workflow_id}
        )


class DeadLetters(Protocol):
    """What a transaction does about dead letters."""

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep these; one that is kept already stays as it is.

        One that was to be taken in, and cannot be after all, waits again: for the new reason, since when it was kept, and with
        who had it requeued.
        """
        ...

    def exhume(self, places: Collection[Place]) -> None:
        """Forget those that are taken in now."""
        ...

    def recalled(self, saga: str, lanes: Collection[int], versions: Collection[int], limit: int) -> list[DeadLetter]:
        """Those of these lanes that are to be taken in again, as they came: requeued, or waiting for one of the `versions`."""
        ...

    def letters(self, wanted: LetterSearch, limit: int) -> list[DeadLetter]:
        """Those that fit, the oldest first."""
        ...

    def settle(self, letters: Collection[DeadLetter], state: LetterState, now: datetime, *, by: str, note: str | None) -> None:
        """Note what was decided about these, by whom and why.

        One that is in another state by now than it was seen in stays as it is: somebody else has decided about it.
        """
        ...

    def forget(self, saga: str, before: datetime, limit: int) -> int:
        """Delete those that were discarded or exported before then, the longest ago first; answers how many.

        A requeued one is still to be taken in, however long ago that was decided.
        """
        ...


def headers_text(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """Raw headers as JSON, their bytes in hexadecimal."""
    return orjson.dumps([(name, None if raw is None else raw.hex()) for name, raw in headers]).decode()


def headers_of(text: str) -> RawHeaders:
    """What `headers_text` wrote."""
    return tuple((name, None if raw is None else bytes.fromhex(raw)) for name, raw in orjson.loads(text))
