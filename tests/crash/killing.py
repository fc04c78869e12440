"""What the crash tests share: a fleet that is fed while its services die where they are armed, and are started again."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from itertools import islice

from demo import sample
from demo.audit import audit
from demo.feed import Feed, settle
from demo.fleet import Fleet
from demo.order import Intake
from demo.promises import judged
from demo.stocking import opening_stock
from saga.failpoints import Failpoint

ORDERS_SENT = 60
EXTERNAL = {Failpoint.EXTERNAL_INTENDED, Failpoint.EXTERNAL_RETURNED}
EVERYWHERE = [place for place in Failpoint if place not in EXTERNAL]
"""The places that every service passes; the external ones only payments does."""

INVOICES = list(islice(sample.invoices(), ORDERS_SENT))
INTAKE = Intake.of(INVOICES)
OPENING = opening_stock(INTAKE.demand)


def run_to_the_end(fleet: Fleet, places: Mapping[str, Failpoint]) -> set[str]:
    """Services die at their places, at the second time, so that something has been done before; answers which did.

    At the end every invariant holds.
    """
    armed = {name: {"SAGA_FAILPOINTS": f"{place}:kill:2"} for name, place in places.items()}
    killed: set[str] = set()

    def restart_the_dead() -> None:
        for name in [n for n, process in fleet.processes.items() if process.poll() is not None]:
            assert name in armed, f"{name} died by itself: {fleet.log(name).read_text()[-2000:]}"
            assert fleet.processes[name].returncode == -signal.SIGKILL
            assert name not in killed, f"{name} died again: {fleet.log(name).read_text()[-2000:]}"
            killed.add(name)
            fleet.start(name)

    try:
        fleet.prepare()
        fleet.start_all(armed)
        Feed(fleet.url, fleet.books).send((i.order for i in INVOICES if i.order), restart_the_dead)
        settle(fleet.books, restart_the_dead)
        assert [str(violation) for violation in judged(fleet.ground).violations] == []
    finally:
        fleet.stop()
    return killed


def false_claims(fleet: Fleet) -> list[object]:
    """What the audit of such a run finds wrong."""
    return [finding for finding in audit(fleet.books, opening=OPENING, totals=INTAKE.totals) if not finding.holds]
