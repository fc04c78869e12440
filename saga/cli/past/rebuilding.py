"""A rebuild shared by several processes, each with lanes of its own, and how far they are together."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from saga import assembly
from saga.cli import arguments, output
from saga.cli.running.run import tame_allocator, tame_collector
from saga.clock import Clock, SystemClock
from saga.errors import SagaError
from saga.replay.rebuild import Rebuild
from saga.settings import Settings

_SPAWN = multiprocessing.get_context("spawn")
EVERY = 1.0
PAUSE = 0.2
ALONE = 60.0  # nobody waits for the rows of a database that is being rebuilt
OBJECTS = 1_000_000  # a batch makes fewer, so it is not searched for cycles while it grows
GIVING_WAY = 19  # to those who live on this machine: what they leave is enough


class Flag(Protocol):
    """An event of threading or of multiprocessing."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...


class Job(NamedTuple):
    """What each process is told."""

    target: str
    to: str
    broker: str | None
    evolve: bool
    until: datetime | None
    partial: bool
    follow: bool
    at_most: int | None


@dataclass(slots=True)
class Total:
    """What came of it: `marked` are workflows that are not whole, with what is missing of them."""

    records: int = 0
    is_complete: bool = True
    marked: dict[str, list[str]] = field(default_factory=dict)


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


class Throttle:
    """Holds a process up that reads more than so many records a second; 0 is without end.

    What was not read while the machine was busy is not caught up with, but for what takes a second.
    """

    def __init__(self, per_second: float, clock: Clock | None = None) -> None:
        self.per_second, self.clock = per_second, clock or SystemClock()
        self.read, self.due = 0, self.clock.monotonic()

    def __call__(self, read: int) -> None:
        if not self.per_second:
            return
        now = self.clock.monotonic()
        self.due = max(self.due, now - 1) + (read - self.read) / self.per_second
        self.read = read
        if self.due > now:
            self.clock.sleep(self.due - now)


def carry_out(job: Job, shares: Sequence[Sequence[int]]) -> Total:
    """Rebuild these lanes, one process for each share, telling on stderr how far they are; raises SagaError if one fails."""
    pace = _Pace(job.follow, len(shares))
    total = Total()
    with _interrupts(len(shares) > 1) as stopping:
        alone = _work(0, job, shares[0], stopping, pace.tell, Throttle(job.at_most or 0))
        for said in _together(job, shares, stopping) if len(shares) > 1 else alone:
            if isinstance(said, Progress):
                pace.tell(said)
                continue
            if said.failure is not None:
                raise SagaError(said.failure)
            total.records += said.read
            total.is_complete = total.is_complete and said.is_complete
            total.marked.update(said.marked)
    return total


def _together(job: Job, shares: Sequence[Sequence[int]], stopping: Flag) -> Iterator[Progress | End]:
    told: Any = _SPAWN.Queue()
    shared = stopping, told, _SPAWN.Lock()
    most = job.at_most and max(1, job.at_most // len(shares))
    workers = [
        _SPAWN.Process(target=_process, args=(n, job._replace(at_most=most), share, *shared)) for n, share in enumerate(shares)
    ]
    # Ctrl-C reaches them all, and those that are still starting would die of it: they begin deaf, and stay so
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        for worker in workers:
            worker.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        left = len(workers)
        while left:
            try:
                said = told.get(timeout=EVERY)
            except queue.Empty:
                if died := [n for n, worker in enumerate(workers) if worker.exitcode not in (None, 0)]:
                    yield End(died[0], 0, False, {}, f"process {died[0]} of the rebuild died; run the same command to go on")
                continue
            left -= isinstance(said, End)
            yield said
    finally:
        stopping.set()
        for worker in workers:
            worker.join()


def _process(number: int, job: Job, lanes: Sequence[int], stopping: Flag, told: Any, turns: Any) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):  # the first process hears of them and says so
        signal.signal(each, signal.SIG_IGN)
    os.nice(GIVING_WAY)
    tame_collector()
    gc.set_threshold(OBJECTS, 20, 50)
    tame_allocator()
    try:
        for said in _work(number, job, lanes, stopping, told.put, Throttle(job.at_most or 0), turns):
            told.put(said)
    except SagaError as error:
        told.put(End(number, 0, False, {}, str(error)))


def _work(
    number: int,
    job: Job,
    lanes: Sequence[int],
    stopping: Flag,
    tell: Callable[[Progress], None],
    throttle: Callable[[int], None],
    turns: AbstractContextManager[Any] | None = None,
) -> Iterator[Progress | End]:
    """One process's share, from its beginning to its end."""
    settings = Settings.load(database=job.to, broker=job.broker)
    participant = arguments.participant(job.target)
    if (registry := assembly.registry(settings)) is not None:
        participant.use(registry)
    store = assembly.store(settings, idle_timeout=ALONE)
    size, last = 0, 0.0

    def pace(read: int) -> None:
        nonlocal last
        throttle(read)
        if (now := time.monotonic()) - last >= EVERY:
            last = now
            tell(Progress(number, read, max(0, size - read)))

    try:
        one = Rebuild(
            participant, store, assembly.broker(settings), evolve=job.evolve, until=job.until, partial=job.partial,
            lanes=lanes, turns=turns, pace=pace,
        )  # fmt: skip
        one.start()
        size = one.left()
        one.catch_up(stopping.is_set)
        while job.follow and not stopping.is_set():
            yield Progress(number, one.read, one.left())
            time.sleep(PAUSE)
            size = one.read + one.left()
            one.catch_up(stopping.is_set)
        is_complete = job.follow or not stopping.is_set()
        if is_complete:
            one.catch_up()
        holes = one.finish() if is_complete else {}
        one.close()
        yield End(number, one.read, is_complete, {id: [hole.text for hole in found] for id, found in holes.items()})
    finally:
        store.close()


class _Pace:
    """Tells on stderr, once a second, how far all `processes` are, how fast, and how long it will take.

    The first word of each only says how much it has to read, so that the time of its start does not count.
    """

    def __init__(self, follow: bool, processes: int) -> None:
        self.follow, self.processes = follow, processes
        self.latest: dict[int, Progress] = {}
        self.began = self.told = time.monotonic()
        self.before = 0
        self._said = ""

    def tell(self, progress: Progress) -> None:
        """Take in what one of them says."""
        is_new = progress.process not in self.latest
        self.latest[progress.process] = progress
        read, left = (sum(numbers) for numbers in zip(*((p.read, p.left) for p in self.latest.values()), strict=True))
        now = time.monotonic()
        if is_new:
            self.began = self.told = now
            self.before = read
        if now - self.told < EVERY or len(self.latest) < self.processes:
            return
        self.told = now
        rate = (read - self.before) / (now - self.began)
        text = f"{read} of {read + left} records, {rate:.0f}/s"
        text += f", {output.duration(timedelta(seconds=left / rate))} left" if rate else ""
        if self.follow and not left:
            text = f"{read} records, up to date; stop the participant's workers, then Ctrl-C"
        if text != self._said:
            self._said = text
            output.progress(text)


@contextmanager
def _interrupts(several: bool) -> Iterator[Flag]:
    """SIGTERM and Ctrl-C stop it in an orderly way; `several` processes hear of it."""
    stopping: Flag = _SPAWN.Event() if several else threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
