"""Two databases of one participant, held against each other: the one that lives, or lived, and the one made of the topics.

What only the live one can know is left out: moments of its own clock, tries and what is parked, steps that have begun and told
nobody. What it had committed and not published, and what it had not yet read, is told apart from a difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from saga.contracts.topics import fact_topics
from saga.protocol.facts import StepStatus
from saga.store.archive import Archive
from saga.store.port import Store, Unit
from saga.store.workflow import Fence, Received, Workflow

SHOWN = 10
_PAGE = 500
_BEGUN = frozenset({StepStatus.IDLE, StepStatus.RUNNING})


class Database(Store, Archive, Protocol):
    """A store that reads for people too."""


class Difference(NamedTuple):
    """One thing that is not the same, for people."""

    table: str
    workflow: str
    text: str


@dataclass(slots=True)
class Comparison:
    """How two databases compare: `compared` rows by table, and `differences`, the first few of each table.

    `ahead` counts workflows about which the live one had committed what it had not published, `behind` those of which the
    other one has read more.
    """

    compared: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    ahead: int = 0
    behind: int = 0

    @property
    def is_equal(self) -> bool:
        return not self.differing

    def add(self, table: str, workflow: str, text: str) -> None:
        """Note a difference; beyond the first few of a table they are counted."""
        self.differing[table] += 1
        if self.differing[table] <= SHOWN:
            self.differences.append(Difference(table, workflow, text))


def compare(saga: str, live: Database, rebuilt: Database, *, tables: bool = True) -> Comparison:
    """Workflows, fences and inbox of one saga; with `tables` also all tables of the service itself, row by row.

    Neither database should be written to meanwhile: what the live one does then looks like a difference.
    """
    found = Comparison()
    read = _read_further(saga, live, rebuilt)
    theirs = _workflows(saga, rebuilt)
    other = next(theirs, None)
    for one in _workflows(saga, live):
        while other is not None and other.id.encode() < one.id.encode():
            _only(found, other, other.lane in read, "rebuilt")
            other = next(theirs, None)
        if other is None or other.id != one.id:
            _only(found, one, bool(one.unpublished), "live")
            continue
        _both(found, one, other, other.lane in read)
        other = next(theirs, None)
    while other is not None:
        _only(found, other, other.lane in read, "rebuilt")
        other = next(theirs, None)
    if tables:
        _compare_tables(found, live, rebuilt)
    return found


def differences(live: Workflow, rebuilt: Workflow) -> Iterator[Difference]:
    """What differs about one workflow, of what both can know."""
    for name, one, other in _columns(_workflow(live), _workflow(rebuilt)):
        yield Difference("saga_workflow", live.id, f"{name}: live {one}, rebuilt {other}")
    for step, one, other in _columns(_fences(live), _fences(rebuilt)):
        yield Difference("saga_fence", live.id, f"step {step}: live {one}, rebuilt {other}")
    ours, theirs = ({id: _received(r) for id, r in w.inbox.items()} for w in (live, rebuilt))
    for id, one, other in _columns(ours, theirs):
        yield Difference("saga_inbox", live.id, f"event {id}: live {one}, rebuilt {other}")
    for id in live.inbox.keys() & rebuilt.inbox.keys():
        first, second = live.inbox[id].payload, rebuilt.inbox[id].payload
        if first is not None and second is not None and first != second:
            yield Difference("saga_inbox", live.id, f"event {id}: the payloads differ")


def _columns(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            yield name, one.get(name, "none"), other.get(name, "none")


def _workflow(w: Workflow) -> dict[str, Any]:
    acts = [tuple(act) for act in w.interventions]
    return {
        "version": w.version, "lane": w.lane, "status": w.status.value, "sequence": w.sequence, "deadline": w.deadline,
        "ended": w.closed is not None, "gates": w.gates, "exceptions": sorted(w.exceptions), "interventions": acts,
    }  # fmt: skip


def _fences(w: Workflow) -> dict[str, Any]:
    return {step: told for step, fence in w.fences.items() if (told := _fence(fence)) is not None}


def _fence(fence: Fence) -> tuple[Any, ...] | None:
    """What facts tell of a fence; None if there is no outcome yet."""
    if fence.status in _BEGUN or (fence.status is StepStatus.COMPENSATING and fence.event is None):
        return None
    status = StepStatus.DONE if fence.status is StepStatus.COMPENSATING else fence.status
    return status.value, fence.refused, fence.event, fence.result


def _received(r: Received) -> tuple[Any, ...]:
    return r.step, r.status.value, r.type, r.cause, r.traceparent, r.tracestate, r.topic, r.partition, r.offset


def _read_further(saga: str, live: Database, rebuilt: Database) -> set[int]:
    """The lanes of which the rebuilt database has read more."""
    known = {lane.number: lane.offsets for lane in live.lanes() if lane.saga == saga}
    return {
        lane.number
        for lane in rebuilt.lanes()
        if lane.saga == saga and any(lane.offsets.get(t, 0) > known.get(lane.number, {}).get(t, 0) for t in fact_topics(saga))
    }


def _workflows(saga: str, archive: Archive) -> Iterator[Workflow]:
    after = ""
    while page := archive.page(saga, after, _PAGE):
        yield from page
        after = page[-1].id


def _both(found: Comparison, live: Workflow, rebuilt: Workflow, read_further: bool) -> None:
    found.compared.update(saga_workflow=1, saga_fence=len(_fences(live)), saga_inbox=len(live.inbox))
    differing = [*differences(live, rebuilt)]
    if differing and live.unpublished:
        found.ahead += 1
    elif differing and read_further and _knows_more(rebuilt, live):
        found.behind += 1
    else:
        for one in differing:
            found.add(*one)


def _knows_more(one: Workflow, other: Workflow) -> bool:
    """Whether it has stated, or taken in, what the other has not: nothing else that is read changes a workflow."""
    takes_in = other.closed is None
    return one.sequence > other.sequence or (
        takes_in and (one.closed is not None or not one.inbox.keys() <= other.inbox.keys())
    )


def _only(found: Comparison, workflow: Workflow, is_explained: bool, where: str) -> None:
    if not is_explained:
        found.add("saga_workflow", workflow.id, f"only the {where} database knows it")
    elif where == "live":
        found.ahead += 1
    else:
        found.behind += 1


_TABLES = {
    "sqlite3": "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    "psycopg": "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() "
    "AND table_type = 'BASE TABLE'",
}


def _compare_tables(found: Comparison, live: Database, rebuilt: Database) -> None:
    """The service's own tables, as sets of rows: an order in them would be nobody's promise."""
    with live.unit() as ours, rebuilt.unit() as theirs:
        names, others = _tables(ours), _tables(theirs)
        for table in sorted(names ^ others):
            found.add(table, "", f"only the {'live' if table in names else 'rebuilt'} database has this table")
        for table in sorted(names & others):
            _compare_table(found, table, ours, theirs)


def _tables(unit: Unit) -> set[str]:
    names = {str(name) for (name,) in unit.execute(_TABLES[_driver(unit)]).fetchall()}
    return {name for name in names if not name.startswith("saga_")}


def _driver(unit: Unit) -> str:
    return type(unit.connection).__module__.partition(".")[0]


def _compare_table(found: Comparison, table: str, ours: Unit, theirs: Unit) -> None:
    """Both are read in one order, so that few rows are in memory; rows that differ are counted by value.

    Columns are known by their names: those of a table that was altered stand in another order than in one made anew.
    """
    names, others = _names(ours, table), _names(theirs, table)
    for name in sorted({*names} ^ {*others}):
        found.add(table, "", f"only the {'live' if name in names else 'rebuilt'} database has the column {name}")
    both = [name for name in names if name in others]
    live, rebuilt = _rows(ours, table, both), _rows(theirs, table, both)
    left: Counter[str] = Counter()
    while True:
        first, second = [*islice(live, _PAGE)], [*islice(rebuilt, _PAGE)]
        if not first and not second:
            break
        found.compared[table] += len(first)
        left.update(first)
        left.subtract(second)
        left = Counter({row: count for row, count in left.items() if count})
    for row, count in sorted(left.items()):
        for _ in range(abs(count)):
            found.add(table, "", f"only the {'live' if count > 0 else 'rebuilt'} database has {row}")


def _names(unit: Unit, table: str) -> list[str]:
    found = unit.connection.cursor().execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")  # noqa: S608 - quoted
    return [column[0] for column in found.description]


def _rows(unit: Unit, table: str, columns: Sequence[str]) -> Iterator[str]:
    listed = ", ".join(map(_quoted, columns))
    asked = f"SELECT {listed} FROM {_quoted(table)} ORDER BY"  # noqa: S608 - quoted
    if _driver(unit) == "sqlite3":
        yield from map(repr, unit.connection.cursor().execute(f"{asked} {listed}"))
    else:
        with unit.connection.cursor(name="saga_compare") as cursor:
            cursor.itersize = _PAGE
            # as text, since not every type has an order
            yield from map(repr, cursor.execute(f'{asked} ROW({listed})::text COLLATE "C"'))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
