"""A rebuild shared by several processes, each with lanes of its own, and how far they are together."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from saga.cli import output
from saga.cli.past.share import EVERY, End, Flag, Job, Progress, Share
from saga.cli.running.run import tame_allocator, tame_collector
from saga.clock import Clock, SystemClock
from saga.errors import SagaError

_SPAWN = multiprocessing.get_context("spawn")
OBJECTS = 1_000_000  # a batch makes fewer, so it is not searched for cycles while it grows
GIVING_WAY = 19  # to those who live on this machine: what they leave is enough


@dataclass(slots=True)
class Total:
    """What came of it: `marked` are workflows that are not whole, with what is missing of them."""

    records: int = 0
    is_complete: bool = True
    marked: dict[str, list[str]] = field(default_factory=dict)


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
        alone = Share(0, job, shares[0], stopping, pace.tell, Throttle(job.at_most or 0))
        for said in _together(job, shares, stopping) if len(shares) > 1 else alone.carried_out():
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
        for said in Share(number, job, lanes, stopping, told.put, Throttle(job.at_most or 0), turns).carried_out():
            told.put(said)
    except SagaError as error:
        told.put(End(number, 0, False, {}, str(error)))


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
