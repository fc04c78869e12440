"""A bank that moves money: held at the payer's, cleared against a limit, credited to the payee, settled. On PostgreSQL.

Its three services stand in one module, since they are a load and no example. Each has a database with the same two tables:
what its accounts hold (of fraud: what is left of their limits), and an entry for each change of one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from saga import Event, Participant, Saga, Transaction

LOCK = "SELECT account, balance FROM accounts WHERE account = ANY(%s) ORDER BY account FOR UPDATE"
POST = "UPDATE accounts SET balance = balance + %s, held = held + %s WHERE account = %s"
ENTER = "INSERT INTO entries (workflow, step, act, account, balance, held) VALUES (%s, %s, %s, %s, %s, %s)"
CLOSED = "closed"
"""Accounts named so take nothing in."""

transfer = Saga.load(Path(__file__).parent / "schemas")
payer, fraud, payee = (Participant(name, transfer) for name in ("payer", "fraud", "payee"))


class Movement(Event):
    """All events of a transfer say the same about it; `amount` is in pence."""

    payer: str
    payee: str
    amount: int


class MoneyHeld(Movement): ...


class HoldReleased(Movement): ...


class TransferCleared(Movement): ...


class LimitExceeded(Movement): ...


class LimitRestored(Movement): ...


class MoneyCredited(Movement): ...


class AccountClosed(Movement): ...


class TransferSettled(Movement): ...


Next = TypeVar("Next", bound=Movement)


def hold(teller: Participant, workflow: str, wanted: MoneyHeld, tx: Transaction) -> None:
    """Begin the transfer and hold its money, together or not at all; the same request again changes nothing.

    `teller` is the payer as the caller's process has it.
    """
    if teller.start_many({workflow: wanted}, tx):
        _post(tx, workflow, "hold", wanted.payer, balance=-wanted.amount, held=wanted.amount)


@payer.compensation(of="hold")
def release(held: MoneyHeld, tx: Transaction) -> HoldReleased:
    _post(tx, tx.workflow_id, "hold", held.payer, balance=held.amount, held=-held.amount, act="compensation")
    return _told(HoldReleased, held)


@fraud.step(batch=True)
def clear(held: list[MoneyHeld], tx: Transaction) -> list[TransferCleared | LimitExceeded]:
    """Take each amount from what is left of the payer's limit."""
    left: dict[str, int] = dict(tx.execute(LOCK, [[one.payer for one in held]]).fetchall())
    answers: list[TransferCleared | LimitExceeded] = []
    for workflow, one in zip(tx.workflow_ids, held, strict=True):
        if left[one.payer] < one.amount:
            answers.append(_told(LimitExceeded, one))
            continue
        left[one.payer] -= one.amount
        _post(tx, workflow, "clear", one.payer, balance=-one.amount)
        answers.append(_told(TransferCleared, one))
    return answers


@fraud.compensation(of=clear)
def restore(cleared: TransferCleared, tx: Transaction) -> LimitRestored:
    _post(tx, tx.workflow_id, "clear", cleared.payer, balance=cleared.amount, act="compensation")
    return _told(LimitRestored, cleared)


@payee.step
def credit(cleared: TransferCleared, tx: Transaction) -> MoneyCredited | AccountClosed:
    if cleared.payee.startswith(CLOSED):
        return _told(AccountClosed, cleared)
    _post(tx, tx.workflow_id, "credit", cleared.payee, balance=cleared.amount)
    return _told(MoneyCredited, cleared)


@payer.step
def settle(credited: MoneyCredited, tx: Transaction) -> TransferSettled:
    _post(tx, tx.workflow_id, "settle", credited.payer, held=-credited.amount)
    return _told(TransferSettled, credited)


def _post(
    tx: Transaction, workflow: str | None, step: str, account: str, *, balance: int = 0, held: int = 0, act: str = "action"
) -> None:
    tx.execute(POST, (balance, held, account))
    tx.execute(ENTER, (workflow, step, act, account, balance, held))


def _told(event: type[Next], movement: Movement) -> Next:
    return event(payer=movement.payer, payee=movement.payee, amount=movement.amount)
