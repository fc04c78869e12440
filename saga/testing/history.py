"""Recorded workflows, lived through again by new code: does it still decide and say what was decided and said?

The engine is that of production, on a memory store and a memory broker. A participant meets the recorded events of all others
in the order in which it met them then; what the world answered is answered from the recording. Timers do not fire: what they
and people brought about is stated as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saga.errors import ContractError
from saga.participant.participant import Participant
from saga.protocol.facts import FactStatus
from saga.replay.contracts import Contracts
from saga.replay.entry import Entry
from saga.replay.history import History
from saga.replay.holes import holes
from saga.replay.recording import RecordingSource
from saga.store.port import Transaction
from saga.testing.second_life import SecondLife

Prepare = Callable[[Transaction], None]

_BY_HAND = frozenset({"saga.StepFailed", "saga.StepStuck", "saga.OperatorActed"})


@dataclass(frozen=True, slots=True)
class Difference:
    """The first point at which a workflow went another way; `fields` are (name, recorded, now)."""

    workflow: str
    step: str
    recorded: str
    now: str
    fields: tuple[tuple[str, Any, Any], ...] = ()

    def __str__(self) -> str:
        lines = [f"workflow {self.workflow}, step {self.step}:", f"  recorded: {self.recorded}", f"  now:      {self.now}"]
        lines += [f"    {name}: recorded {recorded!r}, now {now!r}" for name, recorded, now in self.fields]
        return "\n".join(lines)


@dataclass(slots=True)
class Replayed:
    """What came of a recording: workflows that went the same way, the first difference of each other one, what was left out."""

    same: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def check_histories(
    participant: Participant, file: str | Path, *, prepare: Prepare | None = None, ignore: Collection[str] = ()
) -> Replayed:
    """Fail (AssertionError) at the first recorded workflow in which this participant now decides or says something else.

    `prepare` makes the tables and rows that its handlers need, before each workflow; `ignore` names fields of events that
    differ each time. Workflows that are not whole, or in which an operator acted or tries were spent, are left out; it fails
    as well if that leaves none.
    """
    found = replay_histories(participant, file, prepare=prepare, ignore=ignore)
    if found.differences:
        raise AssertionError(
            f"{len(found.differences)} of {len(found.differences) + len(found.same)} recorded workflows "
            f"go another way in {participant.name!r} now. The first: {found.differences[0]}"
        )
    if not found.same:
        reasons = "; ".join(f"{workflow}: {why}" for workflow, why in found.left_out.items()) or "it is empty"
        raise AssertionError(f"{file} holds no workflow that {participant.name!r} can live through again: {reasons}")
    return found


def replay_histories(
    participant: Participant, file: str | Path, *, prepare: Prepare | None = None, ignore: Collection[str] = ()
) -> Replayed:
    """As `check_histories`, to be looked into: nothing fails."""
    contracts, found = Contracts([*participant.versions], participant.codec.registry), Replayed()
    for history in RecordingSource(Path(file)).histories():
        if (reason := _reason_to_leave_out(contracts, participant.name, history)) is not None:
            found.left_out[history.workflow] = reason
        elif (difference := _difference(contracts, participant, history, prepare, ignore)) is not None:
            found.differences.append(difference)
        else:
            found.same.append(history.workflow)
    return found


def _reason_to_leave_out(contracts: Contracts, participant: str, history: History) -> str | None:
    if missing := holes(history, contracts):
        return missing[0].text
    own = [entry for entry in history.entries.values() if entry.source == participant]
    if any(entry.type in _BY_HAND for entry in own):
        return "its tries were spent, or an operator acted"
    if any(entry.status == FactStatus.SKIPPED and entry.cause is None for entry in own):
        return "an operator skipped a step"
    return None if own else f"{participant} had no part in it"


def _difference(
    contracts: Contracts, participant: Participant, history: History, prepare: Prepare | None, ignore: Collection[str]
) -> Difference | None:
    saga = contracts.of(history)
    assert saga is not None
    with SecondLife(copy(participant), saga, history) as life:
        if prepare is not None:
            life.prepare(prepare)
        life.live()
        said = life.said()
    recorded = [entry for entry in life.own if entry.status != FactStatus.ABORT]
    compared = _Comparison(contracts, saga.version, history.workflow, ignore)
    return next(compared.all(recorded, said, life.errors), None)


class _Comparison:
    """What was said then and now, fact by fact."""

    def __init__(self, contracts: Contracts, version: int, workflow: str, ignore: Collection[str]) -> None:
        self.codec, self.workflow, self.ignore = contracts.codec(version), workflow, ignore

    def all(self, recorded: Sequence[Entry], said: dict[str, Entry], errors: dict[str, str]) -> Iterator[Difference]:
        """In the order in which it was said then, and at last what is only said now."""
        left = dict(said)
        for then in recorded:
            now = left.pop(then.id, None)
            if now is None:
                other = next((one for one in left.values() if one.step == then.step), None)
                yield Difference(self.workflow, then.step, _told(then), _told(other) if other else _silence(then, errors))
            elif differing := tuple(self._fields(then, now)):
                yield Difference(self.workflow, then.step, _told(then), _told(now), differing)
        for now in left.values():
            if now.status != FactStatus.ABORT:
                yield Difference(self.workflow, now.step, "nothing more of this step", _told(now))

    def _fields(self, then: Entry, now: Entry) -> Iterator[tuple[str, Any, Any]]:
        if then.type != now.type:
            yield "the event", then.type, now.type
            return
        before, after = self._read(then), self._read(now)
        for name in dict.fromkeys([*before, *after]):
            if name not in self.ignore and before.get(name) != after.get(name):
                yield name, before.get(name), after.get(name)

    def _read(self, entry: Entry) -> dict[str, Any]:
        try:
            return self.codec.decode(entry.type, entry.record.value or b"")
        except ContractError as error:
            return {"the record": str(error)}


def _told(entry: Entry) -> str:
    return f"{entry.status} with {entry.type.rpartition('.')[2]}"


def _silence(then: Entry, errors: dict[str, str]) -> str:
    return f"nothing; {errors[then.step]}" if then.step in errors else "nothing"
