"""Tells on stderr how far a run is: moving bars on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from demo.books import Books, Standing

LIVE, PLAIN = 0.15, 2.0


class Progress:
    """Shows how many of `total` orders are sent, confirmed and cancelled. `show` may be called as often as one likes."""

    def __init__(self, books: Books, total: int, console: Console) -> None:
        self.books, self.total, self.console = books, total, console
        self._next = 0.0
        self._bars = Bars(
            TextColumn("  {task.description:<10}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        names = ("sent", "confirmed", "cancelled")
        self._tasks = {name: self._bars.add_task(name, total=self.total, note="") for name in names}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def show(self, sent: int, *, last: bool = False) -> None:
        """Look at the books and show them, unless that was done a moment ago; `last` shows them in any case."""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + (LIVE if self.console.is_terminal else PLAIN)
        standing = self.books.standing()
        if self.console.is_terminal:
            self._move(sent, standing)
        else:
            self.console.print(f"sent {sent}/{self.total}, {self._says(standing)}", highlight=False, soft_wrap=True)

    def _move(self, sent: int, standing: Standing) -> None:
        self._bars.update(self._tasks["sent"], completed=sent)
        self._bars.update(self._tasks["confirmed"], completed=standing.confirmed)
        self._bars.update(self._tasks["cancelled"], completed=standing.cancelled, note=_open(standing))

    def _says(self, standing: Standing) -> str:
        return f"confirmed {standing.confirmed}, cancelled {standing.cancelled}; {_open(standing)}"


def _open(standing: Standing) -> str:
    return "open " + ", ".join(f"{service} {count}" for service, count in standing.open.items())
