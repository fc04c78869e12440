"""Recordings: whole histories in an Avro file, raw envelopes and payloads, for tests and for reading without Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from heapq import heappush, heappushpop
from pathlib import Path
from typing import Any

from saga.contracts.schema import Schema
from saga.errors import DecodeError
from saga.replay import avro_file
from saga.replay.entry import Entry, entry
from saga.replay.history import History
from saga.transport.port import Record

SCHEMA: Schema = {
    "type": "record",
    "name": "History",
    "namespace": "saga",
    "doc": "All that was published about one workflow.",
    "fields": [
        {"name": "workflow", "type": "string", "doc": "Its id, key of all its records."},
        {"name": "holes", "type": {"type": "array", "items": "string"}, "doc": "What is missing of it."},
        {
            "name": "records",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Recorded",
                    "doc": "One Kafka record.",
                    "fields": [
                        {"name": "topic", "type": "string", "doc": "Where it was."},
                        {"name": "partition", "type": "int", "doc": "Where it was."},
                        {"name": "offset", "type": "long", "doc": "Where it was."},
                        {"name": "headers", "type": {"type": "map", "values": "bytes"}, "doc": "Its envelope."},
                        {"name": "value", "type": "bytes", "doc": "Its payload as published, tagged fields masked."},
                    ],
                },
            },
            "doc": "In causal order.",
        },
    ],
}
_NAME = "saga.name"


class RecordingSource:
    """A recording as a source: one lane with all of its workflows, each with all of its records together."""

    size: int | None = None
    aged: Sequence[str] = ()

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise DecodeError(f"there is no file {file}; `saga record` writes one")
        self.file = file
        if (name := avro_file.metadata(file).get(_NAME)) is None:
            raise DecodeError(f"{file} is an Avro file, but no recording; `saga record` writes one")
        self.saga = name

    def lanes(self) -> Sequence[int]:
        return (0,)

    def read(self, lane: int) -> Iterator[Entry]:
        for history in self.histories():
            yield from history.entries.values()

    def histories(self) -> Iterator[History]:
        """One recorded workflow after the other."""
        for recorded in avro_file.read(self.file):
            history = History(self.saga, recorded["workflow"])
            for record in recorded["records"]:
                headers = [*record["headers"].items()]
                key, place = recorded["workflow"].encode(), (record["topic"], record["partition"], record["offset"])
                history.add(entry(Record(*place, key, record["value"], headers)))
            yield history


def write(file: Path, saga: str, recorded: Iterable[tuple[History, Mapping[str, bytes], Sequence[str]]]) -> None:
    """Write histories, each with the payloads to be kept of its events, by event id, and with what is missing of it."""
    avro_file.write(file, SCHEMA, (_data(*one) for one in recorded), {_NAME: saga})


def sample(histories: Iterable[History], size: int) -> list[History]:
    """So many of them, chosen by their ids, so that the same ones are chosen again; no more are held."""
    chosen: list[tuple[int, str, History]] = []
    for history in histories:
        rank = -int.from_bytes(sha256(history.workflow.encode()).digest()[:8], "big")
        if len(chosen) < size:
            heappush(chosen, (rank, history.workflow, history))
        else:
            heappushpop(chosen, (rank, history.workflow, history))
    return [history for _, _, history in sorted(chosen, key=lambda one: one[1])]


def _data(history: History, payloads: Mapping[str, bytes], holes: Sequence[str]) -> dict[str, Any]:
    return {
        "workflow": history.workflow,
        "holes": [*holes],
        "records": [
            {
                "topic": one.record.topic,
                "partition": one.record.partition,
                "offset": one.record.offset,
                "headers": {name: value for name, value in one.record.headers if value is not None},
                "value": payloads.get(one.id, b""),
            }
            for one in history.ordered()
        ],
    }
