"""Four steps as one DBOS workflow: `python dbos_saga.py DATABASE_URL COUNT IN_FLIGHT`, in an environment of its own.

Each step is a datasource transaction, whose record of being done commits with the business statement, as DBOS advises for steps
that write to the service's own database. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from typing import Any

from dbos import DBOS, DBOSConfig, SQLAlchemyDatasource
from sqlalchemy import text

BUSINESS = text("UPDATE accounts SET events = events + 1 WHERE id = :account")
POOL = 20
WARMING = 50


def main(url: str, count: int, in_flight: int) -> None:
    engine = url.replace("postgresql://", "postgresql+psycopg://")
    source = SQLAlchemyDatasource.create(engine, engine_kwargs={"pool_size": POOL, "max_overflow": 0})
    DBOS(
        config=DBOSConfig(
            name="bench", system_database_url=engine, sys_db_pool_size=POOL, log_level="ERROR", run_admin_server=False
        )
    )  # type: ignore[typeddict-unknown-key]

    def step(name: str) -> Any:
        def act(order: dict[str, Any]) -> dict[str, Any]:
            source.sql_session().execute(BUSINESS, {"account": order["account"]})
            return order

        return source.transaction(act, name=name, isolation_level="READ COMMITTED")

    place, reserve, charge, ship = map(step, ("place", "reserve", "charge", "ship"))

    @DBOS.workflow()
    def saga(order: dict[str, Any]) -> None:
        ship(charge(reserve(place(order))))

    DBOS.launch()
    order = json.loads(sys.stdin.read())
    run(saga, order, WARMING, in_flight)
    began, cpu = time.perf_counter(), time.process_time()
    run(saga, order, count, in_flight)
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    DBOS.destroy()
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "updates": 4 * (count + WARMING)}))


def run(saga: Any, order: dict[str, Any], count: int, in_flight: int) -> None:
    """Start so many workflows, never more than `in_flight` that have not ended."""
    handles: deque[Any] = deque()
    for number in range(count):
        if len(handles) == in_flight:
            handles.popleft().get_result()
        handles.append(DBOS.start_workflow(saga, {**order, "account": number % 10_000}))
    for handle in handles:
        handle.get_result()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
