"""How a group of commands lists them: each with the first clause of what it does, wrapped and never cut off."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from typer.core import TyperGroup


class Listing(TyperGroup):
    """A group that lists its commands in `sections`, by title; in one, as they were added, where it has none."""

    sections: ClassVar[Mapping[str, Sequence[str]]] = {}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in (self.sections or {"Commands": [*self.commands]}).items():
            with formatter.section(title):
                formatter.write_dl([(name, clause(self.commands[name].help or "")) for name in names])


def clause(text: str) -> str:
    """What a help text says up to the first colon, semicolon or full stop."""
    found = re.match(r"(.+?)[.:;](\s|$)", text, re.DOTALL)
    return " ".join((found[1] if found else text).split())
