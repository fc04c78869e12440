"""What the facts of one workflow must look like by themselves: order, causes, compensation, schema. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from saga.contracts.message import Message
from saga.contracts.saga import Saga
from saga.errors import ContractError
from saga.protocol.facts import REPORTS, FactStatus, WorkflowStatus
from saga.replay.entry import Entry
from saga.replay.holes import ranges
from saga.testing.checker.case import Case
from saga.testing.checker.invariant import Problem

_ENDS = (FactStatus.DONE, FactStatus.FAILED, FactStatus.SKIPPED)


def once(case: Case) -> Iterator[Problem]:
    """A step has one outcome and one id for it, and an id is never used for two facts."""
    for again in case.history.again:
        first = case.history.entries[again.id]
        if (again.record.key, again.record.value) != (first.record.key, first.record.value) or _said(again) != _said(first):
            yield Problem(f"event {again.id} as {_name(first)} and as {_name(again)}", "one fact for each event id")
    ids = defaultdict(set)
    for message in case.messages:
        if message.kind.status in (*_ENDS, FactStatus.COMPENSATED):
            ids[message.kind.step, message.kind.status].add(message.id)
    for (step, status), found in ids.items():
        if len(found) > 1:
            yield Problem(f"step {step} {status} in {len(found)} different events", "one outcome")
    for step in sorted({step for step, _ in ids}):
        ends = [status for status in _ENDS if (step, status) in ids]
        if len(ends) > 1:
            yield Problem(f"step {step} both {' and '.join(ends)}", "one of them")


def order(case: Case) -> Iterator[Problem]:
    """Facts of one participant first appear in each partition by rising sequence numbers, and none is missing."""
    latest: dict[tuple[str, str, int], Entry] = {}
    for entry in case.entries:
        if entry.message is None:
            continue
        stream = entry.source, entry.record.topic, entry.record.partition
        before = latest.get(stream)
        if before is not None and entry.sequence <= before.sequence:
            yield Problem(f"{_name(entry)} first at {entry.place}, after #{before.sequence}", "the order of commits")
        latest[stream] = entry
    for source, missing in case.history.gaps().items():
        yield Problem(f"{ranges(missing)} of {source} on no topic", "all numbers up to the highest")


def causality(case: Case) -> Iterator[Problem]:
    """Causes are there and come first, triggers too; a cause and its effect share a trace."""
    for entry in case.entries:
        cause = case.history.entries.get(entry.cause or "")
        if entry.cause and cause is None:
            yield Problem(f"{_name(entry)} caused by event {entry.cause}, which is on no topic", "its cause")
        elif cause is not None and _is_behind(cause, entry):
            yield Problem(f"{_name(entry)} at {entry.place}, its cause at {cause.place}", "the cause first")
        elif cause is not None and cause.message and entry.message and not _share_trace(cause.message, entry.message):
            yield Problem(f"{_name(entry)} in another trace than its cause", "one trace")
    if case.saga is not None:
        for message in case.messages:
            if message.kind.status in (FactStatus.DONE, FactStatus.FAILED):
                yield from _trigger(case, case.saga, message)


def _trigger(case: Case, saga: Saga, message: Message) -> Iterator[Problem]:
    joins = saga[message.kind.step].on
    # only what was adopted has no cause: it was done before the saga was there, and may be stated before its trigger
    adopted = message.kind.status is FactStatus.DONE and message.cause is None
    for join in joins:
        if join <= case.done.keys() and (adopted or not any(_follows(case.done[event], message) for event in join)):
            return
    if joins:
        wanted = " or ".join(" and ".join(sorted(map(_short, join))) for join in joins)
        yield Problem(f"step {message.kind.step} {message.kind.status} without its trigger before it", wanted)


def compensation(case: Case) -> Iterator[Problem]:
    """Nothing behind a done pivot is undone; else all that was done is, each step after what built on it."""
    if (saga := case.saga) is None:
        return
    done, undone = case.steps(FactStatus.DONE), case.steps(FactStatus.COMPENSATED)
    for step in sorted(case.steps(FactStatus.FAILED) & saga.after_pivot):
        yield Problem(f"step {step}, which is after a pivot, failed", "that it is tried until it is done")
    if pivots := sorted(done & saga.pivots):
        for step in sorted(undone):
            yield Problem(f"step {step} undone, although pivot {pivots[0]} is done", "no way back behind a pivot")
        return
    for step in sorted(done & saga.after_pivot):
        yield Problem(f"step {step} done, although no pivot is", "its pivot done first")
    if case.outcome is WorkflowStatus.COMPENSATED:
        for step in sorted(done - undone - _passed_over(case, saga)):
            yield Problem(f"step {step} done and never undone, in a workflow that is compensated", "its compensation")
    for step in sorted(undone):
        yield from _undoing(case, saga, step)


def _undoing(case: Case, saga: Saga, step: str) -> Iterator[Problem]:
    own = case.facts[step, FactStatus.COMPENSATED]
    waited = not saga[step].on or any(join <= case.done.keys() for join in saga[step].on)
    if (step, FactStatus.DONE) not in case.facts and not waited:
        yield Problem(f"step {step} undone, which was never begun", "a tombstone")
    for status in (FactStatus.FAILED, FactStatus.SKIPPED):
        if (step, status) in case.facts:
            yield Problem(f"step {step} undone, which is {status}", "nothing to undo")
    for later in sorted(saga.awaited_reports[step]):
        telling = REPORTS | {FactStatus.STUCK} if later in saga.passed_over else REPORTS
        reports = [case.facts[later, status] for status in telling if (later, status) in case.facts]
        if not reports:
            yield Problem(f"step {step} undone before anything is known of {later}, which follows it", f"{later} first")
        elif all(_follows(report, own) for report in reports):
            yield Problem(f"step {step} undone before {later}, which follows it", f"{later} first")


def _passed_over(case: Case, saga: Saga) -> set[str]:
    """Steps of which a compensation that is stuck counts as a report."""
    return case.steps(FactStatus.STUCK) & saga.passed_over


def schema(case: Case) -> Iterator[Problem]:
    """Envelope and value can be read, by the contracts of its version and by those of the latest."""
    if case.saga is None:
        kinds = ", ".join(sorted(case.history.kinds())) or "no readable record"
        yield Problem(kinds, "one version of the saga, whose contracts are at hand")
    latest = case.contracts.latest
    for entry in (*case.entries, *case.history.again):
        if entry.message is None:
            yield Problem(f"a record that makes no sense at {entry.place}: {entry.fault}", "CloudEvents headers")
            continue
        if entry.version not in case.contracts.sagas:
            continue
        for version in {entry.version, latest.version if entry.type in latest.published else entry.version}:
            try:
                case.contracts.codec(version).decode(entry.type, entry.record.value or b"")
            except ContractError as error:
                yield Problem(f"{_name(entry)} at {entry.place}: {error}", f"a value that version {version} can read")


def _is_behind(cause: Entry, effect: Entry) -> bool:
    if cause.source == effect.source:
        return cause.sequence >= effect.sequence
    one, other = cause.record, effect.record
    return (one.topic, one.partition) == (other.topic, other.partition) and one.offset >= other.offset


def _follows(one: Message, other: Message) -> bool:
    """Whether it stands behind the other, as far as one partition or one source can tell."""
    if one.kind.source == other.kind.source:
        return one.sequence >= other.sequence
    return (one.topic, one.partition) == (other.topic, other.partition) and one.offset >= other.offset


def _share_trace(one: Message, other: Message) -> bool:
    if one.traceparent is None or other.traceparent is None:
        return True
    return one.traceparent[3:35] == other.traceparent[3:35]


def _said(entry: Entry) -> tuple[str, str, str, int]:
    return entry.type, entry.step, entry.status, entry.sequence


def _name(entry: Entry) -> str:
    return f"{_short(entry.type)} #{entry.sequence} of {entry.source}"


def _short(event: str) -> str:
    return event.rpartition(".")[2]
