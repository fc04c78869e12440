"""What the topics of a saga must look like, and what is to be done where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from saga.contracts.topics import saga_topics
from saga.errors import DefinitionError

RETENTION = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What is to be done about one topic, and why; `config` is what it is created with."""

    topic: str
    action: Literal["create", "ok", "refuse"]
    reason: str
    config: Mapping[str, str] = field(default_factory=dict)


def plan(saga: str, found: Mapping[str, int | None], partitions: int, *, retention: timedelta = RETENTION) -> list[TopicPlan]:
    """What makes the topics of a saga right, given the partition counts `found` (None or absent: no such topic).

    A wrong count is refused and never changed, since it would send workflows to other lanes; so is creating the twin of a
    refused topic. Raises DefinitionError for a count or retention below 1.
    """
    if partitions < 1 or retention < timedelta(milliseconds=1):
        raise DefinitionError(f"found {partitions} partitions and retention {retention}; expected both to be positive")
    topics = saga_topics(saga)
    wrong = [topic for topic in topics if found.get(topic) not in (None, partitions)]
    # Event history: what compaction removes could not be replayed.
    config = {"cleanup.policy": "delete", "retention.ms": str(retention // timedelta(milliseconds=1))}
    return [_plan(topic, found.get(topic), partitions, wrong, config) for topic in topics]


def _plan(topic: str, count: int | None, partitions: int, wrong: list[str], config: Mapping[str, str]) -> TopicPlan:
    if topic in wrong:
        return TopicPlan(
            topic,
            "refuse",
            f"it has {count} partitions, {partitions} are wanted: workflows would change lanes. Ask for {count}, "
            f"or drain the saga and re-create its topics",
        )
    if count is not None:
        return TopicPlan(topic, "ok", f"it has {count} partitions")
    if wrong:
        return TopicPlan(topic, "refuse", f"it does not exist, and {', '.join(wrong)} has another partition count")
    return TopicPlan(topic, "create", "it does not exist", config)
