"""Looking for what no database is asked for: more is read as long as too little of it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Row = TypeVar("Row")
Found = TypeVar("Found")

_FACTOR = 4


def first(
    wanted: int, read: Callable[[int], Sequence[Row]], fitting: Callable[[Sequence[Row]], Iterable[Found]], *, at_first: int
) -> list[Found]:
    """The first that are `fitting` of the rows that `read` gives, as many as `wanted` if there are; it takes a limit."""
    limit = max(wanted, at_first)
    while True:
        rows = read(limit)
        found = [*fitting(rows)][:wanted]
        if len(found) == wanted or len(rows) < limit:
            return found
        limit *= _FACTOR
