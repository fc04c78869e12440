"""HTML and SVG as values: what is not markup already is escaped, so that no text of a contract can become a tag.

Written by hand instead of with a template engine: pages are then typed functions, and the documents need no library.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"meta", "link", "br", "hr"})


class Markup(str):
    """Text that is markup; only `element`, `joined` and `trusted` make it."""

    __slots__ = ()


Content = str | Markup | None
Attribute = str | int | float | bool | None


def element(name: str, /, *content: Content, **attributes: Attribute) -> Markup:
    """`<name ...>content</name>`; None is left out. `class_` is `class`, and `_` inside a name becomes `-`."""
    opened = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opened if name in _VOID else f"{opened}{joined(content)}</{name}>")


def joined(content: Iterable[Content], between: str = "") -> Markup:
    """One piece of markup out of several."""
    return Markup(escape(between).join(map(_marked, (part for part in content if part is not None))))


def trusted(text: str) -> Markup:
    """Markup that was written as such, like a style sheet of our own."""
    return Markup(text)


def _marked(part: str) -> str:
    return part if isinstance(part, Markup) else escape(part, quote=False)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_number(value) if isinstance(value, float) else str(value))}"'


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
