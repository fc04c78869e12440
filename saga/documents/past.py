"""How the contracts of a folder came to be what they are: what each commit changed in each of them, with the verdict on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from saga.contracts.saga import Saga
from saga.contracts.schema import full_name
from saga.errors import DefinitionError
from saga.evolution.change import Change, Verdict
from saga.evolution.choreography import saga_changes
from saga.evolution.events import event_changes
from saga.evolution.history import History, Revision


@dataclass(frozen=True, slots=True)
class Edition:
    """One state of one contract that differs from the one before; `revision` is None where it is not committed."""

    revision: Revision | None
    changes: tuple[Change, ...]


Past = Mapping[str, Sequence[Edition]]
"""Full name of a contract to its editions, newest first."""


def past(saga: Saga, history: History) -> Past:
    """The editions of every contract of `saga`, which is the folder as it lies there.

    A commit at which the folder was no saga is passed over. Raises DefinitionError where git cannot tell the past.
    """
    states: list[tuple[Revision | None, Saga]] = []
    for revision in reversed(history.revisions()):
        with suppress(DefinitionError):
            states.append((revision, history.saga(revision.commit)))
    if not states:
        return {}
    states.append((None, saga))
    own = full_name(saga.own, "")
    names = [name for name in saga.types if not name.startswith("saga.")]
    return {name: [*_editions(name, states, own)][::-1] for name in (own, *names)}


def _editions(name: str, states: Sequence[tuple[Revision | None, Saga]], own: str) -> Iterator[Edition]:
    known = [(revision, saga) for revision, saga in states if name == own or name in saga.types]
    if known:
        yield Edition(known[0][0], (Change(name.rpartition(".")[2], "it is new", Verdict.COMPATIBLE),))
    for (_, before), (revision, after) in pairwise(known):
        if name == own:
            found = [*saga_changes(before, after)]
        else:
            found = event_changes(before.contract(name), after.contract(name))
        if found:
            yield Edition(revision, tuple(found))
