"""The bank of the faults proves what it is there to prove: its audit finds money that is lost, made, stuck or moved twice."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from faults.bank.app import fraud, payee, payer, transfer
from faults.bank.audit import Entry, Ledger, audit
from faults.run import WORKLOADS
from saga.protocol.check import check

OPENING = {"payer": 100, "fraud": 50, "payee": 0}
SETTLED = [
    ("payer", Entry("t1", "hold", "action", "a", -30, 30)),
    ("fraud", Entry("t1", "clear", "action", "a", -30, 0)),
    ("payee", Entry("t1", "credit", "action", "a", 30, 0)),
    ("payer", Entry("t1", "settle", "action", "a", 0, -30)),
]
TAKEN_BACK = [
    ("payer", Entry("t2", "hold", "action", "a", -20, 20)),
    ("fraud", Entry("t2", "clear", "action", "a", -20, 0)),
    ("fraud", Entry("t2", "clear", "compensation", "a", 20, 0)),
    ("payer", Entry("t2", "hold", "compensation", "a", 20, -20)),
]


def ledgers(entries: list[tuple[str, Entry]]) -> Mapping[str, Ledger]:
    """The books of a bank in which these entries, and no others, moved what accounts hold."""
    found = {}
    for service, amount in OPENING.items():
        own = [entry for of, entry in entries if of == service]
        now = amount + sum(entry.balance for entry in own), sum(entry.held for entry in own)
        found[service] = Ledger({"a": amount}, {"a": now}, own)
    return found


def false_claims(entries: list[tuple[str, Entry]], asked: tuple[str, ...] = ("t1", "t2")) -> list[str]:
    return [finding.claim for finding in audit(ledgers(entries), asked) if not finding.holds]


MONEY, WHOLE = "money is conserved, and none is held", "every transfer is settled or taken back, wholly and once"


def test_transfers_that_were_settled_or_taken_back_are_as_they_should_be() -> None:
    assert false_claims(SETTLED + TAKEN_BACK) == []


@pytest.mark.parametrize(
    ("entries", "against"),
    [
        (SETTLED + SETTLED[2:3] + TAKEN_BACK, [MONEY, WHOLE]),  # credited twice
        (SETTLED[:3] + TAKEN_BACK, [MONEY, WHOLE]),  # credited, and still held
        (SETTLED + TAKEN_BACK[:3], [MONEY, WHOLE]),  # held for ever
        (SETTLED + TAKEN_BACK[:2] + TAKEN_BACK[3:], [WHOLE]),  # the limit is not given back
        (SETTLED, [WHOLE]),  # one of them was lost
        (SETTLED[:3] + TAKEN_BACK + [("payer", Entry("t1", "hold", "compensation", "a", 30, -30))], [MONEY, WHOLE]),
    ],
)
def test_money_that_is_lost_made_stuck_or_moved_twice_is_found(entries: list[tuple[str, Entry]], against: list[str]) -> None:
    assert false_claims(entries) == against


def test_an_account_that_is_not_what_its_entries_make_of_it_is_found() -> None:
    books = dict(ledgers(SETTLED))
    books["fraud"] = Ledger({"a": 50}, {"a": (21, 0)}, books["fraud"].entries)

    assert [f.against for f in audit(books, ["t1"]) if not f.holds] == [
        ("a of fraud has (balance, held) (21, 0), its entries come to (20, 0)",)
    ]


def test_the_contract_of_the_bank_holds_and_its_services_fit_it() -> None:
    for participant in (payer, fraud, payee):
        participant.check()

    assert check(transfer).verdict == "holds"
    assert WORKLOADS["bank"].kind.services == ("payer", "fraud", "payee")
