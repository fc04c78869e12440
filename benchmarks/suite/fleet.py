"""Processes of ours: each with some participants of one saga, and databases and topics that nobody else has."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import psycopg

from benchmarks import four_steps
from benchmarks.four_steps import WARMING, all_ended, prepared, start, wait
from benchmarks.suite.place import Place
from benchmarks.workload import PARTITIONS, create
from saga.contracts.topics import saga_topics
from saga.store.postgres import PostgresStore

ROOT = Path(__file__).parents[2]


@dataclass
class Service:
    """One process of `benchmarks.service`."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, wanted: Mapping[str, Any]) -> Self:
        """Say what to run; whoever asks it something waits until it is ready."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.service"], cwd=ROOT, text=True, **pipes)
        service = cls(process)
        service._say(orjson.dumps(wanted).decode())
        return service

    def ask(self, question: str) -> float:
        """`lanes`, `cpu` or `memory`."""
        self._say(question)
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            _, complaint = self.process.communicate(timeout=30)
            raise RuntimeError(f"a process of ours ended: {complaint.strip()[-500:]}")
        return float(answer)

    def end(self) -> None:
        """Let it drain."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@dataclass
class Fleet:
    """A process for each of `groups` of participants; several groups may name the same one, and share its lanes.

    `stores` are addresses by participant; those that are not given are new PostgreSQL databases.
    """

    place: Place
    kind: str
    label: str
    groups: Sequence[Sequence[str]]
    partitions: int = PARTITIONS
    stores: dict[str, str] = field(default_factory=dict)
    traced: bool = False
    services: list[Service] = field(default_factory=list)

    def __enter__(self) -> Self:
        create(self.place.kafka, saga_topics(self.label), self.partitions)
        names = dict.fromkeys(name for group in self.groups for name in group)
        for name in names:
            if name not in self.stores:
                self.stores[name] = prepared(self.place.postgres, f"{self.label}_{name}")
                with closing(PostgresStore(self.stores[name], migrate=True)):
                    pass
        try:
            for group in self.groups:
                stores = {name: self.stores[name] for name in group}
                said = {
                    "kind": self.kind,
                    "saga": self.label,
                    "kafka": self.place.kafka,
                    "stores": stores,
                    "traced": self.traced,
                }
                self.services.append(Service.start(said))
            wait(lambda: self._settled(len(names) * self.partitions))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        for service in self.services:
            service.end()

    def ask(self, question: str) -> float:
        """The sum over all processes."""
        return sum(service.ask(question) for service in self.services)

    def took(self, count: int, burst: int = four_steps.BURST) -> float:
        """Seconds of so many workflows of the four steps, started from this process, after some to warm up."""
        shop = four_steps.participants(four_steps.saga(self.label))["shop"]
        with ExitStack() as stack:
            watching = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for dsn in self.stores.values()]
            store = stack.enter_context(closing(PostgresStore(self.stores["shop"])))
            start(shop, store, 0, WARMING)
            wait(lambda: all_ended(watching, WARMING))
            began = time.perf_counter()
            start(shop, store, WARMING, count, burst)
            wait(lambda: all_ended(watching, WARMING + count))
            return time.perf_counter() - began

    def _settled(self, lanes: int) -> bool:
        owned = [service.ask("lanes") for service in self.services]
        return sum(owned) == lanes and all(owned)
