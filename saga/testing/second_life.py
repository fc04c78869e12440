"""One participant living through one recorded workflow again, in the harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from saga.contracts.event import Event
from saga.contracts.saga import Saga
from saga.errors import TerminalError
from saga.participant.handler import Act, ExternalCall, Handler, Pending
from saga.participant.ledger import Ledger
from saga.participant.participant import Participant
from saga.protocol.facts import FactStatus, StepStatus
from saga.replay.entry import Entry, entry
from saga.replay.history import History, needed
from saga.store.port import Transaction, Unit
from saga.testing.clock import ManualClock
from saga.testing.harness import Harness
from saga.transport.port import Outbound

_ENDS = {
    Act.ACTION: frozenset({FactStatus.DONE, FactStatus.FAILED}),
    Act.COMPENSATION: frozenset({FactStatus.COMPENSATED}),
}


class SecondLife:
    """The life of `history` again for this participant, which is altered: its calls to the world are answered from then.

    `own` are the facts that it stated then, in their order; `errors` what its handlers raised now, by step.
    """

    def __init__(self, participant: Participant, saga: Saga, history: History) -> None:
        self.name, self.saga, self.history = participant.name, saga, history
        self.entries = history.ordered(saga)
        self.own = sorted((e for e in self.entries if e.source == self.name), key=lambda e: e.sequence)
        self.errors: dict[str, str] = {}
        participant.handlers = {key: self._answering(handler) for key, handler in participant.handlers.items()}
        self.participant = participant
        self.harness = Harness(participant, partitions=1, clock=ManualClock(self.entries[0].time))

    def __enter__(self) -> SecondLife:
        return self

    def __exit__(self, *_: object) -> None:
        self.harness.close()

    def prepare(self, work: Callable[[Transaction], None]) -> None:
        """Let the service make the tables and rows that it needs."""
        with self.harness.transaction(self.name) as tx:
            work(tx)

    def live(self) -> None:
        """Everything in the order in which it came then."""
        for one in self._arrivals():
            if one.source != self.name:
                self._hear(one)
            elif one.id not in self.said():
                self._state(one)
            self.harness.settle()
            self._note_errors()

    def _note_errors(self) -> None:
        workflow = self.harness.workflow(self.name, self.history.workflow)
        fences = workflow.fences.values() if workflow else ()
        self.errors |= {fence.step: fence.error for fence in fences if fence.error}

    def said(self) -> dict[str, Entry]:
        """What the participant has stated now, by event id."""
        stated = (entry(record) for log in self.harness.facts() for record in log)
        return {one.id: one for one in stated if one.source == self.name}

    def _arrivals(self) -> Iterator[Entry]:
        """What each own fact came of and needed comes before it; what nothing came of comes at the end."""
        met: set[str] = set()
        for own in self.own:
            before = needed(own, self.entries, self.saga) | {own.cause or ""}
            for one in self.entries:
                if one.id in before - met and one.source != self.name and one.id != own.cause:
                    met.add(one.id)
                    yield one
            for one in self.entries:
                if one.id == own.cause and one.id not in met and one.source != self.name:
                    met.add(one.id)
                    yield one
            yield own
        yield from (one for one in self.entries if one.source != self.name and one.id not in met)

    def _hear(self, one: Entry) -> None:
        headers = [(name, value.decode()) for name, value in one.record.headers if value is not None]
        record = one.record
        self.harness.broker.append(
            Outbound(one.id, record.topic, 0, self.history.workflow.encode(), record.value or b"", headers)
        )

    def _state(self, one: Entry) -> None:
        """What no handler brings about: a start, a wish to unwind, the answer to a step that was pending."""
        assert one.message is not None
        with self.harness.transaction(self.name) as tx:
            assert isinstance(tx, Unit)
            ledger = Ledger(self.participant.versions, self.name, tx, self.harness.clock.now())
            workflow = ledger.load([one.workflow]).get(one.workflow)
            payload = one.record.value or b""
            if one.step == self.saga.root.name and one.status == FactStatus.DONE and workflow is None:
                opened = ledger.open(one.workflow, self.saga, 0, gates=one.message.kind.gates or None)
                ledger.finish(opened, self.saga.root, one.type, payload)
            elif workflow is None or workflow.closed:
                return
            elif one.status == FactStatus.ABORT:
                fields = self.participant.versions.codec(self.saga.version).decode(one.type, payload)
                ledger.abort(workflow, fields["reason"], by=fields["requested_by"])
            elif (fence := workflow.fences.get(one.step)) is not None and _is_pending(fence.status, pending=fence.pending):
                ledger.finish(workflow, self.saga[one.step], one.type, payload)
            ledger.write()

    def _answering(self, handler: Handler) -> Handler:
        """The handler of an external step gives the answer that the world gave."""
        is_call = handler.act in _ENDS and handler.step in self.saga and self.saga[handler.step].external
        if not is_call or handler.version != self.saga.version:
            return handler
        return replace(handler, function=partial(self._answer, handler), asynchronous=False)

    def _answer(self, handler: Handler, *arguments: Event | ExternalCall | None) -> Event | Pending:
        for one in self.own:
            if one.step == handler.step and one.status in _ENDS[handler.act]:
                view = next((view for view, name in handler.results.items() if name == one.type), None)
                if view is not None:
                    codec = self.participant.versions.codec(self.saga.version)
                    return view.model_validate(codec.decode(one.type, one.record.value or b""))
        if handler.act is Act.ACTION:
            return Pending()
        raise TerminalError("the recording does not say what the world answered")


def _is_pending(status: StepStatus, *, pending: bool) -> bool:
    return status is StepStatus.RUNNING and pending
