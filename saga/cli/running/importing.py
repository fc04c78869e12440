"""`saga import`: workflows that begin in the middle, from the records of a business that ran before the saga was there.

What is known already is left alone, so the same file may be given again, after a crash or with more lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.acting.interrupt import interruptible
from saga.cli.running.records import Row, rows
from saga.contracts.message import MAX_ID_BYTES, is_usable_id
from saga.contracts.plain import from_plain
from saga.count import many
from saga.errors import ContractError, DefinitionError, Refused
from saga.participant.participant import Participant
from saga.settings import Settings
from saga.store.port import Store

AT_ONCE = 500
"""Records of one transaction."""
SHOWN = 20


@dataclass(slots=True, kw_only=True)
class _Told:
    """What became of the records; `refused` by the line of the file, `left` were not come to."""

    database: str
    saga: str
    step: str
    event: str
    dry_run: bool
    imported: int = 0
    known: int = 0
    left: int = 0
    refused: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Import:
    """One import: which step, with which event, and where in a record the workflow's id stands; `met` tells ids from lines."""

    participant: Participant
    step: str
    event: str
    id_field: str
    version: int
    gates: Sequence[str]
    met: dict[str, tuple[int, int]] = field(default_factory=dict)

    def adopt(self, store: Store, batch: Sequence[Row], told: _Told) -> None:
        """One transaction; with a dry run it is taken back."""
        imported, refused = 0, dict[int, str]()
        with _taken_back(store) if told.dry_run else store.transaction() as tx:
            for row in batch:
                try:
                    workflow_id, fields = self._read(row)
                    new = self.participant.adopt(
                        workflow_id, self.step, self.event, fields, tx, version=self.version, gates=self.gates
                    )
                except (ContractError, Refused) as error:
                    refused[row.line] = str(error)
                else:
                    imported += new
        told.imported += imported
        told.known += len(batch) - imported - len(refused)
        told.refused |= refused
        told.left -= len(batch)

    def _read(self, row: Row) -> tuple[str, dict[str, Any]]:
        if row.wrong is not None:
            raise ContractError(row.wrong)
        workflow_id = row.fields.get(self.id_field)
        if not isinstance(workflow_id, str | int) or not str(workflow_id):
            raise ContractError(f"found {workflow_id!r} as {self.id_field}; expected the id of a workflow")
        if not is_usable_id(str(workflow_id)):
            raise ContractError(
                f"found an id of {len(str(workflow_id))} characters; expected at most {MAX_ID_BYTES} bytes, no NUL"
            )
        self._refuse_double(row, str(workflow_id))
        schema = self.participant.versions.saga_of(self.version).contract(self.event)
        is_field = any(known["name"] == self.id_field for known in schema["fields"])
        fields = {name: value for name, value in row.fields.items() if is_field or name != self.id_field}
        return str(workflow_id), from_plain(schema, fields)

    def _refuse_double(self, row: Row, workflow_id: str) -> None:
        """One of two that differ would count as known already, and nobody would miss it."""
        said = hash(orjson.dumps(row.fields, option=orjson.OPT_SORT_KEYS))
        line, before = self.met.setdefault(workflow_id, (row.line, said))
        if before != said:
            raise ContractError(f"{workflow_id} stands in line {line} already, with other fields; expected one record of each")


def import_records(
    target: arguments.Target,
    step: Annotated[str, typer.Argument(metavar="STEP", help="The step of this participant that was done.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Records of its event: .jsonl or .csv.")],
    id_field: Annotated[str, typer.Option("--id", metavar="FIELD", help="Which field is the workflow's id.")] = "workflow_id",
    event: Annotated[str | None, typer.Option("--event", metavar="NAME", help="Its event, if the step has several.")] = None,
    version: Annotated[
        int | None, typer.Option("--saga-version", metavar="N", help="Of the saga; the latest if not said.")
    ] = None,
    gate: Annotated[list[str] | None, typer.Option("--gate", metavar="NAME", help="A gate that is open for them.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every record, write nothing.")] = False,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Begin workflows in the middle: each record is the event with which STEP was done before the saga was there.

    Nothing is run for it. Import into the participants of the later steps first and into the initiator last: its event sets a
    workflow going, and who has not imported by then would run its step. Until then stop the workers of those who do what comes
    next. Records that are known already are left alone, so the command may be repeated. Exits 1 if a record was refused.
    """
    settings, participant = Settings.load(database=database), arguments.participant(target)
    wanted = _import(participant, step, event, id_field, version, gate or [])
    if (registry := assembly.registry(settings)) is not None:
        participant.use(registry)
    told = _Told(
        database=assembly.database_name(settings),
        saga=participant.saga.name,
        step=step,
        event=wanted.event,
        dry_run=dry_run,
    )
    store = assembly.store(settings)
    try:
        _carry_out(wanted, store, file, told)
    except BaseException:
        if told.imported or told.known or told.refused:  # whatever ends it early, what was imported is told
            output.json(told) if as_json else _tell(told)
        raise
    finally:
        store.close()
    output.json(told) if as_json else _tell(told)
    if told.refused:
        raise typer.Exit(1)


def _carry_out(wanted: _Import, store: Store, file: Path, told: _Told) -> None:
    records, told.left = rows(file), sum(1 for _ in rows(file))
    with interruptible() as require_uninterrupted:
        for _ in output.counted(range(0, told.left, AT_ONCE), f"importing {file.name}"):
            wanted.adopt(store, list(islice(records, AT_ONCE)), told)
            require_uninterrupted()


class _TakenBack(Exception):
    pass


@contextmanager
def _taken_back(store: Store) -> Iterator[Any]:
    try:
        with store.transaction() as tx:
            yield tx
            raise _TakenBack
    except _TakenBack:
        return


def _import(
    participant: Participant, step: str, event: str | None, id_field: str, version: int | None, gates: Sequence[str]
) -> _Import:
    saga = participant.saga_of(version)
    owned = participant.owned(step, saga)
    if event is None and len(owned.emits) > 1:
        raise DefinitionError(f"step {step!r} is done with {' or '.join(owned.emits)}; say which: --event NAME")
    return _Import(participant, step, saga.event(event or owned.emits[0]), id_field, saga.version, gates)


def _tell(told: _Told) -> None:
    verb = "would be imported" if told.dry_run else "imported"
    output.line(
        f"{told.imported} {verb} into {told.saga} as {told.step} done, {told.known} known already, {len(told.refused)} refused"
    )
    for line, why in list(told.refused.items())[:SHOWN]:
        output.line(f"  line {line}: {why}")
    if len(told.refused) > SHOWN:
        output.line(f"  and {len(told.refused) - SHOWN} more; --json has them all")
    if told.left:
        output.progress(f"{many(told.left, 'record')} left: repeat the command, what is known already is left alone")
