"""A contract folder against everything that was ever committed to it: FULL_TRANSITIVE without a registry."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import takewhile

from saga.contracts.saga import Saga
from saga.contracts.schema import Schema, fingerprint, full_name, inline
from saga.errors import DefinitionError
from saga.evolution.change import Change, Verdict, heaviest
from saga.evolution.choreography import saga_changes
from saga.evolution.events import event_changes
from saga.evolution.history import History, Revision


@dataclass(frozen=True, slots=True)
class Conflict:
    """A change since `revision` that needs more than was done."""

    revision: Revision
    change: Change


@dataclass(frozen=True, slots=True)
class Findings:
    """What was compared, and what does not go together."""

    revisions: int
    versions: int
    conflicts: tuple[Conflict, ...]

    @property
    def verdict(self) -> Verdict:
        return heaviest(conflict.change for conflict in self.conflicts)


def against_history(saga: Saga, history: History, since: str | None = None) -> Findings:
    """Compare each event with all of its committed versions, and the saga with those of the same saga version.

    Versions in folders beside it count as those of its own, where the history has them. With `since`, a git revision, only
    what was committed then and later counts.
    """
    conflicts: dict[Change, Conflict] = {}
    seen: set[tuple[str, int]] = set()
    revisions = history.revisions(since)
    for revision in revisions:
        for schemas in history.states(revision.commit):
            for change in _changes(saga, {full_name(schema, ""): schema for schema in schemas}, seen):
                if change.verdict is not Verdict.COMPATIBLE:
                    conflicts.setdefault(change, Conflict(revision, change))
    return Findings(len(revisions), len(seen), tuple(conflicts.values()))


def baseline(saga: Saga, history: History, conflicts: Collection[Conflict], since: str | None = None) -> Revision | None:
    """The oldest revision since which all goes together, if there is one: whatever is older may never have been in use."""
    at_odds = {conflict.revision for conflict in conflicts}
    newer = [*takewhile(lambda revision: revision not in at_odds, history.revisions(since))]
    # on branches side by side, what is newer than a conflict may still lead back to it
    sound = newer and against_history(saga, history, newer[-1].commit).verdict is Verdict.COMPATIBLE
    return newer[-1] if sound else None


def _changes(saga: Saga, types: dict[str, Schema], seen: set[tuple[str, int]]) -> Iterator[Change]:
    yield from _events(saga, types, seen)
    yield from _same_version(saga, types, seen)


def _events(saga: Saga, types: dict[str, Schema], seen: set[tuple[str, int]]) -> Iterator[Change]:
    for name, schema in types.items():
        if "saga" in schema or name not in saga.types:
            continue
        old = inline(schema, types)
        if (version := (name, fingerprint(old))) not in seen:
            seen.add(version)
            yield from event_changes(old, saga.contract(name))


def _same_version(saga: Saga, types: dict[str, Schema], seen: set[tuple[str, int]]) -> Iterator[Change]:
    own = [(name, schema) for name, schema in types.items() if "saga" in schema]
    for name, schema in own:
        if (version := (name, fingerprint(schema))) in seen:
            continue
        seen.add(version)
        try:
            old = Saga.of(*types.values())
        except DefinitionError:
            continue  # a state that no participant could load
        if old.version == saga.version:
            yield from saga_changes(old, saga)
