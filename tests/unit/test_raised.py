"""Topics that were given more partitions after they had been written to are told from topics with mistakes on them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from saga.contracts.topics import lane_of, saga_topics
from saga.errors import DefinitionError
from saga.replay.raised import refuse_raised
from saga.transport.memory import MemoryBroker
from saga.transport.port import Partition, Record

PARTITIONS = 4
NEW = [f"new {n}" for n in range(2000)]


def topics(*parts: Iterable[tuple[int, str]]) -> MemoryBroker:
    """A topic of events that holds these workflows, each in the lane that is said, part after part."""
    broker = MemoryBroker(saga_topics("travel"), partitions=PARTITIONS)
    for lane, workflow in (one for part in parts for one in part):
        log = broker.logs[Partition("travel.events", lane)]
        log.append(Record("travel.events", lane, len(log), workflow.encode(), b""))
    return broker


def of(workflows: Iterable[str], partitions: int = PARTITIONS) -> Iterable[tuple[int, str]]:
    """Each where its key belonged when there were so many partitions."""
    return [(lane_of(workflow, partitions), workflow) for workflow in workflows]


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.parametrize("left", [8, 20, 1000])
def test_however_few_are_left_of_before_they_are_found(before: int, left: int) -> None:
    broker = topics(of([f"old {n}" for n in range(left)], before), of(NEW))

    with pytest.raises(DefinitionError, match=r"partitions were added to topics that had been written to"):
        refuse_raised(broker, "travel", range(PARTITIONS), PARTITIONS)


def test_records_that_somebody_misplaced_here_and_there_are_no_such_sign() -> None:
    mistakes = [(lane, f"mistake {n}") for n in range(12) for lane in range(PARTITIONS)]
    broker = topics(mistakes[:1], of(NEW[:400]), mistakes[1:], of(NEW[400:]))

    refuse_raised(broker, "travel", range(PARTITIONS), PARTITIONS)


def test_topics_that_were_made_as_they_are_are_read() -> None:
    refuse_raised(topics(of(NEW)), "travel", range(PARTITIONS), PARTITIONS)
    refuse_raised(topics(), "travel", range(PARTITIONS), PARTITIONS)
