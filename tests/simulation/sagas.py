"""Sagas to try the protocol on: hand-written ones by name, and a strategy that draws sound ones of any shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import product
from typing import Any

from hypothesis import strategies as st

from saga.protocol.definition import Compensated, Definition, Step, Undo

Trigger = tuple[frozenset[str], ...]


def on(*joins: str) -> Trigger:
    """`on("A B", "C")`: both A and B, or C."""
    return tuple(frozenset(join.split()) for join in joins)


def step(name: str, by: str, trigger: Trigger = (), emits: str = "", **more: Any) -> Step:
    """A step that emits its own name with a capital, and can be undone unless said otherwise."""
    events = tuple(emits.split()) or (name.capitalize(),)
    return Step(name=name, by=by, on=trigger, emits=events, **{"compensated": f"{name.capitalize()}Undone", **more})


def last(name: str, by: str, trigger: Trigger, emits: str = "", **more: Any) -> Step:
    """A step without compensation, as at and after a pivot."""
    return step(name, by, trigger, emits, **{"compensated": None, **more})


def saga(*steps: Step, name: str = "sample", **more: Any) -> Definition:
    return Definition(name=name, owner=steps[0].by, steps=steps, **{"deadline": timedelta(minutes=10), **more})


def linear(length: int = 4) -> Definition:
    steps = [step("s0", "p0")]
    steps += [step(f"s{n}", f"p{n}", on(f"S{n - 1}"), fails=f"S{n}Failed") for n in range(1, length - 1)]
    return saga(*steps, last(f"s{length - 1}", f"p{length - 1}", on(f"S{length - 2}")))


def fork(width: int = 2, tail: int = 1, **more: Any) -> Definition:
    """A root, `width` parallel steps, a pivot that joins them, and `tail` steps after it."""
    branches = [f"b{n}" for n in range(width)]
    steps = [step("root", "owner")]
    steps += [step(b, f"p-{b}", on("Root"), fails=f"{b.upper()}Failed", **more) for b in branches]
    steps.append(last("join", "joiner", on(" ".join(b.capitalize() for b in branches)), pivot=True, **more))
    previous = "Join"
    for n in range(tail):
        steps.append(last(f"t{n}", f"p-t{n}", on(previous)))
        previous = f"T{n}"
    return saga(*steps)


def branching() -> Definition:
    """A branch with a pivot on each side, a step before one of them, and a common tail."""
    return saga(
        step("order", "shop"),
        step("rate", "risk", on("Order"), "Trusted Doubtful", fails="Rejected"),
        last("ship", "depot", on("Trusted"), pivot=True),
        step("review", "clerk", on("Doubtful"), fails="Declined"),
        last("escort", "guard", on("Review"), pivot=True),
        last("close", "shop", on("Ship", "Escort")),
    )


GOOD: dict[str, Callable[[], Definition]] = {
    "a single step": lambda: saga(last("only", "alone", ())),
    "two steps": lambda: linear(2),
    "linear, nothing declared a pivot": lambda: linear(4),
    "linear with a pivot in the middle": lambda: saga(
        step("s0", "p0"),
        step("s1", "p1", on("S0"), fails="S1Failed"),
        last("s2", "p2", on("S1"), pivot=True, fails="S2Failed"),
        last("s3", "p3", on("S2")),
    ),
    "the root is the pivot": lambda: saga(last("s0", "p0", (), pivot=True), last("s1", "p1", on("S0"))),
    "fork and join": lambda: fork(2),
    "fork of three and no tail": lambda: fork(3, tail=0),
    "fork after the pivot": lambda: saga(
        step("s0", "p0"),
        last("s1", "p1", on("S0"), pivot=True),
        last("left", "p2", on("S1")),
        last("right", "p3", on("S1")),
        last("end", "p0", on("Left Right")),
    ),
    "branches with a pivot on each": branching,
    "an optional step": lambda: saga(
        step("order", "shop"),
        step("check", "risk", on("Order"), "Clear Suspicious"),
        step("review", "clerk", on("Suspicious"), fails="Declined"),
        last("ship", "depot", on("Clear", "Review")),
    ),
    "two participants that own several steps each": lambda: saga(
        step("s0", "ann"),
        step("s1", "bob", on("S0"), fails="S1Failed"),
        step("s2", "ann", on("S0"), fails="S2Failed"),
        step("s3", "bob", on("S1 S2")),
        last("s4", "ann", on("S3"), pivot=True),
        last("s5", "bob", on("S4")),
    ),
    "there and back": lambda: saga(
        step("s0", "ann"), step("s1", "bob", on("S0"), fails="S1Failed"), last("s2", "ann", on("S1"), pivot=True)
    ),
    "one participant owns everything": lambda: saga(
        step("s0", "ann"),
        step("s1", "ann", on("S0"), fails="S1Failed"),
        step("s2", "ann", on("S0"), fails="S2Failed"),
        last("s3", "ann", on("S1 S2")),
    ),
    "external steps": lambda: saga(
        step("s0", "p0"),
        step("s1", "p1", on("S0"), external=True, fails="S1Failed"),
        step("s2", "p2", on("S0"), external=True),
        last("s3", "p3", on("S1 S2"), external=True, pivot=True),
        last("s4", "p4", on("S3"), external=True),
    ),
    "a long tail after the pivot": lambda: fork(1, tail=4),
    "a step with nothing to undo": lambda: saga(
        step("s0", "p0"), step("s1", "p1", on("S0"), compensated=Undo.NOTHING, fails="S1Failed"), last("s2", "p2", on("S1"))
    ),
    "a branch inside a fork": lambda: saga(
        step("s0", "p0"),
        step("s1", "p1", on("S0"), "A B"),
        step("s2", "p2", on("S0"), fails="S2Failed"),
        step("s3", "p3", on("A")),
        last("s4", "p4", on("S3 S2", "B S2")),
    ),
    "a join that two branches share": lambda: saga(
        step("s0", "p0"),
        step("s1", "p1", on("S0"), "A B"),
        step("s2", "p2", on("S0")),
        last("s3", "p3", on("A S2"), pivot=True),
        last("s4", "p4", on("B S2"), pivot=True),
        last("s5", "p5", on("S3", "S4")),
    ),
}


@dataclass
class _Drawing:
    """A saga being drawn: blocks in series, in parallel or as alternatives, each with a trigger and an exit."""

    draw: st.DrawFn
    limit: int
    owners: int
    steps: list[Step] = field(default_factory=list)
    forward: bool = False

    def step(self, trigger: Trigger, events: int = 1, *, pivot: bool = False) -> list[str]:
        name = f"s{len(self.steps)}"
        may_fail = bool(trigger) and not self.forward and self.draw(st.booleans())
        undo: Compensated = None if self.forward or pivot else self.draw(st.sampled_from([f"{name}Undone", Undo.NOTHING]))
        emits = [name.upper()] if events == 1 else [f"{name.upper()}{letter}" for letter in "ABC"[:events]]
        self.steps.append(
            Step(
                name=name,
                by=f"p{self.draw(st.integers(0, self.owners - 1))}",
                on=trigger,
                emits=tuple(emits),
                pivot=pivot,
                fails=f"{name}Failed" if may_fail else None,
                compensated=undo,
                external=self.draw(st.booleans()),
            )
        )
        return emits

    def room(self) -> int:
        return self.limit - len(self.steps)

    def blocks(self, trigger: Trigger, most: int) -> Trigger:
        for _ in range(self.draw(st.sampled_from(range(most, -1, -1)))):
            trigger = self.block(trigger)
        return trigger

    def block(self, trigger: Trigger) -> Trigger:
        kinds = ["step", "branch", *(["fork"] if self.room() >= 2 else [])]
        match self.draw(st.sampled_from(kinds)) if self.room() > 0 else "none":
            case "step":
                return only(self.step(trigger))
            case "fork":
                return both([self.blocks(only(head), 1) for head in [self.step(trigger), self.step(trigger)]])
            case "branch":
                return either(self.blocks(only([event]), 1) for event in self.step(trigger, 2))
        return trigger

    def pivots(self, trigger: Trigger) -> Trigger:
        """One pivot, or a branch with one on each side."""
        if self.room() < 2 or self.draw(st.booleans()):
            return self.pivot(trigger)
        events = self.step(trigger, 2)
        self.limit -= 1
        return either(self.pivot(self.blocks(only([event]), 1)) for event in events)

    def pivot(self, trigger: Trigger) -> Trigger:
        """One pivot, for which room was kept, and what follows it before branches meet again."""
        self.limit += 1
        emits = self.step(trigger, pivot=True)
        self.forward = True
        after = self.blocks(only(emits), 1)
        self.forward = False
        return after


def only(events: Iterable[str]) -> Trigger:
    return tuple(frozenset({event}) for event in events)


def both(exits: list[Trigger]) -> Trigger:
    return tuple(frozenset().union(*joins) for joins in product(*exits))


def either(exits: Iterable[Trigger]) -> Trigger:
    return tuple(join for trigger in exits for join in trigger)


@st.composite
def sound_sagas(draw: st.DrawFn, most: int = 8) -> Definition:
    """A saga that keeps every rule of `saga check`: at most `most` steps, any owners, declared pivots or none."""
    declared = draw(st.booleans())
    drawing = _Drawing(draw, limit=most - (2 if declared else 1), owners=draw(st.sampled_from([most, 3, 2, 1])))
    trigger = drawing.blocks(only(drawing.step(())), 3)
    if declared:
        trigger = drawing.pivots(trigger)
        drawing.forward = True
        trigger = drawing.blocks(trigger, 1)
    drawing.step(trigger, pivot=not declared)
    *others, final = drawing.steps
    return saga(*others, replace(final, pivot=False))


@st.composite
def any_sagas(draw: st.DrawFn, most: int = 4) -> Definition:
    """Steps wired at random, sound or not; the last one joins whatever nobody else consumes."""
    size = draw(st.integers(2, most))
    steps: list[Step] = []
    events: list[str] = []
    loose: set[str] = set()
    for n in range(size):
        final = n == size - 1
        trigger = _any_trigger(draw, events, loose, final=final)
        emits = [f"S{n}"] if final or draw(st.integers(0, 2)) else [f"S{n}A", f"S{n}B"]
        loose -= frozenset().union(*trigger)
        loose |= set(emits)
        events += emits
        steps.append(
            Step(
                name=f"s{n}",
                by=f"p{draw(st.integers(0, size - 1))}",
                on=trigger,
                emits=tuple(emits),
                fails=f"S{n}Failed" if n and draw(st.booleans()) else None,
                external=draw(st.integers(0, 3)) == 0,
                compensated=draw(st.sampled_from([f"S{n}Undone", f"S{n}Undone", None])),
                pivot=draw(st.integers(0, 3)) == 0,
            )
        )
    return saga(*steps)


def _any_trigger(draw: st.DrawFn, events: list[str], loose: set[str], *, final: bool) -> Trigger:
    if not events:
        return ()
    if final:
        left = sorted(loose)
        return only(left) if draw(st.booleans()) else (frozenset(left),)
    joins = draw(st.lists(st.sets(st.sampled_from(events), min_size=1, max_size=2), min_size=1, max_size=2))
    return tuple({frozenset(join): None for join in joins})
