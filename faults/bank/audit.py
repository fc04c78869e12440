"""Whether the bank did right: reads every service's accounts and entries after a run, and trusts none of them. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from demo.audit import Finding


class Entry(NamedTuple):
    """One change of one account: what it added to the balance, and to what is held."""

    workflow: str
    step: str
    act: str
    account: str
    balance: int
    held: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """One service's books: balances at the beginning, (balance, held) of each account now, and all entries between."""

    opening: Mapping[str, int]
    accounts: Mapping[str, tuple[int, int]]
    entries: Sequence[Entry]


_BEGUN = [("payer", "hold", "action")]
_CLEARED = [*_BEGUN, ("fraud", "clear", "action")]
_RELEASED = [("payer", "hold", "compensation")]
_STORIES = (
    Counter([*_CLEARED, ("payee", "credit", "action"), ("payer", "settle", "action")]),
    Counter([*_CLEARED, ("fraud", "clear", "compensation"), *_RELEASED]),
    Counter([*_BEGUN, *_RELEASED]),
)
"""All that a transfer may leave behind: settled, taken back after it was cleared, taken back before."""


def audit(ledgers: Mapping[str, Ledger], asked: Collection[str]) -> list[Finding]:
    """All findings about the ledgers of payer, fraud and payee, when these transfers were asked for."""
    checks = {
        "money is conserved, and none is held": _money(ledgers),
        "accounts and limits are what their entries make of them": _accounts(ledgers),
        "every transfer is settled or taken back, wholly and once": _stories(ledgers, asked),
    }
    looked = f"{len(asked)} transfers, {sum(len(ledger.entries) for ledger in ledgers.values())} entries"
    found = {text: [*against] for text, against in checks.items()}
    return [Finding(text, looked, len(against), tuple(against[:5])) for text, against in found.items()]


def _money(ledgers: Mapping[str, Ledger]) -> Iterator[str]:
    before = sum(sum(ledgers[service].opening.values()) for service in ("payer", "payee"))
    now = {service: sum(balance for balance, _ in ledgers[service].accounts.values()) for service in ("payer", "payee")}
    held = sum(held for ledger in ledgers.values() for _, held in ledger.accounts.values())
    if held or before != sum(now.values()):
        yield f"{before} pence at the beginning; now {now['payer']} with payers, {now['payee']} with payees, {held} held"


def _accounts(ledgers: Mapping[str, Ledger]) -> Iterator[str]:
    for service, ledger in ledgers.items():
        expected = {account: [amount, 0] for account, amount in ledger.opening.items()}
        for entry in ledger.entries:
            expected[entry.account][0] += entry.balance
            expected[entry.account][1] += entry.held
        for account, found in ledger.accounts.items():
            if [*found] != expected[account]:
                yield f"{account} of {service} has (balance, held) {found}, its entries come to {tuple(expected[account])}"


def _stories(ledgers: Mapping[str, Ledger], asked: Collection[str]) -> Iterator[str]:
    told: dict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
    amounts: dict[str, set[int]] = defaultdict(set)
    for service, ledger in ledgers.items():
        for entry in ledger.entries:
            told[entry.workflow][service, entry.step, entry.act] += 1
            amounts[entry.workflow].add(abs(entry.balance or entry.held))
    for workflow in sorted({*asked} | told.keys()):
        if workflow not in asked or told[workflow] not in _STORIES or len(amounts[workflow]) != 1:
            found = ", ".join(f"{times} x {' '.join(effect)}" for effect, times in told[workflow].items())
            yield f"transfer {workflow}: {found or 'nothing'}; amounts {sorted(amounts[workflow])}"
