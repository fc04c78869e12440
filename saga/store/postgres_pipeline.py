"""Statements of one transaction on their way to the server: collected, and sent together when somebody needs an answer.

Nothing is sent until then: between two round trips the server knows the session to be idle in its transaction, and its timeout
ends what a stopped process left open. Executions of one statement whose answers nobody holds any more go as one.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from saga.errors import CommitUnknown, LifecycleError, Overstayed, StatementFailed, StoreError
from saga.store.postgres_collecting import depart, entered, repeat
from saga.store.postgres_tables import OVERSTAYED, SQL, store_error, technical

Parameters = Sequence[Any] | Mapping[str, Any]
Excuse = Callable[[Exception], StoreError | None]

_ENDED = "this transaction has ended; use the one that is handed to the handler, while the handler runs"
_NOT_OPEN = "the transaction was ended inside its block"  # as in session.sql
# after a failure the driver knows what the server has really prepared only if it has never executed a statement unprepared
AT_ONCE = 0
_MOST = 1000  # a handler may write without ever asking, but not without end
_MOST_CURSORS = 200
_FORGETTING = re.compile(r"\s*(ALTER|DEALLOCATE|DISCARD|DROP|ROLLBACK)\b", re.IGNORECASE)


class Answer:
    """The rows of one statement of a handler; asking for them sends everything that was collected."""

    __slots__ = ("__weakref__", "_pipeline", "cursor")

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.cursor: Any = None

    @property
    def rowcount(self) -> int:
        return int(self._arrived().rowcount)

    def fetchone(self) -> Any:
        return self._arrived().fetchone()

    def fetchall(self) -> list[Any]:
        return list(self._arrived().fetchall())

    def _arrived(self) -> Any:
        if self.cursor is None:
            self._pipeline.send(asked=True)
        if self.cursor is None:
            raise LifecycleError("this statement has no rows: it failed, or one before it did, or its transaction has ended")
        return self.cursor


@dataclass(slots=True, eq=False)
class _Statement:
    """One statement, the engine's unless it has an `answer`; `excuse` says what a failure of it means."""

    sql: str
    parameters: Parameters | None = None
    answer: weakref.ref[Answer] | None = None
    excuse: Excuse | None = None
    prepare: bool = True
    cursor: Any = None
    executed: bool = False

    @property
    def kind(self) -> tuple[str, type] | int:
        """Neighbours of one kind go as one: nobody will ask what the single one answered."""
        forgotten = self.answer is not None and self.answer() is None and self.parameters is not None
        return (self.sql, type(self.parameters)) if forgotten else id(self)

    @property
    def forgets(self) -> bool:
        """After it the driver takes nothing for prepared any more, and says so to the server at its next exchange.

        In a pipeline that would come too late, behind statements that were prepared since, so `_FORGETTING` ends an exchange.
        """
        done = self.cursor.statusmessage if self.answer is not None and self.cursor is not None else None
        return done is not None and _FORGETTING.match(done) is not None

    @property
    def answered(self) -> bool:
        return self.executed and getattr(self.cursor, "pgresult", self) is not None


class Pipeline:
    """What one transaction has still to send over `connection`, in order.

    `own`: the transaction begins and ends here, on a connection of the store's. Every other connection, SQLAlchemy's stand-in
    for an asynchronous one included, belongs to a caller who may end it at any time, so nothing is collected there.
    `former` departed from the same thread, over another connection, and may still be under way. `cursors` of earlier
    transactions of this connection are used again, by statement: each knows how to turn its parameters into bytes.
    """

    def __init__(
        self,
        connection: Any,
        address: str,
        *,
        own: bool,
        former: Pipeline | None = None,
        cursors: dict[str, Any] | None = None,
    ) -> None:
        self._connection, self._address, self._own, self._former = connection, address, own, former
        self._cursors: dict[str, Any] = {} if cursors is None else cursors
        self._used: list[tuple[str, Any]] = []
        self._native = isinstance(connection, psycopg.Connection)
        self._collected: list[_Statement] = []
        self._guarded = self._open = True
        self._alone = own
        self._leaving = ExitStack()
        self._mode: psycopg.Pipeline | None = None
        self._departed: list[_Statement] = []
        self._failed: Exception | None = None
        if own:
            self._collect(_Statement("BEGIN", prepare=False))

    def handle(self, sql: str, parameters: Parameters) -> Answer:
        """A handler's statement, in the driver's own parameter style."""
        self._let_in()
        answer = Answer(self)
        # a copy, since the handler may go on to change what it handed over
        given = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
        self._collect(_Statement(sql, given or None, weakref.ref(answer)))
        self._guarded = False
        if len(self._collected) >= _MOST or _FORGETTING.match(str(sql)):
            self.send()
        return answer

    def add(
        self,
        name: str,
        parameters: dict[str, Any],
        *,
        more: str = "",
        excuse: Excuse | None = None,
        form: Callable[[str, dict[str, Any]], str] | None = None,
    ) -> _Statement:
        """One of the engine's statements, its text extended by that of `more`; its cursor has rows once it was sent.

        `form` makes the text fit the parameters.
        """
        self._guard()
        text = _text(name, more) if more else SQL[name]
        statement = _Statement(form(text, parameters) if form else text, parameters, excuse=excuse)
        self._collect(statement)
        return statement

    def rows(self, name: str, *, more: Any = "", **parameters: Any) -> list[Any]:
        """The rows of one of the engine's statements, as `add` takes it."""
        statement = self.add(name, parameters, more=more)
        self.send()
        return list(statement.cursor.fetchall())

    def commit(self) -> None:
        """End the transaction; raises CommitUnknown where the answer does not arrive."""
        self.depart()
        self.arrive()

    def depart(self) -> None:
        """Send all that is left and COMMIT, to the last byte, and do not wait for what the server makes of it."""
        self._guard()
        self._collect(_Statement("COMMIT", excuse=self._at_commit, prepare=False))
        self._let_pass(self._former)
        self._departed, self._collected = self._collected, []
        self._failed = self._exchange(self._departed, departing=True)

    def arrive(self) -> None:
        """Wait for the answer to COMMIT, and raise what it says."""
        self._land()
        if self._failed is not None:
            raise self._failed

    def _land(self) -> None:
        statements, self._departed = self._departed, []
        if not statements:
            return
        error = self._leave(self._failed)
        try:
            self._judge(statements, error, ending=True)
            if statements[-1].cursor.statusmessage != "COMMIT":
                raise StatementFailed(f"{self._address}: a statement had failed, so that PostgreSQL took the transaction back")
        except Exception as verdict:
            self._failed = verdict

    def _let_pass(self, former: Pipeline | None) -> None:
        """Two transactions of one thread must not wait for each other: one departs, or runs handlers' statements, when the one
        before has ended."""
        if former is not None:
            former._land()

    def direct(self) -> Any:
        """The driver's connection, with nothing of ours on its way."""
        self._require_open()
        self._let_in()
        self.send()
        if self._mode is not None:
            self._stand_still()
        self._guarded = False
        return self._connection

    def end(self) -> None:
        """Forget what was not sent, and refuse more."""
        self._collected, self._open = [], False
        if self._leave(self._failed) is None and len(self._cursors) < _MOST_CURSORS:
            self._cursors.update(self._used)
        self._used = []

    def send(self, *, asked: bool = False) -> None:
        """Send what was collected and wait until all of it is answered.

        An error is raised as it is if a handler `asked` and its own statement failed; as StatementFailed if it may be another
        handler's; else as StoreError.
        """
        statements, self._collected = self._collected, []
        if not statements:
            return
        if any(statement.answer is not None for statement in statements):
            self._let_pass(self._former)
        self._judge(statements, self._exchange(statements), asked=asked)

    def _judge(
        self, statements: list[_Statement], error: Exception | None, *, asked: bool = False, ending: bool = False
    ) -> None:
        """Hand out what was answered; raise what failed, by its name."""
        for statement in statements:
            if statement.answer is not None and (answer := statement.answer()) is not None and statement.answered:
                answer.cursor = statement.cursor
        if error is None:
            return
        self._guarded = False
        verdict = self._verdict(error, statements, asked, ending)
        if verdict is error:
            raise error
        raise verdict from error

    def _collect(self, statement: _Statement) -> None:
        self._require_open()
        self._collected.append(statement)

    def _require_open(self) -> None:
        if not self._open:
            raise LifecycleError(_ENDED)

    def _let_in(self) -> None:
        """Before a handler: from now on it has to be found whether this is still our transaction."""
        if self._alone:
            self._alone = False
            self._collect(_Statement(SQL["for_handlers"]))

    def _guard(self) -> None:
        """Between handlers and engine: is this still the transaction that we began?"""
        if self._own and not self._guarded:
            self._guarded = self._alone = True
            self._collect(_Statement(SQL["for_engine"], excuse=self._at_guard))

    def _exchange(self, statements: list[_Statement], *, departing: bool = False) -> Exception | None:
        """Execute all; answers the first error, after which the server has executed nothing. `departing`: without waiting."""
        if self._own and (parted := self._parted()) is not None:
            return parted
        try:
            mode = self._enter() if self._own else None
            for _, alike in groupby(statements, key=lambda statement: statement.kind):
                self._execute(list(alike))
            if departing:
                depart(self._connection)
            elif mode is not None:
                mode.sync()
                if any(statement.forgets for statement in statements):
                    self._stand_still()
        except Exception as error:
            self._used = []
            return self._leave(error)
        return None

    def _parted(self) -> StoreError | None:
        """Whether the server has said that the session is over, however late it closes the line: nothing more is executed."""
        heard: dict[str, str | None] = {}

        def hear(notice: psycopg.errors.Diagnostic) -> None:
            if notice.severity_nonlocalized == "FATAL":
                heard[notice.message_primary or ""] = notice.sqlstate

        self._connection.add_notice_handler(hear)
        try:
            for _ in range(2):
                self._connection.pgconn.consume_input()
                self._connection.pgconn.is_busy()  # reads what has arrived
        except psycopg.OperationalError as error:
            heard = heard or {str(error): None}
        finally:
            self._connection.remove_notice_handler(hear)
        if not heard:
            return None
        self._connection.close()
        kind = Overstayed if OVERSTAYED in heard.values() else StoreError
        return kind(f"{self._address}: the server has ended the session, nothing was committed: {'; '.join(heard)}")

    def _execute(self, alike: list[_Statement]) -> None:
        one = alike[0]
        if self._native and one.answer is None:
            one.cursor = self._cursors.pop(one.sql, None) or self._connection.cursor(binary=True, row_factory=tuple_row)
            self._used.append((one.sql, one.cursor))
            # others' connections may lead through a pooler that cannot prepare: their owners know
            one.cursor.execute(one.sql, one.parameters, prepare=one.prepare if self._own else None)
        elif len(alike) == 1:
            one.cursor = self._connection.cursor()
            one.cursor.execute(one.sql, one.parameters)
        else:
            repeat(self._connection, one.sql, [statement.parameters for statement in alike])
        one.executed = True

    def _enter(self) -> psycopg.Pipeline:
        if self._mode is None:
            self._mode = self._leaving.enter_context(entered(self._connection))
            self._connection.prepare_threshold = AT_ONCE
        return self._mode

    def _stand_still(self) -> None:
        """Leave pipeline mode inside the transaction, with an exchange of the plain kind as the last one."""
        if (error := self._leave()) is None:
            self._connection.execute("SELECT")
        else:
            raise error

    def _leave(self, first: Exception | None = None) -> Exception | None:
        """Leave the driver's pipeline mode, which waits for what is still to be answered; the error that came first.

        The driver's last message is then a flush, after which the server forgets its timeout for idle transactions, so a
        transaction that goes on must not end its exchanges by leaving.
        """
        self._mode = None
        try:
            if self._own:
                self._connection.prepare_threshold = None
            self._leaving.close()
        except psycopg.Error as error:
            before = error.__context__  # behind what went wrong the driver may add that it cannot leave, which tells nobody why
            return first or (before if isinstance(before, psycopg.Error) else error)
        return first

    def _verdict(self, error: Exception, statements: list[_Statement], asked: bool, ending: bool) -> Exception:
        """What the failure of one of these statements is called."""
        if isinstance(error, StoreError):
            return error
        if ending and self._connection.closed:
            return CommitUnknown(f"{self._address}: the connection was lost before COMMIT was answered ({error})")
        culprit = _culprit(statements, error)
        if culprit.answer is not None:
            alone = asked and sum(statement.answer is not None for statement in statements) == 1
            return error if alone else technical(self._address, error) or self._late(error)
        known = (culprit.excuse and culprit.excuse(error)) or technical(self._address, error)
        if known is None and isinstance(error, psycopg.errors.InFailedSqlTransaction):
            return self._late(error)
        return known or store_error(self._address, error)

    def _late(self, error: Exception) -> StatementFailed:
        return StatementFailed(f"{self._address}: a statement of some handler failed: {error}")

    def _at_guard(self, error: Exception) -> StoreError | None:
        if _NOT_OPEN not in str(error):
            return None
        return StoreError(
            f"{self._address}: {_NOT_OPEN}, so it is not known what was committed. Handlers must not commit or roll back."
        )

    def _at_commit(self, error: Exception) -> StoreError | None:
        """Deferred constraints are checked here, and only handlers have some."""
        return technical(self._address, error) or self._late(error)


@lru_cache
def _text(name: str, more: str) -> str:
    """One and the same text each time, by which the driver knows what it has seen."""
    return f"{SQL[name]}\n{SQL[more]}"


def _culprit(statements: Sequence[_Statement], error: Exception) -> _Statement:
    """The first statement without an answer; of those that went as one, it is known only that a later one was answered."""
    suspect: _Statement | None = None
    for statement in statements:
        if statement.answered:
            suspect = None
        elif statement.answer is not None and statement.cursor is None:
            suspect = suspect or statement
        elif suspect is None or (statement.excuse is not None and statement.excuse(error) is not None):
            return statement
        else:
            return suspect
    return suspect or statements[-1]
