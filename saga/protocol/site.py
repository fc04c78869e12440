"""One participant of an explored workflow: what it can do next, whatever it has heard and whatever its handlers answer.

Facts are bits of a number here, because an exploration holds very many sets of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from saga.protocol.decide import Action, Close, Compensate, FenceView, Refuse, Run, Skip, Withdraw
from saga.protocol.definition import Definition, Step
from saga.protocol.facts import REPORTS, Fact, FactStatus, StepStatus, WorkflowStatus, audience
from saga.protocol.story import Happening, Kind, listed

Decide = Callable[[Definition, str, Collection[Fact], Mapping[str, FenceView]], tuple[Action, ...]]


class Fence(NamedTuple):
    """An own step, as `decide` sees it, and the event with which it was done."""

    status: StepStatus = StepStatus.IDLE
    event: str | None = None
    pending: bool = False
    refused: bool = False


class Wrong(NamedTuple):
    """A rule of the protocol that was broken, how, and what the author of the saga can do about it."""

    rule: str
    text: str
    advice: str = "This must not happen to any saga: please report it."


class Move(NamedTuple):
    """What a participant can do next: its row of fences then, the fact it states, and whether it knows of the abort then."""

    happening: Happening
    row: int
    states: int = 0
    aware: bool = False
    wrong: Wrong | None = None


class Board:
    """The facts of a saga as bits, and what a set of them must not say."""

    def __init__(self, saga: Definition) -> None:
        self.saga = saga
        done = [Fact(step.name, FactStatus.DONE, event) for step in saga.steps for event in step.emits]
        others = (FactStatus.SKIPPED, FactStatus.FAILED, FactStatus.COMPENSATED, FactStatus.REFUSED)
        rest = [Fact(step.name, status) for step in saga.steps for status in others]
        facts = [*done, *rest, Fact(saga.root.name, FactStatus.ABORT)]
        self.bit = {fact: 1 << index for index, fact in enumerate(facts)}
        self.abort = self.bit[facts[-1]]
        self.abortive = self.all(lambda fact: fact.status in REPORTS | {FactStatus.ABORT})
        self.undone = {s.name: self.bit[Fact(s.name, FactStatus.COMPENSATED)] for s in saga.steps}
        self.done = {s.name: sum(self.bit[Fact(s.name, FactStatus.DONE, event)] for event in s.emits) for s in saga.steps}
        event = {fact.event: self.bit[fact] for fact in done}
        self.joins = {s.name: [sum(event[e] for e in join) for join in s.on] for s in saga.steps}

    def of(self, participant: str) -> list[int]:
        """The bits of its own facts, step by step; those of participants that play the same part pair."""
        facts = [fact for step in self.saga.owned(participant) for fact in self.bit if _is_of(fact, step)]
        return [self.bit[fact] for fact in facts]

    def all(self, wanted: Callable[[Fact], bool]) -> int:
        return sum(bit for fact, bit in self.bit.items() if wanted(fact))

    def read(self, bits: int) -> frozenset[Fact]:
        return frozenset(fact for fact, bit in self.bit.items() if bits & bit)

    def claim(self, end: WorkflowStatus, published: int) -> Wrong | None:
        """What is wrong with closing as `end`."""
        if end is WorkflowStatus.COMPLETED:
            true = self._among(self.saga.pivots, self.done, published)
        else:
            true = self._among([self.saga.root.name], self.undone, published)
        return None if true else Wrong("closed too early", f"A participant takes the workflow for {end}, which it is not.")

    def contradiction(self, published: int) -> Wrong | None:
        pivots, undone = (self._among(s, w, published) for s, w in ((self.saga.pivots, self.done), (self.undone, self.undone)))
        if pivots and undone:
            text = f"{listed(pivots)} is done, so there was no way back; but {listed(undone)} is undone."
            return Wrong("done and undone", text)
        if published & self.done[self.saga.sink.name] and (open_ := self._open(published)):
            text = f"The workflow ends completed, but {listed(open_)} was triggered and is not done."
            advice = f"Let the completing step, {self.saga.sink.name}, wait for every step that can be triggered."
            return Wrong("left open", text, advice)
        return None

    def _open(self, published: int) -> list[str]:
        triggered = (name for name, joins in self.joins.items() if any(join & published == join for join in joins))
        return [name for name in triggered if not published & self.done[name]]

    def _among(self, steps: Collection[str], bits: Mapping[str, int], published: int) -> list[str]:
        return sorted(name for name in steps if published & bits[name])


def _is_of(fact: Fact, step: Step) -> bool:
    return fact.step == step.name and fact.status is not FactStatus.ABORT


class Site:
    """One participant: the rows of fences it can have, by number, and what it can do next in each."""

    def __init__(self, saga: Definition, name: str, decide: Decide, board: Board) -> None:
        self.saga, self.name, self.decide, self.board = saga, name, decide, board
        self.steps = saga.owned(name)
        self.hears = board.all(lambda fact: name in audience(saga, fact))
        self.rows: list[tuple[Fence, ...]] = []
        self.numbers: dict[tuple[Fence, ...], int] = {}
        self.remembered: dict[tuple[int, int, bool], tuple[Move, ...]] = {}

    def number(self, row: tuple[Fence, ...]) -> int:
        if row not in self.numbers:
            self.numbers[row] = len(self.rows)
            self.rows.append(row)
        return self.numbers[row]

    def fences(self, row: int) -> Mapping[str, Fence]:
        """The own steps that are not idle."""
        named = zip(self.steps, self.rows[row], strict=True)
        return {step.name: fence for step, fence in named if fence.status is not StepStatus.IDLE}

    def asks(self, row: int, heard: int) -> tuple[Action, ...]:
        return self.decide(self.saga, self.name, self.board.read(heard & self.hears), self.fences(row))

    def moves(self, row: int, published: int, aware: bool) -> tuple[Move, ...]:
        key = row, published & self.hears, aware
        if key not in self.remembered:
            self.remembered[key] = tuple(self._returned(row, aware)) + tuple(self._carried_out(*key))
        return self.remembered[key]

    def _returned(self, row: int, aware: bool) -> Iterator[Move]:
        """External calls come back, and so does the world that a handler waits for."""
        for step, fence in zip(self.steps, self.rows[row], strict=True):
            moment = _Moment(self, row, step, fence, aware)
            if fence.status is StepStatus.RUNNING:
                yield from moment.ends(waits=not fence.pending)
            elif fence.status is StepStatus.COMPENSATING and not fence.pending:
                yield moment.move("undone", fence._replace(status=StepStatus.COMPENSATED), FactStatus.COMPENSATED)

    def _carried_out(self, row: int, heard: int, aware: bool) -> Iterator[Move]:
        """What `decide` asks for, before and after it has heard of the abort."""
        known = self.asks(row, heard if aware else heard & ~self.board.abortive)
        for action in known:
            yield from self._act(row, action, aware)
        if not aware and heard & self.board.abortive:
            for action in self.asks(row, heard):
                if action not in known:
                    yield from self._act(row, action, True, heard=True)

    def _act(self, row: int, action: Action, aware: bool, *, heard: bool = False) -> Iterator[Move]:
        if isinstance(action, Close):
            yield Move(Happening("close", "", action.outcome), row, aware=aware)
        else:
            step = self.saga[action.step]
            fence = self.fences(row).get(step.name, Fence())
            yield from _Moment(self, row, step, fence, aware, heard).act(action)


@dataclass(frozen=True, slots=True)
class _Moment:
    """A step of a participant whose turn it is."""

    site: Site
    row: int
    step: Step
    fence: Fence
    aware: bool
    heard: bool = False

    def act(self, action: Run | Skip | Withdraw | Compensate | Refuse) -> Iterator[Move]:
        if wrong := self._wrong(action):
            yield self.move("close", self.fence)._replace(wrong=wrong)
            return
        match action:
            case Run() if self.step.external:
                yield self.move("begin", Fence(StepStatus.RUNNING))
            case Run():
                yield from self.ends(waits=True)
            case Skip():
                yield self.move("skip", Fence(StepStatus.SKIPPED), FactStatus.SKIPPED)
            case Withdraw():
                yield self.move("withdraw", Fence(StepStatus.COMPENSATING, pending=True))
            case Compensate() if self.step.external:
                yield self.move("undo", self.fence._replace(status=StepStatus.COMPENSATING, pending=False))
            case Compensate():
                undone = self.fence._replace(status=StepStatus.COMPENSATED, pending=False)
                yield self.move("undone", undone, FactStatus.COMPENSATED)
            case Refuse():
                yield self.move("refuse", self.fence._replace(refused=True), FactStatus.REFUSED)

    def ends(self, *, waits: bool) -> Iterator[Move]:
        """However the action may end: each of its events, its failure, or waiting for the world."""
        for event in self.step.emits:
            yield self.move("done", Fence(StepStatus.DONE, event), FactStatus.DONE)
        if self.step.fails or self.step.on_error == "fail":
            yield self.move("failed", Fence(StepStatus.FAILED, self.step.fails), FactStatus.FAILED)._replace(aware=True)
        if waits:
            yield self.move("pending", Fence(StepStatus.RUNNING, pending=True))

    def move(self, kind: Kind, fence: Fence, states: FactStatus | None = None) -> Move:
        steps = zip(self.site.steps, self.site.rows[self.row], strict=True)
        row = tuple(fence if step is self.step else own for step, own in steps)
        event = fence.event if states in (FactStatus.DONE, FactStatus.FAILED) else None
        fact = Fact(self.step.name, states, event if states is FactStatus.DONE else None) if states else None
        stated = self.site.board.bit[fact] if fact else 0
        return Move(Happening(kind, self.step.name, event, self.heard), self.site.number(row), stated, self.aware)

    def _wrong(self, action: Action) -> Wrong | None:
        name, status, who = self.step.name, self.fence.status, self.step.by
        match action:
            case Run() if status is not StepStatus.IDLE:
                return Wrong("run after all", f"{who} runs {name}, although it is {status}.")
            case Skip() if name in self.site.saga.after_pivot:
                return Wrong("skipped after the pivot", f"{who} skips {name}, although it comes after a pivot.")
            case Compensate() if self.step.compensated is None:
                return Wrong("no compensation", f"{who} has to undo {name}, and there is no way to do so.")
            case Compensate() if status not in (StepStatus.DONE, StepStatus.COMPENSATING):
                return Wrong("undone without need", f"{who} undoes {name}, although it is {status}.")
        return None
