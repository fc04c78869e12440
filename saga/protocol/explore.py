"""Everything that can happen in a workflow, found by asking `decide`: each order of success, failure, waiting and abort.

What keeps the search small and loses nothing: facts come in together with the action that they bring about, since what changes
nothing commutes with everything. So a participant either does not know of the abort, and has heard of all that was done, or it
knows, and has heard everything. It need not act at once, which covers parked handlers and slow services. Closing is not a move
but a claim, checked wherever it is made: whatever a participant could do while it has not yet closed must be right as well.
And of the situations in which participants that play the same part have changed places, one is looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import prod

from saga.protocol.alike import Part, State, alike
from saga.protocol.decide import Action, Close
from saga.protocol.definition import Definition
from saga.protocol.facts import Fact, FactStatus, StepStatus, WorkflowStatus
from saga.protocol.site import Board, Decide, Fence, Move, Site, Wrong
from saga.protocol.story import Happening, Problem, listed
from saga.protocol.story import tell as story

_STANDING = frozenset({StepStatus.RUNNING, StepStatus.DONE, StepStatus.COMPENSATING})


class Exploration:
    """A breadth-first search, so that the fault it finds first has a shortest story; `decide` must not go by names.

    `states` counts the situations that were found, those as well for which another one stands; `tell` is told of them again and
    again.
    """

    def __init__(self, saga: Definition, decide: Decide, tell: Callable[[int], None] = lambda _: None) -> None:
        self.saga, self.tell = saga, tell
        self.board = Board(saga)
        self.sites = [Site(saga, name, decide, self.board) for name in sorted(saga.participants)]
        self.parts = [Part(saga, names, self.sites, self.board) for names in alike(saga)]
        self.came: dict[State, State | None] = {}
        self.states = 0

    def problem(self) -> Problem | None:
        """The first way in which a workflow goes wrong; None when none does."""
        queue: deque[State] = deque()
        for _, state in self._beginnings():
            self._note(queue, state, None)
        while queue:
            state = queue.popleft()
            self.tell(self.states)
            idle = True
            for move, after in self._moves(state):
                idle = idle and after == state
                if move.wrong or self._wrong(state, move, after):
                    return self._told(state)
                self._note(queue, after, state)
            if idle and self._unfinished(state):
                return self._told(state)
            self._note(queue, self._aborted(state), state)
        return None

    def _beginnings(self) -> Iterator[tuple[Happening, State]]:
        root = self.saga.root
        for event in root.emits:
            started = Fence(StepStatus.DONE, event)
            rows = ([started if step is root else Fence() for step in site.steps] for site in self.sites)
            numbers = tuple(site.number(tuple(row)) for site, row in zip(self.sites, rows, strict=True))
            state = State(numbers, self.board.bit[Fact(root.name, FactStatus.DONE, event)], 0)
            yield Happening("start", root.name, event), state

    def _moves(self, state: State) -> Iterator[tuple[Move, State]]:
        rows, published, aware = state
        for index, site in enumerate(self.sites):
            flag = 1 << index
            for move in site.moves(rows[index], published, bool(aware & flag)):
                moved = (*rows[:index], move.row, *rows[index + 1 :])
                yield move, State(moved, published | move.states, aware | flag if move.aware else aware)

    def _aborted(self, state: State) -> State:
        return state._replace(published=state.published | self.board.abort)

    def _note(self, queue: deque[State], after: State, state: State | None) -> None:
        after = self._ordered(after)
        if after not in self.came:
            self.came[after] = state
            self.states += prod(part.stands_for(after) for part in self.parts)
            queue.append(after)

    def _ordered(self, state: State) -> State:
        """The situation that stands for this one and for all in which the like have changed places."""
        for part in self.parts:
            state = part.ordered(state)
        return state

    def _wrong(self, state: State, move: Move, after: State) -> Wrong | None:
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

    def _standing(self, state: State, steps: Iterable[str]) -> list[str]:
        fences = dict(pair for site, row in zip(self.sites, state.sites, strict=True) for pair in site.fences(row).items())
        return [step for step in steps if step in fences and fences[step].status in _STANDING]

    def _unfinished(self, state: State) -> Wrong | None:
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

    def _told(self, state: State) -> Problem:
        """What is wrong in this situation, and a run that leads to it, in which everybody keeps their place."""
        way: list[State] = []
        at: State | None = state
        while at is not None:
            way.append(at)
            at = self.came[at]
        happenings, here = [], None
        for wanted in reversed(way):
            follows = self._beginnings() if here is None else self._follows(here)
            happening, here = next((told, after) for told, after in follows if self._ordered(after) == wanted)
            happenings.append(happening)
        assert here is not None
        final, wrong = self._fault(here)
        happenings += [final] if final and final.kind != "close" else []
        return Problem(wrong.rule, f"{wrong.text} {wrong.advice}", story(self.saga, happenings, wrong.text))

    def _follows(self, state: State) -> Iterator[tuple[Happening, State]]:
        yield from ((move.happening, after) for move, after in self._moves(state))
        yield Happening("abort", self.saga.root.name), self._aborted(state)

    def _fault(self, state: State) -> tuple[Happening | None, Wrong]:
        for move, after in self._moves(state):
            if wrong := move.wrong or self._wrong(state, move, after):
                return move.happening, wrong
        unfinished = self._unfinished(state)
        assert unfinished is not None
        return None, unfinished


def _end(asked: tuple[Action, ...]) -> WorkflowStatus | None:
    match asked:
        case (Close(outcome),):
            return outcome
    return None
