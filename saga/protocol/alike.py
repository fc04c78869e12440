"""Participants that play the same part in a saga, so that situations in which they have only changed places are one.

Symmetry reduction as in model checking (Ip and Dill, "Better verification through symmetry", 1996): `decide` goes by no names,
so what may follow, and whether it is right, is the same for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import factorial, prod
from typing import NamedTuple

from saga.protocol.definition import Definition, Step, Undo
from saga.protocol.site import Board, Site

Names = Mapping[str, str]


class State(NamedTuple):
    """`sites`: the number of each participant's row of fences; `published`: a set of facts; `aware`: of participants."""

    sites: tuple[int, ...]
    published: int
    aware: int


def alike(saga: Definition) -> list[list[str]]:
    """The participants of which any two may change places with all their steps and events, and the saga stays what it is."""
    found: list[list[str]] = []
    for name in sorted(saga.participants):
        home = next((names for names in found if _is_same_part(saga, names[0], name)), None)
        if home is None:
            found.append([name])
        else:
            home.append(name)
    return [names for names in found if len(names) > 1]


class Part:
    """The participants that play one part: which of them is where in it does not matter, and is told in words of the first."""

    def __init__(self, saga: Definition, names: Sequence[str], sites: Sequence[Site], board: Board) -> None:
        self.places = [index for name in names for index, site in enumerate(sites) if site.name == name]
        first = sites[self.places[0]]
        self._members = [_Member(saga, sites[place], first, board) for place in self.places]

    def ordered(self, state: State) -> State:
        """The one situation that stands for all in which these have changed places."""
        found = self._standing(state)
        if (ordered := sorted(found)) == found:
            return state
        rows, published, aware = [*state.sites], state.published, state.aware
        for place, member, (row, facts, is_aware) in zip(self.places, self._members, ordered, strict=True):
            rows[place] = member.row(row)
            published = published & ~member.mask | member.facts(facts)
            aware = aware & ~(1 << place) | is_aware << place
        return State(tuple(rows), published, aware)

    def stands_for(self, state: State) -> int:
        """How many situations these can make of it by changing places."""
        return factorial(len(self.places)) // prod(map(factorial, Counter(self._standing(state)).values()))

    def _standing(self, state: State) -> list[tuple[int, int, int]]:
        sites, published, aware = state
        return [
            (member.first_row(sites[place]), member.first_facts(published & member.mask), aware >> place & 1)
            for place, member in zip(self.places, self._members, strict=True)
        ]


class _Member:
    """Translates rows and facts of one participant to those of the `first` of its part, and back; each is done once."""

    def __init__(self, saga: Definition, site: Site, first: Site, board: Board) -> None:
        own, firsts = board.of(site.name), board.of(first.name)
        self.mask = sum(own)
        there = _names(saga, site.name, first.name)
        back = _names(saga, first.name, site.name)
        assert there is not None
        assert back is not None
        self.first_row, self.row = _Rows(site, first, there), _Rows(first, site, back)
        self.first_facts, self.facts = _Bits(own, firsts), _Bits(firsts, own)


class _Rows:
    def __init__(self, one: Site, other: Site, names: Names) -> None:
        self.one, self.other, self.names = one, other, names
        self.known: dict[int, int] = {}

    def __call__(self, row: int) -> int:
        if (found := self.known.get(row)) is None:
            fences = [f._replace(event=self.names[f.event]) if f.event else f for f in self.one.rows[row]]
            found = self.known[row] = self.other.number(tuple(fences))
        return found


class _Bits:
    def __init__(self, one: Sequence[int], other: Sequence[int]) -> None:
        self.pairs = [*zip(one, other, strict=True)]
        self.known: dict[int, int] = {}

    def __call__(self, facts: int) -> int:
        if (found := self.known.get(facts)) is None:
            found = self.known[facts] = sum(there for here, there in self.pairs if facts & here)
        return found


def _is_same_part(saga: Definition, one: str, other: str) -> bool:
    there, back = _names(saga, one, other), _names(saga, other, one)
    if there is None or back is None:
        return False
    names = {**there, **back}
    if any(names[event] != its for event, its in there.items()) or any(names[names[event]] != event for event in names):
        return False  # an event of both that means another thing to each
    owners = {one: other, other: one}
    as_it_is = {_told(step, {}, {}) for step in saga.steps}
    return {_told(step, owners, names) for step in saga.steps} == as_it_is


def _names(saga: Definition, one: str, other: str) -> Names | None:
    """Events of the one to those of the other that stand at the same place; None where their steps do not pair."""
    steps, others = saga.owned(one), saga.owned(other)
    found: dict[str, str] = {}
    if len(steps) != len(others):
        return None
    for step, twin in zip(steps, others, strict=True):
        events, twins = _events(step), _events(twin)
        if len(events) != len(twins):
            return None
        for event, its in zip(events, twins, strict=True):
            if found.setdefault(event, its) != its:
                return None
    return found


def _events(step: Step) -> list[str]:
    return [*step.outcomes, *([step.compensated] if isinstance(step.compensated, str) else [])]


def _told(step: Step, owners: Names, names: Names) -> tuple[object, ...]:
    """All that a step is but its name, with others in the place of these participants and events."""
    on = frozenset(frozenset(names.get(event, event) for event in join) for join in step.on)
    emits = tuple(names.get(event, event) for event in step.emits)
    fails = step.fails and names.get(step.fails, step.fails)
    undone = step.compensated
    compensated = undone if undone is None or isinstance(undone, Undo) else names.get(undone, undone)
    rules = step.pivot, step.external, step.timeout, step.on_error, step.on_stuck, step.gate, step.acknowledged
    return owners.get(step.by, step.by), on, emits, fails, compensated, rules
