"""Whether a saga is safe to run: the rules of its graph, then every interleaving of what can happen. No run, no verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from saga.errors import DefinitionError
from saga.protocol.decide import decide
from saga.protocol.definition import Definition
from saga.protocol.explore import Exploration
from saga.protocol.gates import gates, variants
from saga.protocol.rules import broken_rules
from saga.protocol.site import Decide
from saga.protocol.story import Problem, listed


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a saga; `states` counts the situations explored, 0 where the graph alone was enough to refuse it."""

    verdict: Literal["holds", "refused"]
    states: int
    problems: tuple[Problem, ...] = ()


def check(saga: Definition, *, decide: Decide = decide, tell: Callable[[int], None] = lambda _: None) -> Report:
    """Prove that every workflow of `saga` ends completed or compensated, for everybody alike, or show how one does not.

    All rules that the graph breaks are reported; only a graph without fault is explored, up to the first fault, whose story is
    a shortest one. The number of situations grows with the steps that may run side by side, about sevenfold with each; of
    participants that play the same part, which differ in nothing but names, ten take seconds. With feature gates every
    combination is proved, up to the first that is refused. `tell` is told again and again how many situations of one of
    them were found.
    """
    states = 0
    for open_gates, one in variants(saga):
        report = refusal(one) if isinstance(one, DefinitionError) else _check(one, decide, tell)
        states += report.states
        if report.verdict == "refused":
            return Report("refused", states, tuple(_under(saga, open_gates, problem) for problem in report.problems))
    return Report("holds", states)


def _check(saga: Definition, decide: Decide, tell: Callable[[int], None]) -> Report:
    if problems := broken_rules(saga):
        return Report("refused", 0, problems)
    exploration = Exploration(saga, decide, tell)
    problem = exploration.problem()
    return Report("refused", exploration.states, (problem,)) if problem else Report("holds", exploration.states)


def _under(saga: Definition, open_gates: frozenset[str], problem: Problem) -> Problem:
    """The problem with the gates under which it shows."""
    if not (names := sorted(gates(saga))):
        return problem
    positions = listed(f"{name} {'open' if name in open_gates else 'shut'}" for name in names)
    return replace(problem, text=f"with {positions}: {problem.text}")


def refusal(error: DefinitionError) -> Report:
    """The report on a saga that could not even be read."""
    return Report("refused", 0, (Problem("no definition", str(error)),))
