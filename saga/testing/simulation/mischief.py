"""Participants whose handlers do as they always do, and besides raise or fail when they are told to.

What they really did is noted in the same transaction, so that effects can be counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import count
from typing import Any

from saga.contracts.event import Event
from saga.contracts.saga import Saga
from saga.participant.handler import Act as Deed
from saga.participant.handler import ExternalCall, Handler
from saga.participant.participant import Participant
from saga.testing.simulation.specimen import specimen

EFFECTS = """
CREATE TABLE simulated_effects
(moment INTEGER PRIMARY KEY, workflow TEXT NOT NULL, step TEXT NOT NULL, deed TEXT NOT NULL)
"""
_NOTE = "INSERT INTO simulated_effects VALUES (?, ?, ?, ?)"


class Simulated(Exception):
    """A handler that was told to raise."""


@dataclass(slots=True)
class Mischief:
    """What is still to go wrong: `raising` says how often, `broken` until it is repaired, `failing` which steps.

    `calls` are the idempotency keys with which each step called the world.
    """

    raising: dict[tuple[str, str, Deed], int] = field(default_factory=dict)
    broken: set[tuple[str, str, Deed]] = field(default_factory=set)
    failing: set[tuple[str, str]] = field(default_factory=set)
    calls: dict[tuple[str, str, Deed], set[str]] = field(default_factory=lambda: defaultdict(set))
    _moments: Iterator[int] = field(default_factory=lambda: count(1))

    def in_(self, participant: Participant) -> Participant:
        """A copy of the participant that is subject to this."""
        found = copy(participant)
        found.handlers = {key: self._spoilt(participant, handler) for key, handler in participant.handlers.items()}
        return found

    def repair(self) -> None:
        """Nothing is broken any more."""
        self.broken.clear()

    def _spoilt(self, participant: Participant, handler: Handler) -> Handler:
        failure = _failure(participant.versions.saga_of(handler.version), handler)

        @wraps(handler.function)
        def called(*arguments: Any) -> Any:
            ending = self._before(handler, failure, arguments)
            return handler.function(*arguments) if ending is None else ending

        @wraps(handler.function)
        async def awaited(*arguments: Any) -> Any:
            ending = self._before(handler, failure, arguments)
            return await handler.function(*arguments) if ending is None else ending

        return replace(handler, function=awaited if handler.asynchronous else called)

    def _before(self, handler: Handler, failure: Event | None, arguments: Sequence[Any]) -> Event | None:
        last = arguments[-1]
        if handler.batch:  # one call for many workflows cannot fail for one of them and take effect for the others
            for one in last.workflow_ids:
                self._call(handler, one, arguments)
            return None
        self._call(handler, last.workflow_id, arguments)
        return failure if (last.workflow_id, handler.step) in self.failing else None

    def _call(self, handler: Handler, workflow: str, arguments: Sequence[Any]) -> None:
        last, key = arguments[-1], (workflow, handler.step, handler.act)
        if isinstance(last, ExternalCall):
            self.calls[key].add(last.idempotency_key)
        else:
            deed = handler.act.value
            if handler.act is Deed.RECORDING:  # which is called for the action's outcome and for the compensation's
                deed = f"{deed} of {type(arguments[0]).__name__}"
            last.execute(_NOTE, (next(self._moments), workflow, handler.step, deed))
        if self.raising.get(key, 0) > 0:
            self.raising[key] -= 1
            raise Simulated(f"{handler.step} is unlucky with {workflow}")
        if key in self.broken:
            raise Simulated(f"{handler.step} is broken for {workflow}")


def _failure(saga: Saga, handler: Handler) -> Event | None:
    """The step's business failure, made of its contract; None where it has none."""
    step = saga[handler.step]
    view = next((view for view, name in handler.results.items() if name == step.fails), None)
    if view is None or handler.act is not Deed.ACTION or step.fails is None:
        return None
    return view.model_validate(specimen(saga, step.fails))
