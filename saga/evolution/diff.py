"""Two states of a saga's contracts, compared: what changed, and the verdict on all of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from saga.contracts.saga import Saga
from saga.contracts.schema import computed_id
from saga.evolution.change import Change, Verdict, heaviest
from saga.evolution.choreography import saga_changes
from saga.evolution.events import event_changes


@dataclass(frozen=True)
class Diff:
    """What changed from one state of the contracts to the other; `raised` if the saga's version was.

    `rewritten` are events that have another id where no registry gives ids, since their bytes are others.
    """

    changes: tuple[Change, ...]
    raised: bool
    rewritten: tuple[str, ...] = ()

    @cached_property
    def needed(self) -> Verdict:
        """What the changes ask for, whatever was done about it."""
        return heaviest(self.changes)

    @property
    def verdict(self) -> Verdict:
        """What is still to be done: a new version that is there already needs no other."""
        return Verdict.COMPATIBLE if self.raised and self.needed is Verdict.NEW_VERSION else self.needed


def diff(old: Saga, new: Saga) -> Diff:
    """Compare two sagas with all their types; those of the library are left out."""
    changes = [*saga_changes(old, new)]
    names = [name for name in dict.fromkeys((*old.types, *new.types)) if not name.startswith("saga.")]
    for name in names:
        changes += _type_changes(old, new, name)
    rewritten = tuple(
        name for name in names if name in old.published and name in new.published and _is_rewritten(old, new, name)
    )
    return Diff(tuple(dict.fromkeys(changes)), new.version > old.version, rewritten)


def _is_rewritten(old: Saga, new: Saga, name: str) -> bool:
    return computed_id(old.contract(name)) != computed_id(new.contract(name))


def _type_changes(old: Saga, new: Saga, name: str) -> list[Change]:
    short = name.rpartition(".")[2]
    if name not in new.types:
        return [Change(short, "it is no longer among the contracts", Verdict.COMPATIBLE)]
    if name not in old.types:
        return [Change(short, "it is new", Verdict.COMPATIBLE)]
    return event_changes(old.contract(name), new.contract(name))
