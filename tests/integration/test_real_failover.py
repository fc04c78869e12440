"""A replica of PostgreSQL takes the place of its server under running workers: one that has everything, one that was behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import pytest

from saga.contracts.topics import lane_of
from saga.store.postgres import PostgresStore
from servers import LocalServer
from servers import postgres as postgres_server
from tests.integration.agency import DECLINED, everything_ends_as_it_should, selling
from tests.integration.crew import LANES, NAMES, Crew, on_databases
from tests.serving import own
from tests.travel import Script, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow


@dataclass
class Pair:
    """A server and the replica that follows it."""

    server: LocalServer
    replica: LocalServer

    def databases(self) -> Mapping[str, str]:
        """One for each participant, to be found at whichever of the two takes writes."""
        with psycopg.connect(self.server.address, autocommit=True) as connection:
            for name in NAMES:
                connection.execute(f"CREATE DATABASE {name}")
        places = ",".join(urlsplit(one.address).netloc.partition("@")[2] for one in (self.server, self.replica))
        return {name: f"postgresql://postgres@{places}/{name}?target_session_attrs=read-write" for name in NAMES}

    def insist(self) -> None:
        """Have the server confirm nothing that the replica has not."""
        with psycopg.connect(self.server.address, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
        until(self._is_followed, what="the replica to follow")

    def _is_followed(self) -> bool:
        with psycopg.connect(self.server.address) as connection:
            return connection.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone() is not None


@pytest.fixture
def pair() -> Iterator[Pair]:
    with own(postgres_server.local) as server:
        server.start()
        with own(lambda report: postgres_server.replica(report, server)) as replica:
            replica.start()
            yield Pair(server, replica)


def test_a_replica_that_has_everything_takes_over_and_everything_goes_on(kafka: str, pair: Pair) -> None:
    urls = pair.databases()
    pair.insist()
    with at_work(kafka, urls, "failover") as crew:
        with selling(crew) as sold:
            until(lambda: len(sold) > 10, what="some trips to be sold")
            pair.server.crash()
            postgres_server.promote(pair.replica)
            before = len(sold)
            until(lambda: len(sold) > before + 10, what="more to be sold")
        everything_ends_as_it_should(crew, sold)


def test_a_replica_that_was_behind_stops_the_lanes_of_what_it_lost_and_nothing_is_done_twice(kafka: str, pair: Pair) -> None:
    with at_work(kafka, pair.databases(), "behind") as crew:
        kept, lost = ([f"{when} {number}" for number in range(20)] for when in ("kept", "lost"))
        crew.start(*kept)
        crew.await_end(*kept)
        until(lambda: replayed(pair), what="the replica to have everything")
        pair.replica.crash()
        crew.start(*lost)
        crew.await_end(*lost)

        pair.server.crash()
        pair.replica.start()
        postgres_server.promote(pair.replica)
        gone = {lane_of(trip, LANES) for trip in lost}
        for name in NAMES:
            stopped = crew.workers[name].standing
            until(lambda stopped=stopped: stopped().stopped.keys() == gone, what=f"the lanes of {name} to stop")  # type: ignore[misc]

        reasons = [str(reason) for name in NAMES for reason in crew.workers[name].standing().stopped.values()]
        assert all("but this database knows" in reason for reason in reasons)
        assert all(crew.effects(trip) == [] for trip in lost)


def test_over_a_connection_from_before_a_replica_took_over_it_is_no_server_of_old(pair: Pair) -> None:
    with closing(PostgresStore(pair.server.address, migrate=True)) as store:
        lane = store.claim("checkout", 0, 4)
        until(lambda: replayed(pair), what="the replica to have everything")
        with closing(PostgresStore(pair.replica.address)) as early:
            with early.unit() as unit:
                before = lane.is_of(unit.timeline)
            pair.server.crash()
            postgres_server.promote(pair.replica)
            with early.unit() as unit:
                afterwards = lane.is_of(unit.timeline)
            claimed = early.claim("checkout", 0, 4)
        with closing(PostgresStore(pair.replica.address)) as late, late.unit() as unit:
            settled = claimed.is_of(unit.timeline)

    assert (before, afterwards, settled) == (False, False, True)


@contextmanager
def at_work(kafka: str, urls: Mapping[str, str], saga: str) -> Iterator[Crew]:
    with on_databases(kafka, urls, fleet(Script(failing=DECLINED), name=saga)) as crew:
        crew.begin(*NAMES)
        yield crew


def replayed(pair: Pair) -> bool:
    """Whether the replica has all that the server has written."""
    with psycopg.connect(pair.server.address) as here, psycopg.connect(pair.replica.address) as there:
        end = here.execute("SELECT pg_current_wal_lsn()").fetchone()
        assert end is not None
        return there.execute("SELECT pg_last_wal_replay_lsn() >= %s", end).fetchone() == (True,)
