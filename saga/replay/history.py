"""All that the topics say of one workflow, and the order in which it came about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise

from saga.contracts.message import Message
from saga.contracts.saga import Saga
from saga.protocol.facts import REPORTS, FactStatus
from saga.replay.entry import Entry

MOST_FACTS = 100_000
"""Numbers beyond are nobody's count of facts about one workflow."""


@dataclass(slots=True)
class History:
    """The entries of one workflow by event id, in order of arrival; `again` are those that came once more.

    `late`: it ended and was told already, and these came long after. `strangers` are of another saga, or have another key than
    their workflow: participants keep them as dead letters, so they count for nothing.
    """

    saga: str
    workflow: str
    entries: dict[str, Entry] = field(default_factory=dict)
    again: list[Entry] = field(default_factory=list)
    late: bool = False
    strangers: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Take one record in; a repeated event changes nothing."""
        if is_stray(self.saga, entry):
            self.strangers.append(entry)
        elif entry.id in self.entries:
            self.again.append(entry)
        else:
            self.entries[entry.id] = entry

    @property
    def repeated(self) -> int:
        """How many records came again."""
        return len(self.again)

    @property
    def versions(self) -> frozenset[int]:
        """Of the saga, as the records say; one, if all is well."""
        return frozenset(entry.version for entry in self.entries.values())

    def kinds(self) -> set[str]:
        """Version and open gates, as the readable records say."""
        messages = (entry.message for entry in self.entries.values())
        return {f"version {m.kind.version} {m.kind.gates or 'without gates'}" for m in messages if m is not None}

    def messages(self, saga: Saga) -> list[Message]:
        """The facts that count: readable, of this saga version, and stated by the owner of their step."""
        return [
            entry.message
            for entry in self.entries.values()
            if entry.message is not None and entry.version == saga.version and not is_foreign(saga, entry)
        ]

    def numbers(self) -> dict[str, set[int]]:
        """The sequence numbers that are there, by source."""
        found: dict[str, set[int]] = defaultdict(set)
        for entry in self.entries.values():
            if 0 < entry.sequence < MOST_FACTS:
                found[entry.source].add(entry.sequence)
        return found

    def gaps(self) -> dict[str, list[int]]:
        """The sequence numbers that are missing below the highest one, by source."""
        found = {source: sorted({*range(1, max(there))} - there) for source, there in self.numbers().items()}
        return {source: missing for source, missing in found.items() if missing}

    def orphans(self) -> list[Entry]:
        """Entries whose cause is not there."""
        return [entry for entry in self.entries.values() if entry.cause and entry.cause not in self.entries]

    def is_settled(self, saga: Saga | None) -> bool:
        """Whether it ended and nothing that is known of is missing, so that it may be told and forgotten."""
        if saga is None or not any(_ends(saga, entry) for entry in self.entries.values()):
            return False
        return not self.gaps() and not self.orphans()

    def ordered(self, saga: Saga | None = None) -> list[Entry]:
        """Causes before effects, each source in its own order, and what is independent by time.

        An event names one cause; with the `saga`, all events of a trigger come before what they trigger, and what built on a
        step is undone before it.
        """
        return in_causal_order([*self.entries.values()], saga)


def is_stray(saga: str, entry: Entry) -> bool:
    """Whether it says that it is of another saga than the one on whose topics it is, or has another key than its workflow."""
    return entry.message is not None and (entry.saga != saga or has_other_key(entry))


def has_other_key(entry: Entry) -> bool:
    """Whether its key is not the id of its workflow."""
    return entry.record.key != entry.workflow.encode()


def is_foreign(saga: Saga, entry: Entry) -> bool:
    """Whether somebody speaks of a step that is not theirs: nobody acts on that."""
    return bool(entry.step) and (entry.step not in saga or saga[entry.step].by != entry.source)


def _ends(saga: Saga, entry: Entry) -> bool:
    fact = (entry.step, entry.status)
    return fact in ((saga.sink.name, FactStatus.DONE.value), (saga.root.name, FactStatus.COMPENSATED.value))


def in_causal_order(entries: Sequence[Entry], saga: Saga | None = None) -> list[Entry]:
    """As `History.ordered`, of records of any workflows, each of which is there once more for each time that it came."""
    first = {entry.id: entry for entry in reversed(entries)}
    return [*_ordered([*reversed(first.values())], saga)]


def _ordered(entries: Sequence[Entry], saga: Saga | None) -> Iterator[Entry]:
    by_id = {entry.id: entry for entry in entries}
    before = {entry.id: {entry.cause, *needed(entry, entries, saga)} & by_id.keys() for entry in entries}
    for own in _by_source(entries):
        for earlier, later in pairwise(own):
            before[later.id].add(earlier.id)
    after = defaultdict(list)
    for id, causes in before.items():
        for cause in causes:
            after[cause].append(id)
    ready = [_rank(by_id[id]) for id, causes in before.items() if not causes]
    ready.sort()
    while ready:
        entry = by_id[heappop(ready)[-1]]
        yield entry
        del by_id[entry.id]
        for id in after[entry.id]:
            before[id].discard(entry.id)
            if not before[id]:
                heappush(ready, _rank(by_id[id]))
    yield from sorted(by_id.values(), key=_rank)  # forged causes may run in a circle


def needed(entry: Entry, entries: Sequence[Entry], saga: Saga | None) -> set[str]:
    """What must have been there for this fact to come about, by the definition."""
    if saga is None or entry.step not in saga:
        return set()
    own, found = saga[entry.step], set()
    if entry.status in (FactStatus.DONE, FactStatus.FAILED, FactStatus.COMPENSATED):
        found = {one.id for one in entries if one.status == FactStatus.DONE and one.type in own.consumes}
    if entry.status == FactStatus.COMPENSATED:
        awaited = saga.awaited_reports[entry.step]
        found |= {one.id for one in entries if one.step in awaited and one.status in REPORTS}
    return found


def _by_source(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    found = defaultdict(list)
    for entry in entries:
        found[entry.workflow, entry.source].append(entry)
    for own in found.values():
        yield sorted(own, key=lambda entry: (entry.sequence, entry.time))


def _rank(entry: Entry) -> tuple[float, str, int, str]:
    return entry.time.timestamp(), entry.source, entry.sequence, entry.id
