"""The database that is being rebuilt: how far it is, and what is remembered between its transactions until it goes live.

Its table `saga_rebuild` says that it is no live one. Each lane's epoch is in it: once somebody else has claimed a lane, a
worker has begun to live on the database, and no rebuild touches it any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256

import orjson

from saga.errors import DefinitionError
from saga.store.joining import is_sqlite
from saga.store.port import Store, Transaction, Unit

Seen = dict[str, int]
"""Source to the sequence numbers of its facts that were read, as bits."""

TABLE = "saga_rebuild"
_CHUNK = 500
_TABLES = {
    "?": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'saga_rebuild'",
    "%s": "SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = 'saga_rebuild'",
}


class Shadow:
    """The rebuild of one participant's part of one saga in `store`."""

    def __init__(self, store: Store, saga: str, participant: str) -> None:
        self.store, self.saga, self.participant = store, saga, participant
        self._marks: dict[type, str] = {}

    def create(self, scripts: Sequence[str], how: Mapping[str, str | None]) -> None:
        """Make it of an empty database: the service's own `scripts`, and `how` it is to be rebuilt, in one transaction."""
        with self.store.transaction() as tx:
            _run(tx, scripts)
            tx.execute(f"CREATE TABLE {TABLE} (word TEXT NOT NULL, name TEXT NOT NULL, value TEXT, PRIMARY KEY (word, name))")
            self._put(tx, [("of", "saga", self.saga), ("of", "participant", self.participant)])
            self._put(tx, [("how", name, value) for name, value in how.items()])
            self._put(tx, [("of", "scripts", _print(scripts))])

    def require(self, scripts: Sequence[str]) -> None:
        """Raises DefinitionError if the tables were made by other scripts than these, which would be left out in silence.

        Where none are named, none are left out: what made the tables was run when the rebuild was begun.
        """
        with self.store.transaction() as tx:
            rows = tx.execute(f"SELECT value FROM {TABLE} WHERE word = 'of' AND name = 'scripts'").fetchall()  # noqa: S608 - ours
        if scripts and rows and rows[0][0] != _print(scripts):
            begun = "without any --sql" if rows[0][0] == _print(()) else "with other --sql files, or with others in them"
            raise DefinitionError(
                f"this rebuild was begun {begun}, and such files are run once, at the beginning; name those that it was begun "
                f"with, or begin with an empty database"
            )

    def is_there(self) -> bool:
        """Whether the database is one that is being rebuilt."""
        with self.store.transaction() as tx:
            asked = _TABLES[self._mark(tx)]
            return tx.execute(asked).fetchone() is not None

    def resume(self, how: Mapping[str, str | None]) -> dict[int, int]:
        """The epochs of the lanes, of a rebuild that was begun before. Raises DefinitionError if it was begun otherwise."""
        with self.store.transaction() as tx:
            rows = tx.execute(f"SELECT word, name, value FROM {TABLE} WHERE word IN ('how', 'of', 'lane')").fetchall()  # noqa: S608 - ours
        found = {(word, name): value for word, name, value in rows}
        expected: dict[tuple[str, str], str | None] = {("how", name): value for name, value in how.items()}
        expected |= {("of", "saga"): self.saga, ("of", "participant"): self.participant}
        for (word, name), value in expected.items():
            if found.get((word, name)) != value:
                raise DefinitionError(
                    f"this rebuild was begun with {name} {found.get((word, name))!r}, and is now asked for with {value!r}; "
                    f"ask for it as it was begun, or begin with an empty database"
                )
        return {int(name): int(value) for (word, name), value in found.items() if word == "lane"}

    def claiming(self, standing: Mapping[int, tuple[int, int]]) -> None:
        """This rebuild's lanes, of these epochs and batches, are about to be claimed: who is killed may have done so or not."""
        with self.store.transaction() as tx:
            self._put(tx, [("lane", str(lane), str(epoch)) for lane, (epoch, _) in standing.items()])
            self._put(tx, [("claiming", str(lane), f"{epoch} {batch}") for lane, (epoch, batch) in standing.items()])

    def tried(self) -> dict[int, tuple[int, int]]:
        """Epoch and batch that lanes had when they were last about to be claimed."""
        with self.store.transaction() as tx:
            rows = tx.execute(f"SELECT name, value FROM {TABLE} WHERE word = 'claiming'").fetchall()  # noqa: S608 - ours
        parts = {int(name): value.split() for name, value in rows}
        return {lane: (int(epoch), int(batch)) for lane, (epoch, batch) in parts.items()}

    def claimed(self, lane: int, epoch: int) -> None:
        """The lane is this rebuild's."""
        with self.store.transaction() as tx:
            self._put(tx, [("lane", str(lane), str(epoch))])

    def seen(self, lane: int) -> dict[str, Seen]:
        """What was read of workflows that had not ended, by workflow."""
        with self.store.transaction() as tx:
            mark = self._mark(tx)
            rows = tx.execute(f"SELECT name, value FROM {TABLE} WHERE word = {mark}", (f"seen {lane}",))  # noqa: S608 - ours
            return {name: _seen_of(value) for name, value in rows.fetchall()}

    def remember(self, unit: Unit, lane: int, seen: Mapping[str, Seen], forget: Collection[str]) -> None:
        """Write down what was read of these workflows, and forget others, in the transaction at hand."""
        self._put(unit, [(f"seen {lane}", workflow, _seen_text(one)) for workflow, one in seen.items()])
        gone, mark = [*forget], self._mark(unit)
        for begin in range(0, len(gone), _CHUNK):
            part = gone[begin : begin + _CHUNK]
            marks = ", ".join([mark] * len(part))
            unit.execute(f"DELETE FROM {TABLE} WHERE word = {mark} AND name IN ({marks})", [f"seen {lane}", *part])  # noqa: S608 - ours

    def complete(self, scripts: Iterable[str]) -> None:
        """Run these scripts now that everything was read, each once, however often it is completed."""
        with self.store.transaction() as tx:
            rows = tx.execute(f"SELECT name FROM {TABLE} WHERE word = 'after'").fetchall()  # noqa: S608 - ours
            new = {_print([script]): script for script in scripts}
            for (name,) in rows:
                new.pop(name, None)
            _run(tx, new.values())
            self._put(tx, [("after", name, None) for name in new])

    def swapping(self, rebuilt: str, kept: str) -> None:
        """The database, called `rebuilt` until now, is about to take the place of one that is put away as `kept`."""
        with self.store.transaction() as tx:
            self._put(tx, [("swap", "of", rebuilt), ("swap", "kept", kept)])

    def swapped(self, rebuilt: str) -> str | None:
        """As what the one before was put away; None if this is not one that was called `rebuilt` and took its place."""
        if not self.is_there():
            return None
        with self.store.transaction() as tx:
            said = dict(tx.execute(f"SELECT name, value FROM {TABLE} WHERE word = 'swap'").fetchall())  # noqa: S608 - ours
        return said.get("kept") if said.get("of") == rebuilt else None

    def is_untouched(self) -> bool:
        """Whether nobody but a rebuild has claimed a lane."""
        with self.store.unit() as unit:
            rows = unit.execute(f"SELECT name, value FROM {TABLE} WHERE word = 'lane'").fetchall()  # noqa: S608 - ours
            found = unit.batches(self.saga)
        return all(found.get(int(lane), (0, 0))[0] == int(epoch) for lane, epoch in rows)

    def drop(self) -> None:
        """End the rebuild: from now on the database is like any other."""
        with self.store.transaction() as tx:
            tx.execute(f"DROP TABLE {TABLE}")

    def _put(self, tx: Transaction, rows: Sequence[tuple[str, str, str | None]]) -> None:
        row = f"({', '.join([self._mark(tx)] * 3)})"
        for begin in range(0, len(rows), _CHUNK):
            part = rows[begin : begin + _CHUNK]
            tx.execute(
                f"INSERT INTO {TABLE} VALUES {', '.join([row] * len(part))} "  # noqa: S608 - a name of ours
                f"ON CONFLICT (word, name) DO UPDATE SET value = excluded.value",
                [value for one in part for value in one],
            )

    def _mark(self, tx: Transaction) -> str:
        """Looked at once for each class of transaction, since asking for the connection costs a round trip."""
        kind = type(tx)
        if kind not in self._marks:
            self._marks[kind] = "?" if is_sqlite(tx.connection) else "%s"
        return self._marks[kind]


def written(moment: datetime | None) -> str | None:
    """A moment as `how` has it."""
    return None if moment is None else moment.isoformat()


def _seen_text(seen: Seen) -> str:
    """As JSON, the bits in hexadecimal: there may be more of them than a number of JSON has."""
    return orjson.dumps({source: f"{bits:x}" for source, bits in seen.items()}).decode()


def _seen_of(text: str) -> Seen:
    """What `_seen_text` wrote, or as a number what an earlier release did."""
    found = orjson.loads(text)
    return {source: int(bits, 16) if isinstance(bits, str) else bits for source, bits in found.items()}


def _print(scripts: Sequence[str]) -> str:
    """What tells scripts apart from others."""
    return sha256("\0".join(scripts).encode()).hexdigest()


def _run(tx: Transaction, scripts: Iterable[str]) -> None:
    """Scripts whose statements are parted by semicolons, with none inside, and with comments on lines of their own."""
    for script in scripts:
        lines = (line for line in script.splitlines() if not line.lstrip().startswith("--"))
        for statement in filter(None, map(str.strip, "\n".join(lines).split(";"))):
            tx.execute(statement)
