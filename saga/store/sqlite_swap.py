"""One SQLite file put in the place of another, under the lock that a worker of that file would hold."""

from __future__ import annotations

import glob
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from string import digits

from saga.errors import DefinitionError, StoreConflict
from saga.store.sqlite import WorkerLock
from saga.store.sqlite_tables import engine_statements


def second_names(live: Path) -> list[Path]:
    """Names beside it of the very same file: a swap that is killed between its two steps leaves one.

    Whoever opened it by such a name would write a log that nobody else reads.
    """
    place = live.resolve()
    if not place.exists() or place.stat().st_nlink == 1:
        return []
    beside = sorted(place.parent.glob(f"{glob.escape(place.name)}.*"))
    return [other for other in beside if not other.is_symlink() and other.samefile(place)]


def backup(live: Path, kept: str) -> Path:
    """Where a swap puts the file of `live`."""
    place = live.resolve()
    return place.with_name(f"{place.name}.{kept}")


def swap(live: Path, rebuilt: Path, kept: str) -> Path | None:
    """Let `rebuilt` bear the name of `live`, whose file is kept as `kept` beside it; None if there was none.

    Whoever opens `live` finds one or the other at every moment. A name that a killed swap has left, like `kept` but for the
    number at its end, is removed. Raises StoreBusy while a worker lives on either, and DefinitionError where one cannot take
    the other's place.
    """
    place = live.resolve()  # a link goes on leading to where it leads
    away = backup(live, kept)
    if away.exists():
        raise DefinitionError(f"there is a file {away} already; move it away, or swap again in a moment")
    with ExitStack() as locks:
        for file in (live, rebuilt):
            lock = WorkerLock(str(file))
            lock.take()
            locks.callback(lock.drop)
            locks.enter_context(_held(file))
        for name in second_names(place):
            if name.name.startswith(f"{place.name}.{kept.rstrip(digits)}"):  # others are not ours to remove
                name.unlink()
        if was_there := place.exists():
            os.link(place, away)
        else:
            _set_logs_aside(place, away)
        _replace(rebuilt.resolve(), place, away)
    return away if was_there else None


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """All that was committed is in the file itself, since its log bears its name, and nobody else opens it meanwhile.

    Who tries to waits, and looks then whether the name is still that of the file: see `connect`.
    """
    if not file.exists():
        yield
        return
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        try:
            with engine_statements(str(file)):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.execute("PRAGMA journal_mode = DELETE")  # not as long as anybody else has the file open
                connection.execute("BEGIN EXCLUSIVE")
        except StoreConflict as conflict:
            raise DefinitionError(f"{file} is in use; end the processes that read or write it, then swap again") from conflict
        yield


def _set_logs_aside(gone: Path, backup: Path) -> None:
    """Keep the logs of a file that is not there any more: SQLite would take them for those of whatever has its name next."""
    for log in ("-wal", "-journal"):
        if (left := Path(f"{gone}{log}")).exists():
            os.replace(left, f"{backup}{log}")
    Path(f"{gone}-shm").unlink(missing_ok=True)


def _replace(rebuilt: Path, place: Path, backup: Path) -> None:
    try:
        os.replace(rebuilt, place)
    except OSError as error:
        backup.unlink(missing_ok=True)
        raise DefinitionError(
            f"{rebuilt} cannot take the place of {place} ({error.strerror}), nothing was changed; rebuild into a file in its "
            f"folder, or point SAGA_DATABASE at the rebuilt one"
        ) from error
