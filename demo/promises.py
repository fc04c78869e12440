"""What the protocol promises, asked of the fleet's topics and stores once everything has been acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from demo.audit import Finding
from demo.books import ROOT, SERVICES
from demo.ground import Ground
from saga import assembly
from saga.contracts.saga import Saga
from saga.replay.contracts import Contracts
from saga.settings import Settings
from saga.store.archive import Archive
from saga.testing.checker.evidence import Call, Claim, Effect, Evidence
from saga.testing.checker.judgement import Judgement, judge

CONTRACTS = ROOT / "schemas" / "checkout"
PATIENCE = 30.0
POLL = 0.2
SHOWN = 5


def promises(ground: Ground) -> list[Finding]:
    """A finding for each invariant that was judged."""
    judgement = judged(ground)
    return [
        Finding(
            f"{verdict.invariant} {verdict.invariant.sentence}",
            verdict.looked,
            verdict.violations,
            tuple(str(v) for v in judgement.violations if v.invariant is verdict.invariant)[:SHOWN],
        )
        for verdict in judgement.verdicts
        if verdict.why_not is None
    ]


def judged(
    ground: Ground,
    *,
    claims: tuple[Claim, ...] = (),
    calls: Sequence[Call] | None = None,
    effects: Iterable[Effect] | None = None,
    services: tuple[str, ...] = SERVICES,
    contracts: Path = CONTRACTS,
    patience: float = PATIENCE,
) -> Judgement:
    """The judgement over a fleet in which no workflow is open; waits for the last acknowledgments first."""
    told = ground.environment(services[0])
    settings = Settings.load(
        broker=told["SAGA_BROKER"],
        embedded="SAGA_EMBEDDED" in told,
        registry=told.get("SAGA_REGISTRY"),
        lanes=told["SAGA_LANES"],
    )
    known = Contracts([Saga.load(contracts)], assembly.registry(settings))
    with ExitStack() as stack:
        stores = {name: stack.enter_context(closing(ground.books.store(name))) for name in services}
        _await_acknowledgments(stores, patience)
        broker = assembly.broker(settings)
        return judge(Evidence.gather(known, broker, stores, claims=claims, calls=calls, effects=effects))


def _await_acknowledgments(stores: Mapping[str, Archive], patience: float) -> None:
    """Until no event waits for one; what still does after `patience` is found by the checker."""
    give_up = time.monotonic() + patience
    tomorrow = datetime(9999, 1, 1, tzinfo=UTC)
    while time.monotonic() < give_up and any(store.outstanding(tomorrow, 1) for store in stores.values()):
        time.sleep(POLL)
