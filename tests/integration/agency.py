"""Trips sold one after the other while servers go and come, and a look at the books afterwards: each ended, once and whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

from saga.contracts.topics import fact_topics
from saga.engine.health import State
from saga.errors import StoreError
from saga.protocol.facts import WorkflowStatus
from saga.replay.contracts import Contracts
from saga.testing.checker.evidence import Effect, Evidence
from saga.testing.checker.judgement import judge
from saga.transport.port import Partition
from tests.integration.crew import LANES, Crew
from tests.integration.stage import first_published_in_order
from tests.waiting import until

PAUSE = 0.2
"""Seconds between two trips that are sold: enough are on their way at any moment, and the servers have time to start."""
DECLINED = {("pay", f"{number}") for number in range(0, 100_000, 3)}
"""What the script is to be told: every third customer cannot pay."""


@contextmanager
def selling(crew: Crew) -> Iterator[list[str]]:
    """Trips are sold, each in a transaction of its own, until the block has ended."""
    sold: list[str] = []
    enough = threading.Event()

    def sell() -> None:
        for number in count():
            if enough.wait(PAUSE):
                return
            while not sold_to(number):
                enough.wait(PAUSE)
            sold.append(f"{number}")

    def sold_to(number: int) -> bool:
        try:
            crew.start(f"{number}")
        except StoreError:  # asked again, whether it was done or not: it has its own id
            return False
        return True

    with ThreadPoolExecutor(1) as pool:
        seller = pool.submit(sell)
        try:
            yield sold
        finally:
            enough.set()
        seller.result()


def everything_ends_as_it_should(crew: Crew, sold: list[str]) -> None:
    """Every trip, once and whole, with its facts in order, and nobody needed to be started again."""
    crew.await_end(*sold)
    until(lambda: all(worker.health().state is State.READY for worker in crew.workers.values()), what="health to say so")
    crew.end()

    for trip in sold:
        assert crew.ends(trip) == {WorkflowStatus.COMPENSATED if ("pay", trip) in DECLINED else WorkflowStatus.COMPLETED}
    every = {Partition(topic, lane): None for topic in fact_topics(crew.saga.name) for lane in range(LANES)}
    assert {id for _, id in first_published_in_order([*crew.broker.read(every)])} == {*sold}
    evidence = Evidence.gather(Contracts([crew.saga]), crew.broker, crew.stores, effects=[*effects(crew)])
    judgement = judge(evidence)
    assert [str(violation) for violation in judgement.violations] == []
    assert judgement.workflows == len(sold)


def effects(crew: Crew) -> Iterator[Effect]:
    """What all handlers did, by everybody's own table."""
    owners = {step.name: step.by for step in crew.saga.steps}
    for store in crew.stores.values():
        with store.transaction() as tx:
            for trip, step, act in tx.execute("SELECT workflow, step, act FROM effects").fetchall():
                yield Effect(owners[step], trip, step, act)
