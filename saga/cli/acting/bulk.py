"""An operator's verb carried out on one workflow after the other: each in a transaction of its own, so that one that is
refused, or held by somebody, does not hold up the others. A dry run does the same and takes it back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from saga.cli import output
from saga.cli.acting.interrupt import interruptible
from saga.cli.acting.selection import Chosen
from saga.count import many
from saga.errors import ContractError, DefinitionError, Refused, StoreConflict
from saga.store.port import Unit

if TYPE_CHECKING:
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore

Act = Callable[[Chosen, Unit], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A workflow that was left as it is, and why."""

    saga: str
    workflow: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """A field of an event that was stated, which is not as in the event with which the step's action had ended."""

    workflow: str
    field: str
    stated: object
    recorded: object


@dataclass(slots=True, kw_only=True)
class Report:
    """What was asked, and what became of it; `many` workflows were asked for by what they are, `left` were not come to."""

    database: str
    verb: str
    step: str | None = None
    event: str | None = None
    reason: str | None = None
    by: str
    dry_run: bool = False
    many: bool = False
    left: int = 0
    done: list[Chosen] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    differing: list[Differing] = field(default_factory=list)


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


def carry_out(
    store: SqliteStore | PostgresStore,
    chosen: Sequence[Chosen],
    act: Act,
    report: Report,
    *,
    said: Callable[[Chosen], str],
    yes: bool,
    as_json: bool,
) -> None:
    """Do it, and tell what was done and what was refused; exits 1 if something was refused or there was nothing to do.

    A person at a terminal is asked before `many` are touched, unless `yes`. Whatever ends it early, what was done is told.
    """
    question = f"{report.verb} {many(len(chosen), 'workflow')}?"
    if report.many and not (yes or report.dry_run) and chosen and not output.agreed(question):
        raise typer.Exit(1)
    try:
        with _silenced() if report.dry_run else nullcontext(), interruptible() as require_uninterrupted:
            for one in output.counted(chosen, report.verb):
                _do(store, one, act, report)
                require_uninterrupted()
    finally:
        report.left = len(chosen) - len(report.done) - len(report.refused)
        _tell(report, said, as_json)
    if report.refused or not report.done:
        raise typer.Exit(1)


def _do(store: SqliteStore | PostgresStore, one: Chosen, act: Act, report: Report) -> None:
    try:
        with store.unit(eager=True) as unit:
            act(one, unit)
            if report.dry_run:
                raise _TakenBack
    except _TakenBack:
        report.done.append(one)
    except (ContractError, DefinitionError, Refused, StoreConflict) as error:
        if isinstance(error, DefinitionError) and not report.many:
            raise
        report.refused.append(Refusal(saga=one.saga, workflow=one.workflow, why=str(error)))
    else:
        report.done.append(one)


@contextmanager
def _silenced() -> Iterator[None]:
    """A dry run leaves no line in the log of what operators did."""
    log = logging.getLogger("saga.operator")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _tell(report: Report, said: Callable[[Chosen], str], as_json: bool) -> None:
    if as_json:
        output.json(report)
        return
    for one in report.done:
        output.line(said(one))
    for one_field in report.differing:
        output.progress(
            f"{one_field.workflow}: {one_field.field} is stated as {one_field.stated}, and step {report.step} recorded "
            f"{one_field.recorded}"
        )
    for refusal in report.refused:
        output.error(refusal.why)
    if report.many:
        done = "would be done" if report.dry_run else "done"
        if not (report.done or report.refused):
            output.error(f"nothing in {report.database} is so; see: saga parked, saga list")
        left = f", {report.left} left: repeat the command for them" if report.left else ""
        output.progress(f"{report.verb}: {len(report.done)} {done}, {len(report.refused)} refused, in {report.database}{left}")
