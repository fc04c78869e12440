"""How commands speak: results to stdout, progress and errors to stderr; tables on a terminal, plain columns elsewhere.

Whoever asked for JSON gets a failure in it, too: a program reads stdout.

rich is loaded where a terminal is looked at only, and honours NO_COLOR.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer

from saga.errors import SagaError
from saga.text import in_a_line, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Item = TypeVar("Item")
MANY, NARROWEST, UNBOUNDED = 20, 20, 10_000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_STYLES: Mapping[str, str] = {
    **dict.fromkeys(("ok", "done", "completed", "created"), "green"),
    **dict.fromkeys(("warn", "running", "compensating", "create", "failed"), "yellow"),
    **dict.fromkeys(("fail", "stuck", "refuse"), "bold red"),
    **dict.fromkeys(("skipped", "compensated"), "cyan"),
}


@dataclass(slots=True)
class _Answer:
    """What a command owes to whoever asked: JSON or not, whether that was told, and what is wrong."""

    as_json: bool
    told: bool = False
    failure: dict[str, str] | None = None


_answer: ContextVar[_Answer] = ContextVar("answer")


@contextmanager
def answering(*, as_json: bool) -> Iterator[None]:
    """The block answers with a result; where it fails before that, with `{"error": {"type", "message"}}` if JSON is wanted."""
    answer = _Answer(as_json)
    token = _answer.set(answer)
    try:
        yield
    finally:
        _answer.reset(token)
        if answer.failure is not None and answer.as_json and not answer.told:
            json_line({"error": answer.failure})


def json(data: Any) -> None:
    """Print data, dataclasses and moments included."""
    if (answer := _answer.get(None)) is not None:
        answer.told = True
    typer.echo(orjson.dumps(data, default=plain, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def json_line(data: Any) -> None:
    """Print data on a line of its own, for a reader that takes one after the other."""
    typer.echo(orjson.dumps(data, default=plain))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print rows of text; a cell that is a status has its colour on a terminal."""
    rows = [[*map(in_a_line, row)] for row in rows]
    if on_terminal():
        _rich_table([*map(_writable, headers)], [[*map(_writable, row)] for row in rows], _writable(title))
        return
    if title:
        typer.echo(title)
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def line(text: str, *, style: str = "") -> None:
    """Print one line, wrapped by nobody, and no other, whatever is in it; `style` counts on a terminal only."""
    if on_terminal() and style:
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(_writable(in_a_line(text)), style=style), soft_wrap=True)
    else:
        typer.echo(in_a_line(text))


def lines(text: str) -> None:
    """Print a text of several lines, in which nobody else's words begin one."""
    for one in text.split("\n"):
        line(one)


def command(verb: str, *names: str, options: str = "") -> str:
    """A command as a shell takes it; a name that begins with a dash would be taken for an option without `--`."""
    said, given = " ".join(map(quote, names)), [options] if options else []
    dashed = any(name.startswith("-") for name in names)
    return " ".join(["saga", verb, *given, "--", said] if dashed else ["saga", verb, said, *given])


def progress(text: str) -> None:
    """Tell on stderr what is being done."""
    typer.echo(in_a_line(text), err=True)


def more(limit: int) -> None:
    """Tell on stderr that a list ends where it was to, and not for want of more."""
    progress(f"these are the first {limit}; there are more: see --limit")


def error(found: BaseException | str, *, debug: bool = False) -> None:
    """Tell on stderr what is wrong, in one line unless the traceback is wanted."""
    if debug and isinstance(found, BaseException):
        typer.echo("".join(traceback.format_exception(found)), err=True)
    failed(found)
    typer.echo(f"error: {in_a_line(_folded(found))}", err=True)


def failed(found: BaseException | str) -> None:
    """Remember what is wrong, for whoever asked for JSON."""
    if (answer := _answer.get(None)) is not None:
        kind = type(found) if isinstance(found, BaseException) else SagaError
        answer.failure = {"type": kind.__name__, "message": _folded(found)}


def attended() -> bool:
    """Whether a person could answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(question: str) -> bool:
    """Ask the person at the terminal; where nobody sits there, the command itself is the answer."""
    return not attended() or typer.confirm(question, err=True)


def counted(items: Sequence[Item], title: str) -> Iterable[Item]:
    """The items, with a bar on stderr while a person waits for many."""
    if len(items) < MANY or not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, title, console=Console(stderr=True), transient=True)


def on_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty()


def moment(when: datetime | None) -> str:
    """A moment in UTC to the second; empty for none."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if when else ""


def _folded(found: BaseException | str) -> str:
    return " ".join(str(found).split())


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """What is too wide for the terminal is told row by row, so that no word is broken."""
    from rich.console import Console

    console, grid = Console(), _grid(headers, rows, title)
    console.width = max(console.width, NARROWEST)  # a terminal that does not know its width says 0, and nothing would be told
    unbroken = console.measure(grid, options=console.options.update(max_width=UNBOUNDED)).minimum
    if unbroken <= console.width:
        console.print(grid)
    else:
        _one_by_one(console, headers, rows, title)


def _grid(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Table:
    """The columns in which something stands."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    filled = [number for number in range(len(headers)) if number == 0 or any(row[number] for row in rows)]
    grid = Table(
        title=title or None, title_justify="left", title_style="bold",
        box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    for number in filled:
        # an offset that is cut off helps nobody, and an id is to be copied
        grid.add_column(headers[number], overflow="fold", no_wrap=headers[number] == "workflow")
    for row in rows:
        grid.add_row(*(_styled(row[number]) for number in filled))
    return grid


def _one_by_one(console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """Each row as its first cell, and below it what else is known, with its name."""
    from rich.padding import Padding
    from rich.text import Text

    if title:
        console.print(Text(title, style="bold"))
    for row in rows:
        console.print(_styled(row[0]), style="bold", soft_wrap=True)
        told = [
            Text.assemble((f"{name} ", "dim"), _styled(cell)) for name, cell in zip(headers[1:], row[1:], strict=True) if cell
        ]
        console.print(Padding(Text("  ").join(told), (0, 0, 0, 2)))


def _styled(cell: str) -> Text:
    from rich.text import Text

    return Text(cell, style=_STYLES.get(cell, ""))


def _writable(text: str) -> str:
    """The text with what the terminal's encoding lacks as escapes, since rich ends at the first letter of that kind."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
