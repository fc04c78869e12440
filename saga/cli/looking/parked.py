"""`saga parked`: what workflows here wait for, grouped by error, so that a thousand of one cause are one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from saga import assembly
from saga.cli import arguments, output
from saga.cli.looking.fingerprint import fingerprint
from saga.settings import Settings
from saga.store.archive import Listed, Search
from saga.store.workflow import Fence

MOST = 10_000


class Cause(NamedTuple):
    """What parked workflows have in common; `error` is a fingerprint."""

    saga: str
    step: str
    error: str


@dataclass(slots=True, kw_only=True)
class Group:
    """The workflows parked for one cause; `oldest` is since when nothing has gone on in one of them, `due` the next try."""

    saga: str
    step: str
    error: str
    count: int = 0
    for_operator: int = 0
    oldest: datetime
    due: datetime | None = None
    workflows: list[str] = field(default_factory=list)


def parked(database: arguments.DatabaseUrl = None, as_json: output.AsJson = False) -> None:
    """Group parked workflows by step and error, the longest waiting first. Reads only."""
    settings = Settings.load(database=database)
    store = assembly.store(settings)
    try:
        found = store.search(Search(parked=True), MOST)
    finally:
        store.close()
    groups = grouped(found)
    if as_json:
        output.json({"database": assembly.database_name(settings), "groups": groups, "more": len(found) == MOST})
    elif groups:
        headers = ["count", "saga", "step", "waiting since", "next try", "for an operator", "error", "for example"]
        output.table(headers, [_row(group) for group in groups])
    else:
        output.progress(f"nothing is parked in {assembly.database_name(settings)}")
    if len(found) == MOST:
        output.progress(f"these are the {MOST} that wait longest; there are more")


def grouped(found: Iterable[Listed]) -> list[Group]:
    """The workflows by cause, in the order in which they came."""
    groups: dict[Cause, Group] = {}
    for one in found:
        for fence, cause in causes(one):
            group = groups.setdefault(cause, Group(**cause._asdict(), oldest=one.moved))
            group.count += 1
            group.for_operator += fence.due is None
            group.oldest = min(group.oldest, one.moved)
            group.due = min(filter(None, (group.due, fence.due)), default=None)
            group.workflows.append(one.workflow.id)
    return [*groups.values()]


def causes(one: Listed) -> Iterator[tuple[Fence, Cause]]:
    """Why this workflow is parked."""
    for fence in one.workflow.fences.values():
        if fence.error is not None:
            yield fence, Cause(one.saga, fence.step, fingerprint(fence.error, one.workflow.id))


def _row(group: Group) -> list[str]:
    return [
        str(group.count),
        group.saga,
        group.step,
        output.moment(group.oldest),
        output.moment(group.due),
        str(group.for_operator or ""),
        group.error,
        group.workflows[0],
    ]
