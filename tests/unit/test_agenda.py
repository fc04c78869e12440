"""What is due is looked up again and again; an outage of the database is told when it begins."""

from __future__ import annotations

import pytest

from saga.testing.harness import Harness
from tests.flaky import FlakyStore
from tests.travel import Script
from tests.travel import fleet as participants


class Flaky(Harness):
    def new_store(self) -> FlakyStore:
        return FlakyStore(self.clock)


def test_a_database_that_is_away_is_told_once_for_each_outage_however_long_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with Flaky(*participants(Script())) as fleet:
        store = fleet.stores["hotels"]
        assert isinstance(store, FlakyStore)
        for outage in (1, 2):
            store.away = True
            for _ in range(5):
                fleet.clock.advance(1)
                fleet.turn("hotels")
            assert caplog.text.count("what is due cannot be looked up (the database is away)") == outage

            store.away = False
            fleet.clock.advance(1)
            fleet.settle()
