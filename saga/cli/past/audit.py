"""`saga audit`: whether a saga's topics and its participants' databases keep every promise, invariant by invariant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Annotated

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.past import replaying
from saga.count import many
from saga.errors import DefinitionError
from saga.settings import Settings
from saga.store.archive import Archive
from saga.testing.checker.evidence import Evidence
from saga.testing.checker.judgement import Judgement, judge

SHOWN = 20


def audit(
    saga: replaying.Name,
    stores: Annotated[
        list[str] | None,
        typer.Option("--store", metavar="URL", help="A participant's database, instead of SAGA_DATABASE; repeatable."),
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Work goes on: do not judge what has still to end or to be published.")
    ] = False,
    schemas: replaying.Schemas = None,
    registry: replaying.RegistryUrl = None,
    version: replaying.Versions = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Hold a saga's topics and databases against its invariants; exit code 1 if one is violated. Reads only, joins no group.

    What there is no evidence for is not judged, and said so; the more databases are given, the more can be.
    """
    settings = Settings.load(registry=registry, broker=broker)
    contracts = replaying.contracts(settings, saga, schemas, version)
    with _opened(settings, saga, stores or ()) as archives:
        evidence = Evidence.gather(contracts, assembly.broker(settings), archives, quiet=not running)
        found = judge(evidence)
    if as_json:
        output.json({"saga": saga, "stores": sorted(archives), **found.plain()})
    else:
        _tell(found)
    if not found.holds:
        raise typer.Exit(1)


@contextmanager
def _opened(settings: Settings, saga: str, urls: Sequence[str]) -> Iterator[dict[str, Archive]]:
    """The databases by the participants whose they are, as they say themselves."""
    each = [Settings.load(database=url) for url in urls] or [settings] * (settings.database is not None)
    found: dict[str, Archive] = {}
    with ExitStack() as stack:
        for one in each:
            store = stack.enter_context(closing(assembly.store(one)))
            if (name := store.author(saga)) is None or name in found:
                why = f"is of {name}, as another one is" if name else f"knows nothing of saga {saga!r}"
                raise DefinitionError(f"{assembly.database_name(one)} {why}; correct --store")
            found[name] = store
        yield found


def _tell(found: Judgement) -> None:
    rows = [
        [
            verdict.invariant.value,
            "skipped" if verdict.why_not else "fail" if verdict.violations else "ok",
            verdict.invariant.sentence,
            f"not judged: {verdict.why_not}" if verdict.why_not else verdict.looked,
            str(verdict.violations or ""),
        ]
        for verdict in found.verdicts
    ]
    output.table(["", "", "invariant", "looked at", "violations"], rows)
    for violation in found.violations[:SHOWN]:
        output.line(f"  {violation}")
    if (more := sum(verdict.violations for verdict in found.verdicts) - SHOWN) > 0:
        output.line(f"  and {more} more; --json has up to a thousand")
    again = f", {many(found.repeated, 'record')} came again" if found.repeated else ""
    against = "nothing is against it" if found.holds else "it does not hold"
    output.line(f"{many(found.workflows, 'workflow')}, {many(found.facts, 'fact')}{again}: {against}")
