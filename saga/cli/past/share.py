"""One process's share of a rebuild: some lanes, from their beginning to their end, and what it says of them meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from saga import assembly
from saga.cli import arguments
from saga.clock import Clock, SystemClock
from saga.errors import SagaError
from saga.replay.gathering import Pace
from saga.replay.projector import is_outage
from saga.replay.rebuild import Rebuild
from saga.settings import Settings

EVERY = 1.0
PAUSE = 0.2
ALONE = 60.0  # nobody waits for the rows of a database that is being rebuilt


class Flag(Protocol):
    """An event of threading or of multiprocessing."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...


class Job(NamedTuple):
    """What each process is told; `at_most` is in records a second, None where it is to be polite instead."""

    target: str
    to: str
    broker: str | None
    evolve: bool
    until: datetime | None
    partial: bool
    follow: bool
    at_most: float | None


class Progress(NamedTuple):
    """How far one process is: records read, and left as far as it knows."""

    process: int
    read: int
    left: int


class End(NamedTuple):
    """How one process ended; `failure` says why it could not go on."""

    process: int
    read: int
    is_complete: bool
    marked: Mapping[str, list[str]]
    failure: str | None = None


@contextmanager
def _gone_on_with() -> Iterator[None]:
    """Whose server goes away is told that nothing is lost by it."""
    try:
        yield
    except SagaError as error:
        if not is_outage(error):
            raise
        raise SagaError(f"{str(error).rstrip('.')}. What was committed is kept; run the same command to go on") from error


@dataclass(slots=True)
class Share:
    """`lanes` in the process with this `number`, until all is read or it is told to stop.

    `tell` is told once a second how far it is, `hold` may hold it up at every piece of work, `turns` are those of `Rebuild`.
    """

    number: int
    job: Job
    lanes: Sequence[int]
    stopping: Flag
    tell: Callable[[Progress], None]
    hold: Pace
    turns: AbstractContextManager[Any] | None = None
    clock: Clock = field(default_factory=SystemClock)
    size: int = 0
    told: float = 0.0

    def carried_out(self) -> Iterator[Progress | End]:
        """Do it; what comes last is how it ended."""
        with _gone_on_with(), self._opened() as rebuild:
            rebuild.start()
            self.size = rebuild.left()
            rebuild.catch_up(self.stopping.is_set)
            if self.job.follow:
                yield from self._followed(rebuild)
            yield self._ended(rebuild)

    @contextmanager
    def _opened(self) -> Iterator[Rebuild]:
        job, settings = self.job, Settings.load(database=self.job.to, broker=self.job.broker)
        participant = arguments.participant(job.target)
        if (registry := assembly.registry(settings)) is not None:
            participant.use(registry)
        with closing(assembly.store(settings, idle_timeout=ALONE)) as store:
            yield Rebuild(
                participant, store, assembly.broker(settings), evolve=job.evolve, until=job.until, partial=job.partial,
                lanes=self.lanes, turns=self.turns, pace=self._pace,
            )  # fmt: skip

    def _pace(self, read: int) -> None:
        self.hold(read)
        if (now := self.clock.monotonic()) - self.told >= EVERY:
            self.told = now
            self.tell(Progress(self.number, read, max(0, self.size - read)))

    def _followed(self, rebuild: Rebuild) -> Iterator[Progress]:
        """Go on with what is published meanwhile."""
        while not self.stopping.is_set():
            yield Progress(self.number, rebuild.read, rebuild.left())
            self.clock.sleep(PAUSE)
            self.size = rebuild.read + rebuild.left()
            rebuild.catch_up(self.stopping.is_set)

    def _ended(self, rebuild: Rebuild) -> End:
        """Bring it to an end that can be put in place, unless it was stopped before all was read."""
        is_complete = self.job.follow or not self.stopping.is_set()
        if is_complete:
            rebuild.catch_up()
        holes = rebuild.finish() if is_complete else {}
        return End(self.number, rebuild.read, is_complete, {id: [one.text for one in found] for id, found in holes.items()})
