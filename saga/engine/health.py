"""How a worker is, as a value. What is away makes it degraded; only the worker itself can be dead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """From the best to the worst."""

    READY = "ready"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    DEAD = "dead"


_ORDER = tuple(State)


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a worker does or depends on; `text` is for people.

    Stopped is what does not go on by itself, such as a lane before a record it cannot read; dead is what a new process may
    cure, such as a thread that ended.
    """

    name: str
    state: State
    text: str


@dataclass(frozen=True, slots=True)
class Health:
    """All parts of one worker, or of what it depends on."""

    participant: str
    saga: str
    parts: tuple[Part, ...]

    @property
    def state(self) -> State:
        """Ready, degraded or dead: a part that stopped leaves the others at work."""
        worst = max((part.state for part in self.parts), key=_ORDER.index, default=State.READY)
        return State.DEGRADED if worst is State.STOPPED else worst

    @property
    def alive(self) -> bool:
        """False where a new process may help; what is away is no reason to die."""
        return self.state is not State.DEAD

    @property
    def ready(self) -> bool:
        """Whether everything is as it should be."""
        return self.state is State.READY

    @property
    def reasons(self) -> list[str]:
        """What is not ready, in words, the worst first."""
        wrong = sorted((p for p in self.parts if p.state is not State.READY), key=lambda p: -_ORDER.index(p.state))
        return [f"{part.name}: {part.text}" for part in wrong]
