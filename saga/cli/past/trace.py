"""`saga trace`: one workflow over all services, out of the topics: what happened, in causal order, and who is awaited."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from saga.cli import arguments, output
from saga.cli.past import replaying
from saga.clock import SystemClock
from saga.count import many
from saga.errors import BrokerError, DefinitionError
from saga.protocol.facts import WorkflowStatus
from saga.replay import drawing
from saga.replay.contracts import Contracts
from saga.replay.following import Following
from saga.replay.gathering import histories
from saga.replay.history import History
from saga.replay.recording import RecordingSource
from saga.replay.source import TopicSource
from saga.replay.timeline import Awaited, Moment, Timeline, timeline
from saga.settings import Settings
from saga.span import rough

PAUSE = 0.5
_STYLES = {
    WorkflowStatus.COMPLETED: "bold green",
    WorkflowStatus.COMPENSATED: "bold cyan",
    WorkflowStatus.FAILED: "bold yellow",
}


def trace(
    workflow_id: Annotated[str, typer.Argument(metavar="ID", help="The workflow's id, which is the Kafka key.")],
    saga: Annotated[
        str | None,
        typer.Option("--saga", metavar="NAME", help="Whose topics; by default the saga of the contract folder, or of FILE."),
    ] = None,
    schemas: replaying.Schemas = None,
    registry: replaying.RegistryUrl = None,
    version: replaying.Versions = None,
    file: replaying.File = None,
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a sequence diagram.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print what comes, until the workflow has ended or Ctrl-C; --json: a line each.")
    ] = False,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Tell one workflow over all services, out of the saga's topics. Reads only, and joins no group."""
    settings = Settings.load(registry=registry, broker=broker)
    recorded = RecordingSource(file).saga if file is not None else None
    contracts = replaying.contracts(settings, saga or recorded, schemas, version)
    source = replaying.source(settings, contracts.name, file)
    if follow:
        if not isinstance(source, TopicSource) or as_mermaid:
            raise DefinitionError("--follow reads topics and prints lines; leave --from and --mermaid out")
        _follow(contracts, Following(source, [source.lane_of(workflow_id)]), workflow_id, as_json=as_json)
        return
    lanes = [source.lane_of(workflow_id)] if isinstance(source, TopicSource) else None
    found = History(contracts.name, workflow_id)
    for history in histories(source, contracts, wanted=[workflow_id], lanes=lanes, pace=replaying.Pace(source.size)):
        for entry in history.entries.values():
            found.add(entry)
        found.again += history.again
        found.strangers += history.strangers
    if not found.entries:
        _refuse(workflow_id, contracts.name, source.aged)
    told = timeline(contracts, found)
    if as_json:
        output.json(told)
    elif as_mermaid:
        output.lines(drawing.mermaid(told))
    else:
        _tell(told, SystemClock().now())


def _follow(contracts: Contracts, following: Following, workflow_id: str, *, as_json: bool) -> None:
    """Tell each record once, in the order of their causes among those that came together."""
    found, told, clock = History(contracts.name, workflow_id), set[str](), SystemClock()
    now = timeline(contracts, found)
    if not as_json:
        output.progress(f"following {contracts.name} {workflow_id}; Ctrl-C ends it")
    while True:
        try:
            for entry in following.look():
                if entry.workflow == workflow_id:
                    found.add(entry)
            now = timeline(contracts, found)
            for moment in now.moments:
                if moment.id not in told:
                    told.add(moment.id)
                    output.json_line(moment) if as_json else output.line(_moment(moment))
            if now.state is not None and now.state.closed is not None:
                break
            clock.sleep(PAUSE)
        except BrokerError as error:
            if not error.retriable:
                raise
            output.progress(f"{error}; trying again")
            clock.sleep(PAUSE)
        except KeyboardInterrupt:
            break
    if not as_json:
        output.progress(_headline(now, clock.now()))


def _moment(moment: Moment) -> str:
    return f"{moment.time:%H:%M:%S.%f}"[:-3] + f"  {moment.source}  {moment.words}  (#{moment.sequence})"


def _refuse(workflow_id: str, saga: str, aged: object) -> None:
    why = "its records may have aged out: the topics do not begin at their beginning" if aged else "check the id"
    output.error(f"the topics of saga {saga!r} hold nothing about workflow {workflow_id!r}; {why}")
    raise typer.Exit(1)


def _tell(told: Timeline, now: datetime) -> None:
    output.line(_headline(told, now), style=_STYLES.get(told.state.status, "bold") if told.state else "bold red")
    for hole in told.holes:
        output.line(f"  ! not whole: {hole}", style="bold red")
    for notice in told.notices:
        output.line(f"  ! {notice}", style="yellow")
    for awaited in told.awaited:
        output.line(f"  awaits {awaited.participant}: {awaited.what}{_until(awaited, now)}")
    output.line("")
    for line in drawing.tree(told):
        output.line(f"  {line}")


def _headline(told: Timeline, now: datetime) -> str:
    name, count = f"{told.saga} {told.workflow}", len(told.moments)
    if (stands := told.state) is None:
        return f"{name}: UNKNOWN, {many(count, 'record')}"
    status = "FAILED, unwinding" if stands.status is WorkflowStatus.FAILED else stands.status.value.upper()
    status += " WITH EXCEPTIONS" * stands.exceptions
    span = f"after {_span(stands.opened, stands.closed)}" if stands.closed else f"open for {_span(stands.opened, now)}"
    services = len({moment.source for moment in told.moments})
    said = f"{many(count, 'fact')} of {many(services, 'service')}"
    return f"{told.saga} v{stands.version} {told.workflow}: {status} {span}, {said}"


def _span(begin: datetime, end: datetime) -> str:
    seconds = (end - begin).total_seconds()
    return f"{seconds:.3f} s" if seconds < 1 else rough(end - begin)


def _until(awaited: Awaited, now: datetime) -> str:
    if awaited.until is None:
        return ""
    if awaited.until < now:
        return f", overdue since {output.moment(awaited.until)}"
    return f", until {output.moment(awaited.until)}"
