"""`saga dead-letters`: records that could not be taken in, and what becomes of them. Decisions stay on record for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.acting.connect import exported
from saga.cli.acting.interrupt import interruptible
from saga.cli.listing import Listing
from saga.cli.looking.fingerprint import fingerprint
from saga.cli.options import spelt_out
from saga.clock import SystemClock
from saga.contracts.message import from_headers
from saga.contracts.saga import Saga
from saga.contracts.sensitive import redact
from saga.contracts.topics import saga_topics
from saga.errors import ContractError, DefinitionError, RegistryUnavailable
from saga.settings import Settings
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Reason

if TYPE_CHECKING:
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore
    from saga.transport.port import Broker

dead_letters = typer.Typer(cls=Listing, help="Records that could not be taken in.", no_args_is_help=True, rich_markup_mode=None)

MOST = 10_000
AT_ONCE = 500
"""Letters of one transaction."""

Places = Annotated[list[str] | None, typer.Argument(metavar="PLACE", help="As `list` names them: TOPIC/PARTITION@OFFSET")]
OfReason = Annotated[Reason | None, typer.Option("--reason-class", help="Those kept for this reason.")]
OfSaga = Annotated[str | None, typer.Option("--saga", metavar="NAME", help="Those of this saga.")]
OfTopic = Annotated[str | None, typer.Option("--topic", metavar="NAME", help="Those of this topic.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say which, change nothing.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options that all decisions on letters have: on which, who decides, and how it is carried out."""

    places: Places = None
    reason_class: OfReason = None
    saga: OfSaga = None
    topic: OfTopic = None
    dry_run: DryRun = False
    by: arguments.By = None
    database: arguments.DatabaseUrl = None
    as_json: output.AsJson = False

    def wanted(self) -> list[LetterSearch]:
        """Those at the places, or those that fit and wait for a decision; refuses to guess (DefinitionError)."""
        fitting = LetterSearch(saga=self.saga, topic=self.topic, reason=self.reason_class)
        if bool(self.places) == (fitting != LetterSearch()):
            raise DefinitionError("say which: either places, or some of --reason-class, --saga and --topic")
        named = dict.fromkeys(_named(place) for place in self.places or ())
        return [*named] or [replace(fitting, state=LetterState.WAITING)]

    def missing(self, chosen: Sequence[DeadLetter]) -> list[str]:
        """The places at which nothing was found."""
        return [place for place in self.places or () if not any(map(_named(place).fits, chosen))]


@dataclass(slots=True, kw_only=True)
class Group:
    """Letters of one topic, reason, state and error, but for numbers and ids in it."""

    saga: str
    topic: str
    reason: Reason
    state: LetterState
    error: str
    count: int = 0
    oldest: datetime
    places: list[str] = field(default_factory=list)


@dead_letters.command("list")
def list_letters(
    every: Annotated[bool, typer.Option("--all", help="Each by itself, not in groups.")] = False,
    reason_class: OfReason = None,
    saga: OfSaga = None,
    topic: OfTopic = None,
    state: Annotated[LetterState | None, typer.Option("--state", help="Those of this state.")] = None,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Group dead letters by reason and error, the oldest first. Reads only."""
    settings = Settings.load(database=database)
    found = _found(settings, LetterSearch(saga=saga, topic=topic, reason=reason_class, state=state))
    groups = grouped(found)
    if as_json:
        known = {"letters": [_data(letter) for letter in found]} if every else {"groups": groups}
        output.json({"database": assembly.database_name(settings), **known, "more": len(found) == MOST})
    elif not found:
        output.progress(f"no dead letters in {assembly.database_name(settings)}")
    elif every:
        output.table(["place", "saga", "reason", "state", "kept at", "workflow", "error"], [_row(one) for one in found])
    else:
        headers = ["count", "saga", "topic", "reason", "state", "since", "error", "for example"]
        output.table(headers, [_group_row(group) for group in groups])
    if len(found) == MOST:
        output.progress(f"these are the {MOST} oldest; there are more")


@dead_letters.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="TOPIC/PARTITION@OFFSET")],
    schemas: Annotated[str | None, typer.Option("--schemas", metavar="DIR", help="Contracts, to read the value by.")] = None,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Show one dead letter: where it stood, its headers, its bytes, and what of it can be read. Reads only."""
    settings = Settings.load(database=database, schemas=schemas)
    found = _found(settings, _named(place))
    if not found:
        raise _none(settings, place)
    for letter in found:
        if as_json:
            output.json({**_data(letter), "readable": _readable(letter, settings)})
        else:
            _tell(letter, _readable(letter, settings))


@dead_letters.command()
@spelt_out
def requeue(asked: Asked) -> None:
    """Have them taken in again: the lane's worker does so within a second. What still cannot be read is kept again."""
    _decide(asked, LetterState.REQUEUED, note=None)


@dead_letters.command()
@spelt_out
def discard(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the trace that it leaves.")], asked: Asked
) -> None:
    """Decide that nothing is to become of them. The rows stay for SAGA_KEEP_LETTERS (30 days), with who, when and why."""
    _decide(asked, LetterState.DISCARDED, note=reason)


@dead_letters.command()
@spelt_out
def export(
    to: Annotated[str, typer.Option("--to", metavar="TOPIC", help="An existing topic.")],
    asked: Asked,
    broker: arguments.BrokerServers = None,
) -> None:
    """Write them to a Kafka topic, as they were, with the headers that Kafka Connect gives its dead letters."""
    settings, wanted = Settings.load(database=asked.database, broker=broker), asked.wanted()
    with closing(assembly.store(settings)) as store:
        chosen = _chosen(store, wanted)
        _refuse_a_sagas_own(to, {lane.saga for lane in store.lanes()} | {letter.place.saga for letter in chosen})
        done = chosen if asked.dry_run else []
        try:
            if not asked.dry_run:
                _export(store, chosen, assembly.broker(settings), to, arguments.person(asked.by), done)
        finally:
            if done or not chosen:
                _told(settings, done, "exported", asked, asked.missing(chosen))
            if len(done) < len(chosen):
                output.error(f"{len(chosen) - len(done)} of {len(chosen)} were not delivered and stay as they are; try again")
    if len(done) < len(chosen):
        raise typer.Exit(1)
    _require_all(settings, chosen, asked)


def _export(
    store: SqliteStore | PostgresStore, chosen: Sequence[DeadLetter], broker: Broker, to: str, by: str, done: list[DeadLetter]
) -> None:
    """What was delivered is noted part by part, so that who interrupts it exports nothing a second time."""
    with interruptible() as require_uninterrupted, closing(exported(chosen, broker, to)) as parts:
        for part in parts:
            _settle(store, part, LetterState.EXPORTED, note=f"to {to}", by=by)
            done += part
            require_uninterrupted()


def grouped(found: Iterable[DeadLetter]) -> list[Group]:
    """The letters by what they have in common, in the order in which they came."""
    groups: dict[tuple[Any, ...], Group] = {}
    for one in found:
        error = fingerprint(one.error, one.workflow_id or str(one.place))
        same = {"saga": one.place.saga, "topic": one.place.topic, "reason": one.reason, "state": one.state, "error": error}
        group = groups.setdefault(tuple(same.values()), Group(**same, oldest=one.recorded))  # type: ignore[arg-type]
        group.count += 1
        group.places.append(str(one.place))
    return [*groups.values()]


def _refuse_a_sagas_own(topic: str, sagas: Iterable[str]) -> None:
    """Its participants would take the records in, each of them anew."""
    for saga in sagas:
        if topic in saga_topics(saga):
            raise DefinitionError(
                f"found --to {topic}, which is a topic of saga {saga}: all its participants would take the records in; "
                f"expected a topic for dead letters alone. To have them taken in again here: saga dead-letters requeue"
            )


def _found(settings: Settings, wanted: LetterSearch) -> list[DeadLetter]:
    with closing(assembly.store(settings)) as store:
        return store.letters(wanted, MOST)


def _named(place: str) -> LetterSearch:
    topic, slash, rest = place.rpartition("/")
    partition, at, offset = rest.partition("@")
    is_place = slash and at and partition.isdecimal() and offset.isdecimal()
    if not is_place or max(int(partition), int(offset)) > arguments.BIGGEST:
        raise DefinitionError(f"found the place {place!r}; expected TOPIC/PARTITION@OFFSET, as `saga dead-letters list` has it")
    return LetterSearch(topic=topic, partition=int(partition), offset=int(offset))


def _chosen(store: SqliteStore | PostgresStore, wanted: Sequence[LetterSearch]) -> list[DeadLetter]:
    found = [letter for one in wanted for letter in store.letters(one, MOST)]
    if len(found) == MOST:
        output.progress(f"these are the {MOST} oldest; there may be more: repeat the command for them")
    return found


def _decide(asked: Asked, state: LetterState, *, note: str | None) -> None:
    settings, wanted = Settings.load(database=asked.database), asked.wanted()
    with closing(assembly.store(settings)) as store:
        chosen = _chosen(store, wanted)
        done, open_ = ([*chosen], []) if asked.dry_run else ([], chosen)
        left = len(open_)
        try:
            with interruptible() as require_uninterrupted:
                for part in _parts(open_):
                    done += _settle(store, part, state, note=note, by=arguments.person(asked.by))
                    left -= len(part)
                    require_uninterrupted()
        finally:  # whatever ends it early, what was decided is told
            if done or not chosen:
                _told(settings, done, state.value, asked, asked.missing(chosen))
            if done and left:
                output.progress(f"{left} of {len(chosen)} are left as they are: repeat the command for them")
    if others := len(chosen) - len(done):
        output.error(f"about {others} of {len(chosen)} somebody else has decided meanwhile. See: saga dead-letters list --all")
        raise typer.Exit(1)
    _require_all(settings, chosen, asked)


def _parts(letters: Sequence[DeadLetter]) -> Iterator[Sequence[DeadLetter]]:
    """Those of one transaction."""
    for begin in range(0, len(letters), AT_ONCE):
        yield letters[begin : begin + AT_ONCE]


def _settle(
    store: SqliteStore | PostgresStore, letters: Sequence[DeadLetter], state: LetterState, *, note: str | None, by: str
) -> list[DeadLetter]:
    """Those on which it was decided; the others are not any more as they were when they were chosen."""
    now = SystemClock().now()
    with store.unit() as unit:
        unit.settle(letters, state, now, by=by, note=note)
        stand = [one for letter in letters for one in unit.letters(LetterSearch(**letter.place._asdict()), 1)]
    return [one for one in stand if (one.state, one.changed_by, one.changed) == (state, by, now)]


def _told(settings: Settings, done: Sequence[DeadLetter], what: str, asked: Asked, missing: Sequence[str]) -> None:
    places = [str(letter.place) for letter in done]
    if asked.as_json:
        told = {"database": assembly.database_name(settings), "dry_run": asked.dry_run, what: places, "not_found": missing}
        output.json(told)
    else:
        for place in places:
            output.line(f"{place} {'would be' if asked.dry_run else 'is'} {what}")


def _require_all(settings: Settings, chosen: Sequence[DeadLetter], asked: Asked) -> None:
    """A place that was mistyped must not look decided on."""
    missing = asked.missing(chosen)
    if missing or not chosen:
        raise _none(settings, ", ".join(missing) or "any that wait and fit")


def _none(settings: Settings, what: str) -> typer.Exit:
    output.error(f"no dead letter in {assembly.database_name(settings)}: {what}. See: saga dead-letters list")
    return typer.Exit(1)


def _data(letter: DeadLetter) -> dict[str, Any]:
    """The letter as JSON can hold it, raw bytes in hexadecimal."""
    return {
        "place": str(letter.place),
        **letter.place._asdict(),
        "key": _hex(letter.key),
        "value": _hex(letter.value),
        "headers": [[name, _hex(raw)] for name, raw in letter.headers],
        "reason": letter.reason,
        "error": letter.error,
        "workflow": letter.workflow_id,
        "version": letter.version,
        "kept": letter.recorded,
        "state": letter.state,
        "changed": letter.changed,
        "changed_by": letter.changed_by,
        "note": letter.note,
    }


def _readable(letter: DeadLetter, settings: Settings) -> dict[str, Any]:
    """What of it can be read, and why the rest cannot."""
    try:
        place = letter.place
        message = from_headers(
            dict(letter.headers), letter.value or b"", topic=place.topic, partition=place.partition, offset=place.offset
        )
    except ContractError as error:
        return {"headers": str(error)}
    read: dict[str, Any] = {"headers": "yes", "type": message.kind.type, "workflow": message.workflow_id}
    if settings.schemas is None:
        return {**read, "value": "not tried: name the contracts with --schemas"}
    from saga.contracts.avro import AvroCodec

    try:
        contracts = Saga.load(settings.schemas)
        event, codec = contracts.event(message.kind.type), AvroCodec(contracts, assembly.registry(settings))
        return {**read, "value": redact(contracts.contract(event), codec.decode(event, message.value))}
    except (ContractError, DefinitionError, RegistryUnavailable) as error:
        return {**read, "value": str(error)}


def _tell(letter: DeadLetter, readable: dict[str, Any]) -> None:
    output.line(f"{letter.place} of saga {letter.place.saga}: {letter.state}, {letter.reason}", style="bold")
    output.line(f"  ! {letter.error}", style="bold red")
    output.line(f"  > saga dead-letters requeue {letter.place}")
    output.line(f"  > saga dead-letters discard {letter.place} --reason TEXT")
    output.line(f"  kept at {output.moment(letter.recorded)}")
    if letter.changed is not None:
        why = f": {letter.note}" if letter.note else ""
        what = "requeued in vain" if letter.state is LetterState.WAITING else letter.state.value
        output.line(f"  {what} by {letter.changed_by} at {output.moment(letter.changed)}{why}")
    output.line(f"  key {_shown(letter.key)}")
    for name, raw in letter.headers:
        output.line(f"  header {name} {_shown(raw)}")
    for what, text in readable.items():
        output.line(f"  readable, {what}: {text}")
    output.line("  value" if letter.value is not None else "  no value")
    for line in hexdump(letter.value or b""):
        output.line(f"    {line}")


def hexdump(raw: bytes, limit: int = 4096) -> Iterator[str]:
    """Sixteen bytes a line, with their offset and what of them is ASCII."""
    for begin in range(0, min(len(raw), limit), 16):
        part = raw[begin : begin + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{begin:08x}  {part.hex(' '):<47}  {text}"
    if len(raw) > limit:
        yield f"... {len(raw) - limit} bytes more; all of them with --json"


def _hex(raw: bytes | None) -> str | None:
    return None if raw is None else raw.hex()


def _shown(raw: bytes | None) -> str:
    return "null" if raw is None else repr(raw)[1:]


def _row(one: DeadLetter) -> list[str]:
    kept = output.moment(one.recorded)
    return [str(one.place), one.place.saga, one.reason, one.state, kept, one.workflow_id or "", one.error]


def _group_row(group: Group) -> list[str]:
    since = output.moment(group.oldest)
    return [str(group.count), group.saga, group.topic, group.reason, group.state, since, group.error, group.places[0]]
