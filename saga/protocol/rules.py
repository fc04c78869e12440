"""The rules that a definition must keep, as far as they can be read off its graph; the rest is found by exploration.

A run is one way in which a workflow succeeds: one event of each step that is triggered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from saga.protocol.definition import Definition, Step
from saga.protocol.story import Happening, Problem, listed, short, tell


def broken_rules(saga: Definition) -> tuple[Problem, ...]:
    """Every rule that `saga` breaks, each with a run that shows it."""
    runs = _Runs(saga)
    return tuple(problem for rule in _RULES for problem in rule(runs))


@dataclass(frozen=True, eq=False)
class _Run:
    """A success: each step that ran with the event it emitted, in an order in which they can happen."""

    saga: Definition
    emitted: Mapping[str, str]

    @cached_property
    def events(self) -> frozenset[str]:
        return frozenset(self.emitted.values())

    def joins(self, step: str) -> list[frozenset[str]]:
        """The triggers of a step that are satisfied in this run."""
        return [join for join in self.saga[step].on if join <= self.events]

    @cached_property
    def before(self) -> Mapping[str, frozenset[str]]:
        """Step to all steps on whose events it builds in this run."""
        found: dict[str, frozenset[str]] = {}
        for step in self.emitted:
            direct = {self.saga.emitter[event] for join in self.joins(step) for event in join}
            found[step] = frozenset(direct).union(*(found[name] for name in direct))
        return found

    def happenings(self, *steps: str) -> list[Happening]:
        """How it comes to these steps."""
        needed = frozenset(steps).union(*(self.before[step] for step in steps))
        return [_done(self.saga, step, event) for step, event in self.emitted.items() if step in needed]


@dataclass(frozen=True, eq=False)
class _Runs:
    """A saga and all its runs."""

    saga: Definition

    @cached_property
    def all(self) -> tuple[_Run, ...]:
        return tuple(_Run(self.saga, emitted) for emitted in self._from({}))

    def _from(self, emitted: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        events = set(emitted.values())
        for step in self.saga.steps:
            if step.name not in emitted and (not step.on or any(join <= events for join in step.on)):
                for event in step.emits:
                    yield from self._from({**emitted, step.name: event})
                return
        yield emitted

    def to(self, step: str) -> list[Happening]:
        """How it comes to a step, itself left out; empty if no run comes to it."""
        ways = (run.happenings(step) for run in self.all if step in run.emitted)
        return min(([h for h in way if h.step != step] for way in ways), key=len, default=[])


def _every_step_can_be_triggered(runs: _Runs) -> Iterator[Problem]:
    triggered = {step for run in runs.all for step in run.emitted}
    for step in runs.saga.steps:
        if step.name not in triggered:
            joins = " or ".join(listed(sorted(map(short, join))) for join in step.on)
            yield Problem(
                "never triggered",
                f"step {step.name!r} waits for {joins}, which no run of the saga brings about; change its 'on'",
                tell(runs.saga, [], f"{step.by} waits to run {step.name}, but {joins} never come in one workflow."),
            )


def _alternatives_exclude_each_other(runs: _Runs) -> Iterator[Problem]:
    for step, run in _first(runs, lambda run, step: len(run.joins(step)) > 1):
        joins = [listed(sorted(map(short, join))) for join in run.joins(step)]
        emitters = {runs.saga.emitter[event] for join in run.joins(step) for event in join}
        yield Problem(
            "alternatives overlap",
            f"step {step!r} is triggered by {' and by '.join(joins)} in the same run; "
            "write one join of them all, or let one step choose between them",
            tell(
                runs.saga,
                run.happenings(*emitters),
                f"{step} of {runs.saga[step].by} is now triggered twice: by {' and by '.join(joins)}.",
            ),
        )


def _every_path_has_one_pivot(runs: _Runs) -> Iterator[Problem]:
    saga = runs.saga
    for count, path in sorted(_paths(saga).items()):
        if count != 1:
            passed = [name for name, _ in path if name in saga.pivots]
            found = f"{count} pivots, {listed(passed)}" if passed else "no pivot"
            yield Problem(
                "not one pivot",
                f"the path {' -> '.join(name for name, _ in path)} passes {found}; each path from the root to the completing "
                "step needs exactly one, so that it is clear until when it can be undone",
                tell(saga, (_done(saga, *node) for node in path), f"The workflow is completed on a path with {found}."),
            )


def _paths(saga: Definition) -> Mapping[int, list[tuple[str, str]]]:
    """Number of pivots passed to a shortest path from the root to the completing step, with the events that lead on."""
    ends: dict[int, list[tuple[str, str]]] = {}
    frontier: list[list[tuple[str, str]]] = [[(saga.root.name, event)] for event in saga.root.emits]
    seen = set()
    while frontier:
        path = frontier.pop(0)
        name, event = path[-1]
        count = sum(step in saga.pivots for step, _ in path)
        if (name, event, count) in seen:
            continue
        seen.add((name, event, count))
        if name == saga.sink.name:
            ends.setdefault(count, path)
        for after in saga.triggered_by.get(event, ()):
            frontier += [[*path, (after, emitted)] for emitted in saga[after].emits]
    return ends


def _nothing_stands_beside_the_pivot(runs: _Runs) -> Iterator[Problem]:
    saga = runs.saga
    for step, run in _first(runs, lambda run, step: _beside(run, step) is not None):
        pivot = _beside(run, step)
        assert pivot is not None
        yield Problem(
            "beside the pivot",
            f"step {step!r} runs neither before nor after the pivot {pivot!r}, so that nobody can tell whether "
            f"it may be undone; let {pivot!r} wait for its event, or trigger it after {pivot!r}",
            tell(
                saga,
                [h for h in run.happenings(step, pivot) if h.step != step],
                f"{pivot} of {saga[pivot].by} is done, so there is no way back; "
                f"but {step} of {saga[step].by} is still open: an abort would skip it.",
            ),
        )


def _beside(run: _Run, step: str) -> str | None:
    """A pivot of this run that is neither before nor after `step`."""
    pivots = (name for name in run.emitted if name in run.saga.pivots and name != step)
    return next((p for p in pivots if p not in run.before[step] and step not in run.before[p]), None)


def _what_can_be_undone_has_a_compensation(runs: _Runs) -> Iterator[Problem]:
    saga = runs.saga
    for step in saga.steps:
        if step.compensated is None and step.name not in saga.from_pivot:
            way = [*runs.to(step.name), _done(saga, step.name, step.emits[0]), Happening("abort", step.name)]
            yield Problem(
                "no compensation",
                f"step {step.name!r} comes before the pivot but names no compensation; "
                "name its event with 'compensated', or write \"compensated\": null where there is nothing to undo",
                tell(saga, way, f"{step.by} has to undo {step.name}, and there is no way to do so."),
            )


def _what_only_goes_forward_does_not_fail(runs: _Runs) -> Iterator[Problem]:
    saga = runs.saga
    for step in saga.steps:
        if step.name in saga.after_pivot and _may_fail(step):
            way = [*runs.to(step.name), Happening("failed", step.name, step.fails)]
            declared = f"fails with {short(step.fails)}" if step.fails else 'has "on_error": "fail"'
            yield Problem(
                "fails after the pivot",
                f"step {step.name!r} {declared}, but it comes after a pivot; let the pivot wait for it, or let it not fail",
                tell(saga, way, "The pivot is done: the workflow can neither go back nor go on."),
            )


def _every_wait_ends(runs: _Runs) -> Iterator[Problem]:
    """Under a deadline the initiator ends every wait; without one each step must bound its own."""
    saga = runs.saga
    for step in saga.steps:
        if saga.deadline is None and step.on and step.timeout is None:
            yield Problem(
                "waits for ever",
                f"step {step.name!r} has no timeout and the saga has no deadline; "
                "give the saga a 'deadline', or the step a 'timeout'",
                tell(saga, runs.to(step.name), f"{step.by} does not answer for {step.name}, and no clock ends the wait."),
            )


_RULES: tuple[Callable[[_Runs], Iterable[Problem]], ...] = (
    _every_step_can_be_triggered,
    _every_path_has_one_pivot,
    _alternatives_exclude_each_other,
    _nothing_stands_beside_the_pivot,
    _what_can_be_undone_has_a_compensation,
    _what_only_goes_forward_does_not_fail,
    _every_wait_ends,
)


def _first(runs: _Runs, breaks: Callable[[_Run, str], bool]) -> Iterator[tuple[str, _Run]]:
    """Each step that breaks a rule in some run, with the shortest such run."""
    for step in runs.saga.steps:
        found = [run for run in runs.all if step.name in run.emitted and breaks(run, step.name)]
        if found:
            yield step.name, min(found, key=lambda run: len(run.emitted))


def _may_fail(step: Step) -> bool:
    return step.fails is not None or step.on_error == "fail"


def _done(saga: Definition, step: str, event: str) -> Happening:
    return Happening("done" if saga[step].on else "start", step, event)
