"""What participants acknowledge: spans of one partition of a topic, with exceptions, and what they add up to. Pure.

Spans form a set: however often an acknowledgment arrives, and in whatever order, they add up to the same. Only an offset
that was parked is held back, and once it is acknowledged no older record takes that back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from operator import itemgetter
from typing import Any, NamedTuple, Self

RECORD = "saga.Acknowledged"

Span = tuple[int, int]
"""First offset, and the first one after it."""


class Reason(StrEnum):
    """Why an offset of a span is an exception; only a parked one is not handled yet."""

    DUPLICATE = "duplicate"
    REFUSED_LATE = "refused-late"
    PARKED = "parked"


class Acknowledged(NamedTuple):
    """One record of the acks topic: `participant` has taken in `begin` up to, not including, `end` of a topic's partition."""

    participant: str
    topic: str
    begin: int
    end: int
    topic_id: str | None = None
    exceptions: tuple[tuple[int, str], ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether it speaks of offsets that there can be, and of no exception elsewhere."""
        return 0 <= self.begin <= self.end and all(self.begin <= offset < self.end for offset, _ in self.exceptions)

    @property
    def parked(self) -> frozenset[int]:
        return frozenset(offset for offset, reason in self.exceptions if reason == Reason.PARKED)

    def fields(self) -> dict[str, Any]:
        """As the Avro record has them."""
        exceptions = [{"offset": offset, "reason": str(reason)} for offset, reason in sorted(self.exceptions)]
        return {**self._asdict(), "exceptions": exceptions}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        exceptions = tuple((one["offset"], one["reason"]) for one in fields["exceptions"])
        return cls(**{**fields, "exceptions": exceptions})


class Spans:
    """A set of offsets as sorted spans that do not touch."""

    __slots__ = ("spans",)

    def __init__(self, spans: Iterable[Iterable[int]] = ()) -> None:
        self.spans: list[Span] = []
        for begin, end in spans:
            self.add(begin, end)

    def add(self, begin: int, end: int) -> None:
        if begin >= end:
            return
        first = bisect_left(self.spans, begin, key=itemgetter(1))
        behind = bisect_right(self.spans, end, lo=first, key=itemgetter(0))
        if first < behind:
            begin, end = min(begin, self.spans[first][0]), max(end, self.spans[behind - 1][1])
        self.spans[first:behind] = [(begin, end)]

    @property
    def end(self) -> int:
        """The first offset behind all spans."""
        return self.spans[-1][1] if self.spans else 0

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self.spans, (offset, 1 << 63)) - 1
        return index >= 0 and offset < self.spans[index][1]

    @property
    def unbroken(self) -> int:
        """The first offset that is missing."""
        return self.spans[0][1] if self.spans and self.spans[0][0] == 0 else 0

    def gaps(self) -> list[Span]:
        """What is missing before `end`."""
        edges = [0, *(edge for span in self.spans for edge in span)]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False) if a < b]


def without(begin: int, end: int, holes: Collection[int]) -> Iterator[Span]:
    """The span `begin` to `end` without some offsets."""
    for hole in sorted(hole for hole in holes if begin <= hole < end):
        if begin < hole:
            yield begin, hole
        begin = hole + 1
    if begin < end:
        yield begin, end


class Taken:
    """What one participant has acknowledged of one topic's partition, and which offsets of it wait parked."""

    __slots__ = ("parked", "spans")

    def __init__(self, spans: Iterable[Iterable[int]] = (), parked: Iterable[int] = ()) -> None:
        self.spans, self.parked = Spans(spans), set(parked)

    def take(self, begin: int, end: int, parked: Collection[int] = ()) -> None:
        for span in without(begin, end, parked):
            self.spans.add(*span)
            self._unpark(range(*span))
        self.parked.update(offset for offset in parked if offset not in self.spans)

    def _unpark(self, taken: range) -> None:
        """Looks at whichever is less, since thousands may be parked, and a span may be of millions."""
        few = len(taken) < len(self.parked)
        self.parked.difference_update(taken if few else [offset for offset in self.parked if offset in taken])


class Acknowledgments:
    """What all participants have acknowledged of the topics of one lane; small enough to be one JSON text."""

    def __init__(self, known: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None) -> None:
        self._taken = {
            (participant, topic): Taken(one["spans"], one.get("parked", ()))
            for participant, topics in (known or {}).items()
            for topic, one in topics.items()
        }

    def take(self, record: Acknowledged) -> None:
        """Add what a record says; any number of times, in any order."""
        taken = self._taken.setdefault((record.participant, record.topic), Taken())
        taken.take(record.begin, record.end, record.parked)

    def of(self, participant: str, topic: str) -> Taken:
        """What this participant has acknowledged of the topic; nothing, if it never spoke."""
        return self._taken.get((participant, topic)) or Taken()

    def missing(self, audience: Iterable[str], topic: str, offset: int) -> list[str]:
        """Who of the audience has not acknowledged this offset."""
        return [name for name in audience if offset not in self.of(name, topic).spans]

    def end(self, audience: Iterable[str], topic: str) -> int:
        """No offset from here on is acknowledged by all of the audience."""
        return min((self.of(name, topic).spans.end for name in audience), default=1 << 63)

    def unbroken(self, audience: Iterable[str], topic: str) -> int:
        """All offsets before this one are acknowledged by all of the audience."""
        return min((self.of(name, topic).spans.unbroken for name in audience), default=1 << 63)

    def forget(self, topic: str) -> None:
        """The topic begins anew: what was said of it is of its predecessor."""
        self._taken = {key: taken for key, taken in self._taken.items() if key[1] != topic}

    def json(self) -> dict[str, dict[str, dict[str, Any]]]:
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for (participant, topic), taken in sorted(self._taken.items()):
            parked = {"parked": sorted(taken.parked)} if taken.parked else {}
            found.setdefault(participant, {})[topic] = {"spans": taken.spans.spans, **parked}
        return found
