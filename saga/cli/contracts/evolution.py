"""`saga schemas check|diff`: contracts against their own past, and any two states of them against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saga import assembly
from saga.cli import output
from saga.cli.arguments import RegistryUrl
from saga.cli.contracts.check import Folder
from saga.contracts.saga import Saga
from saga.errors import DefinitionError
from saga.evolution.change import Verdict
from saga.evolution.diff import diff as compared
from saga.evolution.history import History
from saga.evolution.lint import lint
from saga.evolution.past import Findings, against_history, baseline
from saga.evolution.plan import registered_version
from saga.settings import Settings

REGISTRY = "registry"
NEEDS_VERSION = 3
_CODES = {Verdict.COMPATIBLE: 0, Verdict.REFUSED: 1, Verdict.NEW_VERSION: NEEDS_VERSION}
_STYLES = {Verdict.COMPATIBLE: "green", Verdict.REFUSED: "bold red", Verdict.NEW_VERSION: "yellow"}
State = "A folder, a git revision (HEAD~1, or HEAD~1:schemas/checkout), or `registry`."


def check(
    folder: Folder,
    since: Annotated[
        str | None, typer.Option("--since", metavar="REVISION", help="Leave out what was committed before, e.g. a release.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Hold the contracts to every version that was ever committed to git; asks no registry.

    Those of the same saga in the folders beside this one, and in the one above, count too.
    Also says what in them will hurt later. Exits 1 if an event does not go together with one of its versions, or is no valid
    Avro to others, 3 if the saga needs a new version.
    """
    saga = Saga.load(folder)
    output.progress(f"reading the history of {folder}")
    history = History(folder).with_folders_beside(saga.name)
    findings = against_history(saga, history, since)
    first = baseline(saga, history, findings.conflicts, since) if findings.conflicts else None
    verdict, remarks = findings.verdict, lint(saga)
    if as_json:
        counts = {"revisions": findings.revisions, "versions": findings.versions}
        output.json({"verdict": verdict, **counts, "conflicts": _told(findings), "compatible_since": first, "remarks": remarks})
    else:
        for remark in remarks:
            output.line(f"{'wrong' if remark.grave else 'advice'}: {remark.place}: {remark.text}")
        if findings.conflicts:
            rows = [[str(c.change.verdict), str(c.change), str(c.revision)] for c in findings.conflicts]
            output.table(["verdict", "change", "since"], rows)
        output.line(_summary(saga, findings), style=_STYLES[verdict])
        if first is not None:
            output.line(f"all goes together since {first}; if nothing older was ever in use, add: --since {first.commit[:10]}")
    raise typer.Exit(1 if any(remark.grave for remark in remarks) else _CODES[verdict])


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=State)],
    new: Annotated[str, typer.Argument(metavar="NEW", help=State)],
    registry: RegistryUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Explain each change between two states of a saga's contracts, and say what it asks for.

    Exits 0 if they go together, 1 if a change is refused, 3 if it needs a new version of the saga.
    """
    settings = Settings.load(registry=registry)
    before, after = _states(old, new, settings)
    found = compared(before, after)
    if as_json:
        output.json({"verdict": found.verdict, "needed": found.needed, "changes": found.changes, "rewritten": found.rewritten})
    else:
        if found.changes:
            output.table(["verdict", "change"], [[str(change.verdict), str(change)] for change in found.changes])
        output.line(_conclusion(after, found.verdict, found.needed), style=_STYLES[found.verdict])
        if found.rewritten and not found.raised and found.verdict is Verdict.COMPATIBLE:
            output.line(_without_registry(found.rewritten), style="yellow")
    raise typer.Exit(_CODES[found.verdict])


def _states(old: str, new: str, settings: Settings) -> tuple[Saga, Saga]:
    """Both sagas: one that is in the registry is found by the name of the other."""
    if old == new == REGISTRY:
        raise DefinitionError("both sides are the registry; name a folder or a git revision for one of them")
    folder = next((Path(side) for side in (new, old) if Path(side).is_dir()), settings.schemas)
    if old == REGISTRY:
        after = _here(new, folder)
        return _registered(after, settings, up_to=after.version), after
    before = _here(old, folder)
    return before, (_registered(before, settings) if new == REGISTRY else _here(new, folder))


def _here(state: str, folder: Path | None) -> Saga:
    if Path(state).is_dir():
        return Saga.load(state)
    revision, _, path = state.partition(":")
    if path:
        folder = Path(path)
    if folder is None:
        raise DefinitionError(
            f"found {state!r}, which is no folder; to say which folder at this git revision, write {state}:schemas/checkout, "
            f"make the other side a folder, or set SAGA_SCHEMAS"
        )
    return History(folder).saga(revision)


def _registered(other: Saga, settings: Settings, up_to: int | None = None) -> Saga:
    registry = assembly.registry_needed(settings)
    return Saga.from_registry(registry, other.name, version=registered_version(registry, other.name, up_to))


def _conclusion(saga: Saga, verdict: Verdict, needed: Verdict) -> str:
    match verdict, needed:
        case Verdict.REFUSED, _:
            return "refused: what is written already would be misread; keep the old event and make a new one"
        case Verdict.NEW_VERSION, _:
            return f'needs a new version: set "version": {saga.version + 1} in the saga schema, v{saga.version} runs beside it'
        case _, Verdict.NEW_VERSION:
            return f"compatible: the changes need a new version, and v{saga.version} is one"
    return "compatible: old and new services understand each other, deploy them in any order"


def _without_registry(rewritten: tuple[str, ...]) -> str:
    names = ", ".join(name.rpartition(".")[2] for name in rewritten)
    return (
        f"without a registry (SAGA_REGISTRY) neither reads what the other wrote of {names}: "
        f"leave that as it was, or give the saga a new version in a folder of its own"
    )


def _summary(saga: Saga, findings: Findings) -> str:
    seen = f"versions: {findings.versions}, commits: {findings.revisions}"
    if not findings.revisions:
        return (
            "compatible: the folder was never committed, nor was this saga beside it, so there is nothing to be compatible with"
        )
    if findings.verdict is Verdict.COMPATIBLE:
        return f"compatible: every contract goes together with all of its committed versions ({seen})"
    return f"{_conclusion(saga, findings.verdict, findings.verdict)} ({seen})"


def _told(findings: Findings) -> list[dict[str, object]]:
    return [{"change": conflict.change, "since": conflict.revision} for conflict in findings.conflicts]
