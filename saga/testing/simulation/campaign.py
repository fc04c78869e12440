"""Many seeds, on several processors; what fails is made small and told as a story."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from saga.testing.simulation.act import Schedule
from saga.testing.simulation.rare import Rare, table
from saga.testing.simulation.shrinking import shrink
from saga.testing.simulation.simulation import Run, Simulation

_AT_ONCE = 8
_simulation: list[Simulation] = []  # handlers cannot be pickled: forked processes find the simulation here


@dataclass(slots=True)
class Campaign:
    """What came of the seeds so far."""

    simulation: Simulation
    seeds: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    broken: list[Run] = field(default_factory=list)

    def run(self, seeds: Sequence[int], *, processes: int = 1) -> Iterator[Run]:
        """Each seed's run as it ends, in any order, noted here; `processes` are forked from this one."""
        for run in self._runs(seeds, processes):
            self.seeds += 1
            self.seen += run.seen
            if run.violations:
                self.broken.append(run)
            yield run

    def rare(self) -> list[Rare]:
        """The states that are worth being met, and how often they were."""
        drawing = self.simulation.drawing
        return table(drawing.saga, drawing.kinds, self.seen)

    def _runs(self, seeds: Sequence[int], processes: int) -> Iterator[Run]:
        if processes == 1:
            yield from map(self.simulation.run, seeds)
            return
        _simulation.append(self.simulation)
        try:
            with multiprocessing.get_context("fork").Pool(processes) as pool:
                yield from pool.imap_unordered(_run, seeds, _AT_ONCE)
        finally:
            _simulation.pop()


def smallest(simulation: Simulation, run: Run, *, budget: int = 400) -> Run:
    """The run of a part of the schedule that breaks the same promise, from which nothing can be left out; traced."""
    promise = run.violations[0].promise

    def breaks(part: Schedule) -> bool:
        return any(violation.promise == promise for violation in simulation.run(run.seed, part).violations)

    return simulation.run(run.seed, shrink(run.schedule, breaks, budget=budget), traced=True)


def _run(seed: int) -> Run:
    return _simulation[-1].run(seed)
