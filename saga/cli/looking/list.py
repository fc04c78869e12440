"""`saga list`: which workflows this service's database knows, for somebody who does not know yet which one to look at."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.clock import SystemClock
from saga.protocol.facts import WorkflowStatus
from saga.settings import Settings
from saga.span import rough
from saga.store.archive import Listed, Search
from saga.store.workflow import Fence


def list_workflows(
    status: Annotated[WorkflowStatus | None, typer.Option("--status", help="Only workflows of this status.")] = None,
    parked: Annotated[bool, typer.Option("--parked", help="Only those whose handlers are suspended here.")] = False,
    with_exceptions: Annotated[
        bool, typer.Option("--with-exceptions", help="Only those of which a compensation was passed over or stated by hand.")
    ] = False,
    stuck_for: Annotated[
        str | None, typer.Option("--stuck-for", metavar="SPAN", help="Only open ones in which nothing went on for 1h, 2d.")
    ] = None,
    saga: Annotated[str | None, typer.Option("--saga", metavar="NAME", help="Only workflows of this saga.")] = None,
    version: arguments.OfVersion = None,
    limit: arguments.Most = 50,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """List workflows: the latest first, or with --parked or --stuck-for the longest waiting. Reads only."""
    span = arguments.span(stuck_for, "--stuck-for") if stuck_for else None
    settings, now = Settings.load(database=database), SystemClock().now()
    wanted = Search(
        saga=saga,
        version=version,
        status=status,
        parked=parked,
        idle_since=now - span if span is not None else None,
        with_exceptions=with_exceptions,
    )
    store = assembly.store(settings)
    try:
        found = store.search(wanted, limit + 1)
    finally:
        store.close()
    found, more = found[:limit], len(found) > limit
    if as_json:
        output.json({"database": assembly.database_name(settings), "workflows": [*map(_data, found)], "more": more})
    elif found:
        headers = ["workflow", "saga", "status", "opened", "nothing went on for", "parked at"]
        output.table(headers, [_row(one, now) for one in found])
    else:
        output.progress(f"no workflow in {assembly.database_name(settings)} is so")
    if more:
        output.more(limit)


def _data(one: Listed) -> dict[str, Any]:
    workflow = one.workflow
    return {
        "saga": one.saga,
        "id": workflow.id,
        "version": workflow.version,
        "status": workflow.status,
        "exceptions": sorted(workflow.exceptions),
        "opened": workflow.opened,
        "closed": workflow.closed,
        "deadline": workflow.deadline,
        "unwind_by": workflow.unwind_by,
        "error": workflow.error,
        "moved": one.moved,
        "parked": [
            {"step": f.step, "status": f.status, "attempt": f.attempt, "due": f.due, "error": f.error} for f in _parked(one)
        ],
    }


def _row(one: Listed, now: datetime) -> list[str]:
    workflow = one.workflow
    waits = "" if workflow.closed else rough(now - one.moved)
    said = [f"{fence.step}, {_until(fence)}" for fence in _parked(one)]
    if workflow.error and not workflow.closed:
        said.append(workflow.error)
    parked = "; ".join(said)
    status = f"{workflow.status} with exceptions" if workflow.exceptions else workflow.status
    return [workflow.id, f"{one.saga} v{workflow.version}", status, output.moment(workflow.opened), waits, parked]


def _parked(one: Listed) -> list[Fence]:
    return [fence for fence in one.workflow.fences.values() if fence.error is not None]


def _until(fence: Fence) -> str:
    return f"next try {output.moment(fence.due)}" if fence.due else "waits for an operator"
