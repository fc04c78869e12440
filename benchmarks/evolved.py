"""The participant that is rebuilt, in a module like a service's: each process of `saga rebuild` imports it.

BENCH_REBUILD names its saga; with BENCH_VECTORISED what its events left is written by one statement for many of them.
"""

from __future__ import annotations

import os

from benchmarks.workload import BUSINESS, Accepted, ledger, saga
from saga import Transaction

LABEL = os.environ.get("BENCH_REBUILD", "bench-rebuild")
SET_BASED = """
UPDATE accounts AS a SET events = a.events + n.count
FROM (SELECT id, count(*) FROM unnest(%s::integer[]) AS id GROUP BY id) AS n WHERE a.id = n.id
"""

bench = saga(LABEL)
participant = ledger(bench)


if os.environ.get("BENCH_VECTORISED"):

    @participant.evolve(Accepted, batch=True)
    def all_accepted_again(accepted: list[Accepted], tx: Transaction) -> None:
        tx.execute(SET_BASED, ([one.account for one in accepted],))

else:

    @participant.evolve(Accepted)
    def accepted_again(accepted: Accepted, tx: Transaction) -> None:
        tx.execute(BUSINESS, (accepted.account,))
