"""Transfers as a load: callers hold money in the payer's own database and so begin a saga, with no API between."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import psycopg

from demo.audit import Finding
from demo.books import ROOT, Standing
from demo.fleet import COMMAND
from demo.ground import Ground
from demo.real import Real, RealBooks
from faults.bank.app import CLOSED, MoneyHeld, hold, transfer
from faults.bank.audit import Entry, Ledger, audit
from faults.workload import PATIENCE, Crowd, Settings, Workload
from saga import Participant
from saga.contracts.registry import Registry
from saga.errors import LifecycleError, Overloaded, RegistryUnavailable, StoreError
from saga.store.postgres import PostgresStore
from saga.store.postgres_tables import PostgresTables
from saga.testing.checker.evidence import Call, Effect

SERVICES = ("payer", "fraud", "payee")
HERE = ROOT / "faults" / "bank"
ACCOUNTS = 20
RICH, POOR = 10_000_000, 300
"""What every account has, and every limit allows; and what the limits of two of them allow, which is soon used up."""

OPEN = "SELECT count(*) FROM saga_workflow WHERE closed IS NULL"
ENTRIES = "SELECT workflow, step, act, account, balance, held FROM entries"
BALANCES = "SELECT account, balance, held FROM accounts"


def _accounts() -> list[str]:
    return [f"{CLOSED if number >= ACCOUNTS - 2 else 'open'}-{number:02}" for number in range(ACCOUNTS)]


def opening(service: str) -> dict[str, int]:
    """Account to what is there at the beginning: of fraud, limits; the payee's side begins with nothing."""
    amount = {"payer": RICH, "fraud": RICH, "payee": 0}[service]
    found = dict.fromkeys(_accounts(), amount)
    return found | dict.fromkeys([*found][:2], POOR) if service == "fraud" else found


def _wanted(number: int) -> MoneyHeld:
    accounts = _accounts()
    return MoneyHeld(
        payer=accounts[number * 7 % ACCOUNTS], payee=accounts[number * 11 % ACCOUNTS], amount=1 + number * 37 % 100
    )


class BankBooks(RealBooks):
    """How far transfers are, by the payer's entries."""

    def standing(self) -> Standing:
        ended = Counter((entry.step, entry.act) for entry in self.ledger("payer").entries)
        begun, settled, released = ended["hold", "action"], ended["settle", "action"], ended["hold", "compensation"]
        open = {service: self.rows(service, OPEN)[0][0] for service in SERVICES}
        return Standing(placed=begun - settled - released, confirmed=settled, cancelled=released, open=open)

    def ledger(self, service: str) -> Ledger:
        accounts = {account: (balance, held) for account, balance, held in self.rows(service, BALANCES)}
        return Ledger(opening(service), accounts, [Entry(*row) for row in self.rows(service, ENTRIES)])


class BankGround(Real):
    """A database for each service, with accounts in it."""

    saga, contracts, services, kept = "transfer", "faults/bank/schemas", SERVICES, BankBooks

    def lay(self, _: Mapping[str, int]) -> None:
        for service in SERVICES:
            PostgresTables(self.books.urls[service]).upgrade()
            with psycopg.connect(self.books.urls[service]) as connection, connection.cursor() as cursor:
                cursor.execute((HERE / "tables.sql").read_bytes())
                cursor.executemany("INSERT INTO accounts (account, balance) VALUES (%s, %s)", opening(service).items())


class BankCrowd(Crowd):
    """Nothing but the three services."""

    services, beside = SERVICES, ()

    def program(self, service: str) -> list[str]:
        return [COMMAND, "run", f"faults.bank.app:{service}"]


class Bank(Workload):
    """Money is conserved, with no hold left; every limit has been used by what was settled, and by nothing else."""

    name, one, kind, crowd = "bank", "transfers", BankGround, BankCrowd
    victim = "payee"

    def __init__(self, home: Path, ground: Ground, settings: Settings) -> None:
        super().__init__(home, ground, settings)
        self._asked: list[str] = []

    @property
    def books(self) -> BankBooks:
        assert isinstance(self.fleet.books, BankBooks)
        return self.fleet.books

    @property
    def sent(self) -> int:
        return len(self._asked)

    def send(self, turns: Iterator[int]) -> None:
        teller = Participant("payer", transfer)
        teller.use(Registry(self.fleet.ground.environment("payer")["SAGA_REGISTRY"]))
        with closing(PostgresStore(self.books.urls["payer"])) as store:
            for number in turns:
                self._asked.append(f"t{number:05}")
                self._ask(teller, store, self._asked[-1], _wanted(number))

    def _ask(self, teller: Participant, store: PostgresStore, workflow: str, wanted: MoneyHeld) -> None:
        """Again until the answer is there: the same request twice is one transfer."""
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                with store.transaction() as tx:
                    return hold(teller, workflow, wanted, tx)
            except (StoreError, Overloaded, LifecycleError, RegistryUnavailable):
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.2)

    def calls(self) -> list[Call]:
        return [Call("start", workflow, "ok") for workflow in self._asked]

    def effects(self) -> Iterable[Effect]:
        return [Effect(service, *entry[:3]) for service in SERVICES for entry in self.books.ledger(service).entries]

    def findings(self) -> list[Finding]:
        return audit({service: self.books.ledger(service) for service in SERVICES}, self._asked)
