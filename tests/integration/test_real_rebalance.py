"""Processes of one participant that come, go and die under load: each lane has one owner, and every effect happens once."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from saga.failpoints import Failpoint
from saga.protocol.facts import FactStatus
from tests.integration.stage import Stage, first_published_in_order, one_epoch_after_the_other, staged
from tests.waiting import until

pytestmark = pytest.mark.slow

INSIDE = f"{Failpoint.UNIT_INSIDE}:delay=0.05"
"""Units of work dawdle in their transaction, so that a revocation comes in the midst of one."""


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_lane_has_one_owner_whoever_comes_and_goes(kafka: str, database: str, tmp_path: Path, protocol: str) -> None:
    told = {"protocol": protocol, "batch": 20}
    with staged(f"rebalance-{protocol}", kafka, database, tmp_path) as stage:
        load_ends, aborted = threading.Event(), list[str]()

        def load() -> None:
            while not load_ends.wait(0.02):
                ids = stage.book(3)
                stage.abort(ids[:1])
                aborted.append(ids[0])

        first = stage.hotels(INSIDE, **told)
        until(lambda: stage.shared_by(first), what="the first to own all")
        feeding = threading.Thread(target=load)
        feeding.start()
        try:
            second = stage.hotels(INSIDE, **told)
            until(lambda: stage.shared_by(first, second), what="two to share")
            third = stage.hotels(INSIDE, **told)
            until(lambda: stage.shared_by(first, second, third), what="three to share")
            assert first.end() == 0
            until(lambda: stage.shared_by(second, third), what="two to share again")
            assert third.end(signal.SIGKILL) == -signal.SIGKILL
            until(lambda: stage.shared_by(second), what="the last to own all")
        finally:
            load_ends.set()
            feeding.join()
        until(lambda: _all_heard(stage, aborted), seconds=120, what="every booking to be answered, and every abort")
        until(lambda: not stage.pending(), what="the outbox to be marked")
        assert second.end() == 0

        one_epoch_after_the_other(stage)
        published = first_published_in_order(stage.records())
        assert {workflow for source, workflow in published if source == "hotels"} == {*stage.started}
        facts = stage.stated()
        assert stage.effects() == Counter(
            (workflow, act)
            for workflow, found in facts.items()
            for act, status in (("action", FactStatus.DONE), ("compensation", FactStatus.COMPENSATED))
            if status in found
        )


def _all_heard(stage: Stage, aborted: list[str]) -> bool:
    facts = stage.stated()
    unwound = {FactStatus.SKIPPED, FactStatus.COMPENSATED}
    return facts.keys() == {*stage.started} and all(facts[workflow] & unwound for workflow in aborted)
