"""`saga project`: fill a projection from a saga's topics, beside whatever else runs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.past import replaying
from saga.count import many
from saga.errors import DefinitionError, SagaError, StoreRefused
from saga.replay.projection import Projection
from saga.replay.projector import Projector, is_outage
from saga.settings import Settings
from saga.signals import asked_to_end

Result = TypeVar("Result")

PAUSE = 0.5


def project(
    target: Annotated[str, typer.Argument(metavar="MODULE:PROJECTION", help="E.g. reports:orders_by_day")],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="From the beginning, beside the live tables, then in their place.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop when everything that is there now is folded.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Fold what is there of workflows that are not whole.")] = False,
    leave_out: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC/PARTITION@OFFSET", help="Do without this record; repeatable.")
    ] = None,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Fill a projection until SIGTERM or Ctrl-C, each event exactly once. Joins no group and publishes nothing."""
    settings = Settings.load(database=database, broker=broker)
    projection = arguments.named(target, Projection)
    if (registry := assembly.registry(settings)) is not None:
        projection.contracts.use(registry)
    places = [_place(text) for text in leave_out or ()]
    patience = _Patience(ends=once)
    store = patience.until_there(lambda: assembly.store(settings))
    try:
        projector = patience.until_there(
            lambda: Projector(projection, store, assembly.broker(settings), partial=partial, leaving_out=places)
        )
        projector.pace = replaying.Pace(projector.source.size if rebuild else None)
        count = patience.until_there(projector.rebuild if rebuild else projector.start) or 0
        count += patience.until_there(projector.catch_up)
        if as_json:
            data = {"projection": projection.name, "version": projection.version, "partial": projector.is_partial}
            output.json({**data, "records": count})
        else:
            partly = ", of a history that was not asked to be whole" * projector.is_partial
            output.line(f"{projection.name} v{projection.version}: {many(count, 'record')}, up to date{partly}")
        if not once:
            _follow(projector, patience)
        projector.close()
    finally:
        store.close()


def _place(text: str) -> str:
    if re.fullmatch(r"[^/@]+/\d+@\d+", text) is None:
        raise DefinitionError(f"found --leave-out {text!r}; expected a place as it was told, e.g. checkout.events/0@17")
    return text


def _follow(projector: Projector, patience: _Patience) -> None:
    stopping = threading.Event()
    with asked_to_end(lambda _: stopping.set()):
        while not stopping.wait(PAUSE):
            patience.tried(projector.catch_up)


class _Patience:
    """Tries again whatever fails since a server is away, and tells once which; with `ends` that is the end."""

    def __init__(self, *, ends: bool) -> None:
        self.ends, self.told = ends, ""

    def until_there(self, act: Callable[[], Result]) -> Result:
        """What comes of it, however long it takes."""
        while not (found := self.tried(act)):
            time.sleep(PAUSE)
        return found[0]

    def tried(self, act: Callable[[], Result]) -> tuple[Result] | None:
        """What came of it; None if a server is away."""
        try:
            found = act()
        except SagaError as error:
            if self.ends or isinstance(error, StoreRefused) or not is_outage(error):
                raise
            if str(error) != self.told:
                output.progress(f"{error}; trying again")
            self.told = str(error)
            return None
        self.told = ""
        return (found,)
