"""Texts that may be anything, such as what an exception says of a file whose name is no text, in a form that can be kept."""

from __future__ import annotations

import re
from typing import Any

_UNSEEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What begins another line, gives a terminal orders, or has letters stand in another order than they are."""


def spelt_out(text: str) -> str:
    """The text with what UTF-8 lacks as escapes, so that it can be written."""
    return text.encode(errors="backslashreplace").decode()


def in_a_line(text: str) -> str:
    """The text with whatever is more than a letter in a line as escapes, since ids and errors may come from anybody."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def storable(text: str) -> str:
    """The text as any database takes it: without NUL as well."""
    return spelt_out(text.replace("\0", "\\0"))


def storable_if_any(text: str | None) -> str | None:
    """As `storable`; None stays what it is."""
    return None if text is None else storable(text)


def plain(value: Any) -> str:
    """What JSON has no word for: bytes as hexadecimal digits, the rest as its own text."""
    return value.hex() if isinstance(value, bytes) else str(value)
