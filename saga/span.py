"""Spans of time as people write them: `90s`, `10m`, `2h`, `7d`, or ISO 8601 (`PT2H`).

A number alone is refused, since nobody knows of what it is: 30 days that are read as 30 seconds delete what was to be kept.
So is what leads out of the calendar, or behind the present: all workflows have moved since tomorrow.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

_ISO = TypeAdapter(timedelta)
_EXPECTED = "a span such as 90s, 10m, 2h, 7d or PT2H"
_LONGEST = timedelta(days=365_000)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def span_of(text: str) -> timedelta:
    """The span that a text says; raises ValueError."""
    number, unit = text[:-1], text[-1:]
    try:
        found = _ISO.validate_python(text) if text.startswith("P") else timedelta(**{_UNITS[unit]: float(number)})
    except (KeyError, ValueError, OverflowError, ValidationError):
        found = None
    if found is None or not timedelta(0) <= found <= _LONGEST:
        raise ValueError(f"found {text!r}; expected {_EXPECTED}, {_LONGEST.days}d at most")
    return found


def spelt(span: timedelta) -> str:
    """A span as it is read: `7d`, or `P1DT10M` where one unit would be a number that nobody can read."""
    minutes, seconds = divmod(span, timedelta(minutes=1))
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = {"D": days, "H": hours, "M": minutes, "S": f"{seconds.total_seconds():.6f}".rstrip("0").rstrip(".")}
    said = [f"{number}{unit}" for unit, number in parts.items() if str(number) != "0"]
    if len(said) < 2:
        return "".join(said).lower() or "0s"
    return f"P{f'{days}D' if days else ''}T{''.join(said[bool(days) :])}"


def rough(span: timedelta) -> str:
    """The two largest units, for people: `3 d 4 h`, `2 min 5 s`; whether it is past or to come is not told."""
    seconds = int(abs(span).total_seconds())
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    said = [f"{count} {unit}" for unit, count in units if count]
    return " ".join(said[:2]) or "0 s"


def _read(value: Any) -> Any:
    try:
        span = span_of(value) if isinstance(value, str) else value
    except ValueError:
        span = None
    if not isinstance(span, timedelta) or span <= timedelta(0):
        raise PydanticCustomError("span", f"Input should be {_EXPECTED}, of more than 0s and no more than {_LONGEST.days}d")
    return span


Span = Annotated[timedelta, BeforeValidator(_read)]
"""A field of settings, longer than nothing."""
