"""`saga observe`: a page about all workflows of a saga, out of its topics, for whoever is to see how they are."""

from __future__ import annotations

from typing import Annotated

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.past import replaying
from saga.clock import SystemClock
from saga.count import many
from saga.errors import BrokerError
from saga.observe.serving import listening
from saga.observer.observer import KEEP, Observer
from saga.observer.overview import Overview
from saga.observer.site import answer
from saga.settings import Settings

EVERY = 1.0
ADDRESS = "127.0.0.1:8642"


def observe(
    saga: Annotated[
        str | None, typer.Option("--saga", metavar="NAME", help="Whose topics; by default the saga of the contract folder.")
    ] = None,
    schemas: replaying.Schemas = None,
    registry: replaying.RegistryUrl = None,
    version: replaying.Versions = None,
    broker: arguments.BrokerServers = None,
    at: Annotated[
        str, typer.Option("--at", metavar="HOST:PORT", help="Where to answer; whoever reaches it sees what is not sensitive.")
    ] = ADDRESS,
    idle: Annotated[
        str, typer.Option("--idle", metavar="SPAN", help="A workflow of which nothing was heard for so long needs a person.")
    ] = "1h",
    keep: Annotated[
        int, typer.Option("--keep", min=0, metavar="N", help="Of the workflows that ended, show the last ones; count the rest.")
    ] = KEEP,
    once: Annotated[
        bool, typer.Option("--once", help="Tell what is there now, and end; exits 1 if a workflow needs a person.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Show all workflows of a saga in a browser: how they stand, who is awaited, what needs a person. Until Ctrl-C.

    Reads only, and joins no group; nobody's progress depends on it. What services know beside the topics it does not see.
    """
    settings = Settings.load(registry=registry, broker=broker)
    contracts = replaying.contracts(settings, saga, schemas, version)
    span = arguments.span(idle, "--idle")
    observer = Observer(contracts, assembly.broker(settings), SystemClock(), idle=span, keep=keep)
    if once:
        observer.look()
        _tell(observer.overview(), as_json=as_json)
        return
    with listening(lambda method, path: answer(observer, method, path), at, "the page") as url:
        output.json_line({"url": url, "saga": contracts.name}) if as_json else output.line(
            f"{contracts.name} is shown at {url}/"
        )
        output.progress("Ctrl-C ends it")
        _go_on(observer)


def _go_on(observer: Observer) -> None:
    """Look again and again; what fails is told once, here and on the page, until it is over."""
    trouble = None
    try:
        while True:
            try:
                observer.look()
            except BrokerError as error:
                if str(error) != trouble:
                    output.progress(f"{error}; trying again")
            trouble = observer.trouble
            observer.clock.sleep(EVERY)
    except KeyboardInterrupt:
        pass


def _tell(told: Overview, *, as_json: bool) -> None:
    if as_json:
        output.json(told)
    else:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(told.counts.items()) if count)
        output.line(f"{told.saga}: {counts or 'no workflow'}")
        if told.waiting:
            headers = ["awaited of", "what", "workflows", "overdue", "the longest since"]
            rows = [[w.participant, w.what, str(w.workflows), str(w.overdue), output.moment(w.since)] for w in told.waiting]
            output.table(headers, rows)
        if told.alarms:
            needing = [[a.workflow, a.concern.value, a.text, output.moment(a.since)] for a in told.alarms]
            output.table(["workflow", "needs a person", "why", "since"], needing)
        if (more := told.alarmed - len(told.alarms)) > 0:
            output.progress(f"and {many(more, 'more workflow')}")
        for where in told.aged:
            output.progress(f"{where}: older records have aged out")
    if told.alarmed:
        raise typer.Exit(1)
