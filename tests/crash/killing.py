"""What the crash tests share: a fleet that is fed while its services die where they are armed, and are started again."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from itertools import islice

from demo import sample
from demo.audit import audit
from demo.feed import Feed, settle
from demo.fleet import Fleet
from demo.order import Intake
from demo.promises import judged
from demo.stocking import opening_stock
from saga.failpoints import Failpoint

ORDERS_SENT, AT_ONCE = 60, 10
"""All orders, and those of which each portion consists: the lives of a service follow one another, and each needs work."""

EXTERNAL = {Failpoint.EXTERNAL_INTENDED, Failpoint.EXTERNAL_RETURNED}
EVERYWHERE = [place for place in Failpoint if place not in EXTERNAL]
"""The places that every service passes; the external ones only payments does."""

Places = Mapping[str, Sequence[Failpoint]]

INVOICES = list(islice(sample.invoices(), ORDERS_SENT))
INTAKE = Intake.of(INVOICES)
ORDERS = [invoice.order for invoice in INVOICES if invoice.order]
OPENING = opening_stock(INTAKE.demand)


def run_to_the_end(fleet: Fleet, places: Places) -> Places:
    """Each service dies at its places, at one in each life, when it comes there a second time: something has been done before.

    Answers where each has died. At the end every invariant holds.
    """
    died: dict[str, list[Failpoint]] = {name: [] for name in places}

    def armed(name: str) -> dict[str, str]:
        left = places.get(name, ())[len(died.get(name, ())) :]
        return {"SAGA_FAILPOINTS": f"{left[0]}:kill:2"} if left else {}

    def restart_the_dead() -> None:
        for name in [n for n, process in fleet.processes.items() if process.poll() is not None]:
            assert armed(name), f"{name} died by itself: {fleet.log(name).read_text()[-2000:]}"
            assert fleet.processes[name].returncode == -signal.SIGKILL
            died[name].append(places[name][len(died[name])])
            fleet.start(name, armed(name))

    try:
        fleet.prepare()
        fleet.start_all({name: armed(name) for name in places})
        for first in range(0, len(ORDERS), AT_ONCE):
            Feed(fleet.url, fleet.books).send(ORDERS[first : first + AT_ONCE], restart_the_dead)
            settle(fleet.books, restart_the_dead)
        assert [str(violation) for violation in judged(fleet.ground).violations] == []
    finally:
        fleet.stop()
    return died


def false_claims(fleet: Fleet) -> list[object]:
    """What the audit of such a run finds wrong."""
    return [finding for finding in audit(fleet.books, opening=OPENING, totals=INTAKE.totals) if not finding.holds]
