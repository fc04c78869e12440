"""Whether the topics of this thread's lanes are still those that they have read."""

from __future__ import annotations

import logging

from saga.delivery.acks import Acks
from saga.delivery.recreated import Ids, refusal
from saga.delivery.relay import Relay
from saga.engine.lanes import Lanes
from saga.engine.watch import Watch
from saga.errors import BrokerError, TopicRecreated
from saga.store.lane import Lane

log = logging.getLogger("saga.lanes")


class Topics:
    """Stops lanes whose topics were deleted and made again, by what a watch, deliveries and the broker say of them."""

    def __init__(self, lanes: Lanes, acks: Acks, relay: Relay, watch: Watch | None) -> None:
        self.lanes, self.acks, self.relay, self.watch = lanes, acks, relay, watch
        self._seen: Ids = {}

    def look(self) -> list[int]:
        """Stop those of which something new is known, without asking anybody; answers their numbers."""
        found: dict[int, TopicRecreated] = {}
        if self.watch is not None and self.watch.ids is not self._seen:
            self._seen = self.watch.ids
            owned = self.lanes.owned.items()
            found = {number: why for number, one in owned if (why := self.lanes.recreated(one.lane, self._seen))}
        for number, topics in self.relay.astray.items():
            if number in self.lanes.owned and number not in found:
                found[number] = refusal(self.lanes.owned[number].lane, topics)
        self.relay.astray = {}
        return [number for number, why in found.items() if self._stop(number, why)]

    def ask(self, lane: Lane) -> TopicRecreated | None:
        """Ask the broker whether that is why the lane cannot go on."""
        try:
            why = self.lanes.recreated(lane, self.lanes.broker.ids(self.lanes.facts))
        except BrokerError as error:
            log.warning("whether topics were made again cannot be asked: %s", error)
            return None
        if why is not None:
            self.acks.forget(lane.number, why.topics)
        return why

    def _stop(self, number: int, why: TopicRecreated) -> bool:
        """Take in and publish nothing, and take no acknowledgment for one of what is there now."""
        owned = self.lanes.owned[number]
        if isinstance(owned.stopped, TopicRecreated):
            return False
        owned.stopped, owned.resume_at = why, None
        self.acks.forget(number, why.topics)
        log.error("%s", why)
        return True
