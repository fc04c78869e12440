"""What tracing, acknowledgments and parked workflows cost one participant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import NamedTuple

import psycopg

from benchmarks.__main__ import run
from benchmarks.four_steps import ENDED, wait
from benchmarks.suite.fleet import Fleet
from benchmarks.suite.place import Place
from benchmarks.suite.processes import on_postgres
from benchmarks.suite.results import Table, number

ROUNDS, EVENTS, TRACED_EVENTS = 3, 20_000, 60_000


class Spent(NamedTuple):
    """By one round: events per second, and microseconds of the ledger's processor for each."""

    per_second: float
    cpu_us: float


def costs(place: Place) -> Iterator[Table]:
    """One table: each cost beside the same without it."""
    table = Table(
        "What tracing, acknowledgments and parking cost",
        f"One participant in a process of its own; medians of {place.rounds(ROUNDS)} rounds, each pair interleaved. The "
        "time of its processor is the better measure, since further processes take part of the cores.",
        ("what", "events/s", "CPU us/event", "CPU, of the same without"),
        "the participant's own Python. Without an audience that acknowledges, every published row stays and is asked "
        "after; with one it is deleted. In the last pair a second participant in a second process also ends each "
        "workflow, so that three events are taken in instead of one, and the workflow is folded into its closed row.",
    )
    for (plain, base), (name, dear) in PAIRS:
        try:
            found = _rounds(place, base, dear)
        except Exception as error:
            table.fail(name, error)
            continue
        (rate, cpu), (dear_rate, dear_cpu) = (map(median, zip(*each, strict=True)) for each in found)
        table.add(plain, number(rate), number(cpu), "1.00")
        table.add(name, number(dear_rate), number(dear_cpu), f"{dear_cpu / cpu:.2f}")
    yield table


def _rounds(place: Place, *contenders: Callable[[Place], Spent]) -> list[list[Spent]]:
    found: list[list[Spent]] = [[] for _ in contenders]
    for _ in range(place.rounds(ROUNDS)):
        for spent, contender in zip(found, contenders, strict=True):
            spent.append(contender(place))
    return found


def untraced(place: Place, events: int = EVENTS) -> Spent:
    """Events bring traces, and nobody records spans."""
    return _ledger(place, events, traced=False)


def traced(place: Place) -> Spent:
    """A span for each transaction, and for each handler whose trace is sampled: one in a hundred."""
    return _ledger(place, TRACED_EVENTS, traced=True)


def _ledger(place: Place, events: int, *, traced: bool) -> Spent:
    count = place.count(events)
    with Fleet(place, "ledger", place.label("cost"), [("ledger",)], traced=traced) as fleet:
        before = fleet.ask("cpu")
        seconds = on_postgres(fleet, count, traced=True)
        return Spent(count / seconds, (fleet.ask("cpu") - before) / count * 1e6)


def closed(place: Place) -> Spent:
    """The shop is there, ends every workflow, and both have closed it."""
    count = place.count(EVENTS)
    with ExitStack() as stack:
        fleet = stack.enter_context(Fleet(place, "ledger", place.label("cost"), [("ledger",), ("shop",)]))
        watching = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for dsn in fleet.stores.values()]
        before = fleet.services[0].ask("cpu")
        seconds = on_postgres(fleet, count, traced=True, each=3)
        wait(lambda: all(each.execute(ENDED).fetchall() == [(count,)] for each in watching))
        return Spent(count / seconds, (fleet.services[0].ask("cpu") - before) / count * 1e6)


def acknowledged(place: Place) -> Spent:
    """Somebody acknowledges each answer, and does nothing else."""
    return _contender(place, "acknowledged")


def clean(place: Place) -> Spent:
    """No workflow is parked."""
    return _contender(place, "engine")


def poisoned(place: Place) -> Spent:
    """One workflow in each lane raises at every try."""
    return _contender(place, "poisoned")


def _contender(place: Place, name: str) -> Spent:
    count = place.count(EVENTS)
    took = run(name, place.kafka, place.postgres, place.number(), count)
    return Spent(count / took.seconds, took.cpu_seconds / count * 1e6)


PAIRS: tuple[tuple[tuple[str, Callable[[Place], Spent]], tuple[str, Callable[[Place], Spent]]], ...] = (
    (("events with traces, not traced here", partial(untraced, events=TRACED_EVENTS)), ("traced, 1 % sampled", traced)),
    (("nobody acknowledges", clean), ("acknowledged by its audience", acknowledged)),
    (("neither acknowledged nor ended", untraced), ("acknowledged, ended and closed", closed)),
    (("nothing parked", clean), ("one poisoned workflow in each lane", poisoned)),
)
