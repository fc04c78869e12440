"""What a run found: tables and plots, written to RESULTS.md after every table, so that a run that is cut keeps what it has."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parents[1]
RESULTS, PLOTS = HERE / "RESULTS.md", HERE / "plots"
LIBRARIES = ("confluent-kafka", "psycopg", "fastavro", "pydantic", "orjson")

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass
class Table:
    """One table of one part: a heading, what was done, rows of text, and what bounds the figures.

    `plot` is the name of a file in `plots`.
    """

    title: str
    done: str
    columns: Sequence[str]
    bound: str
    rows: list[Sequence[str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    plot: str | None = None

    def add(self, *row: str) -> None:
        """A row, which is also told at once."""
        self.rows.append(row)
        stderr.print("  " + " | ".join(row))

    def fail(self, name: str, reason: BaseException) -> None:
        """A contender that gave no figure: the others go on."""
        said = str(reason).strip().splitlines() or [type(reason).__name__]
        self.rows.append((name, *["none" for _ in self.columns[1:]]))
        self.failed.append(f"{name} gave no figure: {said[-1][:300]}")
        stderr.print(f"  {name} failed: {said[-1][:300]}")

    def text(self, command: str) -> str:
        """As Markdown."""
        head = [f"## {self.title}", "", self.done, "", f"`{command}`", ""]
        rows = [self.columns, ["---", *["---:" for _ in self.columns[1:]]], *self.rows]
        body = ["| " + " | ".join(row) + " |" for row in rows]
        picture = ["", f"![{self.title}](plots/{self.plot})"] if self.plot else []
        failed = ["", *(f"- {each}" for each in self.failed)] if self.failed else []
        return "\n".join([*head, *body, *failed, *picture, "", f"**Bound by:** {self.bound}", ""])


@dataclass
class Results:
    """All tables so far, by part; parts that this run does not measure keep what an earlier one wrote."""

    versions: dict[str, str] = field(default_factory=dict)
    small: bool = False
    parts: dict[str, list[str]] = field(default_factory=dict)

    def write(self, order: Sequence[str]) -> None:
        """Write RESULTS.md, parts in this order."""
        kept = _parts(RESULTS.read_text()) if RESULTS.exists() else {}
        texts = {**kept, **{part: "\n".join(tables) for part, tables in self.parts.items()}}
        bodies = [f"<!-- part: {part} -->\n{texts[part].strip()}\n" for part in order if part in texts]
        PLOTS.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([*self._head(), *bodies]).rstrip() + "\n")

    def _head(self) -> list[str]:
        versions = {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}, **self.versions}
        return [
            "# Results",
            "",
            "Written by `make bench`; what the contenders are and how to read this is told in [README.md](README.md). Absolute",
            "figures are of one machine in one hour; ratios within a table are what to compare.",
            "",
            *(["**A trial with small counts: no figure here means anything.**", ""] if self.small else []),
            f"- last run: {datetime.now(UTC):%-d %B %Y}",
            f"- machine: {machine()}; client, PostgreSQL and Kafka (one node each) share it",
            f"- versions: {', '.join(f'{name} {number}' for name, number in versions.items())}",
            "",
        ]


def machine() -> str:
    """Cores, memory and the kernel's family; no names."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {sys.platform} {'.'.join(platform.release().split('.')[:2])}"


def _parts(text: str) -> dict[str, str]:
    _, *found = re.split(r"^<!-- part: (\w+) -->\n", text, flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


def number(value: float, digits: int = 0) -> str:
    """With thousands told apart."""
    return f"{value:,.{digits}f}"
