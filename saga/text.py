"""Texts that may be anything, such as what an exception says of a file whose name is no text, in a form that can be kept."""

from __future__ import annotations

from typing import Any


def spelt_out(text: str) -> str:
    """The text with what UTF-8 lacks as escapes, so that it can be written."""
    return text.encode(errors="backslashreplace").decode()


def storable(text: str) -> str:
    """The text as any database takes it: without NUL as well."""
    return spelt_out(text.replace("\0", "\\0"))


def storable_if_any(text: str | None) -> str | None:
    """As `storable`; None stays what it is."""
    return None if text is None else storable(text)


def plain(value: Any) -> str:
    """What JSON has no word for: bytes as hexadecimal digits, the rest as its own text."""
    return value.hex() if isinstance(value, bytes) else str(value)
