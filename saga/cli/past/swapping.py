"""The rebuilt database put in the place of the live one, and what is left of that by a command that was cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from saga import assembly
from saga.cli import arguments, output
from saga.errors import SagaError
from saga.replay.shadow import Shadow
from saga.settings import Settings


class Swapped(NamedTuple):
    """That it was put in place, and where what was there is kept, if there was anything."""

    kept: str | None


@contextmanager
def mark(target: str, settings: Settings) -> Iterator[Shadow]:
    """What a database says of its rebuild."""
    participant, store = arguments.participant(target), assembly.store(settings)
    try:
        yield Shadow(store, participant.saga.name, participant.name)
    finally:
        store.close()


def swapped(target: str, live: Settings, rebuilt: Settings) -> Swapped:
    """Put it in place. Its mark says so before, since nobody else could tell afterwards what became of it."""
    kept = f"before_{datetime.now(UTC):%Y%m%d%H%M%S}"
    with mark(target, rebuilt) as said:
        said.swapping(assembly.database_name(rebuilt), kept)
    found = assembly.swap(live, rebuilt, kept)
    with mark(target, live) as said:
        said.drop()
    return Swapped(found)


def finished(target: str, live: Settings, rebuilt: Settings) -> Swapped | None:
    """What a command that was cut off has put in place, which is like any other database now; None if there is no such thing.

    Where a worker has lived on it since, this is another rebuild.
    """
    try:
        with mark(target, live) as said:
            if (kept := said.swapped(assembly.database_name(rebuilt))) is None:
                return None
            is_untouched = said.is_untouched()
            said.drop()
        found = assembly.kept(live, kept)
    except SagaError:  # it may be gone, or whatever else makes somebody rebuild it
        return None
    if not is_untouched:
        place = assembly.database_name(live)
        output.progress(f"an earlier rebuild was put in the place of {place} and cut off then; this is another one")
    return Swapped(found) if is_untouched else None
