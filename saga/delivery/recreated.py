"""A topic that was deleted and made again under its name: known by its id, and begun anew once a person says so.

A lane keeps the ids of its topics in one row with its offsets, so that an offset is never taken for one of another topic.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from saga.contracts.acknowledged import Acknowledgments
from saga.contracts.topics import acks_topic
from saga.errors import TopicRecreated
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow, Published
from saga.store.port import Store

Ids = Mapping[str, str | None]
"""Topic to what tells it from another one of its name, None where that is not known."""

PAGE = 500
_ACKS = acks_topic("")


def recorded(lane: Lane) -> dict[str, str]:
    """The ids of the topics on which the lane's offsets are."""
    ids: dict[str, str] = lane.acks.get("topics", {})
    return ids


def learn(lane: Lane, ids: Ids) -> None:
    """Have the lane's row say these ids, with its next transaction, of topics of which it says none.

    A lane whose acknowledgments are on another topic reads that from its beginning: at worst something is sent again.
    """
    known, acks = recorded(lane), acks_topic(lane.saga)
    if known.get(acks) != ids.get(acks):
        known = {topic: id for topic, id in known.items() if topic != acks}
        lane.offsets = {topic: offset for topic, offset in lane.offsets.items() if topic != acks or acks not in recorded(lane)}
    lane.acks = {**lane.acks, "topics": {**{topic: id for topic, id in ids.items() if id is not None}, **known}}


def changed(lane: Lane, ids: Ids) -> list[str]:
    """The topics with facts that are not those on which the lane's offsets are."""
    known = recorded(lane)
    return [topic for topic, id in ids.items() if id is not None and known.get(topic, id) != id and not topic.endswith(_ACKS)]


def require_same(lanes: Iterable[Lane], ids: Ids, otherwise: str) -> None:
    """Have the lanes learn these ids; raises TopicRecreated, with what it means `otherwise`, for one that knows others."""
    for lane in lanes:
        if topics := changed(lane, ids):
            why = f"{' and '.join(topics)} was deleted and made again: {otherwise}"
            raise TopicRecreated(lane.saga, lane.number, tuple(topics), why)
        learn(lane, ids)


def refusal(lane: Lane, topics: Collection[str]) -> TopicRecreated:
    """What the lane says of these."""
    names = " and ".join(sorted(topics))
    return TopicRecreated(
        lane.saga,
        lane.number,
        tuple(topics),
        f"{names} was deleted and made again: what this lane has read, and the offsets that it knows, were of another "
        f"topic of that name. Nothing is read or published here. Find out who did it, then begin anew on what is there, in the "
        f"database of each participant: saga lanes reset {lane.saga}",
    )


def unhandled(store: Store, lane: Lane, topics: Collection[str]) -> Iterator[list[Published]]:
    """What the lane has published to these topics and not everybody has acknowledged, page by page."""
    after = ("", -1)
    while rows := store.unhandled(lane.saga, lane.number, after, PAGE):
        after = _place(rows[-1])
        if found := [Published(row.saga, row.workflow_id, row.sequence, _place(row)[1]) for row in rows if row.topic in topics]:
            yield found


def begin_anew(store: Store, lane: Lane, partitions: int, topics: Collection[str], ids: Ids) -> None:
    """Have a lane read these topics from their beginning, and send again all that is unhandled on them.

    What was taken in already is known by its id, and changes nothing. Does so as the lane's owner for a moment, which its
    worker notices; may be repeated.
    """
    owned = store.claim(lane.saga, lane.number, partitions)
    for page in unhandled(store, owned, topics):
        with store.unit() as unit:
            unit.again(page)
    told, known = Acknowledgments(owned.acks.get("told")), recorded(owned)
    for topic in topics:
        told.forget(topic)
    known = {topic: id for topic, id in known.items() if topic not in topics}
    known |= {topic: id for topic in topics if (id := ids.get(topic)) is not None}
    ahead = replace(
        owned,
        batch=owned.batch + 1,
        offsets={topic: offset for topic, offset in owned.offsets.items() if topic not in topics},
        gaps={topic: spans for topic, spans in owned.gaps.items() if topic not in topics},
        acks={**owned.acks, "told": told.json(), "topics": known},
    )
    with store.unit() as unit:
        unit.advance(ahead)
    if owned.clean:
        store.release(ahead)


def _place(row: OutboxRow) -> tuple[str, int]:
    assert row.offset is not None
    return row.topic, row.offset
