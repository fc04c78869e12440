"""How many there are of something, in words."""

from __future__ import annotations


def many(number: int, one: str, more: str | None = None) -> str:
    """`1 workflow`, `2 workflows`; `more` where an s is not all that is different: `many(2, "event waits", "events wait")`."""
    return f"1 {one}" if number == 1 else f"{number} {more or f'{one}s'}"
