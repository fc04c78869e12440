"""A schedule drawn from a seed: the same seed, participants and options always give the same one."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from saga.contracts.saga import Saga
from saga.errors import DefinitionError
from saga.failpoints import Failpoint
from saga.participant.handler import Act as Deed
from saga.participant.participant import Participant
from saga.testing.simulation.act import (
    Abort,
    Act,
    Break,
    Crash,
    CrashAt,
    Cut,
    Deploy,
    Disturb,
    Duplicate,
    Fail,
    Heal,
    Hold,
    Join,
    Leave,
    Operate,
    Overtake,
    Prune,
    Raise,
    Refuse,
    Schedule,
    Stall,
    Start,
    StoreFault,
    Turn,
    Wait,
)


class Kind(StrEnum):
    """Kinds of trouble that a simulation may make, all of them if nothing is said."""

    FAIL = "fail"  # steps fail for business reasons
    RAISE = "raise"  # handlers raise
    CRASH = "crash"  # processes die between turns and at every failpoint
    STALL = "stall"  # processes stop, are taken over and go on
    REBALANCE = "rebalance"  # processes join and leave
    DUPLICATE = "duplicate"  # records come twice
    REORDER = "reorder"  # one topic lags behind the others
    DELIVERY = "delivery"  # single records are not delivered
    CUT = "cut"  # participants lose the broker for a while
    DATABASE = "database"  # transactions end in conflict, failure, or nobody knows how
    ABORT = "abort"  # workflows are asked to unwind
    PRUNE = "prune"  # a month passes, and participants forget what had ended before
    DEPLOY = "deploy"  # releases that know other versions are deployed and taken back
    SLOW = "slow"  # participants that hardly ever turn

    @classmethod
    def read(cls, names: Collection[str]) -> frozenset[Kind]:
        """The kinds of these names; raises DefinitionError for others."""
        if unknown := sorted(set(names) - set(cls)):
            raise DefinitionError(f"found fault {', '.join(unknown)}; expected some of {', '.join(cls)}")
        return frozenset(map(cls, names))


# where another process can work meanwhile: no transaction is open there
_BETWEEN = (None, Failpoint.UNIT_COMMITTED, Failpoint.RELAY_ACKNOWLEDGED, Failpoint.OFFSETS_UNCOMMITTED)
_SLOWEST, _FASTEST = 0.15, 1.0
_MONTH = 31 * 86400.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """What schedules are drawn of: `acts` of them on `workflows` of this fleet, with trouble of these kinds."""

    saga: Saga
    participants: Sequence[Participant]
    workflows: int = 10
    acts: int = 120
    kinds: frozenset[Kind] = frozenset(Kind)
    liveness: bool = False

    def draw(self, seed: int) -> Schedule:
        dice = random.Random(f"{self.saga.name} {seed}")  # noqa: S311 - a seed is what is wanted
        found: list[Act] = [*self._misfortunes(dice)]
        if Kind.DEPLOY in self.kinds:
            found += [Deploy(participant.name, dice.random()) for participant in self.participants]
        names = [participant.name for participant in self.participants]
        paces = [dice.uniform(_SLOWEST, _FASTEST) if Kind.SLOW in self.kinds else 1.0 for _ in names]
        troubles, started = [draw for kind, draw in _TROUBLES.items() if kind in self.kinds], 0
        # most seeds have few kinds of trouble, so that each is also met alone
        troubles = dice.sample(troubles, dice.randint(0, len(troubles)))
        starts = sorted(dice.randrange(max(1, self.acts * 2 // 3)) for _ in range(self.workflows))
        for moment in range(self.acts):
            while started < self.workflows and starts[started] <= moment:
                found.append(Start(started))
                started += 1
            if troubles and dice.random() < 0.3:
                found += dice.choice(troubles)(dice, dice.choice(names), started)
            elif dice.random() < 0.15:
                found.append(Wait(dice.choice([0.1, 1, 10])))
            else:
                found.append(Turn(dice.choices(names, paces)[0], int(dice.random() < 0.2)))
        return tuple(found)

    def _misfortunes(self, dice: random.Random) -> list[Act]:
        """What will go wrong in handlers, step by step."""
        found: list[Act] = []
        for number in range(self.workflows):
            if self.liveness and number % 3 == 0:
                found.append(Break(number, *dice.choice(self._handlers())))
            if Kind.FAIL in self.kinds and (fallible := [s.name for s in self.saga.steps if s.fails]) and dice.random() < 0.4:
                found.append(Fail(number, dice.choice(fallible)))
            if Kind.RAISE in self.kinds and dice.random() < 0.4:
                key = dice.choice(self._handlers())
                found.append(Raise(number, *key, dice.randint(1, 8)))
        return found

    def _handlers(self) -> list[tuple[str, Deed]]:
        keys = {(step, deed) for one in self.participants for _, step, deed in one.handlers}
        return sorted((key for key in keys if key[1] is not Deed.RECORDING), key=lambda key: (key[0], key[1].value))


def _crash(dice: random.Random, name: str, started: int) -> list[Act]:
    return [Crash(name) if dice.random() < 0.3 else CrashAt(name, dice.choice(list(Failpoint)), dice.randint(1, 2))]


def _rebalance(dice: random.Random, name: str, started: int) -> list[Act]:
    return [Join(name) if dice.random() < 0.5 else Leave(name)]


def _reorder(dice: random.Random, name: str, started: int) -> list[Act]:
    return [Hold(name, dice.randrange(2)) if dice.random() < 0.6 else Heal(name)]


def _cut(dice: random.Random, name: str, started: int) -> list[Act]:
    return [Cut(name) if dice.random() < 0.4 else Heal(name)]


def _disturb(dice: random.Random, name: str, started: int) -> list[Act]:
    return [Disturb(name, dice.choice(list(StoreFault))), Turn(name)]


def _abort(dice: random.Random, name: str, started: int) -> list[Act]:
    return [Abort(name, dice.randrange(started))] if started and dice.random() < 0.4 else []


def _prune(dice: random.Random, name: str, started: int) -> list[Act]:
    passing: list[Act] = [Wait(_MONTH)] if dice.random() < 0.3 else []
    disturbed: list[Act] = [Disturb(name, dice.choice(list(StoreFault)))] if dice.random() < 0.3 else []
    return [*passing, *disturbed, Prune(name)]


_Draw = Callable[[random.Random, str, int], list[Act]]
_TROUBLES: dict[Kind, _Draw] = {
    Kind.CRASH: _crash,
    Kind.STALL: lambda dice, name, started: [Join(name), Stall(name, dice.choice(_BETWEEN))],
    Kind.REBALANCE: _rebalance,
    Kind.DUPLICATE: lambda dice, name, started: [Duplicate(dice.random())],
    Kind.REORDER: _reorder,
    Kind.DELIVERY: lambda dice, name, started: [Overtake() if dice.random() < 0.5 else Refuse(name)],
    Kind.CUT: _cut,
    Kind.DATABASE: _disturb,
    Kind.ABORT: _abort,
    Kind.PRUNE: _prune,
    Kind.DEPLOY: lambda dice, name, started: [Deploy(name, dice.random())],
    Kind.RAISE: lambda dice, name, started: [Operate(name)] if dice.random() < 0.3 else [],
}
