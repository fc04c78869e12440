"""Everything that can happen in a workflow, found by asking `decide`: each order of success, failure, waiting and abort.

What keeps the search small and loses nothing: facts come in together with the action that they bring about, since what changes
nothing commutes with everything. So a participant either does not know of the abort, and has heard of all that was done, or it
knows, and has heard everything. It need not act at once, which covers parked handlers and slow services. Closing is not a move
but a claim, checked wherever it is made: whatever a participant could do while it has not yet closed must be right as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from saga.protocol.decide import Action, Close
from saga.protocol.definition import Definition
from saga.protocol.facts import Fact, FactStatus, StepStatus, WorkflowStatus
from saga.protocol.site import Board, Decide, Fence, Move, Site, Wrong
from saga.protocol.story import Happening, Problem, listed, tell

_STANDING = frozenset({StepStatus.RUNNING, StepStatus.DONE, StepStatus.COMPENSATING})


class _State(NamedTuple):
    """`sites`: the number of each participant's row of fences; `published`: a set of facts; `aware`: of participants."""

    sites: tuple[int, ...]
    published: int
    aware: int


class Exploration:
    """A breadth-first search, so that the fault it finds first has a shortest story."""

    def __init__(self, saga: Definition, decide: Decide) -> None:
        self.saga = saga
        self.board = Board(saga)
        self.sites = [Site(saga, name, decide, self.board) for name in sorted(saga.participants)]
        self.came: dict[_State, tuple[_State | None, Happening]] = {}

    @property
    def states(self) -> int:
        return len(self.came)

    def problem(self) -> Problem | None:
        """The first way in which a workflow goes wrong; None when none does."""
        abort = Happening("abort", self.saga.root.name)
        queue = deque(self._begin())
        while queue:
            state = queue.popleft()
            idle = True
            for move, after in self._moves(state):
                idle = idle and after == state
                if wrong := move.wrong or self._wrong(state, move, after):
                    return self._told(state, move.happening, wrong)
                self._note(queue, after, state, move.happening)
            if idle and (wrong := self._unfinished(state)):
                return self._told(state, None, wrong)
            self._note(queue, state._replace(published=state.published | self.board.abort), state, abort)
        return None

    def _begin(self) -> Iterator[_State]:
        root = self.saga.root
        for event in root.emits:
            started = Fence(StepStatus.DONE, event)
            rows = ([started if step is root else Fence() for step in site.steps] for site in self.sites)
            numbers = tuple(site.number(tuple(row)) for site, row in zip(self.sites, rows, strict=True))
            state = _State(numbers, self.board.bit[Fact(root.name, FactStatus.DONE, event)], 0)
            self.came[state] = None, Happening("start", root.name, event)
            yield state

    def _moves(self, state: _State) -> Iterator[tuple[Move, _State]]:
        rows, published, aware = state
        for index, site in enumerate(self.sites):
            flag = 1 << index
            for move in site.moves(rows[index], published, bool(aware & flag)):
                moved = (*rows[:index], move.row, *rows[index + 1 :])
                yield move, _State(moved, published | move.states, aware | flag if move.aware else aware)

    def _note(self, queue: deque[_State], after: _State, state: _State, happening: Happening) -> None:
        if after not in self.came:
            self.came[after] = state, happening
            queue.append(after)

    def _wrong(self, state: _State, move: Move, after: _State) -> Wrong | None:
        kind, step, *_ = move.happening
        if kind == "close":
            return self.board.claim(WorkflowStatus(move.happening.event or ""), state.published)
        if kind in ("undo", "undone") and (standing := self._standing(state, self.saga.successors[step])):
            return Wrong("undone too early", f"{step} is undone although {listed(standing)}, which built on it, still stands.")
        if move.states and (wrong := self.board.contradiction(after.published)):
            return wrong
        undone = after.published & self.board.undone[self.saga.root.name]
        if undone and (standing := self._standing(after, (s.name for s in self.saga.steps))):
            return Wrong("left done", f"The workflow ends compensated, but {listed(standing)} still stands.")
        return None

    def _standing(self, state: _State, steps: Iterable[str]) -> list[str]:
        fences = dict(pair for site, row in zip(self.sites, state.sites, strict=True) for pair in site.fences(row).items())
        return [step for step in steps if step in fences and fences[step].status in _STANDING]

    def _unfinished(self, state: _State) -> Wrong | None:
        """Nothing can happen any more: everybody must be able to close, and to the same end."""
        rows = zip(self.sites, state.sites, strict=True)
        ends = {site.name: _end(site.asks(row, state.published)) for site, row in rows}
        if open_ := [name for name, end in ends.items() if end is None]:
            text = f"Nothing more can happen by itself, and for {listed(open_)} the workflow is still open."
            advice = f"Let every event lead on to the completing step, {self.saga.sink.name}."
            return Wrong("deadlock", text, advice)
        if len(set(ends.values())) > 1:
            said = listed(f"{name} says {end}" for name, end in ends.items())
            return Wrong("two ends", f"The participants disagree on how the workflow ended: {said}.")
        return None

    def _told(self, state: _State, final: Happening | None, wrong: Wrong) -> Problem:
        happenings = [final] if final and final.kind != "close" else []
        at: _State | None = state
        while at is not None:
            at, happening = self.came[at]
            happenings.append(happening)
        return Problem(wrong.rule, f"{wrong.text} {wrong.advice}", tell(self.saga, reversed(happenings), wrong.text))


def _end(asked: tuple[Action, ...]) -> WorkflowStatus | None:
    match asked:
        case (Close(outcome),):
            return outcome
    return None
