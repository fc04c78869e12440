"""Three brokers under a fleet: restarted one after the other, the leader killed, too few of them left to write to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import pytest

from saga.contracts.topics import fact_topics
from saga.engine.health import State
from saga.protocol.facts import WorkflowStatus
from saga.replay.contracts import Contracts
from saga.testing.checker.evidence import Effect, Evidence
from saga.testing.checker.judgement import judge
from saga.transport.port import Partition
from servers import kafka_cluster
from servers.kafka_cluster import Cluster
from tests.integration.crew import LANES, NAMES, Crew, on_servers
from tests.integration.stage import first_published_in_order
from tests.serving import missing_is_told
from tests.travel import Script, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

PAUSE = 0.1
"""Seconds between two trips that are sold."""
DECLINED = {("pay", f"{number}") for number in range(0, 100_000, 3)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with missing_is_told(os.environ):
        nodes = kafka_cluster.local(print)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


def test_brokers_are_restarted_one_after_the_other_under_a_fleet_that_goes_on(cluster: Cluster, postgres: str) -> None:
    with at_work(cluster, postgres, "rolling") as crew:
        with selling(crew) as sold:
            for broker in cluster.brokers.values():
                broker.close()
                broker.start()
                until(cluster.is_whole, what="the broker to have caught up")
        everything_ends_as_it_should(crew, sold)


def test_a_leader_that_is_killed_is_followed_by_another_and_no_event_is_lost_or_passed_by_a_later_one(
    cluster: Cluster, postgres: str
) -> None:
    with at_work(cluster, postgres, "leaders") as crew:
        topic = fact_topics("leaders")[0]
        with selling(crew) as sold:
            gone = cluster.leaders(topic)[0]
            cluster.brokers[gone].crash()
            until(lambda: cluster.leaders(topic)[0] not in {gone, -1}, what="another leader")
            meanwhile = len(sold)
            until(lambda: len(sold) > meanwhile, what="a trip to be sold")
            crew.await_end(sold[meanwhile])
            cluster.brokers[gone].start()
            until(cluster.is_whole, what="the broker to have caught up")
        everything_ends_as_it_should(crew, sold)


def test_while_too_few_brokers_have_a_copy_events_wait_in_the_outbox_and_go_out_in_order_afterwards(
    cluster: Cluster, postgres: str
) -> None:
    with at_work(cluster, postgres, "copies") as crew:
        agency = crew.workers["agency"]
        with selling(crew) as sold:
            until(lambda: len(sold) > 10, what="some trips to be sold")
            gone = [cluster.brokers[number] for number in (1, 2)]
            for broker in gone:
                broker.crash()
            until(lambda: "is published since" in str(agency.health().reasons), what="health to say that nothing is published")
            refused = agency.health()
            for broker in gone:
                broker.start()
            until(cluster.is_whole, what="the brokers to have caught up")
        everything_ends_as_it_should(crew, sold)
    assert (refused.state, refused.alive) == (State.DEGRADED, True)


@contextmanager
def at_work(cluster: Cluster, postgres: str, saga: str) -> Iterator[Crew]:
    """Everybody, with all lanes."""
    with on_servers(cluster.address, postgres, fleet(Script(failing=DECLINED), name=saga)) as crew:
        crew.begin(*NAMES)
        yield crew


@contextmanager
def selling(crew: Crew) -> Iterator[list[str]]:
    """Trips are sold, each in a transaction of its own, until the block has ended."""
    sold: list[str] = []
    enough = threading.Event()

    def sell() -> None:
        for number in count():
            if enough.wait(PAUSE):
                return
            crew.start(f"{number}")
            sold.append(f"{number}")

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
