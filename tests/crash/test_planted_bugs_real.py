"""The checker and the bank's audit are only worth what they find in real runs: bugs planted in real services, each found.

What is done to the fleet is the same without the bug, and then nothing is found.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from demo.books import ROOT
from demo.feed import settle
from demo.fleet import COMMAND
from demo.promises import judged
from demo.real import PARTITIONS, real
from faults.bank.app import MoneyHeld, hold, transfer
from faults.bank.load import SERVICES, Bank, BankCrowd, BankGround
from saga import Participant
from saga.contracts.registry import Registry
from saga.contracts.topics import fact_topics
from saga.replay.entry import entry
from saga.store.postgres import PostgresStore
from saga.testing.checker.invariant import Invariant
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from tests import planted
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TRANSFERS = 24
QUIET, PATIENCE = 6.0, 60.0
"""Seconds without a move after which what is still open stays so: where something will, and where nothing should."""


class PlantedCrowd(BankCrowd):
    """Its services have the bug that their settings name."""

    def program(self, service: str) -> list[str]:
        app = "tests.crash.planted" if "PLANTED" in self.settings.get(service, {}) else "faults.bank.app"
        return [COMMAND, "run", f"{app}:{service}"]


class PlantedBank(Bank):
    """A bank that a test moves by hand."""

    crowd = PlantedCrowd

    def ask(self, payee: str) -> None:
        """Have transfers to this account begin."""
        teller, store = self.teller()
        with closing(store):
            for number in range(TRANSFERS):
                self._asked.append(f"t{number:05}")
                with store.transaction() as tx:
                    hold(teller, self._asked[-1], MoneyHeld(payer="open-05", payee=payee, amount=10), tx)

    def abort(self) -> None:
        """Have all of them wished undone."""
        teller, store = self.teller()
        with closing(store), store.transaction() as tx:
            for workflow in self._asked:
                teller.abort(workflow, tx, reason="the customer has called")

    def teller(self) -> tuple[Participant, PostgresStore]:
        if not hasattr(self, "_teller"):
            self._teller = Participant("payer", transfer)
            self._teller.use(Registry(self.fleet.ground.environment("payer")["SAGA_REGISTRY"]))
            self._teller.warm()  # else the first transaction asks the registry while PostgreSQL waits
        return self._teller, PostgresStore(self.books.urls["payer"], idle_timeout=60.0)

    def signal(self, service: str, number: signal.Signals) -> None:
        self.fleet.processes[service].send_signal(number)

    def published(self, service: str) -> int:
        """How many facts of a service are on the topics."""
        broker = KafkaBroker(KafkaSettings(self.fleet.ground.environment(service)["SAGA_BROKER"]))
        every = {Partition(topic, lane): None for topic in fact_topics("transfer") for lane in range(PARTITIONS)}
        return sum(entry(record).source == service for record in broker.read(every))

    def change(self, service: str, sql: str) -> None:
        with psycopg.connect(self.books.urls[service]) as connection:
            connection.execute(sql.encode())

    def count(self, service: str, sql: str) -> int:
        return int(self.books.rows(service, sql)[0][0])

    def found(self) -> tuple[set[Invariant], set[str]]:
        """The invariants that are violated, and the claims of the bank that are false, once nothing moves any more."""
        patience = QUIET if self.fleet.settings else PATIENCE
        settle(self.books, patience=patience)
        judgement = judged(
            self.fleet.ground, calls=self.calls(), effects=self.effects(), services=SERVICES,
            contracts=ROOT / BankGround.contracts, patience=patience,
        )  # fmt: skip
        return {v.invariant for v in judgement.violations}, {f.claim for f in self.findings() if not f.holds}


Begin = Callable[..., PlantedBank]


@pytest.fixture
def begin(kafka: str, postgres: str, registry: str, tmp_path: Path) -> Iterator[Begin]:
    """Starts the bank with a bug in some services, and with `armed` additions to their first environment."""
    banks: list[PlantedBank] = []
    servers = {"kafka": kafka, "postgres": postgres, "registry": registry}
    with real(tmp_path, servers, print, BankGround) as ground:

        def begin(bug: str | None, *services: str, armed: dict[str, dict[str, str]] | None = None) -> PlantedBank:
            banks.append(PlantedBank(tmp_path, ground, {name: {"PLANTED": bug} for name in services if bug}))
            banks[0].fleet.prepare()
            banks[0].fleet.start_all(armed)
            return banks[0]

        yield begin
        for bank in banks:
            bank.fleet.stop()


@pytest.mark.parametrize("bug", [None, "inbox_before_handler"])
def test_an_inbox_that_is_recorded_before_the_handler_runs_loses_what_a_crash_falls_into(begin: Begin, bug: str | None) -> None:
    dies = {"PLANTED_DIES": "clear"} if bug else {"SAGA_FAILPOINTS": "unit.committed:kill:4"}
    bank = begin(bug, "payee", armed={"payee": dies})

    bank.ask("open-07")
    bank.fleet.wait_dead("payee")
    bank.fleet.restart("payee")
    violated, false = bank.found()

    assert (Invariant.ENDED in violated) is bool(bug), violated
    assert bool(false) is bool(bug)


@pytest.mark.parametrize("bug", [None, "pivot_ignored"])
def test_a_pivot_that_does_not_decide_leaves_money_on_both_sides(begin: Begin, bug: str | None) -> None:
    """The payee publishes late what it has committed, so that a wish to abort is heard before the credit is."""
    bank = begin(bug, *SERVICES, armed={"payee": {"SAGA_FAILPOINTS": "unit.committed:delay=2"}})

    bank.ask("open-07")
    until(lambda: bank.count("payee", "SELECT count(*) FROM entries"), what="the first to be credited")
    bank.abort()
    violated, false = bank.found()

    assert (Invariant.ENDED in violated) is bool(bug), violated
    assert ("money is conserved, and none is held" in false) is bool(bug), false


@pytest.mark.parametrize("bug", [None, "sequence_outside_the_lock"])
def test_a_sequence_number_that_is_taken_outside_the_lock_is_given_out_twice(
    begin: Begin, bug: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bug:
        planted.sequence_outside_the_lock(monkeypatch)
    """Without the key of the outbox, which would refuse it while the first fact of that number is not handled."""
    bank = begin(bug, "payer")
    bank.change("payer", "ALTER TABLE saga_outbox DROP CONSTRAINT saga_outbox_pkey")

    bank.signal("payee", signal.SIGSTOP)
    bank.ask("closed-18")
    until(lambda: bank.published("fraud") == TRANSFERS, what="all to be cleared")
    bank.signal("fraud", signal.SIGSTOP)
    bank.signal("payee", signal.SIGCONT)
    failed = "SELECT count(*) FROM saga_inbox WHERE status = 'failed'"
    until(lambda: bank.count("payer", failed) == TRANSFERS, what="the payer to hear that no account is open")
    bank.abort()
    bank.signal("fraud", signal.SIGCONT)
    violated, _ = bank.found()

    assert (Invariant.ORDER in violated) is bool(bug), violated
