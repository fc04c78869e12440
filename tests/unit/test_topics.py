"""Names of topics and groups, lanes, and the plan for a saga's topics."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga.contracts.topics import astray, group, lane_of, saga_topics
from saga.errors import DefinitionError
from saga.transport.topics import plan

EVENTS, COMPENSATIONS, ACKS = "checkout.events", "checkout.compensations", "checkout.acks"


def test_topics_and_groups_are_named_after_the_saga() -> None:
    assert saga_topics("checkout") == (EVENTS, COMPENSATIONS, ACKS)
    assert group("checkout", "stock") == "checkout.stock"


@pytest.mark.parametrize(
    ("key", "hashed"),
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536), ("abc", 479470107)],
)
def test_lanes_agree_with_the_examples_in_kafkas_own_tests(key: str, hashed: int) -> None:
    assert lane_of(key, 1_000_003) == (hashed & 0x7FFFFFFF) % 1_000_003


@given(st.sets(st.text(max_size=50), max_size=20), st.integers(1, 1000))
def test_the_lanes_of_many_keys_are_those_of_each(keys: set[str], partitions: int) -> None:
    lane = lane_of(min(keys, default=""), partitions)

    found = astray([key.encode() for key in keys], lane, partitions)

    assert found == {key.encode() for key in keys if lane_of(key, partitions) != lane}


def test_missing_topics_are_created_as_history() -> None:
    plans = plan("checkout", {EVENTS: None}, 12, retention=timedelta(days=30))

    assert [(p.topic, p.action) for p in plans] == [(topic, "create") for topic in (EVENTS, COMPENSATIONS, ACKS)]
    assert all(p.config == {"cleanup.policy": "delete", "retention.ms": "2592000000"} for p in plans)


def test_topics_with_the_wanted_count_are_left_alone() -> None:
    plans = plan("checkout", {EVENTS: 12, COMPENSATIONS: 12, ACKS: 12}, 12)

    assert [p.action for p in plans] == ["ok", "ok", "ok"]


def test_another_partition_count_is_refused_together_with_creating_its_twin() -> None:
    events, compensations, acks = plan("checkout", {EVENTS: 4, COMPENSATIONS: None}, 12)

    assert {events.action, compensations.action, acks.action} == {"refuse"}
    assert "it has 4 partitions, 12 are wanted" in events.reason
    assert "checkout.events has another partition count" in compensations.reason


@pytest.mark.parametrize(("partitions", "retention"), [(0, timedelta(days=1)), (4, timedelta(0))])
def test_a_plan_without_partitions_or_retention_is_refused(partitions: int, retention: timedelta) -> None:
    with pytest.raises(DefinitionError, match="expected both to be positive"):
        plan("checkout", {}, partitions, retention=retention)
