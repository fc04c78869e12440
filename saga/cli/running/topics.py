"""`saga topics`: what the topics of a saga must look like, and making them so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.listing import Listing
from saga.contracts.saga import Saga
from saga.contracts.topics import saga_topics
from saga.settings import Settings
from saga.transport.port import Broker
from saga.transport.topics import RETENTION, TopicPlan
from saga.transport.topics import plan as planned

topics = typer.Typer(cls=Listing, help="The topics of a saga.", no_args_is_help=True, rich_markup_mode=None)

_RETENTION = f"{RETENTION.days}d"

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The saga's contract folder.")]
Partitions = Annotated[
    int, typer.Option("--partitions", metavar="N", min=1, help="Partitions of each topic; part of the contract.")
]
Retention = Annotated[str, typer.Option("--retention", metavar="SPAN", help="How far back replay must reach: 7d, 12h.")]


@topics.command()
def plan(
    folder: Folder,
    partitions: Partitions,
    retention: Retention = _RETENTION,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Say what `apply` would do; exits 1 if something there does not fit."""
    saga, _, plans = _asked(folder, partitions, retention, broker)
    _tell(saga, plans, {}, as_json)


@topics.command()
def apply(
    folder: Folder,
    partitions: Partitions,
    retention: Retention = _RETENTION,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="As `plan`: create nothing.")] = False,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Create the topics that are missing. Topics that do not fit are never changed; then nothing is created and it exits 1."""
    saga, cluster, plans = _asked(folder, partitions, retention, broker)
    missing = [p for p in plans if p.action == "create"]
    created: dict[str, str] = {}
    if missing and not dry_run and not _refused(plans):
        output.progress(f"creating {', '.join(p.topic for p in missing)}")
        cluster.create([p.topic for p in missing], partitions, missing[0].config)
        created = dict.fromkeys((p.topic for p in missing), "created")
        # somebody else may have created them at the same time, and otherwise
        *_, now = _asked(folder, partitions, retention, broker)
        others = {p.topic: p for p in now if p.action == "refuse"}
        plans = [others.get(p.topic, p) for p in plans]
        created = {topic: word for topic, word in created.items() if topic not in others}
    _tell(saga, plans, created, as_json)


def _asked(folder: Path, partitions: int, retention: str, servers: str | None) -> tuple[str, Broker, list[TopicPlan]]:
    """The saga's name, its broker, and what is to be done there."""
    span, saga, settings = (
        arguments.span(retention, "--retention"),
        Saga.load(folder),
        Settings.load(broker=servers),
    )
    cluster = assembly.broker(settings)
    found = cluster.partitions(saga_topics(saga.name))
    return saga.name, cluster, planned(saga.name, found, partitions, retention=span)


def _tell(saga: str, plans: Sequence[TopicPlan], created: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        output.json({"saga": saga, "topics": [_line(plan, created) for plan in plans]})
    else:
        rows = [list(map(_cell, _line(plan, created).values())) for plan in plans]
        output.table(["topic", "action", "reason", "config"], rows)
    if _refused(plans):
        raise typer.Exit(1)


def _line(plan: TopicPlan, created: Mapping[str, str]) -> dict[str, Any]:
    action = created.get(plan.topic, plan.action)
    return {"topic": plan.topic, "action": action, "reason": plan.reason, "config": dict(plan.config)}


def _cell(value: Any) -> str:
    return " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _refused(plans: Sequence[TopicPlan]) -> bool:
    return any(plan.action == "refuse" for plan in plans)
