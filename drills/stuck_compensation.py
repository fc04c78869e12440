"""The gateway has lost two authorisations, of orders that have to be undone: their compensation cannot succeed."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from demo.books import GATEWAY
from drills.drill import Drill
from drills.scene import Scene

DONE = """
SELECT count(*) FROM saga_fence JOIN saga_workflow USING (workflow_id, saga) WHERE saga_fence.status = 'done' AND closed IS NULL
"""
STUCK = "SELECT count(*) FROM saga_fence WHERE status = 'stuck'"
LOSE = """
DROP TABLE IF EXISTS lost;
CREATE TABLE lost AS SELECT * FROM ledger WHERE authorisation NOT IN (SELECT authorisation FROM ledger WHERE kind = 'voided')
  ORDER BY rowid DESC LIMIT 2;
DELETE FROM ledger WHERE authorisation IN (SELECT authorisation FROM lost);
"""
FIND = "INSERT INTO ledger SELECT * FROM lost WHERE {which}; DELETE FROM lost WHERE {which};"
VOID = """
INSERT INTO ledger SELECT * FROM lost;
INSERT INTO ledger SELECT 'by hand', 'voided', authorisation, order_id, amount, NULL FROM lost;
"""
"""The columns are those of `services/payments/gateway.py`."""


def cause(scene: Scene) -> None:
    scene.stop("shipping")
    workflow, other = scene.order(2, country="Germany")  # where no courier goes
    scene.until(lambda: scene.count("stock", DONE) == scene.count("payments", DONE) == 2, "two orders, reserved and authorised")
    _write(scene, LOSE)
    scene.start("shipping")
    scene.until(lambda: scene.count("payments", STUCK) == 2, "two stuck compensations")
    scene.look_at("payments", WORKFLOW=workflow, OTHER=other)


def find_one(scene: Scene) -> None:
    """The gateway has found the older of the two."""
    which = "order_id = (SELECT min(order_id) FROM lost)"
    _write(scene, FIND.format(which=which))


def void_by_hand(scene: Scene) -> None:
    """The people of the gateway void the other one by hand."""
    _write(scene, VOID)


def _write(scene: Scene, script: str) -> None:
    with closing(sqlite3.connect(scene.fleet.books.path(GATEWAY), timeout=10)) as connection:
        connection.executescript(script)


DRILL = Drill(
    name="stuck-compensation",
    text="the payment gateway does not know two authorisations that it is to void",
    cause=cause,
    alarm=("payments", "saga.workflows.parked"),
    acts={"mend": find_one, "undo-by-hand": void_by_hand},
)
