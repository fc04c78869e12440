"""The runtime of a participant inside its service: threads that own lanes."""

from __future__ import annotations

from saga.participant.participant import Participant
from saga.store.port import Store
from saga.transport.port import Broker


class Worker:
    """Runs a participant."""

    def __init__(self, participant: Participant, *, store: Store, broker: Broker, threads: int = 1) -> None:
        self.participant, self.store, self.broker, self.threads = participant, store, broker, threads
