"""What the participants' stores must say of one workflow, held against its facts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus, expected
from saga.replay.history import is_foreign
from saga.testing.checker.case import Case
from saga.testing.checker.invariant import Problem

_OVER = (WorkflowStatus.COMPLETED, WorkflowStatus.COMPENSATED)


def started(case: Case) -> Iterator[Problem]:
    """What the initiator has committed is on the topics."""
    if case.saga is None or case.books.get(case.saga.initiator) is None:
        return
    if (case.saga.root.name, FactStatus.DONE) not in case.facts:
        yield Problem(f"it in the store of {case.saga.initiator}, without its first event on a topic", "its first event")


def ended(case: Case) -> Iterator[Problem]:
    """It is over, and in every store; or it is parked somewhere, and why is known."""
    if parked := case.parked:
        for name, reason in parked:
            if not reason:
                yield Problem(f"it parked by {name} for no reason", "a reason")
        return
    if case.is_unreadable:
        return  # which is told of each of its records
    if case.outcome is None:
        yield Problem("it neither ended nor parked anywhere", "an end, or a reason")
        return
    for name, workflow in case.books.items():
        if case.saga is None or name not in case.saga.participants:
            continue
        if workflow is None:
            yield Problem(f"nothing of it in the store of {name}", f"{case.outcome}")
        elif not workflow.closed:
            yield Problem(f"it {workflow.status} in the store of {name}", f"{case.outcome}")
        elif workflow.status is not case.outcome:
            yield Problem(f"it {workflow.status} in the store of {name}", f"{case.outcome}, as the facts say")


def outbox(case: Case) -> Iterator[Problem]:
    """What was committed is on the topics where its row says, and nothing is there that was not committed."""
    if case.saga is not None:
        for entry in case.entries:
            if is_foreign(case.saga, entry):
                owner = case.saga[entry.step].by if entry.step in case.saga else "nobody"
                yield Problem(f"{entry.source} speaking of step {entry.step} at {entry.place}", f"{owner} alone to do so")
    numbers = case.history.numbers()
    for name, workflow in case.books.items():
        told = max(numbers.get(name, {0}))
        committed = workflow.sequence if workflow else 0
        if told > committed:
            yield Problem(f"fact #{told} of {name} on a topic, its store knows {committed}", "nothing that was not committed")
        waiting = sum(row.offset is None for row in case.rows.get(name, ()))
        if waiting:
            yield Problem(f"{waiting} events of {name} committed and not published", "all published")
        elif committed > told:
            yield Problem(f"facts of {name} up to #{told} on the topics, its store has stated {committed}", "all of them")
        yield from _places(case, name)


def _places(case: Case, name: str) -> Iterator[Problem]:
    there = {(e.record.topic, e.record.partition, e.record.offset): e.id for e in (*case.entries, *case.history.again)}
    for row in case.rows.get(name, ()):
        if row.offset is not None and there.get((row.topic, row.lane, row.offset)) != row.id:
            yield Problem(f"another record at {row.topic}/{row.lane}@{row.offset}", f"event {row.id}, as {name} has it")


def effects(case: Case) -> Iterator[Problem]:
    """Each at most once, and none of a step of which nothing is known."""
    for effect, times in Counter(case.effects).items():
        if times > 1:
            yield Problem(f"the {effect.act} of step {effect.step} {times} times in {effect.participant}", "once")
    for effect in set(case.effects):
        workflow = case.books.get(effect.participant)
        fence = workflow.fences.get(effect.step) if workflow else None
        begun = fence is not None and fence.status is not StepStatus.IDLE
        stated = {status for step, status in case.facts if step == effect.step}
        if effect.act == "compensation" and not begun and FactStatus.COMPENSATED not in stated:
            yield Problem(f"step {effect.step} undone in the tables of {effect.participant}, and not said so", "the fact")
        elif effect.act == "action" and not begun and not stated:
            yield Problem(f"an effect of step {effect.step} in {effect.participant}, of which nothing is known", "its fact")


def acknowledged(case: Case) -> Iterator[Problem]:
    """By everybody concerned, wherever it stands; what is parked waits for a reason."""
    if case.saga is None or case.acks is None:
        return
    places: dict[str, list[tuple[str, int]]] = {}
    for entry in (*case.entries, *case.history.again):
        places.setdefault(entry.id, []).append((entry.record.topic, entry.record.offset))
    for message in case.messages:
        silent = [
            name
            for name in sorted(expected(case.saga, message.fact))
            if not any(offset in (taken := case.acks.of(name, topic)).spans or offset in taken.parked
                       for topic, offset in places[message.id])
        ]  # fmt: skip
        if silent:
            what = f"{message.kind.type.rpartition('.')[2]} of {message.kind.source}"
            yield Problem(f"{what} not acknowledged by {' and '.join(silent)}", "the word of all whom it concerns")


def secrecy(case: Case, secrets: frozenset[str]) -> Iterator[Problem]:
    """Not in a header, not in an error or a reason that a store shows to people."""
    for entry in case.entries:
        for name, value in entry.record.headers:
            if value and any(secret in value.decode(errors="replace") for secret in secrets):
                yield Problem(f"a secret in header {name} at {entry.place}", "it in the value alone")
    for name, workflow in case.books.items():
        if workflow is None:
            continue
        shown = [workflow.error, *(f.error for f in workflow.fences.values()), *(i.reason for i in workflow.interventions)]
        if any(text and secret in text for text in shown for secret in secrets):
            yield Problem(f"a secret in an error or a reason in the store of {name}", "it nowhere to be shown")
