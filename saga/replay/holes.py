"""What is missing of a workflow: found by what is there, never guessed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from saga.contracts.saga import Saga
from saga.protocol.facts import REPORTS, FactStatus
from saga.replay.contracts import Contracts
from saga.replay.entry import Entry
from saga.replay.history import History, is_foreign


class Hole(NamedTuple):
    """`kind` is one word for programs, `text` a sentence for people."""

    kind: str
    text: str


UNREAD = frozenset({"version", "header", "payload"})
"""Kinds of what is there and cannot be understood; all others are of what is not there."""


def holes(history: History, contracts: Contracts) -> tuple[Hole, ...]:
    """Every sign that the records of this workflow are not whole, or cannot all be understood."""
    saga = contracts.of(history)
    return (*_unreadable(history), *_versions(history, contracts), *_gaps(history), *_orphans(history), *_untold(history, saga))


_RAN = frozenset({FactStatus.DONE, FactStatus.FAILED})


def _versions(history: History, contracts: Contracts) -> Iterator[Hole]:
    known = frozenset(contracts.sagas)
    for version in sorted(history.versions - known):
        at_hand = ", ".join(map(str, sorted(known)))
        yield Hole("version", f"it is of saga version {version}; contracts are at hand of {at_hand}")
    if history.kinds() and history.versions <= known and contracts.of(history) is None:
        yield Hole("version", f"its records do not agree on version and gates: {', '.join(sorted(history.kinds()))}")


def _unreadable(history: History) -> Iterator[Hole]:
    for entry in history.entries.values():
        if entry.fault:
            yield Hole("header", entry.fault)


def _gaps(history: History) -> Iterator[Hole]:
    for source, missing in sorted(history.gaps().items()):
        word = "event" if len(missing) == 1 else "events"
        yield Hole("sequence", f"{word} {ranges(missing)} of {source} {'is' if len(missing) == 1 else 'are'} missing")


def _orphans(history: History) -> Iterator[Hole]:
    for entry in history.orphans():
        name = entry.type.rpartition(".")[2]
        yield Hole("cause", f"{name} #{entry.sequence} of {entry.source} came of event {entry.cause}, which is missing")


def _untold(history: History, saga: Saga | None) -> Iterator[Hole]:
    """Effects whose causes must have been there by the definition itself."""
    if saga is None:
        return
    facts = [message.fact for message in history.messages(saga)]
    done = {fact.event for fact in facts if fact.status is FactStatus.DONE}
    if not history.late and not any(fact.step == saga.root.name and fact.status is FactStatus.DONE for fact in facts):
        yield Hole("start", f"its first event, {' or '.join(map(_short, saga.root.emits))}, is missing")
    reported = {fact.step for fact in facts if fact.status in REPORTS or fact.status is FactStatus.STUCK}
    for fact in facts:
        on = saga[fact.step].on if fact.step else ()
        if fact.status in _RAN and on and not any(join <= done for join in on):
            wanted = " or ".join(" and ".join(sorted(map(_short, join - done))) for join in on)
            yield Hole("trigger", f"step {fact.step} is {fact.status}, but {wanted}, which triggers it, is missing")
        if fact.status is FactStatus.COMPENSATED and (silent := saga.awaited_reports[fact.step] - reported):
            yield Hole(
                "report", f"step {fact.step} is undone, but the word of {', '.join(sorted(silent))} before it is missing"
            )


def notices(history: History, saga: Saga | None) -> list[str]:
    """What is odd about the records and makes nothing incomplete."""
    words = "record came again and was" if history.repeated == 1 else "records came again and were"
    said = [f"{history.repeated} {words} counted once"] if history.repeated else []
    said += [f"{one.type} ({one.place}) {_strange(history, one)}: left out" for one in history.strangers]
    if saga is not None:
        said += [
            f"{entry.source} speaks of step {entry.step} ({entry.place}), which is not its own: left out"
            for entry in history.entries.values()
            if is_foreign(saga, entry)
        ]
    return said


def _strange(history: History, one: Entry) -> str:
    return f"is of saga {one.saga!r}" if one.saga != history.saga else f"has the key {one.record.key!r}"


def _short(event: str) -> str:
    return event.rpartition(".")[2]


def ranges(numbers: Sequence[int]) -> str:
    """`1-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"#{run[0]}-{run[-1]}" if len(run) > 1 else f"#{run[0]}" for run in runs)
