"""Until when workflows may have begun of which all records have aged out, so that nobody can tell whether they ran."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from saga.contracts.message import moment_of
from saga.engine.retention import MARGIN
from saga.protocol.definition import Definition
from saga.replay.source import Topics
from saga.transport.port import Partition


def forgotten(broker: Topics, partitions: Sequence[Partition], sagas: Iterable[Definition], now: datetime) -> datetime | None:
    """The moment, for partitions of one lane of which the beginning is gone; None if nothing is known to be over by then.

    That is when the first fact was stated that is left. Workflows may have begun before, be at work, and have stated nothing
    yet that concerns this participant; so it is at most as late as those that began then are surely over.
    """
    deadlines = [saga.deadline for saga in sagas]
    if not partitions or None in deadlines:
        return None
    over = now - max(filter(None, deadlines)) - MARGIN
    return min(over, max(_first(broker, partition) or over for partition in partitions))


def _first(broker: Topics, partition: Partition) -> datetime | None:
    """When the first record was stated that is there and says so."""
    for record in broker.read({partition: None}):
        try:
            return moment_of(dict(record.headers)["ce_time"])
        except (KeyError, ValueError):
            continue
    return None
