"""All the evidence about one workflow, in the shape in which rules ask for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property

from saga.contracts.acknowledged import Acknowledgments
from saga.contracts.message import Message
from saga.contracts.saga import Saga
from saga.protocol.facts import FactStatus, WorkflowStatus
from saga.replay.contracts import Contracts
from saga.replay.entry import Entry
from saga.replay.history import History
from saga.replay.state import end
from saga.store.outbox import OutboxRow
from saga.store.workflow import Workflow
from saga.testing.checker.evidence import Effect


class Case:
    """One workflow. `books` and `rows` are those of the participants whose stores are at hand, by name.

    `messages` are the facts that count, each where it first stood; `saga` is None where records do not agree on it.
    """

    def __init__(
        self,
        contracts: Contracts,
        history: History,
        books: Mapping[str, Workflow | None],
        rows: Mapping[str, list[OutboxRow]],
        effects: Collection[Effect],
        acks: Acknowledgments | None,
    ) -> None:
        self.contracts, self.history, self.books, self.rows, self.effects = contracts, history, books, rows, effects
        self.acks = acks
        self.saga: Saga | None = contracts.of(history)
        self.messages: list[Message] = history.messages(self.saga) if self.saga else []

    @property
    def id(self) -> str:
        return self.history.workflow

    @property
    def entries(self) -> Collection[Entry]:
        """Every event once, in the order of each partition."""
        return self.history.entries.values()

    @cached_property
    def facts(self) -> dict[tuple[str, FactStatus], Message]:
        """The first message that states each fact, by step and status."""
        found: dict[tuple[str, FactStatus], Message] = {}
        for message in self.messages:
            found.setdefault((message.kind.step, message.kind.status), message)
        return found

    def steps(self, status: FactStatus) -> set[str]:
        """The steps of which this is stated."""
        return {step for step, stated in self.facts if stated is status}

    @cached_property
    def done(self) -> dict[str, Message]:
        """What first stated each event of a done step, by its full name."""
        found: dict[str, Message] = {}
        for message in self.messages:
            if message.kind.status is FactStatus.DONE:
                found.setdefault(message.kind.type, message)
        return found

    @cached_property
    def outcome(self) -> WorkflowStatus | None:
        """How the facts alone say that it ended; None while they do not."""
        if self.saga is None or not self.messages:
            return None
        status, closed = end(self.saga, self.messages)
        return status if closed else None

    @property
    def is_unreadable(self) -> bool:
        """Whether nothing makes a workflow of it: no record has headers that make sense, and no store knows it."""
        return not any(entry.message for entry in self.entries) and not any(self.books.values())

    @property
    def parked(self) -> list[tuple[str, str | None]]:
        """Participants at which its handlers are suspended, with the reason."""
        return [
            (name, next((fence.error for fence in workflow.fences.values() if fence.error), None))
            for name, workflow in self.books.items()
            if workflow is not None and not workflow.closed and workflow.is_parked
        ]
