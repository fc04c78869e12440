"""How a group of commands lists them, each with the first clause of what it does, and loads no more of them than it needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_group


class Listing(TyperGroup):
    """A group that lists its commands in `sections`, by title; in one, as they were added, where it has none."""

    sections: ClassVar[Mapping[str, Iterable[str]]] = {}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in (self.sections or {"Commands": [*self.commands]}).items():
            with formatter.section(title):
                formatter.write_dl([(name, clause(self.commands[name].help or "")) for name in names])


class Loaded(Mapping[str, Any]):
    """Commands by name, each loaded from its place, `module:function` or `module:group`, when it is first asked for.

    Most processes run one command, and all of them together take longer to load than the library.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places, self._loaded = places, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._places[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _load(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    alone = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name)(found)
    return get_group(alone).commands[name]


def clause(text: str) -> str:
    """What a help text says up to the first colon, semicolon or full stop."""
    found = re.match(r"(.+?)[.:;](\s|$)", text, re.DOTALL)
    return " ".join((found[1] if found else text).split())
