"""One transaction of a rebuild: records read, facts applied to the workflows that they are about, rows written set-based.

Own facts are applied in the order of their sequence numbers, each once the events of its trigger have been taken in. One that
comes too early waits in memory, and the lane's offsets do not pass it: what is read again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from saga.contracts.event import Event
from saga.contracts.message import Message, RawHeaders, from_headers, kind_of
from saga.errors import ContractError, LaneStopped, SagaError, StatementFailed, StoreError
from saga.handling.intake import Incoming, Intake, contradiction
from saga.participant import evolve
from saga.participant.handler import Handler
from saga.participant.participant import Participant
from saga.protocol.facts import FactStatus
from saga.replay.holes import Hole
from saga.replay.restoring import Restoring
from saga.replay.shadow import Seen, Shadow
from saga.store.dead_letter import DeadLetter
from saga.store.port import Changes, Lane, Unit, Workflow
from saga.transport.port import Record

MOST_FACTS = 100_000
"""Numbers beyond are nobody's count of facts about one workflow."""


class Waiting(NamedTuple):
    """An own fact that cannot be applied yet."""

    message: Message
    why: str


class Evolved(NamedTuple):
    """A call of a function of the service's, for the event at `place`."""

    bound: Handler
    events: Sequence[Event | None]
    workflow_id: str
    place: str


@dataclass(slots=True)
class Held:
    """What a lane's offsets must not pass: own facts by workflow and number, and facts that a worker has still to answer.

    `upto` says, by topic, how far it was read all the same; `late` where the first fact stands that is not to be read.
    """

    own: dict[str, dict[int, Waiting]] = field(default_factory=dict)
    answers: dict[str, Message] = field(default_factory=dict)
    upto: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Held:
        return Held({id: dict(own) for id, own in self.own.items()}, dict(self.answers), dict(self.upto), dict(self.late))

    def fence(self) -> dict[str, int]:
        """The offsets at which somebody who knows nothing of this must go on."""
        messages = [one.message for own in self.own.values() for one in own.values()] + [*self.answers.values()]
        found = self.upto.copy()
        for topic, offset in [(m.topic, m.offset) for m in messages] + [*self.late.items()]:
            found[topic] = min(found.get(topic, offset), offset)
        return found


class Item(NamedTuple):
    """One record that is the participant's business: its own statement, or something that it takes in, or both."""

    record: Record
    message: Message
    own: bool
    heard: bool


@dataclass(slots=True)
class Reading:
    """Records as a rebuild sees them.

    `seen` are the sequence numbers of all of them, by workflow; `letters` cannot be taken in, `late` as in `Held`.
    """

    items: list[Item]
    seen: dict[str, Seen]
    letters: list[DeadLetter]
    upto: dict[str, int]
    late: dict[str, int]

    @classmethod
    def of(cls, restoring: Restoring, lane: Lane, records: Sequence[Record], until: datetime | None, now: datetime) -> Reading:
        """Read their headers, nothing else; what a worker would have made a dead letter becomes one."""
        found, intake = cls([], {}, [], {record.topic: record.offset + 1 for record in records}, {}), restoring.intake
        for record in records:
            try:
                raw = dict(record.headers)
                kind = kind_of(raw)
                own, heard = restoring.part(kind)
                if until is not None and _moment(raw) > until:
                    found.late.setdefault(record.topic, record.offset)
                elif not (own or heard):
                    found._see((raw["ce_subject"] or b"").decode(), kind.source, int(raw["ce_sequence"] or b""))
                elif heard and not found._is_in_place(intake, record, raw):
                    found._take_in(intake, lane, record, own, now)
                else:
                    topic, partition, offset, value = record.topic, record.partition, record.offset, record.value or b""
                    message = from_headers(raw, value, kind=kind, topic=topic, partition=partition, offset=offset)
                    found._add(Item(record, message, own, heard))
            except (ContractError, KeyError, ValueError):
                found._take_in(intake, lane, record, False, now)
        return found

    def _is_in_place(self, intake: Intake, record: Record, raw: RawHeaders) -> bool:
        """Whether there is nothing about the record at which `intake` would have to look."""
        if record.key is None or record.key != raw["ce_subject"] or len(raw) != len(record.headers):
            return False
        workflow = record.key.decode()
        return intake.lane_of(workflow, intake.partitions) == record.partition

    def _take_in(self, intake: Intake, lane: Lane, record: Record, own: bool, now: datetime) -> None:
        [incoming] = intake.read(lane, [record], now)
        if incoming.letter is not None:
            self.letters.append(incoming.letter)
        elif incoming.message is not None:
            self._add(Item(record, incoming.message, own, heard=True))

    def _add(self, item: Item) -> None:
        self.items.append(item)
        self._see(item.message.workflow_id, item.message.kind.source, item.message.sequence)

    def _see(self, workflow: str, source: str, sequence: int) -> None:
        if not 0 < sequence < MOST_FACTS:
            return
        if (seen := self.seen.get(workflow)) is None:
            seen = self.seen[workflow] = {}
        seen[source] = seen.get(source, 0) | 1 << sequence


def _moment(raw: RawHeaders) -> datetime:
    return datetime.fromisoformat((raw["ce_time"] or b"").decode())


class Batch:
    """The work of one transaction; what it learns beside the rows is the caller's to keep once that has committed."""

    def __init__(
        self,
        participant: Participant,
        restoring: Restoring,
        lane: Lane,
        held: Held,
        seen: Mapping[str, Seen],
        now: datetime,
        evolving: bool,
    ) -> None:
        self.participant, self.restoring, self.lane, self.now, self.evolving = participant, restoring, lane, now, evolving
        self.held, self.before = held.copy(), seen
        self.seen: dict[str, Seen] = {}
        self.forgotten: set[str] = set()
        self.letters: list[DeadLetter] = []
        self.workflows: dict[str, Workflow] = {}
        self.touched: set[str] = set()
        self.evolved: list[Evolved] = []

    def learn(self, known: Mapping[str, Workflow]) -> None:
        """What the database has of workflows that the batch is about, before anything of theirs is taken."""
        self.workflows.update(known)

    def take(self, reading: Reading) -> None:
        """Apply the facts in the order in which they were read; may be said again and again."""
        self._see(reading.seen)
        for record, message, own, heard in reading.items:
            if own:
                self._state(message)
            if heard:
                self._hear(record, message)
                self._go_on(message.workflow_id)
        self.letters += reading.letters
        self.held.upto.update(reading.upto)
        for topic, offset in reading.late.items():
            self.held.late.setdefault(topic, offset)

    def settle(self, marked: Mapping[str, tuple[Hole, ...]]) -> None:
        """Bring rows in line; those of workflows that are not whole say so, and go as far as they can."""
        for id, holes in marked.items():
            texts = [hole.text for hole in holes] + self._apply_regardless(id)
            if (workflow := self.workflows.get(id)) is not None:
                workflow.error = "rebuilt from a history that is not whole: " + "; ".join(texts)
                self.touched.add(id)
        for id in self.touched:
            workflow = self.workflows[id]
            if id not in self.held.own:
                self.restoring.settle(workflow, self.now)
            if workflow.closed and _is_whole(self.seen.get(id) or self.before.get(id, {})):
                self.forgotten.add(id)

    def save(self, unit: Unit, shadow: Shadow, *, singly: bool = False) -> None:
        """Write all rows, the service's own first; may be repeated in another transaction if this one fails.

        With `singly` functions that take many events get them one by one, so that the one is found that cannot be written.
        """
        for alike in self._alike(singly):
            self._evolve(unit, alike)
        found = [self.workflows[id] for id in self.touched]
        opened = [workflow for workflow in found if not workflow.closed]
        unit.save(
            self.lane.saga,
            Changes(
                workflows=opened,
                fences=[(w.id, fence) for w in opened for fence in w.fences.values()],
                inbox=[(w.id, received) for w in opened for received in w.inbox.values()],
                closed=[workflow for workflow in found if workflow.closed],
            ),
        )
        if self.letters:
            unit.bury(self.letters)
        remembered = {id: seen for id, seen in self.seen.items() if id not in self.forgotten}
        shadow.remember(unit, self.lane.number, remembered, [id for id in self.forgotten if id in self.before])

    def _see(self, read: Mapping[str, Seen]) -> None:
        """Note the sequence numbers of workflows that have not ended here with nothing missing."""
        for id, seen in read.items():
            before, known = self.seen.get(id) or self.before.get(id), self.workflows.get(id)
            if before is None:
                if known is None or not known.closed:
                    self.seen[id] = seen
            elif any(bits & ~before.get(source, 0) for source, bits in seen.items()):
                self.seen[id] = {source: before.get(source, 0) | seen.get(source, 0) for source in {**before, **seen}}

    def _hear(self, record: Record, message: Message) -> None:
        known = self.workflows.get(message.workflow_id)
        letter = contradiction(self.lane, Incoming(record, message), known, self.now) if known else None
        if letter is not None:
            self.letters.append(letter)
            return
        workflow = self._met(message)
        self.touched.add(workflow.id)
        if self.restoring.hear(workflow, message):
            self.held.answers[workflow.id] = message

    def _met(self, message: Message) -> Workflow:
        known = self.workflows.get(message.workflow_id)
        if known is None:
            known = self.workflows[message.workflow_id] = self.restoring.open(message, self.lane.number)
        known.opened = min(known.opened, message.time)
        return known

    def _state(self, message: Message) -> None:
        id, known = message.workflow_id, self.workflows.get(message.workflow_id)
        following = (known.sequence if known else 0) + 1
        if message.sequence == following and id not in self.held.own and known and not self.restoring.awaited(known, message):
            self._apply(message)
        elif message.sequence >= following:
            earlier = f"an earlier fact of {message.kind.source} than its fact {message.sequence} is missing"
            self.held.own.setdefault(id, {})[message.sequence] = Waiting(message, earlier)
            self._go_on(id)

    def _go_on(self, id: str) -> None:
        """Apply the own facts of a workflow that may be applied now."""
        while (waiting := self.held.own.get(id)) is not None:
            known = self.workflows.get(id)
            following = (known.sequence if known else 0) + 1
            if following not in waiting:
                return
            message = waiting[following].message
            if awaited := self.restoring.awaited(known or self.restoring.open(message, self.lane.number), message):
                missing = " and ".join(event.rpartition(".")[2] for event in awaited)
                why = f"step {message.kind.step} is {message.kind.status}, but {missing}, which triggers it, is missing"
                waiting[following] = Waiting(message, why)
                return
            self._apply(message)
            del waiting[following]
            if not waiting:
                del self.held.own[id]

    def _apply(self, message: Message) -> None:
        workflow = self._met(message)
        self.touched.add(workflow.id)
        if self.evolving:
            self._prepare(workflow, message)
        self.restoring.state(workflow, message)
        if message.kind.status is FactStatus.REFUSED:
            self.held.answers.pop(workflow.id, None)

    def _prepare(self, workflow: Workflow, message: Message) -> None:
        bound = self.participant.evolution.by_event.get((workflow.version, message.kind.type))
        if bound is None:
            return
        payloads, place = self.restoring.events(workflow, message), f"{message.topic}/{message.partition}@{message.offset}"
        try:
            events = evolve.views(bound, self.restoring.versions.codec(workflow.version), message.kind.type, payloads)
        except ContractError as error:
            raise ContractError(f"workflow {workflow.id}, record {place}: {error}") from error
        self.evolved.append(Evolved(bound, events, workflow.id, place))

    def _alike(self, singly: bool) -> list[list[Evolved]]:
        """The calls, those of one workflow in order, and as many of one function in a row as there are."""
        rounds: list[dict[Any, list[Evolved]]] = []
        come: Counter[str] = Counter()
        for one in self.evolved:
            if come[one.workflow_id] == len(rounds):
                rounds.append({})
            rounds[come[one.workflow_id]].setdefault(one.bound.function, []).append(one)
            come[one.workflow_id] += 1
        found = [alike for calls in rounds for alike in calls.values()]
        return found if not singly else [[one] for alike in found for one in alike]

    def _evolve(self, unit: Unit, alike: Sequence[Evolved]) -> None:
        bound, is_batch = alike[0].bound, alike[0].bound.batch
        for calls in [alike] if is_batch else ([one] for one in alike):
            one = calls[0]
            unit.workflow_id, unit.workflow_ids = one.workflow_id, [call.workflow_id for call in calls]
            try:
                bound.function(
                    *(map(list, zip(*(call.events for call in calls), strict=True)) if is_batch else one.events), unit
                )
            except (ContractError, StoreError):
                raise
            except Exception as error:
                raise self._failed(unit, calls, error) from error

    def _failed(self, unit: Unit, calls: Sequence[Evolved], error: Exception) -> SagaError:
        if (technical := unit.technical(error)) is not None:
            return technical
        one, why = calls[0], f"{type(error).__name__}: {error}"
        if len(calls) > 1:
            return StatementFailed(f"{one.bound.title} failed for one of {len(calls)} workflows: {why}")
        said = f"{one.bound.title} failed for workflow {one.workflow_id}, record {one.place}: {why}"
        return LaneStopped(self.lane.saga, self.lane.number, said)

    def _apply_regardless(self, id: str) -> list[str]:
        """Apply own facts although something before them is missing; answers what could not be done for that."""
        said = []
        for _, waiting in sorted(self.held.own.pop(id, {}).items()):
            try:
                self._apply(waiting.message)
            except ContractError as error:
                said.append(str(error))
                self.restoring.state(self._met(waiting.message), waiting.message)
        return said


def _is_whole(seen: Seen) -> bool:
    return not any(bits & (bits + 2) for bits in seen.values())
