"""What a participant depends on, looked at from time to time: whether it answers, what waits in the store and on the topics.

Looking may block, so it has a thread of its own; everybody else reads what the last look found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from threading import Event as Flag
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from saga.contracts.topics import saga_topics
from saga.count import many
from saga.delivery.recreated import Ids
from saga.engine.health import Part, State
from saga.engine.retention import Retention
from saga.errors import BrokerError, LifecycleError, RegistryUnavailable, SagaError
from saga.participant.participant import Participant
from saga.store.outbox import Waiting
from saga.store.port import Store
from saga.transport.port import Broker, Partition

if TYPE_CHECKING:
    from saga.contracts.registry import Registry
    from saga.contracts.saga import Saga

log = logging.getLogger("saga.watch")

LOOK_EVERY = 5.0
FORGET_AT_ONCE = 500
UNPUBLISHED_PATIENCE = timedelta(seconds=30)
UNANSWERED = 15.0
"""Seconds after which it is told that a look gets no answer; longer than it takes to be refused."""


class Away(NamedTuple):
    """What does not answer, since when, and how it said so."""

    since: datetime
    error: str


@dataclass(frozen=True, slots=True)
class Stock:
    """What waited in the store at the last look: unpublished rows by lane, and parked workflows."""

    waiting: dict[int, Waiting] = field(default_factory=dict)
    parked: int = 0

    @property
    def unpublished(self) -> int:
        return sum(lane.rows for lane in self.waiting.values())

    @property
    def oldest(self) -> datetime | None:
        """When the oldest unpublished row was written."""
        return min((lane.since for lane in self.waiting.values()), default=None)


class Watch:
    """Looks at what one participant depends on.

    `away` says what did not answer, `stock` what the store said last, `ids` which topics they are that the broker has. Of
    partitions that are not fetched, as `unread` names them, `ends` says where they end. Dead letters that were given up longer
    than `keep_letters` ago are deleted; without it none are. `retention` is looked at too. The first look at the registry has
    the log say where it has other steps.
    """

    def __init__(
        self,
        participant: Participant,
        store: Store | None,
        broker: Broker | None,
        registry: Registry | None = None,
        *,
        keep_letters: timedelta | None = None,
        unread: Callable[[], Sequence[Partition]] = tuple,
        retention: Retention | None = None,
    ) -> None:
        self.participant, self.clock = participant, participant.clock
        self.store, self.broker, self.registry = store, broker, registry
        self.away: dict[str, Away] = {}
        self.seen: dict[str, float] = {}
        self.asking: dict[str, float] = {}
        self.stock = Stock()
        self.ids: Ids = {}
        self.keep_letters, self.unread, self.retention = keep_letters, unread, retention
        self.ends: dict[Partition, int] = {}
        self._asking_store = Lock()
        self._compared = False

    def run(self, stopping: Flag) -> None:
        """Look until told to stop."""
        while not stopping.is_set():
            self.look(stopping)
            stopping.wait(LOOK_EVERY)

    def look(self, stopping: Flag | None = None) -> None:
        """Look at everything once; what does not answer is noted, nothing is raised."""
        asked: dict[str, Callable[[], None] | None] = {
            "store": partial(self._ask_store, stopping) if self.store is not None else None,
            "broker": self._ask_broker if self.broker is not None else None,
            "registry": self._ask_registry if self.registry is not None else None,
        }
        for name, ask in asked.items():
            if ask is not None and not (stopping is not None and stopping.is_set()):
                self._ask(name, ask)

    def trouble(self, name: str, error: str) -> None:
        """Note, between two looks, that somebody found this away; of what is away already, what was said last."""
        known = self.away.get(name)
        self.away = {**self.away, name: Away(known.since if known else self.clock.now(), error)}
        if known is None:
            log.warning("%s is away: %s", name, error)

    def parts(self) -> list[Part]:
        """What was found, in words."""
        return [*(self._answers(name) for name in self._asked()), *self._outbox(), *self._parked()]

    def _asked(self) -> list[str]:
        known = {"broker": self.broker, "store": self.store, "registry": self.registry}
        return [name for name, what in known.items() if what is not None]

    def _ask(self, name: str, ask: Callable[[], None]) -> None:
        self.asking = {name: self.clock.monotonic()}
        try:
            ask()
        except LifecycleError:
            return  # the store is closed, or its only connection in its caller's hands: that says nothing about it
        except SagaError as error:
            self.trouble(name, str(error))
        except Exception as error:  # looking must not end, or health would go on saying what was true once
            self.trouble(name, f"{type(error).__name__}: {error}")
        else:
            self.seen = {**self.seen, name: self.clock.monotonic()}
            if name in self.away:
                self.away = {other: found for other, found in self.away.items() if other != name}
                log.info("%s is back", name)
        finally:
            self.asking = {}

    def let_go(self, timeout: float) -> bool:
        """Once told to stop: wait until the store is not being asked, nor will be, so that it may be closed."""
        if free := self._asking_store.acquire(timeout=timeout):
            self._asking_store.release()
        return free

    def _ask_store(self, stopping: Flag | None) -> None:
        assert self.store is not None
        saga = self.participant.saga.name
        with self._asking_store:
            if stopping is not None and stopping.is_set():
                return
            with self.store.unit() as unit:
                self.stock = Stock(unit.waiting(saga), unit.count_parked(saga, self.participant.max_parked + 1))
                if self.keep_letters is not None:
                    unit.forget(saga, self.clock.now() - self.keep_letters, FORGET_AT_ONCE)

    def _ask_broker(self) -> None:
        assert self.broker is not None
        topics = self.broker.partitions(saga_topics(self.participant.saga.name))
        if missing := [topic for topic, count in topics.items() if count is None]:
            raise BrokerError(f"topic {', '.join(missing)} does not exist; run: saga topics apply")
        self.ids = self.broker.ids([*topics])
        unread = self.unread()
        self.ends = {where: span.stop for where, span in self.broker.spans(unread).items()} if unread else {}
        if self.retention is not None:
            self.retention.look()

    def _ask_registry(self) -> None:
        assert self.registry is not None
        try:
            self.registry.known(self.participant.saga.subject(self.participant.saga.published[0]))
        except RegistryUnavailable as error:
            raise RegistryUnavailable(f"{error}; what is known here goes on") from error
        if not self._compared:
            self._compared = True
            for saga in self.participant.versions:
                _compare(saga, self.registry)

    def _answers(self, name: str) -> Part:
        if (away := self.away.get(name)) is not None:
            return Part(name, State.DEGRADED, f"away since {away.since:%F %T %Z}: {away.error}")
        now, asked = self.clock.monotonic(), self.asking.get(name)
        if asked is not None and now - asked > UNANSWERED:
            return Part(name, State.DEGRADED, f"asked {now - asked:.0f} s ago, and has neither answered nor refused")
        if (seen := self.seen.get(name)) is None:
            return Part(name, State.READY, "not asked yet")
        return Part(name, State.READY, f"answered {now - seen:.0f} s ago")

    def _outbox(self) -> list[Part]:
        if self.store is None:
            return []
        found, bound, now = self.stock, self.participant.max_backlog, self.clock.now()
        state, text = State.READY, f"{many(found.unpublished, 'event waits', 'events wait')} to be published"
        if found.unpublished > bound:
            state, text = State.DEGRADED, f"{text}, more than {bound}: start refuses, and nothing is taken in"
        late = [lane for lane, rows in sorted(found.waiting.items()) if now - rows.since > UNPUBLISHED_PATIENCE]
        if late and (oldest := found.oldest) is not None:
            lanes = f"lane{'s' if len(late) > 1 else ''} {', '.join(map(str, late))}"
            age = f"{(now - oldest).total_seconds():.0f} s"
            text = f"{text}, the oldest for {age} (of {lanes}): is Kafka away, or does no worker own them?"
            state = State.DEGRADED
        return [Part("outbox", state, text)]

    def _parked(self) -> list[Part]:
        if self.store is None:
            return []
        found, bound = self.stock.parked, self.participant.max_parked
        if found > bound:
            return [Part("parked", State.DEGRADED, f"more than {bound} workflows: nothing is taken in; look at: saga parked")]
        return [Part("parked", State.READY, f"{found} of at most {bound} workflows")]


def _compare(saga: Saga, registry: Registry) -> None:
    """Tell of a version that others may run with other steps.

    It is not refused: whether this service or the registry is wrong nobody can tell here, and a registry that was restored
    from a backup would keep a whole fleet from starting.
    """
    try:
        if saga.registry is not None or registry.registered(*saga.state):
            return
        from saga.evolution.plan import disagreement  # most workers need not load it

        if differing := disagreement(saga, registry):
            log.error(
                "the registry %s has other steps of saga %s v%d than this service was built with, so participants may disagree "
                "on what follows what: %s. Deploy what is registered, or raise the version; see: saga schemas plan DIR",
                registry.url, saga.name, saga.version, "; ".join(differing),
            )  # fmt: skip
    except SagaError as error:
        log.info("whether the registry has the same steps of saga %s v%d is not known: %s", saga.name, saga.version, error)
