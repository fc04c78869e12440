"""One change of a contract, and what it asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a change asks for, in order of weight.

    `COMPATIBLE`: nothing; services may be deployed in any order. `NEW_VERSION`: a new version of the saga, since workflows of
    this one are under way. `REFUSED`: no version helps, since events already written would be misread; make a new event.
    """

    COMPATIBLE = "compatible"
    NEW_VERSION = "new version"
    REFUSED = "refused"


_WEIGHT = {verdict: weight for weight, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True)
class Change:
    """What changed at `place` (an event's field, a step), told in one sentence."""

    place: str
    text: str
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def heaviest(changes: Iterable[Change]) -> Verdict:
    """The verdict on all of them."""
    return max((change.verdict for change in changes), key=_WEIGHT.__getitem__, default=Verdict.COMPATIBLE)
