"""What a service embeds: the handlers of its steps, and the ways in. Inert: nothing is opened until a worker runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saga.clock import Clock, SystemClock
from saga.contracts import ids
from saga.contracts.event import Event
from saga.contracts.message import MAX_ID_BYTES, is_usable_id, written_gates
from saga.contracts.saga import Saga
from saga.contracts.topics import lane_of
from saga.contracts.upcast import Upcasters
from saga.errors import DefinitionError, LifecycleError, Overloaded, Refused
from saga.participant import operator, recording
from saga.participant.decisions import Decisions
from saga.participant.declarations import Declarations
from saga.participant.gates import EnvironmentGates, Gates
from saga.participant.handler import Act
from saga.participant.ledger import Ledger
from saga.participant.note import Notes
from saga.participant.versions import Versions
from saga.protocol.decide import Close, Refuse
from saga.protocol.gates import gates, variant
from saga.store.lane import require_author
from saga.store.port import Transaction, Unit, as_unit
from saga.store.workflow import Workflow
from saga.text import storable, storable_if_any

if TYPE_CHECKING:
    from saga.contracts.registry import Registry

log = logging.getLogger("saga.operator")

MAX_BACKLOG = 100_000
MAX_PARKED = 10_000
COUNT_EVERY = 1.0


class Participant(Declarations):
    """A service's part in one saga, or in several versions of it side by side.

    `name` is the `by` of its steps in the saga schema, its Kafka consumer group is `<saga>.<name>`. `gates` says which feature
    gates are open for a workflow that it starts, by default `SAGA_GATES`. With `upcasters` a handler of a new event serves
    older versions too, in which its step deals with the old one. `max_backlog` bounds the unpublished events, beyond which
    `start` refuses, and `max_parked` the parked workflows; beyond either a worker takes nothing more in. `clock` and `ids` (of
    new workflows) are arguments for tests.
    """

    def __init__(
        self,
        name: str,
        saga: Saga | Sequence[Saga],
        *,
        gates: Gates | None = None,
        upcasters: Upcasters | None = None,
        max_backlog: int = MAX_BACKLOG,
        max_parked: int = MAX_PARKED,
        max_event_bytes: int | None = None,
        clock: Clock | None = None,
        ids: Callable[[], str] = ids.workflow_id,
    ) -> None:
        super().__init__(name, Versions(name, saga), upcasters or Upcasters())
        self.clock, self.gates = clock or SystemClock(), gates or EnvironmentGates(self.versions)
        self.max_backlog, self.max_parked, self._ids = max_backlog, max_parked, ids
        self._decisions = Decisions(name)
        self._backlog, self._count_again = 0, 0.0
        if max_event_bytes is not None:
            self.limit(max_event_bytes)

    def __repr__(self) -> str:
        return f"<Participant {self.name} of {self.saga.name}>"

    def use(self, registry: Registry) -> None:
        """Take the ids of schemas from this registry; to be said before anything is encoded, in each process alike."""
        self.versions.use(registry)

    def warm(self) -> None:
        """Learn the ids of all versions' schemas, so that no transaction has to wait for the registry; a worker does it itself.

        For a process that starts workflows without a worker, before the first. Raises SchemaNotFound for a schema that is not
        registered, RegistryUnavailable.
        """
        self.versions.warm()

    def limit(self, max_event_bytes: int) -> None:
        """Let no event be larger, neither one that is written here nor one that is read; in each process alike."""
        if max_event_bytes < 1:
            raise DefinitionError(f"found max_event_bytes={max_event_bytes}; expected at least 1, e.g. 900000")
        self.versions.limit(max_event_bytes)

    def start(
        self,
        event: Event,
        tx: Transaction,
        *,
        workflow_id: str | None = None,
        version: int | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Begin a workflow in the caller's transaction: it exists if and only if that commits. Answers its id.

        It runs in this `version` of the saga to its end, by default in the latest one that is known here. With a `workflow_id`
        that is known already nothing happens, so a repeated request is harmless. Raises DefinitionError
        if the event is not the first of the saga, ContractError if it does not fit its contract, Overloaded if too many
        events wait to be published; and, before anything is written, RegistryUnavailable if a registry is to be asked for
        the id of the event's schema and does not answer. After `warm` none is asked.
        """
        workflow_id = self._ids() if workflow_id is None else workflow_id
        self.start_many({workflow_id: event}, tx, version=version, traceparent=traceparent)
        return workflow_id

    def start_many(
        self, events: Mapping[str, Event], tx: Transaction, *, version: int | None = None, traceparent: str | None = None
    ) -> list[str]:
        """Begin many workflows at once, by id, with a handful of statements for all; answers the ids that were not known.

        All else is as with `start`, and what it raises for one of them leaves none begun.
        """
        saga = self.saga_of(version)
        names = {id: self._first(saga, event) for id, event in events.items()}
        for id in events:
            _refuse_unusable(id)
        ledger = self._ledger(tx)
        known = {*ledger.load([*events])}
        codec = self.versions.codec(saga.version)
        payloads = {id: codec.encode(names[id], event.model_dump()) for id, event in events.items() if id not in known}
        if payloads:
            self._refuse_overload(ledger.unit)
            partitions = self._partitions(ledger.unit)
            self._refuse_to_state(ledger.unit)
            for id, payload in payloads.items():
                gates = self._open_gates(saga, id)
                workflow = ledger.open(id, saga, lane_of(id, partitions), gates=gates, traceparent=traceparent)
                ledger.finish(workflow, saga.root, names[id], payload)
                self._end(ledger, workflow)
            ledger.write()
        return [*payloads]

    def _first(self, saga: Saga, event: Event) -> str:
        """The full name of an event with which this participant may begin a workflow."""
        root, name = saga.root, _name(saga, event)
        if root.by != self.name or name not in root.emits:
            raise DefinitionError(
                f"{self.name!r} cannot start saga {saga.name!r} with {name}; "
                f"it is started by {root.by!r} with {' or '.join(root.emits)}"
            )
        return name

    def adopt(
        self,
        workflow_id: str,
        step: str,
        event: str,
        fields: Mapping[str, Any],
        tx: Transaction,
        *,
        version: int | None = None,
        gates: Iterable[str] = (),
    ) -> bool:
        """State, in the caller's transaction, that a step was done with this event before the saga was there.

        No handler runs; should the workflow unwind, the step's compensation gets the event. The participants of later steps
        adopt first, the initiator last, since its event sets the workflow going. `fields` are the whole event's, `gates` the
        open ones, for all participants alike. Answers False, and changes nothing, if this store knows of the step already.
        Raises DefinitionError for what is no outcome of an own step, ContractError for what does not fit the contract, Refused
        for a workflow that runs in another version or behind other gates.
        """
        saga, opened = self.saga_of(version), written_gates(gates)
        owned, name = self.owned(step, saga), saga.event(event)
        if name not in owned.emits:
            raise DefinitionError(f"step {step!r} is not done with {name}; expected {' or '.join(owned.emits)}")
        _refuse_unusable(workflow_id)
        ledger = self._ledger(tx)
        workflow = ledger.load([workflow_id]).get(workflow_id)
        if workflow is not None and (workflow.closed or step in workflow.fences):
            return False
        if workflow is not None and (workflow.version, workflow.gates or "") != (saga.version, opened):
            known = f"it runs in version {workflow.version}, behind the open gates {workflow.gates or ''!r}"
            raise Refused(f"cannot adopt workflow {workflow_id} in version {saga.version} with the gates {opened!r}: {known}")
        self._refuse_to_state(ledger.unit)
        payload = self.versions.codec(saga.version).encode(name, fields)
        if workflow is None:
            variant(saga, frozenset(gates))  # refuses those that the saga does not have
            workflow = ledger.open(workflow_id, saga, lane_of(workflow_id, self._partitions(ledger.unit)), gates=opened or None)
        ledger.finish(workflow, owned, name, payload)
        self._settle(ledger, workflow)
        return True

    def abort(self, workflow_id: str, tx: Transaction, *, reason: str, by: str | None = None) -> None:
        """Wish, in the caller's transaction, that the workflow unwinds; the pivot's owner decides whether it came in time.

        `by` is the person that wishes it, if it is not the service's own. Raises Refused for a workflow that this participant
        does not know or that has ended.
        """
        reason, by = storable(reason), storable_if_any(by)
        ledger = self._ledger(tx)
        workflow = self._open_workflow(ledger, workflow_id, "abort")
        if by:
            operator.abort(ledger, workflow, reason=reason, by=by)
        else:
            ledger.abort(workflow, reason)
        ledger.write()
        log.info("abort of %s workflow %s, by %s: %s", self.saga.name, workflow_id, by or self.name, reason)

    def resolve(
        self,
        workflow_id: str,
        step: str,
        event: Event,
        tx: Transaction,
        *,
        reason: str | None = None,
        by: str | None = None,
        record: bool = False,
    ) -> None:
        """Give, in the caller's transaction, the outcome of a step whose handler returned `Pending`, or that is parked.

        Of a parked or stuck action it is one of the step's outcomes, of such a compensation its compensating event. No
        handler runs, so what it would have written is the caller's to write; with `record`, as an operator's command has it,
        the recording handler of an external step does. With `by`, the person that found it out, or if
        it is parked, a note says who and why. Raises Refused if the step does not wait: it was withdrawn by an abort, or
        resolved already.
        """
        ledger = self._ledger(tx)
        workflow = self._open_workflow(ledger, workflow_id, f"resolve step {step!r} of")
        saga = self.versions.of(workflow)
        owned, name = self.owned(step, saga), _name(saga, event)
        if name not in (possible := (*owned.outcomes, *([owned.compensated] if isinstance(owned.compensated, str) else []))):
            raise DefinitionError(f"step {step!r} cannot end with {name}; expected {' or '.join(possible)}")
        codec = self.versions.codec(saga.version)
        payload = codec.encode(name, event.model_dump())
        said = {"reason": storable_if_any(reason), "by": storable_if_any(by)}
        operator.resolve(ledger, workflow, owned, name, payload, **said)
        if record and (recorder := self.handlers.get((saga.version, step, Act.RECORDING))) is not None:
            recording.record(recorder, codec, workflow_id, name, payload, tx)
        self._settle(ledger, workflow)

    def waiting(self, workflow_id: str, step: str, tx: Transaction) -> Workflow:
        """The workflow of a step that waits for an outcome, locked in the caller's transaction; raises Refused as `resolve`."""
        workflow = self._open_workflow(self._ledger(tx), workflow_id, f"resolve step {step!r} of")
        operator.require_waiting(workflow, self.owned(step, self.versions.of(workflow)).name)
        return workflow

    def retry(self, workflow_id: str, tx: Transaction, *, by: str | None = None, reason: str | None = None) -> None:
        """Ask, in the caller's transaction, that a parked workflow is tried again now, its attempts counted anew.

        A note says `by` whom and for which `reason`. Raises Refused if it is not parked here.
        """
        ledger = self._ledger(tx)
        workflow = self._open_workflow(ledger, workflow_id, "retry")
        notes = Notes(self.saga.name, self.name, self.versions.codec(workflow.version))
        person = by or self.name
        if not operator.retry(ledger.unit, self.saga.name, [workflow], ledger.now, notes, by=person, reason=reason):
            raise Refused(f"workflow {workflow_id} is not parked here: nothing of it waits for another try")

    def skip(self, workflow_id: str, step: str, tx: Transaction, *, reason: str, by: str | None = None) -> None:
        """Give up, in the caller's transaction, a parked action before the pivot: it is skipped, and the workflow unwinds.

        The facts say `reason` and `by`. Raises Refused at and after a pivot, for what is done or being undone, and where
        a call to the world may have had its effect; the text says what to do instead.
        """
        ledger = self._ledger(tx)
        workflow = self._open_workflow(ledger, workflow_id, f"skip step {step!r} of")
        said = {"reason": storable(reason), "by": storable(by or self.name)}
        operator.skip(ledger, workflow, self.owned(step, self.versions.of(workflow)), **said)
        self._settle(ledger, workflow)

    def _open_gates(self, saga: Saga, workflow_id: str) -> str | None:
        names = (g for g in gates(saga) if self.gates.is_open(g, saga=saga.name, workflow_id=workflow_id))
        return written_gates(names) or None

    def _settle(self, ledger: Ledger, workflow: Workflow) -> None:
        self._end(ledger, workflow)
        ledger.write()

    def _end(self, ledger: Ledger, workflow: Workflow) -> None:
        """What a caller's transaction can itself bring about: an end, or a refusal. Handlers run in workers only."""
        acts, _ = self._decisions(ledger.saga(workflow), workflow)
        for act in acts:
            if isinstance(act, Close | Refuse):
                ledger.carry_out(workflow, act)

    def _refuse_overload(self, unit: Unit) -> None:
        """Counted at most once a second: so many are let in beyond the bound as begin within one."""
        if self.clock.monotonic() >= self._count_again:
            self._count_again = self.clock.monotonic() + COUNT_EVERY
            self._backlog = unit.backlog(self.saga.name, self.max_backlog + 1)
        if self._backlog > self.max_backlog:
            raise Overloaded(
                f"more than {self.max_backlog} events of {self.name!r} wait to be published: Kafka is away, or no worker of "
                f"{self.name!r} runs. Nothing was begun; try again later.",
                retry_after=COUNT_EVERY,
            )

    def _ledger(self, tx: Transaction) -> Ledger:
        if (unit := as_unit(tx)) is None:
            raise LifecycleError(
                f"found {type(tx).__name__}; expected a transaction from `store.transaction()` or `store.join(connection)`"
            )
        return Ledger(self.versions, self.name, unit, self.clock.now())

    def _open_workflow(self, ledger: Ledger, workflow_id: str, wish: str) -> Workflow:
        workflow = ledger.load([workflow_id]).get(workflow_id) if is_usable_id(workflow_id) else None
        if workflow is None:
            raise Refused(
                f"cannot {wish} workflow {workflow_id}: participant {self.name!r} knows none of this id; see: saga list"
            )
        if workflow.closed:
            raise Refused(f"cannot {wish} workflow {workflow_id}: it ended {workflow.status} at {workflow.closed:%F %T}")
        if workflow.version not in self.versions:
            known = ", ".join(map(str, self.versions.numbers))
            raise Refused(
                f"cannot {wish} workflow {workflow_id}: it is of version {workflow.version}; {self.name!r} knows {known}"
            )
        if (lost := self.versions.lost(workflow)) is not None:
            raise Refused(
                f"cannot {wish} workflow {workflow_id}: it {lost}; do it with a release whose version {workflow.version} does"
            )
        self._refuse_to_state(ledger.unit)
        return workflow

    def _refuse_to_state(self, unit: Unit) -> None:
        """Whatever states a fact asks: from another's database it would bear a number that this one has given already, and with
        computed ids it would be parked as unreadable, by others and much later."""
        require_author(unit.author(self.saga.name), self.name)
        if self.codec.registry is None and unit.registered(self.saga.name):
            raise DefinitionError(
                f"found no registry in this process, while the worker of {self.name!r} takes the ids of schemas from one; with "
                f"others than that nobody could read what is stated here. Set the same SAGA_REGISTRY as the worker; code of "
                f"your own also says, before it states anything, participant.use(assembly.registry(settings))"
            )

    def _partitions(self, unit: Unit) -> int:
        if (count := unit.partitions(self.saga.name)) is None:
            raise LifecycleError(
                f"the partition count of saga {self.saga.name!r} is not known to this database yet; run a worker of "
                f"{self.name!r} once (it records the count when it takes its first lane)"
            )
        return count


def _refuse_unusable(workflow_id: object) -> None:
    if not isinstance(workflow_id, str):
        raise DefinitionError(
            f"found {workflow_id!r} of type {type(workflow_id).__name__} as a workflow's id; expected a text, as of str(...)"
        )
    if not is_usable_id(workflow_id):
        raise DefinitionError(
            f"found a workflow id of {len(workflow_id.encode(errors='surrogatepass'))} bytes, {workflow_id[:40]!r}...; "
            f"expected 1 to {MAX_ID_BYTES} without NUL, that are UTF-8, since every participant's database indexes it. Give "
            f"another one"
        )


def _name(saga: Saga, event: object) -> str:
    """The full name of an event that the service's own code has made."""
    if not isinstance(event, Event):
        found = f"the class {event.__name__}" if isinstance(event, type) else type(event).__name__
        raise DefinitionError(
            f"found {found} in place of an event; expected an object of a class that inherits from saga.Event"
        )
    return saga.event(event.event_name)
