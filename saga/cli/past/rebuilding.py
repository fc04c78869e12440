"""A rebuild shared by several processes, each with lanes of its own, and how far they are together."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from saga.cli import output
from saga.cli.past.share import EVERY, End, Flag, Job, Progress, Share
from saga.cli.running.run import tame_allocator, tame_collector
from saga.count import many
from saga.errors import SagaError
from saga.replay.courtesy import Courtesy, Neighbour, Throttle
from saga.replay.gathering import Pace
from saga.signals import asked_to_end
from saga.span import rough

_FORKS = multiprocessing.get_context("forkserver")
_LOADED = (__name__, "saga.cli.past.rebuild", "saga.contracts.avro", "saga.store.postgres", "saga.transport.kafka")
"""What every process needs and may be copied: nothing of the service's own, which may have begun something at its import."""
OBJECTS = 1_000_000  # a batch makes fewer, so it is not searched for cycles while it grows
GIVING_WAY = 19  # to those who live on this machine: what they leave is enough


@dataclass(slots=True)
class Total:
    """What came of it: `marked` are workflows that are not whole, with what is missing of them."""

    records: int = 0
    is_complete: bool = True
    marked: dict[str, list[str]] = field(default_factory=dict)


def make_ready() -> None:
    """Have the libraries loaded that the processes share, beside whatever is done before they are there."""
    _FORKS.set_forkserver_preload([*_LOADED])
    resource_tracker.ensure_running()  # whose start would end the deafness of the one that follows
    with _deaf():
        forkserver.ensure_running()


def carry_out(job: Job, shares: Sequence[Sequence[int]], neighbour: Neighbour) -> Total:
    """Rebuild these lanes, one process for each share, telling on stderr how far they are; raises SagaError if one fails.

    Unless the job has a bound, they are polite to the `neighbour`.
    """
    pace = _Pace(job.follow, len(shares))
    total = Total()
    if job.at_most is None:
        neighbour.is_at_work()  # a first look, with which later ones are compared
    several = len(shares) > 1
    stopping: Flag = _FORKS.Event() if several else threading.Event()
    with asked_to_end(lambda _: stopping.set()):
        alone = Share(0, job, shares[0], stopping, pace.tell, _held(job, neighbour.is_at_work))
        for said in _together(job, shares, stopping, neighbour) if several else _undisturbed(alone):
            if isinstance(said, Progress):
                pace.tell(said)
                continue
            if said.failure is not None:
                raise SagaError(said.failure)
            total.records += said.read
            total.is_complete = total.is_complete and said.is_complete
            total.marked.update(said.marked)
    return total


def _undisturbed(share: Share) -> Iterator[Progress | End]:
    """Carried out while the collector is held off, which has its own way again afterwards."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS, 20, 50)
    try:
        yield from share.carried_out()
    finally:
        gc.set_threshold(*before)


def _held(job: Job, is_due: Callable[[], bool]) -> Pace:
    """What holds a process up."""
    return Courtesy(is_due) if job.at_most is None else Throttle(job.at_most)


def _together(job: Job, shares: Sequence[Sequence[int]], stopping: Flag, neighbour: Neighbour) -> Iterator[Progress | End]:
    told: Any = _FORKS.Queue()
    polite: Flag = _FORKS.Event()
    shared = stopping, polite, told, _FORKS.Lock()
    each = job._replace(at_most=job.at_most and job.at_most / len(shares))
    workers = [_FORKS.Process(target=_process, args=(n, each, share, *shared)) for n, share in enumerate(shares)]
    with _deaf():
        for worker in workers:
            worker.start()
    try:
        left = len(workers)
        while left:
            if job.at_most is None:
                (polite.set if neighbour.is_at_work() else polite.clear)()
            try:
                said = told.get(timeout=EVERY)
            except queue.Empty:
                if died := _dead(workers):
                    yield End(died[0], 0, False, {}, f"process {died[0]} of the rebuild died; run the same command to go on")
                continue
            left -= isinstance(said, End)
            yield said
    finally:
        stopping.set()
        _wait_for(workers)


def _dead(workers: Sequence[Any]) -> list[int]:
    """The numbers of those that were killed, or went down without a word."""
    return [n for n, worker in enumerate(workers) if worker.exitcode not in (None, 0)]


def _wait_for(workers: Sequence[Any]) -> None:
    """Until all have ended; where one died, its turn may have died with it, for which the others would wait for ever."""
    while living := [worker for worker in workers if worker.is_alive()]:
        if _dead(workers):
            for worker in living:
                worker.kill()
        living[0].join(EVERY)


def _end_with(parent: Any) -> None:
    """Do not outlive the first process, of which nobody would hear any more, nor be in the way of whoever goes on."""
    connection.wait([parent.sentinel])
    os._exit(1)


def _process(number: int, job: Job, lanes: Sequence[int], stopping: Flag, polite: Flag, told: Any, turns: Any) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):  # the first process hears of them and says so
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()
    os.nice(GIVING_WAY)
    tame_collector()
    tame_allocator()
    try:
        for said in _undisturbed(Share(number, job, lanes, stopping, told.put, _held(job, polite.is_set), turns)):
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
        text += f", {rough(timedelta(seconds=left / rate))} left" if rate else ""
        if self.follow and not left:
            text = f"{many(read, 'record')}, up to date; stop the participant's workers, then Ctrl-C"
        if text != self._said:
            self._said = text
            output.progress(text)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C reaches all processes, and those that are still starting would die of it: they begin deaf, and stay so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
