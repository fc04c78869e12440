"""`saga lanes`: how the lanes of one database stand, and letting them go on where records, or whole topics, were deleted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.listing import Listing
from saga.contracts.topics import acks_topic, events_topic, fact_topics, saga_topics
from saga.count import many
from saga.delivery.recreated import Ids, begin_anew, changed, recorded, unhandled
from saga.errors import BrokerError, Refused
from saga.settings import Settings
from saga.store.lane import PROJECTION, Lane
from saga.transport.port import Broker, Partition

if TYPE_CHECKING:
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore

log = logging.getLogger("saga.operator")

lanes = typer.Typer(cls=Listing, help="The lanes of a database.", no_args_is_help=True, rich_markup_mode=None)

_ANEW = "make them anew: saga project MODULE:PROJECTION --rebuild"
_ACKS = acks_topic("")
"""Of acknowledgments that are gone nobody takes notice; a lane of a projection has none."""
_TOPICS = saga_topics("")
"""How topics' names end; what else a projection keeps beside its offsets is none."""

Spans = Mapping[Partition, range]


class Trouble(NamedTuple):
    """What keeps a lane: topics on which its offset is gone, with that and the first that is there, and topics made again."""

    adrift: dict[str, tuple[int, int]]
    recreated: list[str]


@lanes.command("list")
def list_lanes(
    saga: Annotated[str | None, typer.Option("--saga", metavar="NAME", help="Only lanes of this saga.")] = None,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """List lanes with the offsets that they have come to; with a broker, which of them stand where nothing is. Reads only.

    A broker that does not answer is told at the end, and it exits 1: the lanes are listed all the same.
    """
    settings = Settings.load(database=database, broker=broker)
    store = assembly.store(settings)
    try:
        found = [lane for lane in store.lanes() if saga in {None, lane.saga}]
    finally:
        store.close()
    troubles, silence = _troubles(assembly.broker(settings) if settings.broker else None, found)
    if as_json:
        rows = [_data(lane, trouble) for lane, trouble in zip(found, troubles, strict=True)]
        output.json({"database": assembly.database_name(settings), "lanes": rows})
    elif found:
        headers = ["lane", "epoch", "batch", "last owner", "offsets", "skipped", "trouble"]
        output.table(headers, [_row(lane, trouble) for lane, trouble in zip(found, troubles, strict=True)])
    else:
        output.progress(f"no lane has been owned in {assembly.database_name(settings)}; run a worker of this participant")
    if silence is not None:
        raise silence


@lanes.command()
def skip(
    saga: Annotated[str, typer.Argument(metavar="SAGA", help="The saga's name.")],
    number: Annotated[int, typer.Argument(metavar="LANE", help="The lane's number, which is that of its partitions.")],
    reason: arguments.Reason,
    by: arguments.By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be skipped, change nothing.")] = False,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Let a lane that stands where its topics have nothing go on from the first record that is there.

    What is skipped is never acknowledged, so whoever sent it notices, and sends it again from its outbox.
    """
    _refuse_projection(saga)
    settings = Settings.load(database=database, broker=broker)
    store, cluster = assembly.store(settings), assembly.broker(settings)
    try:
        lane = next((lane for lane in store.lanes() if (lane.saga, lane.number) == (saga, number)), None)
        if lane is None:
            raise Refused(f"there is no lane {saga}/{number} in {assembly.database_name(settings)}; see: saga lanes list")
        found = _adrift(lane, _spans(cluster, lane))
        if not found:
            raise Refused(f"every offset of lane {saga}/{number} is on its topic: nothing keeps it there; see: saga lanes list")
        if not dry_run:
            _skip(store, lane, found)
    finally:
        store.close()
    who = arguments.person(by)
    for topic, (offset, first) in found.items():
        if not dry_run:
            log.warning("skip of %s/%d from %d to %d, by %s: %s", topic, number, offset, first, who, reason)
    if as_json:
        skipped = {topic: {"from": offset, "to": first} for topic, (offset, first) in found.items()}
        output.json({"database": assembly.database_name(settings), "dry_run": dry_run, "skipped": skipped})
        return
    for topic, (offset, first) in found.items():
        would = "would go" if dry_run else "goes"
        output.line(f"{topic}/{number} {would} on from {first}, after {offset}; a worker takes it up within seconds")


@lanes.command()
def reset(
    saga: Annotated[str, typer.Argument(metavar="SAGA", help="The saga's name.")],
    reason: arguments.Reason,
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", metavar="NAME", help="This topic was made again, whatever its id says; repeatable."),
    ] = None,
    by: arguments.By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Let all lanes of a database begin anew on topics that were deleted and made again.

    They read those from the beginning, and send again what not everybody has acknowledged on their predecessors. What was taken
    in already is known, and changes nothing. To be said in the database of each participant.
    """
    _refuse_projection(saga)
    settings = Settings.load(database=database, broker=broker)
    store, cluster = assembly.store(settings), assembly.broker(settings)
    try:
        ids, known = cluster.ids(fact_topics(saga)), store.lanes()
        if saga not in (sagas := {lane.saga for lane in known}):
            there = f"lanes of {', '.join(sorted(sagas))}" if sagas else "none: no worker has run on it"
            raise Refused(f"there is no lane of saga {saga!r} in {assembly.database_name(settings)}; it has {there}")
        found = {lane.number: (lane, _others(lane, ids, topic or [])) for lane in known if lane.saga == saga}
        found = {number: (lane, topics) for number, (lane, topics) in found.items() if topics}
        if not found:
            raise Refused(
                f"the lanes of {saga} in {assembly.database_name(settings)} are on the topics that are there. If you know "
                f"better, name one: --topic {events_topic(saga)}. See: saga lanes list"
            )
        again = {n: sum(map(len, unhandled(store, lane, topics))) for n, (lane, topics) in found.items()}
        for lane, topics in found.values() if not dry_run else ():
            begin_anew(store, lane, _partitions(store, saga), topics, ids)
    finally:
        store.close()
    if not dry_run:
        names = sorted({name for _, topics in found.values() for name in topics})
        log.warning("reset of %s on %s, by %s: %s", saga, ", ".join(names), arguments.person(by), reason)
    if as_json:
        rows = [{"lane": number, "topics": topics, "sent_again": again[number]} for number, (_, topics) in found.items()]
        output.json({"database": assembly.database_name(settings), "saga": saga, "dry_run": dry_run, "lanes": rows})
        return
    for number, (_, topics) in found.items():
        would = "would begin" if dry_run else "begins"
        output.line(f"{saga}/{number} {would} anew on {' and '.join(topics)}, and sends {many(again[number], 'event')} again")


def _refuse_projection(saga: str) -> None:
    if saga.startswith(PROJECTION):
        raise Refused(f"{saga!r} is a projection, whose tables would be wrong then without a word: {_ANEW}")


def _offsets(lane: Lane) -> dict[str, int]:
    return {topic: offset for topic, offset in lane.offsets.items() if topic.endswith(_TOPICS)}


def _troubles(broker: Broker | None, lanes: Sequence[Lane]) -> tuple[list[Trouble | None], BrokerError | None]:
    """What keeps each lane, None where it is not known, and why it is not: what the database has is worth telling without."""
    if broker is None:
        return [Trouble({}, []) for _ in lanes], None
    try:
        adrift = [_adrift(lane, _spans(broker, lane)) for lane in lanes]
        ids = broker.ids(sorted({topic for lane in lanes for topic in recorded(lane)}))
    except BrokerError as error:
        return [None] * len(lanes), error
    return [Trouble(gone, changed(lane, ids)) for lane, gone in zip(lanes, adrift, strict=True)], None


def _others(lane: Lane, ids: Ids, named: Sequence[str]) -> list[str]:
    """The topics on which it has to begin anew."""
    return sorted({*changed(lane, ids), *(topic for topic in named if topic in lane.offsets)})


def _partitions(store: SqliteStore | PostgresStore, saga: str) -> int:
    with store.unit() as unit:
        partitions = unit.partitions(saga)
    assert partitions is not None
    return partitions


def _skip(store: SqliteStore | PostgresStore, lane: Lane, found: Mapping[str, tuple[int, int]]) -> None:
    """As the lane's owner for a moment, which its worker notices."""
    owned = store.claim(lane.saga, lane.number, _partitions(store, lane.saga))
    offsets, gaps = dict(owned.offsets), dict(owned.gaps)
    for topic, (offset, first) in found.items():
        offsets[topic] = first
        # behind its end the topic is another one of that name, of which nothing was taken in
        gaps[topic] = [*gaps.get(topic, []), (offset, first)] if offset < first else [(0, first)] if first else []
    with store.unit() as unit:
        unit.advance(replace(owned, batch=owned.batch + 1, offsets=offsets, gaps=gaps))
    if owned.clean:
        store.release(owned)


def _spans(broker: Broker, lane: Lane) -> Spans:
    return broker.spans([Partition(topic, lane.number) for topic in _offsets(lane) if not topic.endswith(_ACKS)])


def _adrift(lane: Lane, spans: Spans) -> dict[str, tuple[int, int]]:
    """Topics on which the lane's offset does not exist any more, with that offset and the first that is there."""
    found = {}
    for (topic, _), there in spans.items():
        offset = lane.offsets.get(topic)
        if offset is not None and not there.start <= offset <= there.stop:
            found[topic] = offset, there.start
    return found


def _data(lane: Lane, trouble: Trouble | None) -> dict[str, Any]:
    adrift = {
        topic: {"offset": offset, "first": first} for topic, (offset, first) in (trouble.adrift if trouble else {}).items()
    }
    return {
        "saga": lane.saga,
        "lane": lane.number,
        "participant": lane.acks.get("participant"),
        "epoch": lane.epoch,
        "batch": lane.batch,
        "clean": lane.clean,
        "offsets": _offsets(lane),
        "gaps": lane.gaps,
        "adrift": adrift if trouble else None,
        "recreated": trouble.recreated if trouble else None,
    }


def _row(lane: Lane, trouble: Trouble | None) -> list[str]:
    offsets = ", ".join(f"{topic.rpartition('.')[2]} {offset}" for topic, offset in _offsets(lane).items())
    skipped = sum(end - begin for spans in lane.gaps.values() for begin, end in spans)
    owner = "ended in order" if lane.clean else "at work, or died"
    return [
        f"{lane.saga}/{lane.number}",
        str(lane.epoch),
        str(lane.batch),
        owner,
        offsets,
        str(skipped or ""),
        "not known: the broker does not answer"
        if trouble is None
        else "; ".join(_said(trouble, is_projection=lane.saga.startswith(PROJECTION))),
    ]


def _said(trouble: Trouble, *, is_projection: bool) -> Iterator[str]:
    reset, skip = ("saga project --rebuild",) * 2 if is_projection else ("saga lanes reset", "saga lanes skip")
    yield from (f"{topic} was made again: {reset}" for topic in trouble.recreated)
    for topic, (offset, first) in trouble.adrift.items():
        if topic not in trouble.recreated:
            yield f"{topic}@{offset} is gone, the first is {first}: {skip}"
