"""One transaction of a rebuild: records read, facts applied to the workflows that they are about, rows written set-based.

Own facts are applied in the order of their sequence numbers, each once the events of its trigger have been taken in. One that
comes too early waits in memory, and the lane's offsets do not pass it: what is read again changes nothing.

Of a workflow that is met for the first time all facts are set aside until the batch has been read: most end in it, as many
others have, and are copied from these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from saga.contracts.event import Event
from saga.contracts.message import Message
from saga.errors import ContractError, LaneStopped, SagaError, StatementFailed, StoreError
from saga.handling.intake import Incoming, contradiction
from saga.participant import evolve
from saga.participant.handler import Handler
from saga.participant.participant import Participant
from saga.protocol.facts import FactStatus
from saga.replay.endings import Ending, Endings
from saga.replay.holes import Hole
from saga.replay.reading import Held, Reading, Waiting, is_whole, note
from saga.replay.restoring import Fact, Restoring
from saga.replay.shadow import Seen, Shadow
from saga.store.dead_letter import DeadLetter
from saga.store.lane import Lane
from saga.store.port import Changes, Unit
from saga.store.workflow import Workflow
from saga.transport.port import Record

NOT_WHOLE = "rebuilt from a history that is not whole: "
_Read = TypeVar("_Read")


class Evolved(NamedTuple):
    """A call of a function of the service's, for the event of the message; `events` are None until the payloads are read."""

    bound: Handler
    message: Message
    payloads: Mapping[str, bytes]
    events: Sequence[Event | None] | None = None

    @property
    def workflow_id(self) -> str:
        return self.message.workflow_id

    @property
    def place(self) -> str:
        return place_of(self.message)


class Batch:
    """The work of one transaction; what it learns beside the rows is the caller's to keep once that has committed.

    `ended` are workflows that were copied, of which the database has nothing; all others are in `workflows`. With `partial`
    `unread` tells, by workflow and place, which own facts could not be read and were taken as far as their headers tell.

    Without `endings` every fact is applied as it is taken.
    """

    def __init__(
        self,
        participant: Participant,
        restoring: Restoring,
        lane: Lane,
        held: Held,
        seen: Mapping[str, Seen],
        now: datetime,
        evolving: bool,
        endings: Endings | None = None,
        partial: bool = False,
    ) -> None:
        self.endings, self.partial = endings, partial
        self.unread: dict[str, dict[str, Hole]] = {}
        self.aside: dict[str, list[Fact]] = {}
        self.participant, self.restoring, self.lane, self.now, self.evolving = participant, restoring, lane, now, evolving
        self.held, self.before = held.copy(), seen
        self.seen: dict[str, Seen] = {}
        self.forgotten: set[str] = set()
        self.letters: list[DeadLetter] = []
        self.workflows: dict[str, Workflow] = {}
        self.touched: set[str] = set()
        self.ended: list[Workflow] = []
        self.evolved: list[Evolved] = []

    def learn(self, known: Mapping[str, Workflow]) -> None:
        """What the database has of workflows that the batch is about, before anything of theirs is taken."""
        self.workflows.update(known)

    def take(self, reading: Reading) -> None:
        """Apply the facts in the order in which they were read; may be said again and again."""
        self._see(reading.seen)
        for fact, record in zip(reading.facts, reading.records, strict=True):
            if self.endings is None or not self._set_aside(fact):
                self._take(fact, record)
        self.letters += reading.letters
        self.held.upto.update(reading.upto)
        for topic, offset in reading.late.items():
            self.held.late.setdefault(topic, offset)

    def settle(self, marked: Mapping[str, tuple[Hole, ...]]) -> None:
        """Bring rows in line; those of workflows that are not whole say so, and go as far as they can."""
        self._end()
        for id, holes in marked.items():
            for _, waiting in sorted(self.held.own.pop(id, {}).items()):
                self._apply(waiting.message)
            if (workflow := self.workflows.get(id)) is not None:
                _mark(workflow, holes)
                self.touched.add(id)
        for id in self.touched:
            workflow = self.workflows[id]
            if id not in self.held.own:
                self.restoring.settle(workflow, self.now)
            if workflow.closed and is_whole(self.seen.get(id) or self.before.get(id, {})):
                self.forgotten.add(id)

    def save(self, unit: Unit, shadow: Shadow, *, singly: bool = False) -> None:
        """Write all rows, the service's own first; may be repeated in another transaction if this one fails.

        With `singly` functions that take many events get them one by one, so that the one is found that cannot be written.
        """
        for alike in self._alike(singly):
            self._evolve(unit, alike)
        self._mark_unread()
        found = [self.workflows[id] for id in self.touched]
        opened = [workflow for workflow in found if not workflow.closed]
        unit.save(
            self.lane.saga,
            Changes(
                workflows=opened,
                fences=[(w.id, fence) for w in opened for fence in w.fences.values()],
                inbox=[(w.id, received) for w in opened for received in w.inbox.values()],
                closed=[workflow for workflow in found if workflow.closed],
                ended=self.ended,
            ),
        )
        if self.letters:
            unit.bury(self.letters)
        remembered = {id: seen for id, seen in self.seen.items() if id not in self.forgotten}
        shadow.remember(unit, self.lane.number, remembered, [id for id in self.forgotten if id in self.before])

    @property
    def written(self) -> Iterator[str]:
        """The workflows of which it writes rows."""
        return chain(self.touched, (workflow.id for workflow in self.ended))

    def _see(self, read: Mapping[str, Seen]) -> None:
        """Note the sequence numbers of workflows that have not ended here with nothing missing."""
        for id, seen in read.items():
            before, known = self.seen.get(id) or self.before.get(id), self.workflows.get(id)
            if before is None:
                if known is None or not known.closed:
                    self.seen[id] = seen
            elif any(bits & ~before.get(source, 0) for source, bits in seen.items()):
                self.seen[id] = {source: before.get(source, 0) | seen.get(source, 0) for source in {**before, **seen}}

    def _set_aside(self, fact: Fact) -> bool:
        """Keep a fact for the end of the batch, if all of its workflow's are kept."""
        id, kind = fact.message.workflow_id, fact.message.kind
        if (facts := self.aside.get(id)) is None:
            if id in self.workflows or id in self.before or id in self.held.own:
                return False
            self.aside[id] = [fact]
            return True
        first = facts[0].message.kind
        if is_alike := first.version == kind.version and first.gates == kind.gates:
            facts.append(fact)
        else:
            self._take_all(self.aside.pop(id))
        return is_alike

    def _end(self) -> None:
        """Take in what was set aside: at once where it ends as others have, else fact by fact."""
        aside, self.aside = self.aside, {}
        for id, facts in aside.items():
            ending = self.endings.of(facts) if self.endings is not None else None
            if ending is None:
                self._take_all(facts)
            else:
                self._copy(id, facts, ending)

    def _copy(self, id: str, facts: Sequence[Fact], ending: Ending) -> None:
        messages = [fact.message for fact in facts]
        if not ending.is_whole or id in self.seen:
            self._see_all(id, messages)
        for bound, place, sources in ending.calls:
            payloads = {type: messages[source].value for type, source in sources.items()}
            self.evolved.append(Evolved(bound, messages[place], payloads))
        self.ended.append(ending.workflow(messages, self.lane.number))

    def _see_all(self, id: str, messages: Sequence[Message]) -> None:
        """Note the sequence numbers of a workflow that ends here, unless nothing of it is missing."""
        for message in messages:
            self._note(message)
        if is_whole(self.seen[id]):
            del self.seen[id]

    def _take_all(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            self._take(fact)

    def _take(self, fact: Fact, record: Record | None = None) -> None:
        """Apply a fact; without its record it is known not to contradict what was applied before."""
        message, part = fact
        self._note(message)
        if part.own:
            self._state(message)
        if part.heard:
            self._hear(record, message)
            self._go_on(message.workflow_id)

    def _note(self, message: Message) -> None:
        read: dict[str, Seen] = {}
        note(read, message.workflow_id, message.kind.source, message.sequence)
        self._see(read)

    def _hear(self, record: Record | None, message: Message) -> None:
        known = self.workflows.get(message.workflow_id)
        letter = contradiction(self.lane, Incoming(record, message), known, self.now) if known and record else None
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
        self.restoring.state(workflow, message, self._read(message, lambda: self.restoring.words(message)) or {})
        if message.kind.status is FactStatus.REFUSED:
            self.held.answers.pop(workflow.id, None)

    def _prepare(self, workflow: Workflow, message: Message) -> None:
        bound = self.participant.evolution.by_event.get((workflow.version, message.kind.type))
        if bound is None:
            return
        one = Evolved(bound, message, self.restoring.events(workflow, message))
        if (events := self._events(one)) is not None:
            self.evolved.append(one._replace(events=events))

    def _events(self, one: Evolved) -> Sequence[Event | None] | None:
        if one.events is not None:
            return one.events
        kind = one.message.kind
        codec = self.restoring.versions.codec(kind.version)
        return self._read(one.message, lambda: evolve.views(one.bound, codec, kind.type, one.payloads))

    def _read(self, message: Message, read: Callable[[], _Read]) -> _Read | None:
        """What the bytes of an own fact tell, None where nobody can read them and that is to be taken as it is."""
        try:
            return read()
        except ContractError as error:
            id, place = message.workflow_id, place_of(message)
            if not self.partial:
                raise ContractError(
                    f"workflow {id}, record {place}: {error}. Add --partial to keep what its headers tell, to leave out the "
                    f"service's own rows that need its bytes, and to have the workflow marked"
                ) from error
            self.unread.setdefault(id, {})[place] = Hole("payload", f"record {place}: {error}")
            return None

    def _mark_unread(self) -> None:
        """Have workflows say so of which something could not be read."""
        copied = {workflow.id: workflow for workflow in self.ended} if self.unread else {}
        for id, holes in self.unread.items():
            _mark(self.workflows.get(id) or copied[id], holes.values())

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
        for some in [alike] if is_batch else ([one] for one in alike):
            read = [(call, given) for call in some if (given := self._events(call)) is not None]
            if not read:
                continue
            calls, events = [call for call, _ in read], [given for _, given in read]
            unit.workflow_id, unit.workflow_ids = calls[0].workflow_id, [call.workflow_id for call in calls]
            try:
                bound.function(*(map(list, zip(*events, strict=True)) if is_batch else events[0]), unit)
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
        if _lacks_rows(why):
            said += ". Tables, and rows that never were in an event, are made by --sql FILE, in an empty database"
        return LaneStopped(self.lane.saga, self.lane.number, said)


def _mark(workflow: Workflow, holes: Iterable[Hole]) -> None:
    """Have it say what is missing of it, beside what it says already."""
    known = (workflow.error or "").removeprefix(NOT_WHOLE)
    texts = [known] * bool(known) + [hole.text for hole in holes if hole.text not in known]
    workflow.error = NOT_WHOLE + "; ".join(texts)


def _lacks_rows(why: str) -> bool:
    """Whether a database misses what its scripts should have made."""
    return why.startswith(("UndefinedTable", "ForeignKeyViolation")) or "no such table" in why or "FOREIGN KEY" in why


def place_of(message: Message) -> str:
    """Where its record is, told to people."""
    return f"{message.topic}/{message.partition}@{message.offset}"
