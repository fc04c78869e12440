"""Three brokers under a fleet: restarted one after the other, the leader killed, too few of them left to write to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from saga.contracts.topics import fact_topics
from saga.engine.health import State
from servers import kafka_cluster
from servers.kafka_cluster import Cluster
from tests.integration.agency import DECLINED, everything_ends_as_it_should, selling
from tests.integration.crew import NAMES, Crew, on_servers
from tests.serving import missing_is_told
from tests.travel import Script, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow


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
