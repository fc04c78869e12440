"""The driver's pipeline, which keeps statements back and hands many to the server at once.

psycopg waits for the socket and writes to it after every single statement, which costs more than all else that it does for
one. It has no setting for that; where a release of it lacks an inner part that is replaced or used here, its own pipeline is
used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import psycopg
from psycopg.generators import send

MOST = 64  # the server is to work while the rest is still being prepared

_INNER = (
    (psycopg.Pipeline, "_communicate_gen"),
    (psycopg.Pipeline, "_enqueue_sync"),
    (psycopg.Cursor, "_query"),
    (psycopg.Cursor, "_check_results"),
)


class _Unasked:
    """Stands for the cursor of an execution of which only a failure is of interest."""

    __slots__ = ("_check_results",)

    def __init__(self, cursor: Any) -> None:
        self._check_results = cursor._check_results

    def _set_results(self, results: Sequence[Any]) -> None: ...


class Collecting(psycopg.Pipeline):
    """Sends when somebody waits for an answer, when a transaction departs, and when `MOST` statements are there."""

    _at_once = False

    def repeat(self, sql: str, parameters: Sequence[Any]) -> None:
        """Execute a statement with each of these. The driver's `executemany` spends more on each answer than on sending."""
        cursor, names, send = self._conn.cursor(), self._conn._prepared._names, self.pgconn.send_query_prepared
        cursor.executemany(sql, parameters[:1])
        query, unasked = cursor._query, (cast("Any", _Unasked(cursor)), None)
        assert query is not None
        for given in parameters[1:]:
            query.dump(given)
            if (name := names.get((query.query, query.types))) is None:  # values of other types make another statement
                self._conn.cursor().executemany(sql, [given])
                continue
            self.command_queue.append(partial(send, name, query.params, param_formats=query.formats))
            self.result_queue.append(unasked)
            if len(self.command_queue) >= MOST:
                self._conn.wait(self._communicate_gen())

    def send_all(self) -> None:
        """Hand everything to the client library."""
        self._at_once = True
        self._conn.wait(self._communicate_gen())

    def _enqueue_sync(self) -> None:
        super()._enqueue_sync()
        self._at_once = True

    def _communicate_gen(self) -> Any:
        if self._at_once or len(self.command_queue) >= MOST:
            self._at_once = False
            kept, self.command_queue = self.command_queue, deque()
            self.command_queue.append(lambda: [command() for command in kept])  # type: ignore[arg-type]
            yield from super()._communicate_gen()


def entered(connection: psycopg.Connection[Any]) -> Any:
    """The block in which the connection is in pipeline mode."""
    if connection._pipeline is None and _is_known(connection):
        connection._pipeline = Collecting(connection)
    return connection.pipeline()


def _is_known(connection: psycopg.Connection[Any]) -> bool:
    prepared = getattr(connection, "_prepared", None)
    return hasattr(prepared, "_names") and all(hasattr(kind, name) for kind, name in _INNER)


def repeat(connection: psycopg.Connection[Any], sql: str, parameters: Sequence[Any]) -> None:
    """Execute a statement with each of these, whose answers nobody wants."""
    if isinstance(connection._pipeline, Collecting):
        connection._pipeline.repeat(sql, parameters)
    else:
        connection.cursor().executemany(sql, parameters)


def depart(connection: psycopg.Connection[Any]) -> None:
    """Send everything, to the last byte, and wait for no answer."""
    if isinstance(connection._pipeline, Collecting):
        connection._pipeline.send_all()
    connection.wait(send(connection.pgconn))
