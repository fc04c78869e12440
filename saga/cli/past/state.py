"""`saga state`: how all workflows of a saga stand, as records of the saga's own schema, out of its topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from saga.cli import arguments, output
from saga.cli.past import replaying
from saga.contracts.saga import Saga
from saga.count import many
from saga.errors import DefinitionError
from saga.protocol.facts import StepStatus
from saga.replay.contracts import Contracts
from saga.replay.gathering import histories
from saga.replay.holes import holes
from saga.replay.source import Source
from saga.replay.state import State, state
from saga.settings import Settings
from saga.whole import put


def tell_state(
    name: replaying.Name,
    schemas: replaying.Schemas = None,
    registry: replaying.RegistryUrl = None,
    version: replaying.Versions = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="As it was then: 2026-03-01T14:00:00Z.")] = None,
    workflow: Annotated[list[str] | None, typer.Option("--workflow", metavar="ID", help="Only this one; repeatable.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", "-o", metavar="FILE.avro|URL", help="Write there: Avro, sqlite:///F, postgresql://…")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Drop the table of an earlier export first.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="On the terminal, no more than this many.")] = 50,
    file: replaying.File = None,
    partial: replaying.Partial = False,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Fold a saga's topics into the state of each workflow. Reads only, and joins no group."""
    moment = _moment(at) if at else None
    settings = Settings.load(registry=registry, broker=broker)
    contracts = replaying.contracts(settings, name, schemas, version)
    versions = sorted(contracts.sagas.values(), key=lambda saga: saga.version)
    told: list[dict[str, Any]] = []
    for saga in versions:  # one pass for each, since a table or a file holds records of one type
        telling = _Telling(contracts, saga, replaying.source(settings, name, file), moment, workflow or [], partial)
        if to is not None:
            told.append(telling.written(_place(to, saga, among=len(versions)), replace=replace, as_json=as_json))
        elif as_json:
            told.append(telling.data(limit))
        else:
            telling.show(limit, titled=len(versions) > 1)
    if as_json:
        output.json(told[0] if len(told) == 1 else told)


class _Telling:
    """The states of all workflows wanted, counted as they come; ends in a refusal if something is missing."""

    def __init__(
        self, contracts: Contracts, saga: Saga, source: Source, at: datetime | None, wanted: list[str], partial: bool
    ) -> None:
        self.contracts, self.source, self.at, self.wanted, self.partial = contracts, source, at, wanted, partial
        self.saga = saga
        self.seen: set[str] = set()
        self.findings, self.statuses = replaying.Findings(source.aged, contracts), Counter[str]()
        self.marked: dict[str, list[str]] = {}

    def states(self) -> Iterator[State]:
        found = histories(self.source, self.contracts, wanted=self.wanted, pace=replaying.Pace(self.source.size))
        for history in found:
            if history.late:
                late = many(len(history.entries), "record")
                output.progress(f"  {history.workflow}: {late} came long after its end: left out")
                continue
            one = state(self.contracts, history, at=self.at)
            missing = [hole.text for hole in (one.holes if one else holes(history, self.contracts))]
            self.findings.add(history, missing)
            if self.wanted and (one is not None or missing):
                self.seen.add(history.workflow)
            if missing and self.partial:
                self.marked[history.workflow] = missing
            if one is not None and one.version == self.saga.version:
                self.statuses[f"{one.status}{' with exceptions' if one.exceptions else ''}"] += 1
                yield one
        self.findings.tell(partial=self.partial)
        replaying.refuse_unknown(self.saga.name, self.wanted, self.seen, self.at)

    def written(self, to: str, *, replace: bool, as_json: bool) -> dict[str, Any]:
        """Write all of them there."""
        written, counts = _write(to, self, replace=replace), self.statuses
        if not as_json:
            each = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"
            total = many(sum(counts.values()), "workflow")
            output.line(f"{written}: {total} of {self.saga.name} v{self.saga.version} ({each})")
        return {"written": written, "version": self.saga.version, "statuses": counts, "not_whole": self.findings.count}

    def data(self, limit: int) -> dict[str, Any]:
        """The first of them, and how many there are of each status."""
        workflows = [_data(self.saga, one) for one in self._first(limit)]
        counts = {"saga": self.saga.name, "version": self.saga.version, "statuses": self.statuses}
        return {**counts, "workflows": workflows, "not_whole": self.marked}

    def show(self, limit: int, *, titled: bool) -> None:
        shown, steps = self._first(limit), [step.name for step in self.saga.steps]
        shown.sort(key=lambda one: (one.opened, one.id))
        rows = [[one.id, _status(one), output.moment(one.opened), *(_cell(one, name) for name in steps)] for one in shown]
        if titled:
            output.line(f"{self.saga.name} v{self.saga.version}")
        output.table(["workflow", "status", "opened", *steps], rows)
        if (rest := sum(self.statuses.values()) - len(shown)) > 0:
            output.progress(f"and {rest} more; -o FILE.avro or --to URL takes them all")

    def _first(self, limit: int) -> list[State]:
        """What was seen before this many, of all, each of which is counted."""
        shown: list[State] = []
        for one in self.states():
            if len(shown) < limit:
                shown.append(one)
        return shown


def _status(one: State) -> str:
    marks = " with exceptions" * one.exceptions + ", not whole" * bool(one.holes)
    return f"{one.status}{marks}"


def _cell(one: State, step: str) -> str:
    stands = one.steps.get(step, StepStatus.IDLE)
    return "" if stands is StepStatus.IDLE else stands.value


def _data(saga: Saga, one: State) -> dict[str, Any]:
    """For a screen: what contracts call sensitive is hidden, unlike in an export."""
    events = {step: event and {"type": event[0], **event[1]} for step, event in one.shown(saga).events.items()}
    return {**one.record(), **events, "holes": [hole.text for hole in one.holes]}


def _place(to: str, saga: Saga, *, among: int) -> str:
    """Where one version goes, of several that are wanted: FILE.v2.avro. Tables are named after their version anyway."""
    if "://" in to or among == 1:
        return to
    file = Path(to)
    return str(file.with_name(f"{file.stem}.v{saga.version}{file.suffix}"))


def _write(to: str, telling: _Telling, *, replace: bool) -> str:
    if "://" in to:
        from saga.replay import tables

        return f"table {tables.write(to, telling.saga, telling.states(), replace=replace)}"
    from saga.replay import avro_file

    file = Path(to)
    if file.suffix != ".avro":
        raise DefinitionError(f"found {to!r}; expected FILE.avro, sqlite:///FILE or postgresql://user@host:5432/database")
    subject, schema = telling.saga.state
    marks = file.with_name(f"{file.name}.holes.json")

    def records() -> Iterator[dict[str, Any]]:
        yield from (one.record() for one in telling.states())
        if telling.marked:  # before the file has its name, so that it is never there without them
            put(marks, orjson.dumps(telling.marked, option=orjson.OPT_INDENT_2))

    avro_file.write(file, schema, records(), {"saga.subject": subject})
    if telling.marked:
        output.progress(f"what is missing is in {marks}")
    else:
        marks.unlink(missing_ok=True)  # of an earlier file of this name
    return str(file)


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise typer.BadParameter(f"found {text!r}; expected a moment such as 2026-03-01T14:00:00Z", param_hint="--at")
    return found
