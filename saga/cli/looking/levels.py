"""How far events have come, as one database can tell: recorded, published, or handled, and by whom they are not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from saga.contracts.acknowledged import Acknowledgments
from saga.contracts.message import open_gates
from saga.contracts.saga import Saga
from saga.errors import DefinitionError
from saga.protocol.facts import FactStatus, expected, stated
from saga.protocol.gates import variant
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow


class Level(StrEnum):
    """What is known of an event; the row of one that is handled is deleted soon."""

    RECORDED = "recorded"
    PUBLISHED = "published"
    HANDLED = "handled"


class Silence(StrEnum):
    """Why a participant has not acknowledged an event."""

    BEHIND = "behind"
    ABSENT = "absent"
    PARKED = "parked"
    LOST = "lost"
    UNKNOWN = "not acknowledged"


class Told:
    """What the lanes of a database have heard of acknowledgments, and what `contracts` say of audiences, if there are any."""

    def __init__(self, lanes: Sequence[Lane], contracts: Saga | None) -> None:
        self.contracts = contracts
        self._by = {(lane.saga, lane.number): Acknowledgments(lane.acks.get("told")) for lane in lanes}
        self.participants: Mapping[str, str] = {
            lane.saga: lane.acks["participant"] for lane in lanes if "participant" in lane.acks
        }

    def missing(self, row: OutboxRow) -> list[str] | None:
        """Who has still to acknowledge the event; None where no contracts tell its audience."""
        if (audience := self._audience(row)) is None:
            return None
        if row.offset is None:
            return sorted(audience)
        return sorted(self._known(row).missing(audience, row.topic, row.offset))

    def level(self, row: OutboxRow) -> Level:
        if row.offset is None:
            return Level.RECORDED
        return Level.HANDLED if self.missing(row) == [] else Level.PUBLISHED

    def is_parked(self, row: OutboxRow, participant: str) -> bool:
        return row.offset in self._known(row).of(participant, row.topic).parked

    def _known(self, row: OutboxRow) -> Acknowledgments:
        return self._by.get((row.saga, row.lane)) or Acknowledgments()

    def _audience(self, row: OutboxRow) -> frozenset[str] | None:
        headers = dict(row.headers)
        if self.contracts is None or (self.contracts.name, str(self.contracts.version)) != (
            row.saga,
            headers["ce_sagaversion"],
        ):
            return None
        fact = stated(headers.get("ce_step", ""), FactStatus(headers["ce_status"]), row.type)
        try:
            return expected(variant(self.contracts, open_gates(headers.get("ce_gates", ""))), fact)
        except (DefinitionError, KeyError):
            return None
