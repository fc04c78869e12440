"""Whether workflows that ended may be forgotten: not while topics keep records for as long, of which one may come again."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from datetime import timedelta

from saga.contracts.topics import fact_topics
from saga.errors import BrokerError, DefinitionError
from saga.participant.participant import Participant
from saga.protocol.definition import Definition
from saga.span import spelt
from saga.transport.port import Broker

log = logging.getLogger("saga.worker")

MARGIN = timedelta(days=1)
ASK_EVERY = timedelta(hours=1)
TRUST = MARGIN / 2  # what a topic is told to keep from now on is a margin younger than what may be forgotten


class Retention:
    """How long the topics of a participant keep records, compared with how long it is to `keep` workflows that ended."""

    def __init__(self, participant: Participant, broker: Broker, keep: timedelta | None) -> None:
        self.participant, self.broker, self.keep = participant, broker, keep
        self._ask_again = self._trusted_until = -math.inf

    @property
    def allows(self) -> bool:
        """Whether anything may be forgotten now, by what was said lately."""
        return self.participant.clock.monotonic() < self._trusted_until

    def require(self) -> None:
        """Ask the broker; raises DefinitionError where it does not tell, or topics keep records for too long.

        Raises BrokerError, retriable, where it does not answer.
        """
        if self.keep is None:
            return
        self._trusted_until = -math.inf
        refuse_to_forget(self.keep, self.participant.versions, self._kept(self.keep))
        now = self.participant.clock.monotonic()
        self._ask_again, self._trusted_until = now + ASK_EVERY.total_seconds(), now + TRUST.total_seconds()

    def look(self) -> None:
        """Ask again if it is time: a topic may be told to keep its records for longer."""
        now = self.participant.clock.monotonic()
        if self.keep is None or now < self._ask_again:
            return
        self._ask_again = now + ASK_EVERY.total_seconds()
        try:
            self.require()
        except (BrokerError, DefinitionError) as error:
            log.warning("no workflow is pruned for now: %s", error)

    def _kept(self, keep: timedelta) -> Mapping[str, timedelta | None]:
        try:
            return self.broker.kept(fact_topics(self.participant.saga.name))
        except BrokerError as error:
            if error.retriable:
                raise
            raise DefinitionError(
                f"SAGA_KEEP_WORKFLOWS: found {spelt(keep)}, but how long topics keep records cannot be asked: {error}. "
                f"Allow this client to describe their configuration, or unset it."
            ) from error


def refuse_to_forget(keep: timedelta, sagas: Iterable[Definition], kept: Mapping[str, timedelta | None]) -> None:
    """Raise DefinitionError where workflows run, or topics keep records, for longer than ended workflows are to be kept.

    Records say when their workflow began by its deadline, so there must be one.
    """
    found = f"SAGA_KEEP_WORKFLOWS: found {spelt(keep)}, while"
    for saga in sagas:
        if saga.deadline is None:
            raise DefinitionError(f"{found} saga {saga.name} v{saga.version} has no deadline. Give it one, or unset it.")
        if keep < (least := saga.deadline + MARGIN):
            raise DefinitionError(
                f"{found} the deadline of saga {saga.name} v{saga.version} is {spelt(saga.deadline)}; "
                f"expected at least {spelt(least)}, a day more. Raise it, or unset it."
            )
    for topic, span in kept.items():
        if span is None:
            raise DefinitionError(
                f"{found} topic {topic} keeps records for ever; a workflow whose records may come again must be remembered. "
                f"Unset it, or give the topic a retention.ms."
            )
        if keep < (least := span + MARGIN):
            raise DefinitionError(
                f"{found} topic {topic} keeps records for up to {spelt(span)} (retention.ms and segment.ms); "
                f"expected at least {spelt(least)}, a day more. Raise it, or shorten the topic's retention."
            )
