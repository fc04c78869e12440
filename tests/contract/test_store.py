"""What every store must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saga.errors import DefinitionError, LaneFenced, LifecycleError, PartitionCountChanged, StoreError
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.store.archive import Left, Search
from saga.store.outbox import OutboxRow, Published, Waiting
from saga.store.port import Changes, Transaction, Unit
from saga.store.workflow import Fence, Intervention, Received, Workflow
from tests.contract.conftest import ArchivedStore, Database
from tests.waiting import until

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(microseconds=1)


def workflow(id_: str = "w1", **fields: Any) -> Workflow:
    return Workflow(**{"id": id_, "version": 1, "lane": 0, "opened": NOW, **fields})


def fence(step: str = "reserve", status: StepStatus = StepStatus.DONE, **fields: Any) -> Fence:
    return Fence(step=step, status=status, **fields)


def received(id_: str = "e1", **fields: Any) -> Received:
    return Received(**{"id": id_, "step": "place", "status": FactStatus.DONE, "type": "checkout.OrderPlaced", **fields})


def outbox(workflow_id: str, sequence: int, *, lane: int = 0, saga: str = "checkout", id_: str | None = None) -> OutboxRow:
    return OutboxRow(
        id=id_ or f"{saga}/{workflow_id}/{sequence}",
        saga=saga,
        lane=lane,
        topic=f"{saga}.events",
        workflow_id=workflow_id,
        type="checkout.StockReserved",
        sequence=sequence,
        headers=[("ce_id", "e1"), ("ce_subject", "Bestellung Ü"), ("ce_id", "again")],
        payload=b"\x00\x00\x00\x00\x01\xff",
        created=LATER,
    )


def full_workflow(id_: str) -> Workflow:
    return workflow(
        id_,
        version=3,
        lane=2,
        status=WorkflowStatus.FAILED,
        sequence=7,
        deadline=LATER,
        gates='{"express": true}',
        error="carrier unknown",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        tracestate="vendor=1",
        exceptions=frozenset({"reserve", "authorise"}),
        interventions=(
            Intervention("retry", "reserve", None, None, "alice", NOW),
            Intervention("resolve", "reserve", "checkout.StockReleased", "put back: »nein«", "böb", LATER),
        ),
        unwind_by=LATER,
        fences={
            "reserve": fence(
                event="checkout.StockReserved",
                result=b"\x00\xff",
                pending=True,
                refused=True,
                attempt=4,
                due=LATER,
                error="timeout",
                changed=NOW,
                expires=LATER,
            ),
            "label": fence("label", StepStatus.SKIPPED),
        },
        inbox={
            "e1": received(
                payload=b"\x00\x01",
                state="recorded",
                cause="e0",
                traceparent="00-1",
                tracestate="vendor=2",
                topic="checkout.events",
                partition=2,
                offset=41,
                received=LATER,
            ),
            "e2": received("e2", status=FactStatus.ABORT, step=""),
        },
    )


def changes_of(*workflows: Workflow, outbox: Sequence[OutboxRow] = ()) -> Changes:
    return Changes(
        workflows=list(workflows),
        fences=[(w.id, f) for w in workflows for f in w.fences.values()],
        inbox=[(w.id, r) for w in workflows for r in w.inbox.values()],
        outbox=list(outbox),
    )


def save(store: ArchivedStore, changes: Changes, saga: str = "checkout") -> None:
    with store.unit() as unit:
        unit.save(saga, changes)


def load(store: ArchivedStore, *ids: str, saga: str = "checkout") -> dict[str, Workflow]:
    with store.unit() as unit:
        return unit.load(saga, ids)


def shelf(store: ArchivedStore) -> list[tuple[str, int]]:
    with store.transaction() as tx:
        return [tuple(row) for row in tx.execute("SELECT sku, pieces FROM shelf ORDER BY sku").fetchall()]


def ids(rows: Sequence[OutboxRow]) -> list[tuple[str, int]]:
    return [(row.workflow_id, row.sequence) for row in rows]


# --- transactions


def test_business_rows_and_engine_rows_are_committed_together(store: ArchivedStore) -> None:
    with store.unit() as unit:
        unit.execute("INSERT INTO shelf VALUES ('tea', 3)")
        unit.save("checkout", changes_of(workflow("w1"), outbox=[outbox("w1", 1)]))

    assert shelf(store) == [("tea", 3)]
    assert ids(store.pending("checkout", 0, 10)) == [("w1", 1)]


def test_an_exception_takes_business_rows_and_engine_rows_back(store: ArchivedStore) -> None:
    lane = store.claim("checkout", 0, 4)
    save(store, changes_of(full_workflow("w1"), outbox=[outbox("w1", 1)]))

    def fail_at_the_end() -> None:
        with store.unit() as unit:
            unit.execute("INSERT INTO shelf VALUES ('tea', 3)")
            unit.save("checkout", Changes(closed=[workflow("w1", closed=NOW)], outbox=[outbox("w1", 2)]))
            unit.mark([Published("checkout", "w1", 1, 5)])
            unit.advance(replace(lane, batch=9))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_at_the_end()

    assert shelf(store) == []
    assert load(store, "w1") == {"w1": replace(full_workflow("w1"), unpublished={"checkout/w1/1"})}
    assert ids(store.pending("checkout", 0, 10)) == [("w1", 1)]
    assert store.claim("checkout", 0, 4).batch == 0


def test_a_statement_of_a_handler_fails_with_the_drivers_own_error(database: Database) -> None:
    with database.store.transaction() as tx:
        tx.execute("INSERT INTO shelf VALUES ('tea', 3)")

    with pytest.raises(database.integrity_error), database.store.transaction() as tx:
        tx.execute("INSERT INTO shelf VALUES ('tea', 4)")

    assert shelf(database.store) == [("tea", 3)]


def test_the_handlers_statement_is_to_blame_for_what_it_broke(database: Database) -> None:
    with pytest.raises(database.integrity_error) as failure, database.store.transaction() as tx:
        tx.execute("INSERT INTO shelf VALUES ('tea', NULL)")

    with database.store.unit() as unit:
        assert unit.technical(failure.value) is None
        assert unit.technical(ValueError("out of tea")) is None


def test_results_tell_rows_and_their_number(store: ArchivedStore) -> None:
    with store.transaction() as tx:
        inserted = tx.execute("INSERT INTO shelf VALUES ('tea', 3), ('rice', 1)").rowcount
        one = tx.execute("SELECT pieces FROM shelf WHERE sku = 'tea'").fetchone()
        none = tx.execute("SELECT pieces FROM shelf WHERE sku = 'salt'").fetchone()

    assert (inserted, tuple(one), none) == (2, (3,), None)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("eager", [False, True])
def test_a_transaction_that_a_handler_ended_leaves_nothing_of_the_engine(store: ArchivedStore, end: str, eager: bool) -> None:
    def interrupted() -> None:
        with store.unit(eager=eager) as unit:
            unit.load("checkout", ["w1"])
            unit.execute(end)
            unit.save("checkout", Changes(workflows=[workflow()], outbox=[outbox("w1", 1)]))

    with pytest.raises(StoreError, match="must not commit or roll back"):
        interrupted()

    assert list(store.find("w1")) == []
    assert store.pending("checkout", 0, 10) == []


def test_a_transaction_inside_another_of_the_same_thread_is_refused(store: ArchivedStore) -> None:
    with store.transaction() as tx:
        tx.execute("INSERT INTO shelf VALUES ('tea', 3)")
        with pytest.raises(LifecycleError), store.transaction():
            pass
        with pytest.raises(LifecycleError):
            store.pending("checkout", 0, 1)
        with pytest.raises(LifecycleError):
            store.claim("checkout", 0, 1)

    assert shelf(store) == [("tea", 3)]


def test_an_ended_transaction_refuses_statements(store: ArchivedStore) -> None:
    with store.transaction() as tx:
        pass

    with pytest.raises(LifecycleError):
        tx.execute("INSERT INTO shelf VALUES ('tea', 3)")


def test_a_transaction_that_a_handler_committed_is_not_taken_for_a_success(store: ArchivedStore) -> None:
    with pytest.raises(StoreError, match="must not commit"), store.transaction() as tx:
        tx.execute("COMMIT")


def test_transactions_are_what_their_ports_say(store: ArchivedStore) -> None:
    with store.transaction() as tx:
        assert isinstance(tx, Transaction)
        assert tx.workflow_id is None
    with store.unit() as unit:
        assert isinstance(unit, Unit)


def test_a_closed_store_refuses(store: ArchivedStore) -> None:
    store.close()

    with pytest.raises(LifecycleError), store.transaction():
        pass
    with pytest.raises(LifecycleError):
        store.pending("checkout", 0, 1)


# --- workflows


@pytest.mark.parametrize("known", [workflow("w1"), full_workflow("w1")], ids=["least", "full"])
def test_a_saved_workflow_is_loaded_field_by_field(store: ArchivedStore, known: Workflow) -> None:
    save(store, changes_of(known))

    assert load(store, "w1") == {"w1": known}


@pytest.mark.parametrize("status", list(StepStatus))
def test_every_status_of_a_step_survives(store: ArchivedStore, status: StepStatus) -> None:
    save(store, changes_of(workflow("w1", fences={"reserve": fence(status=status)})))

    assert load(store, "w1")["w1"].fences["reserve"].status is status


@pytest.mark.parametrize("status", list(FactStatus))
def test_every_status_of_a_fact_survives(store: ArchivedStore, status: FactStatus) -> None:
    save(store, changes_of(workflow("w1", inbox={"e1": received(status=status)})))

    assert load(store, "w1")["w1"].inbox["e1"].status is status


def test_moments_of_other_time_zones_are_loaded_as_the_same_moment(store: ArchivedStore) -> None:
    there = NOW.astimezone(datetime.strptime("+0530", "%z").tzinfo)

    save(store, changes_of(workflow("w1", deadline=there)))

    assert load(store, "w1")["w1"].deadline == NOW


def test_unknown_workflows_are_absent(store: ArchivedStore) -> None:
    save(store, changes_of(workflow("w1")))

    assert list(load(store, "w1", "w2")) == ["w1"]
    assert load(store) == {}


def test_many_workflows_are_loaded_each_with_its_own_rows(store: ArchivedStore) -> None:
    many = [full_workflow(f"w{n}") for n in range(1500)]
    save(store, changes_of(*many))

    assert load(store, *(w.id for w in many)) == {w.id: w for w in many}


def test_two_sagas_may_use_the_same_workflow_id(store: ArchivedStore) -> None:
    save(store, changes_of(full_workflow("w1"), outbox=[outbox("w1", 1)]))
    save(store, changes_of(workflow("w1", sequence=1), outbox=[outbox("w1", 1, saga="returns")]), saga="returns")

    assert load(store, "w1", saga="returns") == {"w1": workflow("w1", sequence=1, unpublished={"returns/w1/1"})}
    assert load(store, "w1") == {"w1": replace(full_workflow("w1"), unpublished={"checkout/w1/1"})}


def test_rows_saved_again_replace_the_old_ones_and_leave_the_others(store: ArchivedStore) -> None:
    save(store, changes_of(full_workflow("w1"), full_workflow("w2")))
    before = load(store, "w1", "w2")

    now_done = fence("label", StepStatus.DONE, attempt=1)
    handled = received(state="handled")
    save(
        store,
        Changes(workflows=[replace(before["w1"], sequence=8)], fences=[("w1", now_done)], inbox=[("w1", handled)]),
    )

    after = load(store, "w1", "w2")
    assert after["w1"].sequence == 8
    assert after["w1"].fences == before["w1"].fences | {"label": now_done}
    assert after["w1"].inbox == before["w1"].inbox | {"e1": handled}
    assert after["w2"] == before["w2"]


def test_what_is_done_to_a_loaded_workflow_stays_with_the_reader(store: ArchivedStore) -> None:
    save(store, changes_of(full_workflow("w1")))

    mine = load(store, "w1")["w1"]
    mine.sequence = 99
    mine.fences["reserve"].status = StepStatus.COMPENSATED
    mine.inbox.clear()

    assert load(store, "w1") == {"w1": full_workflow("w1")}


def test_what_is_saved_is_loaded_in_the_same_transaction(store: ArchivedStore) -> None:
    with store.unit() as unit:
        unit.save("checkout", changes_of(full_workflow("w1"), outbox=[outbox("w1", 1)]))

        assert unit.load("checkout", ["w1"]) == {"w1": replace(full_workflow("w1"), unpublished={"checkout/w1/1"})}


def test_a_closed_workflow_keeps_statuses_and_nothing_else(store: ArchivedStore) -> None:
    save(store, changes_of(full_workflow("w1"), full_workflow("w2"), outbox=[outbox("w1", 1)]))
    ended = replace(load(store, "w1")["w1"], status=WorkflowStatus.COMPLETED, closed=LATER)

    save(store, Changes(closed=[ended], fences=[("w1", fence("confirm"))], inbox=[("w1", received("e9"))]))

    statuses = {"reserve": fence(refused=True), "label": fence("label", StepStatus.SKIPPED)}
    assert load(store, "w1") == {"w1": replace(ended, fences=statuses, inbox={})}
    assert load(store, "w2") == {"w2": full_workflow("w2")}


def test_what_had_ended_when_it_was_first_heard_of_is_kept_to_the_letter(store: ArchivedStore) -> None:
    odd = 'a\\b\tc\nd\re{f}\\N "ü"'
    plain, full = workflow("w1", closed=NOW), replace(full_workflow(odd), closed=LATER, error=odd, tracestate="\\N")
    ended = [plain, full, workflow("w3", closed=NOW, status=WorkflowStatus.COMPLETED, fences=full.fences)]

    save(store, Changes(workflows=[workflow("w0")], ended=ended))
    save(store, Changes(ended=[replace(full, id="alone")]))

    statuses = {"reserve": fence(refused=True), "label": fence("label", StepStatus.SKIPPED)}
    folded = {"w1": plain, odd: replace(full, fences=statuses, inbox={}), "w3": replace(ended[2], fences=statuses)}
    assert load(store, "w0", *folded) == {"w0": workflow("w0"), **folded}
    assert load(store, "alone") == {"alone": replace(folded[odd], id="alone")}


def test_a_closed_workflow_saved_again_stays_folded(store: ArchivedStore) -> None:
    save(store, Changes(closed=[workflow("w1", closed=NOW, fences={"dispatch": fence("dispatch")})]))
    known = load(store, "w1")["w1"]
    known.fences["dispatch"].refused = True
    known.sequence = 4

    save(store, changes_of(known, outbox=[outbox("w1", 4)]))

    assert load(store, "w1") == {"w1": replace(known, unpublished={"checkout/w1/4"})}


def test_folding_a_workflow_that_is_open_is_refused(store: ArchivedStore) -> None:
    with pytest.raises(StoreError):
        save(store, Changes(closed=[workflow("w1")]))

    assert load(store, "w1") == {}


def test_timeouts_expire_by_lane_and_version_and_deadlines_where_they_are_asked_for_and_not_seen_to(
    store: ArchivedStore,
) -> None:
    def timed(id_: str, lane: int, expires: datetime) -> Workflow:
        return workflow(id_, lane=lane, fences={"reserve": fence(status=StepStatus.RUNNING, expires=expires)})

    second = timedelta(seconds=1)
    ready, waiting = timed("timeout", 0, NOW), [timed("early", 0, NOW + 9 * second), timed("elsewhere", 2, NOW)]
    late = workflow("late", deadline=NOW - second)
    others = [replace(timed("unknown", 0, NOW), version=2), workflow("others", version=3, deadline=NOW)]
    seen_to = [workflow("told", deadline=NOW, error="it passed"), workflow("fine", deadline=NOW + 9 * second)]
    save(store, changes_of(ready, *waiting, late, *others, *seen_to))
    save(store, Changes(closed=[workflow("closed", deadline=NOW, closed=NOW)]))

    with store.unit() as unit:
        without = unit.expired("checkout", [0, 1], [1, 3], NOW + second, 10, deadlines=[])
        both = unit.expired("checkout", [0, 1], [1, 3], NOW + second, 10, deadlines=[1])
        one = unit.expired("checkout", [0, 1], [1], NOW + second, 1, deadlines=[1])

    assert [tuple(row) for row in without] == [(0, "timeout")]
    assert [tuple(row) for row in both] == [(0, "late"), (0, "timeout")]
    assert [tuple(row) for row in one] == [(0, "late")]


def test_alarms_about_an_unwinding_go_off_where_deadlines_are_asked_for(store: ArchivedStore) -> None:
    due = [workflow("second", unwind_by=NOW), workflow("first", unwind_by=NOW - timedelta(seconds=1), error="it passed")]
    save(store, changes_of(*due, workflow("early", unwind_by=LATER), workflow("elsewhere", lane=2, unwind_by=NOW)))
    save(store, Changes(closed=[workflow("closed", unwind_by=NOW, closed=NOW)]))

    with store.unit() as unit:
        without = unit.expired("checkout", [0], [1], NOW, 10, deadlines=[])
        with_alarms = unit.expired("checkout", [0], [1], NOW, 10, deadlines=[1])

    assert without == []
    assert [tuple(row) for row in with_alarms] == [(0, "first"), (0, "second")]


def test_the_backlog_counts_what_is_not_published_and_no_further_than_asked(store: ArchivedStore) -> None:
    rows = [outbox("w1", number) for number in range(1, 4)]
    save(store, changes_of(workflow("w1"), outbox=[*rows, outbox("w1", 1, saga="other")]))

    with store.unit() as unit:
        before = unit.backlog("checkout", 10), unit.backlog("checkout", 2), unit.backlog("nothing", 10)
        unit.mark([Published("checkout", "w1", 1, 7)])
        after = unit.backlog("checkout", 10)

    assert (before, after) == ((3, 2, 0), 2)


def test_what_waits_to_be_published_is_counted_by_lane_with_its_oldest_row(store: ArchivedStore) -> None:
    old, young = outbox("w1", 1)._replace(created=NOW), outbox("w1", 2)
    save(store, changes_of(workflow("w1"), outbox=[young, old, outbox("w1", 3, saga="other")]))
    save(store, changes_of(workflow("w2", lane=1), outbox=[outbox("w2", 1, lane=1)]))

    with store.unit() as unit:
        before = unit.waiting("checkout")
        unit.mark([Published("checkout", "w1", 1, 7), Published("checkout", "w2", 1, 8)])
        after = unit.waiting("checkout")

    assert before == {0: Waiting(2, NOW), 1: Waiting(1, LATER)}
    assert after == {0: Waiting(1, LATER)}


def test_parked_workflows_are_counted_once_each_and_no_further_than_asked(store: ArchivedStore) -> None:
    parked = {"reserve": fence(error="no"), "label": fence("label", error="neither")}
    save(store, changes_of(*(workflow(f"w{n}", fences=parked) for n in range(3)), workflow("fine", fences={"a": fence("a")})))
    save(store, Changes(closed=[workflow("w2", closed=NOW, fences={"reserve": fence()})]))

    with store.unit() as unit:
        found = [unit.count_parked("checkout", limit) for limit in (10, 1)], unit.count_parked("nothing", 10)

    assert found == ([2, 1], 0)


def test_parked_workflows_are_due_by_lane_version_and_time_the_longest_waiting_first(store: ArchivedStore) -> None:
    def parked(id_: str, lane: int, due: datetime | None) -> Workflow:
        return workflow(id_, lane=lane, fences={"reserve": fence(status=StepStatus.IDLE, attempt=2, due=due, error="no")})

    ready = [parked("later", 0, NOW + timedelta(seconds=1)), parked("now", 0, NOW), parked("twin", 1, NOW)]
    waiting = [parked("early", 0, NOW + timedelta(seconds=5)), parked("operator", 0, None), parked("elsewhere", 2, NOW)]
    unknown = replace(parked("unknown", 0, NOW), version=2)
    save(store, changes_of(*ready, *waiting, unknown))

    with store.unit() as unit:
        due = unit.due("checkout", [0, 1], [1], NOW + timedelta(seconds=1), 10)
        first = unit.due("checkout", [0], [1], NOW + timedelta(seconds=1), 1)
        nothing = unit.due("other", [0, 1], [1], NOW + timedelta(seconds=1), 10)

    assert sorted(map(tuple, due)) == [(0, "later"), (0, "now"), (1, "twin")]
    assert [tuple(row) for row in first] == [(0, "now")]
    assert nothing == []


def test_running_workflows_are_listed_oldest_first(store: ArchivedStore) -> None:
    busy = [
        workflow("young", opened=LATER, fences={"reserve": fence(status=StepStatus.RUNNING)}),
        workflow("old", fences={"reserve": fence(), "label": fence("label", StepStatus.COMPENSATING)}),
        workflow("both", fences={"a": fence("a", StepStatus.RUNNING), "b": fence("b", StepStatus.RUNNING)}),
    ]
    idle = workflow("idle", fences={"a": fence("a"), "b": fence("b", StepStatus.STUCK)})
    elsewhere = workflow("elsewhere", lane=1, fences={"reserve": fence(status=StepStatus.RUNNING)})
    save(store, changes_of(*busy, idle, elsewhere))
    save(store, changes_of(busy[0]), saga="returns")
    save(store, Changes(closed=[workflow("closed", closed=NOW, fences={"r": fence("r", StepStatus.RUNNING)})]))

    with store.unit() as unit:
        running = unit.running("checkout", 0)

    assert running == ["both", "old", "young"]


# --- outbox


def test_pending_rows_come_by_workflow_and_sequence_as_they_were_saved(store: ArchivedStore) -> None:
    rows = [outbox("w2", 1), outbox("w1", 10), outbox("w1", 9), outbox("w3", 1)]
    save(store, changes_of(workflow("w1"), workflow("w2"), workflow("w3"), outbox=rows))

    assert store.pending("checkout", 0, 10) == [rows[2], rows[1], rows[0], rows[3]]


def test_rows_that_are_known_are_not_pending(store: ArchivedStore) -> None:
    rows = [outbox("w1", 1), outbox("w1", 2), outbox("w2", 1), outbox("w3", 1)]
    save(store, changes_of(workflow("w1"), workflow("w2"), workflow("w3"), outbox=rows))

    assert store.pending("checkout", 0, 2, known=[rows[0].id, rows[2].id, "of nobody"]) == [rows[1], rows[3]]
    assert store.pending("checkout", 0, 1, known=[rows[0].id]) == [rows[1]]


def test_pending_rows_end_with_the_one_that_reaches_so_many_bytes(store: ArchivedStore) -> None:
    rows = [outbox("w1", n)._replace(payload=bytes(100 * n)) for n in range(1, 5)]
    save(store, changes_of(workflow("w1"), outbox=rows))

    assert ids(store.pending("checkout", 0, 10, most_bytes=1)) == [("w1", 1)]
    assert ids(store.pending("checkout", 0, 10, most_bytes=100)) == [("w1", 1)]
    assert ids(store.pending("checkout", 0, 10, most_bytes=301)) == [("w1", 1), ("w1", 2), ("w1", 3)]
    assert store.pending("checkout", 0, 10, known=[rows[0].id], most_bytes=300) == rows[1:3]
    assert ids(store.pending("checkout", 0, 2, most_bytes=10_000)) == [("w1", 1), ("w1", 2)]


def test_pending_rows_are_those_of_one_lane_of_one_saga(store: ArchivedStore) -> None:
    save(store, changes_of(workflow("w1"), workflow("w2", lane=1), outbox=[outbox("w1", 1), outbox("w2", 1, lane=1)]))
    save(store, changes_of(workflow("w1"), outbox=[outbox("w1", 1, saga="returns")]), saga="returns")

    assert [row.id for row in store.pending("checkout", 1, 10)] == ["checkout/w2/1"]
    assert [row.id for row in store.pending("returns", 0, 10)] == ["returns/w1/1"]


@pytest.mark.parametrize("limit", range(1, 7))
def test_a_limit_never_skips_a_row_of_a_workflow(store: ArchivedStore, limit: int) -> None:
    rows = [outbox(w, sequence) for sequence in (1, 2, 3) for w in ("w2", "w1")]
    save(store, changes_of(workflow("w1"), workflow("w2"), outbox=rows))

    got = ids(store.pending("checkout", 0, limit))

    assert got == [("w1", 1), ("w1", 2), ("w1", 3), ("w2", 1), ("w2", 2), ("w2", 3)][:limit]


def test_published_rows_are_neither_pending_nor_unpublished(store: ArchivedStore) -> None:
    save(store, changes_of(workflow("w1"), outbox=[outbox("w1", 1), outbox("w1", 2), outbox("w1", 3)]))

    with store.unit() as unit:
        unit.mark([Published("checkout", "w1", 1, 17), Published("checkout", "w1", 2, 18)])
        unit.mark([])

    assert ids(store.pending("checkout", 0, 10)) == [("w1", 3)]
    assert load(store, "w1")["w1"].unpublished == {"checkout/w1/3"}


def test_a_sequence_is_given_to_one_event_only(store: ArchivedStore) -> None:
    save(store, changes_of(workflow("w1"), outbox=[outbox("w1", 1)]))

    with pytest.raises(StoreError):
        save(store, Changes(outbox=[outbox("w1", 1, id_="another")]))

    assert [row.id for row in store.pending("checkout", 0, 10)] == ["checkout/w1/1"]


def test_a_write_of_another_thread_wakes_and_none_does_not(store: ArchivedStore) -> None:
    store.woken()
    quiet = store.woken()

    with ThreadPoolExecutor(1) as other:
        other.submit(save, store, changes_of(workflow("w1"), outbox=[outbox("w1", 1)])).result()

    assert not quiet
    until(store.woken, what="the wake, which PostgreSQL delivers in its own time")
    assert not store.woken()


def test_every_thread_is_woken(store: ArchivedStore) -> None:
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two, ThreadPoolExecutor(1) as writer:
        for lane in (one, two):
            lane.submit(store.woken).result()

        writer.submit(save, store, changes_of(workflow("w1"), outbox=[outbox("w1", 1)])).result()

        for lane in (one, two):
            until(lambda lane=lane: lane.submit(store.woken).result(), what="the thread to be woken")  # type: ignore[misc]


# --- lanes


def test_the_partition_count_is_recorded_by_the_first_claim(store: ArchivedStore) -> None:
    with store.unit() as unit:
        before = unit.partitions("checkout")

    store.claim("checkout", 0, 12)

    with store.unit() as unit:
        assert (before, unit.partitions("checkout"), unit.partitions("returns")) == (None, 12, None)


def test_another_partition_count_is_refused_and_changes_nothing(store: ArchivedStore) -> None:
    lane = store.claim("checkout", 0, 12)

    with pytest.raises(PartitionCountChanged, match="13 partitions, but this store recorded 12"):
        store.claim("checkout", 0, 13)

    with store.unit() as unit:
        unit.advance(lane)
        assert unit.partitions("checkout") == 12


def test_a_claim_raises_the_epoch_and_finds_what_was_advanced(store: ArchivedStore) -> None:
    first = store.claim("checkout", 0, 4)
    first.offsets |= {"checkout.events": 7, "checkout.compensations": 0}
    first.batch = 3
    with store.unit() as unit:
        unit.advance(first)

    second = store.claim("checkout", 0, 4)

    assert (second.saga, second.number, second.batch) == ("checkout", 0, 3)
    assert second.epoch > first.epoch
    assert second.offsets == {"checkout.events": 7, "checkout.compensations": 0}


def test_a_lane_is_clean_at_first_and_after_release_only(store: ArchivedStore) -> None:
    first = store.claim("checkout", 0, 4)
    taken_over = store.claim("checkout", 0, 4)
    with store.unit() as unit:
        unit.advance(taken_over)
    store.release(taken_over)
    after_release = store.claim("checkout", 0, 4)

    assert [lane.clean for lane in (first, taken_over, after_release)] == [True, False, True]


def test_a_former_owner_cannot_release_the_lane(store: ArchivedStore) -> None:
    former = store.claim("checkout", 0, 4)
    store.claim("checkout", 0, 4)

    store.release(former)

    assert not store.claim("checkout", 0, 4).clean


def test_a_former_owner_commits_nothing(store: ArchivedStore) -> None:
    former = store.claim("checkout", 0, 4)
    owner = store.claim("checkout", 0, 4)

    def go_on_as_if_nothing_happened() -> None:
        with store.unit() as unit:
            unit.save("checkout", changes_of(workflow("w1"), outbox=[outbox("w1", 1)]))
            unit.advance(replace(former, batch=1, offsets={"checkout.events": 5}))

    with pytest.raises(LaneFenced):
        go_on_as_if_nothing_happened()

    with store.unit() as unit:
        unit.advance(owner)
    assert load(store, "w1") == {}
    assert store.claim("checkout", 0, 4).offsets == {}


def test_an_owner_whose_transactions_were_lost_commits_nothing(store: ArchivedStore) -> None:
    lane = replace(store.claim("checkout", 0, 4), batch=1)
    with store.unit() as unit:
        unit.advance(lane)
        store_has = unit.batches("checkout")
    lost = replace(lane, batch=4, committed=3)  # as if this were a replica that has only the first of three

    def go_on_as_if_nothing_happened() -> None:
        with store.unit() as unit:
            unit.save("checkout", changes_of(workflow("w1"), outbox=[outbox("w1", 1)]))
            unit.advance(lost)

    with pytest.raises(LaneFenced):
        go_on_as_if_nothing_happened()

    with store.unit() as unit:
        assert unit.batches("checkout") == store_has == {0: (lane.epoch, 1)}
    assert (lane.is_kept(lane.epoch, 1), lost.is_kept(lane.epoch, 1), lane.is_kept(lane.epoch + 1, 1)) == (True, False, False)
    assert load(store, "w1") == {}
    assert store.claim("checkout", 0, 4).committed == 1


def test_a_lane_of_which_something_may_be_lost_is_not_left_clean(store: ArchivedStore) -> None:
    lane = store.claim("checkout", 0, 4)

    store.release(replace(lane, committed=3))
    behind = store.claim("checkout", 0, 4)
    store.release(replace(behind, timeline="that of a server that is gone"))
    replaced = store.claim("checkout", 0, 4)
    store.release(replaced)

    assert not behind.clean
    assert replaced.clean is (replaced.timeline is None)
    assert store.claim("checkout", 0, 4).clean


def test_whether_a_unit_was_committed_can_be_asked_of_its_owner_only(store: ArchivedStore) -> None:
    lane = replace(store.claim("checkout", 0, 4), batch=1)
    before = store.committed(lane)
    with store.unit() as unit:
        unit.advance(lane)
    after, ahead = store.committed(lane), store.committed(replace(lane, batch=2))
    store.claim("checkout", 0, 4)

    assert (before, after, ahead, store.committed(lane)) == (False, True, False, False)


def test_what_was_begun_is_known_to_the_next_owner_until_a_lane_is_released(store: ArchivedStore) -> None:
    owner = store.claim("checkout", 0, 4)
    with store.unit() as unit:
        unit.count(replace(owner, trials={"checkout.events@7": 2}))

    successor = store.claim("checkout", 0, 4)
    store.release(successor)

    assert (owner.trials, successor.trials) == ({}, {"checkout.events@7": 2})
    assert store.claim("checkout", 0, 4).trials == {}


def test_a_former_owner_counts_nothing(store: ArchivedStore) -> None:
    former = store.claim("checkout", 0, 4)
    store.claim("checkout", 0, 4)

    def begin() -> None:
        with store.unit() as unit:
            unit.count(replace(former, trials={"checkout.events@7": 1}))

    with pytest.raises(LaneFenced):
        begin()
    assert store.claim("checkout", 0, 4).trials == {}


def test_lanes_are_owned_one_by_one(store: ArchivedStore) -> None:
    lane = store.claim("checkout", 0, 4)
    store.claim("checkout", 1, 4)
    store.claim("returns", 0, 1)

    with store.unit() as unit:
        unit.advance(replace(lane, batch=1))

    assert (store.claim("checkout", 0, 4).batch, store.claim("checkout", 1, 4).batch) == (1, 0)


# --- joining the caller's transaction


def test_a_joined_transaction_is_visible_once_its_caller_commits(database: Database) -> None:
    store, caller = database.store, database.connection

    caller.execute(database.begin)
    caller.execute("INSERT INTO shelf VALUES ('tea', 3)")
    unit = store.join(caller)
    unit.save("checkout", changes_of(full_workflow("w1"), outbox=[outbox("w1", 1)]))
    before = store.pending("checkout", 0, 10)
    caller.execute("COMMIT")

    assert before == []
    assert ids(store.pending("checkout", 0, 10)) == [("w1", 1)]
    assert load(store, "w1") == {"w1": replace(full_workflow("w1"), unpublished={"checkout/w1/1"})}
    assert shelf(store) == [("tea", 3)]


def test_a_joined_transaction_leaves_nothing_when_its_caller_rolls_back(database: Database) -> None:
    store, caller = database.store, database.connection

    caller.execute(database.begin)
    unit = store.join(caller)
    unit.execute("INSERT INTO shelf VALUES ('tea', 3)")
    unit.save("checkout", changes_of(full_workflow("w1"), outbox=[outbox("w1", 1)]))
    caller.execute("ROLLBACK")

    assert (store.pending("checkout", 0, 10), load(store, "w1"), shelf(store)) == ([], {}, [])


@pytest.mark.parametrize("ends", [("COMMIT", "COMMIT"), ("ROLLBACK", "COMMIT"), ("COMMIT", "ROLLBACK")], ids=" ".join)
def test_each_joined_transaction_ends_as_its_own_caller_says(database: Database, ends: tuple[str, str]) -> None:
    for number, end in enumerate(ends):
        database.connection.execute(database.begin)
        unit = database.store.join(database.connection)
        unit.save("checkout", changes_of(workflow(f"w{number}")))
        database.connection.execute(end)

    assert sorted(load(database.store, "w0", "w1")) == [f"w{n}" for n, end in enumerate(ends) if end == "COMMIT"]


def test_joining_twice_in_one_transaction_sees_what_the_first_wrote(database: Database) -> None:
    database.connection.execute(database.begin)
    first, second = database.store.join(database.connection), database.store.join(database.connection)
    first.save("checkout", changes_of(workflow("w1", sequence=1)))
    known = second.load("checkout", ["w1"])
    second.save("checkout", changes_of(replace(known["w1"], sequence=2)))
    database.connection.execute("COMMIT")

    assert load(database.store, "w1")["w1"].sequence == 2


def test_a_join_wakes_the_owner_of_the_lane(database: Database) -> None:
    database.store.woken()

    database.connection.execute(database.begin)
    unit = database.store.join(database.connection)
    unit.save("checkout", changes_of(workflow("w1"), outbox=[outbox("w1", 1)]))
    database.connection.execute("COMMIT")

    until(database.store.woken, what="the owner to be woken")


def test_joining_outside_a_transaction_is_refused(database: Database) -> None:
    with pytest.raises(DefinitionError, match=database.begin):
        database.store.join(database.connection)


def test_joining_a_database_without_our_tables_is_refused(database: Database) -> None:
    database.foreign.execute("BEGIN")

    with pytest.raises(DefinitionError):
        database.store.join(database.foreign)


def test_joining_what_is_no_connection_is_refused(database: Database) -> None:
    with pytest.raises(DefinitionError):
        database.store.join(object())


# --- threads


def test_no_update_is_lost_between_threads(store: ArchivedStore) -> None:
    def count(times: int) -> None:
        for _ in range(times):
            with store.unit() as unit:
                known = unit.load("checkout", ["w1"]).get("w1") or workflow("w1")
                known.sequence += 1
                unit.execute("INSERT INTO shelf VALUES ('tea', 1) ON CONFLICT (sku) DO UPDATE SET pieces = shelf.pieces + 1")
                unit.save("checkout", changes_of(known, outbox=[outbox("w1", known.sequence)]))

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(count, 10) for _ in range(4)]:
            done.result()

    assert load(store, "w1")["w1"].sequence == 40
    assert ids(store.pending("checkout", 0, 100)) == [("w1", n) for n in range(1, 41)]
    assert shelf(store) == [("tea", 40)]


# --- archive


def test_a_workflow_is_found_in_every_saga_that_knows_it(store: ArchivedStore) -> None:
    save(store, changes_of(full_workflow("w1"), workflow("w2"), outbox=[outbox("w1", 2), outbox("w1", 1), outbox("w2", 1)]))
    save(store, Changes(closed=[workflow("w1", closed=NOW)]), saga="returns")
    with store.unit() as unit:
        unit.mark([Published("checkout", "w1", 1, 3)])

    found = list(store.find("w1"))

    published = found[0][2][0].published
    assert published is not None
    assert found == [
        (
            "checkout",
            replace(full_workflow("w1"), unpublished={"checkout/w1/2"}),
            [outbox("w1", 1)._replace(published=published, offset=3), outbox("w1", 2)],
        ),
        ("returns", workflow("w1", closed=NOW), []),
    ]
    assert list(store.find("w9")) == []


def test_what_is_left_of_a_version_is_counted(store: ArchivedStore) -> None:
    save(
        store,
        changes_of(
            workflow("parked", fences={"reserve": fence(error="no")}),
            workflow("waiting", fences={"reserve": fence(due=NOW, error="no"), "label": fence("label", error="no")}),
            workflow("timed", deadline=LATER),
            workflow("timing", fences={"reserve": fence(expires=NOW), "label": fence("label")}),
            workflow("new", version=2),
            outbox=[outbox("timed", 1), outbox("timed", 2), outbox("new", 1)],
        ),
    )
    save(store, Changes(closed=[workflow("ended", closed=NOW, deadline=LATER)], outbox=[outbox("ended", 1)]))
    save(store, changes_of(workflow("other")), saga="returns")

    with store.unit() as unit:
        unit.mark([Published("checkout", "timed", 1, 7)])

    assert store.left("checkout", 1) == Left(open=4, parked=2, timers=3, unpublished=2)
    assert store.left("checkout", 2) == Left(open=1, parked=0, timers=0, unpublished=1)
    assert store.left("checkout", 3) == Left(open=0, parked=0, timers=0, unpublished=0)


def listed(store: ArchivedStore, limit: int = 10, **wanted: Any) -> list[str]:
    return [one.workflow.id for one in store.search(Search(**wanted), limit)]


def test_whose_database_it_is_is_what_the_last_claim_said(store: ArchivedStore) -> None:
    store.claim("checkout", 0, 4, "warehouse")
    store.claim("checkout", 1, 4, "stock")
    store.claim("checkout", 2, 4)
    store.claim("returns", 0, 4)

    assert [store.author(saga) for saga in ("checkout", "returns", "nothing")] == ["stock", None, None]


def test_a_lane_that_another_participant_holds_is_refused_and_stays_as_it_is(store: ArchivedStore) -> None:
    held = store.claim("checkout", 0, 4, "stock")

    with pytest.raises(DefinitionError, match=r"of participant 'stock', .* 'payments' needs a database or schema of"):
        store.claim("checkout", 0, 4, "payments")

    assert store.author("checkout") == "stock"
    assert [lane.epoch for lane in store.lanes()] == [held.epoch]
    assert store.claim("checkout", 0, 4, "stock").epoch == held.epoch + 1


def test_a_lane_whose_owner_ended_in_order_may_be_taken_under_another_name(store: ArchivedStore) -> None:
    store.release(store.claim("checkout", 0, 4, "warehouse"))

    assert store.claim("checkout", 0, 4, "stock").clean
    assert store.author("checkout") == "stock"


def test_all_workflows_of_a_saga_come_page_by_page_with_all_that_is_known_of_them(store: ArchivedStore) -> None:
    known = [full_workflow(id_) for id_ in ("Z", "a", "b", "ä")]
    save(store, changes_of(*known, outbox=[outbox("a", 1)]))
    save(store, changes_of(workflow("c")), saga="returns")

    pages = [store.page("checkout", after, 3) for after in ("", "b", "ä")]

    assert [[one.id for one in page] for page in pages] == [["Z", "a", "b"], ["ä"], []]
    assert pages[0][2] == replace(known[2], unpublished=set())
    assert pages[0][1].unpublished == {outbox("a", 1).id}


def test_workflows_are_listed_latest_first_with_fences_and_without_inbox(store: ArchivedStore) -> None:
    save(store, changes_of(full_workflow("old"), workflow("young", opened=LATER), outbox=[outbox("old", 1)]))
    save(store, Changes(closed=[workflow("done", closed=LATER, fences={"reserve": fence()})]), saga="returns")

    found = store.search(Search(), 10)

    assert [(one.saga, one.workflow) for one in found] == [
        ("checkout", workflow("young", opened=LATER)),
        ("returns", workflow("done", closed=LATER, fences={"reserve": fence()})),
        ("checkout", replace(full_workflow("old"), inbox={}, unpublished=set())),
    ]


def test_lists_are_of_one_saga_version_or_status_where_that_is_asked(store: ArchivedStore) -> None:
    save(store, changes_of(workflow("one"), workflow("two", version=2), workflow("back", status=WorkflowStatus.FAILED)))
    save(store, changes_of(workflow("other")), saga="returns")

    assert listed(store, saga="returns") == ["other"]
    assert listed(store, version=2) == ["two"]
    assert listed(store, status=WorkflowStatus.FAILED) == ["back"]
    assert listed(store, saga="checkout", status=WorkflowStatus.IN_PROGRESS, version=1) == ["one"]
    assert listed(store, saga="nothing") == []


def test_lists_are_of_workflows_with_exceptions_where_that_is_asked(store: ArchivedStore) -> None:
    excepted = workflow("closed", closed=NOW, exceptions=frozenset({"reserve"}))
    save(store, changes_of(workflow("open", exceptions=frozenset({"label"})), workflow("plain")))
    save(store, Changes(closed=[excepted, workflow("ended", closed=NOW)]))

    assert listed(store, with_exceptions=True) == ["closed", "open"]


def test_parked_workflows_are_listed_whatever_they_wait_for(store: ArchivedStore) -> None:
    waiting = {
        "time": fence(status=StepStatus.IDLE, attempt=2, due=NOW, error="no"),
        "operator": fence(attempt=9, error="no"),
        "stuck": fence(status=StepStatus.STUCK, attempt=9, error=""),
    }
    parked = [workflow(id_, fences={"label": fence("label"), "reserve": found}) for id_, found in waiting.items()]
    save(store, changes_of(*parked, workflow("fine", fences={"reserve": fence()})))
    save(store, changes_of(workflow("time", fences={"reserve": fence()})), saga="returns")

    assert listed(store, parked=True) == ["operator", "stuck", "time"]
    assert store.search(Search(parked=True), 1)[0].workflow == parked[1]


def test_a_workflow_moves_when_a_fact_comes_or_a_step_goes_on_and_not_when_one_fails_again(store: ArchivedStore) -> None:
    def at(seconds: int) -> datetime:
        return NOW + timedelta(seconds=seconds)

    failing = fence("label", StepStatus.IDLE, error="no", changed=at(9))
    save(
        store,
        changes_of(
            workflow("opened", fences={"label": failing}),
            workflow("heard", inbox={"e1": received(received=at(2)), "e2": received("e2", received=at(1))}),
            workflow("went on", inbox={"e1": received(received=at(1))}, fences={"reserve": fence(changed=at(3))}),
        ),
    )
    save(store, Changes(closed=[workflow("closed", closed=at(1))]))

    moved = {one.workflow.id: one.moved for one in store.search(Search(), 10)}

    assert moved == {"opened": at(0), "heard": at(2), "went on": at(3), "closed": at(1)}
    assert listed(store, idle_since=at(9)) == ["opened", "heard", "went on"]
    assert listed(store, idle_since=at(2)) == ["opened", "heard"]
    assert listed(store, parked=True, idle_since=at(5)) == ["opened"]


@pytest.mark.parametrize(
    ("wanted", "first"),
    [({}, ["w4", "w3"]), ({"idle_since": NOW + timedelta(seconds=9)}, ["w0", "w1"]), ({"parked": True}, ["w0", "w1"])],
)
def test_a_list_is_no_longer_than_asked(store: ArchivedStore, wanted: dict[str, Any], first: list[str]) -> None:
    failing = {"label": fence("label", error="no")}
    many = [workflow(f"w{n}", opened=NOW + timedelta(seconds=n), fences=failing) for n in range(5)]
    save(store, changes_of(*many))

    assert listed(store, 2, **wanted) == first


def test_a_list_neither_waits_for_an_open_transaction_nor_sees_what_it_has_not_committed(database: Database) -> None:
    save(database.store, changes_of(workflow("w1")))

    database.connection.execute(database.begin)
    unit = database.store.join(database.connection)
    known = unit.load("checkout", ["w1"])["w1"]
    unit.save("checkout", changes_of(replace(known, version=2), workflow("w2")))
    during = [(one.workflow.id, one.workflow.version) for one in database.store.search(Search(), 10)]
    database.connection.execute("COMMIT")

    assert during == [("w1", 1)]
    assert listed(database.store, version=2) == ["w1"]


# --- acknowledgments


def delivered(store: ArchivedStore, *offsets: int) -> list[Published]:
    """One published row of lane 0 for each offset."""
    save(store, changes_of(workflow(), outbox=[outbox("w1", n) for n in range(1, len(offsets) + 1)]))
    reports = [Published("checkout", "w1", n, offset) for n, offset in enumerate(offsets, start=1)]
    with store.unit() as unit:
        unit.mark(reports)
    return reports


def standing(store: ArchivedStore, after: tuple[str, int] = ("", -1), limit: int = 9) -> list[tuple[int, int | None]]:
    return [(row.sequence, row.offset) for row in store.unhandled("checkout", 0, after, limit)]


def test_published_rows_are_unhandled_in_order_of_their_offsets_until_they_are_cleaned(store: ArchivedStore) -> None:
    reports = delivered(store, 7, 3, 5)
    before, behind, one = standing(store), standing(store, ("checkout.events", 3)), standing(store, limit=1)

    with store.unit() as unit:
        unit.clean(reports[1:])
        unit.clean([])

    assert before == [(2, 3), (3, 5), (1, 7)]
    assert behind == [(3, 5), (1, 7)]
    assert one == [(2, 3)]
    assert standing(store) == [(1, 7)]
    assert store.unhandled("checkout", 1, ("", -1), 9) == store.unhandled("returns", 0, ("", -1), 9) == []


def test_the_first_rows_before_an_offset_are_cleaned_of_one_lane_and_topic(store: ArchivedStore) -> None:
    delivered(store, 7, 3, 5)

    with store.unit() as unit:
        unit.clean_before("checkout", 1, "checkout.events", 9, 9)
        unit.clean_before("checkout", 0, "checkout.compensations", 9, 9)
        unit.clean_before("returns", 0, "checkout.events", 9, 9)
        unit.clean_before("checkout", 0, "checkout.events", 3, 9)
    untouched = standing(store)
    with store.unit() as unit:
        unit.clean_before("checkout", 0, "checkout.events", 8, 2)

    assert untouched == [(2, 3), (3, 5), (1, 7)]
    assert standing(store) == [(1, 7)]


def test_rows_that_were_never_marked_are_before_no_offset(store: ArchivedStore) -> None:
    save(store, changes_of(workflow(), outbox=[outbox("w1", 1)]))

    with store.unit() as unit:
        unit.clean_before("checkout", 0, "checkout.events", 9, 9)

    assert ids(store.pending("checkout", 0, 9)) == [("w1", 1)]


def test_a_row_that_was_never_marked_can_be_cleaned(store: ArchivedStore) -> None:
    save(store, changes_of(workflow(), outbox=[outbox("w1", 1), outbox("w1", 2)]))

    with store.unit() as unit:
        unit.clean([Published("checkout", "w1", 1, 3)])

    assert ids(store.pending("checkout", 0, 9)) == [("w1", 2)]


def test_a_lost_row_is_pending_again_unless_it_was_published_elsewhere_meanwhile(store: ArchivedStore) -> None:
    reports = delivered(store, 3, 4)

    with store.unit() as unit:
        unit.again([reports[0], reports[1]._replace(offset=2)])
        unit.again([])

    assert ids(store.pending("checkout", 0, 9)) == [("w1", 1)]
    assert load(store, "w1")["w1"].unpublished == {"checkout/w1/1"}
    assert standing(store) == [(2, 4)]


def test_a_transaction_that_fails_cleans_nothing(store: ArchivedStore) -> None:
    reports = delivered(store, 3)

    def clean_and_fail() -> None:
        with store.unit() as unit:
            unit.clean(reports)
            raise RuntimeError("no such luck")

    with pytest.raises(RuntimeError):
        clean_and_fail()

    assert standing(store) == [(1, 3)]


def test_recorded_facts_are_found_by_lane(store: ArchivedStore) -> None:
    at = [received(f"e{n}", topic="checkout.events", partition=0, offset=n, state="recorded") for n in (1, 2)]
    save(store, changes_of(workflow(inbox={r.id: r for r in (*at, received("e3", partition=0))})))
    with store.unit() as unit:
        found, elsewhere = unit.parked("checkout", 0), unit.parked("checkout", 1)

    save(store, Changes(inbox=[("w1", replace(at[0], state="handled"))]))

    assert sorted(found) == [("checkout.events", 1), ("checkout.events", 2)]
    assert elsewhere == []
    with store.unit() as unit:
        assert unit.parked("checkout", 0) == [("checkout.events", 2)]


def test_what_an_owner_keeps_of_acknowledgments_is_its_successors(store: ArchivedStore) -> None:
    lane = store.claim("checkout", 1, 4)
    lane.acks, lane.gaps = {"bank": {"checkout.events": {"spans": [[0, 3]]}}}, {"checkout.events": [(4, 9)]}
    with store.unit() as unit:
        unit.advance(replace(lane, batch=1))
    store.release(lane)

    again = store.claim("checkout", 1, 4)
    store.claim("checkout", 0, 4)

    assert (again.acks, again.gaps) == (lane.acks, lane.gaps)
    assert [(one.number, one.gaps, one.clean) for one in store.lanes()] == [(0, {}, False), (1, lane.gaps, False)]


def test_what_an_owner_has_not_committed_is_nobody_elses(store: ArchivedStore) -> None:
    lane = store.claim("checkout", 0, 4)
    lane.acks["topics"], lane.gaps["checkout.events"] = {"checkout.events": "1"}, [(0, 7)]
    with store.unit() as unit:
        unit.advance(replace(lane, batch=1))
    lane.acks["topics"]["checkout.events"] = "2"
    lane.gaps["checkout.events"].append((8, 9))
    lane.offsets["checkout.events"], lane.trials["7"] = 9, 1

    [seen], successor = store.lanes(), store.claim("checkout", 0, 4)

    for known in (seen, successor):
        assert (known.acks, known.gaps) == ({"topics": {"checkout.events": "1"}}, {"checkout.events": [(0, 7)]})
        assert (known.offsets, known.trials) == ({}, {})


def test_what_is_outstanding_is_told_oldest_first_and_without_its_payload(store: ArchivedStore) -> None:
    save(store, changes_of(workflow(), outbox=[outbox("w1", 1), outbox("w1", 2)._replace(created=NOW)]))
    with store.unit() as unit:
        unit.mark([Published("checkout", "w1", 1, 3)])

    found = store.outstanding(LATER + timedelta(seconds=1), 9)

    assert [(row.sequence, row.offset, row.published is None, row.payload) for row in found] == [
        (2, None, True, b""),
        (1, 3, False, b""),
    ]
    assert ids(store.outstanding(LATER, 9)) == [("w1", 2)]
    assert ids(store.outstanding(LATER + timedelta(seconds=1), 1)) == [("w1", 2)]


def test_what_departed_is_there_once_it_has_arrived_and_the_thread_goes_on_meanwhile(store: ArchivedStore) -> None:
    with store.unit() as first:
        first.execute("INSERT INTO shelf VALUES ('rice', 1)")
        first.save("checkout", changes_of(workflow("w1")))
        first.depart()
    with store.unit() as second:
        second.save("checkout", changes_of(workflow("w2")))
        second.execute("UPDATE shelf SET pieces = 2")
        second.depart()
    second.arrive()
    first.arrive()

    assert not first.under_way
    assert not second.under_way
    assert shelf(store) == [("rice", 2)]
    assert load(store, "w1", "w2").keys() == {"w1", "w2"}


def test_a_fenced_one_that_departs_hears_of_it_when_it_arrives_at_the_latest(store: ArchivedStore) -> None:
    lane = store.claim("checkout", 0, 1)
    store.claim("checkout", 0, 1)

    def go_on_as_if_nothing_happened() -> None:
        with store.unit() as unit:
            unit.execute("INSERT INTO shelf VALUES ('rice', 1)")
            unit.advance(replace(lane, batch=1))
            unit.depart()
        unit.arrive()

    with pytest.raises(LaneFenced):
        go_on_as_if_nothing_happened()
    assert shelf(store) == []


def test_a_unit_that_raises_after_it_was_to_depart_leaves_nothing(store: ArchivedStore) -> None:
    def think_better_of_it() -> None:
        with store.unit() as unit:
            unit.execute("INSERT INTO shelf VALUES ('rice', 1)")
            unit.depart()
            raise ValueError("not after all")

    with pytest.raises(ValueError, match="after all"):
        think_better_of_it()
    assert shelf(store) == []


def test_a_worker_tells_whether_ids_of_schemas_are_registered(store: ArchivedStore) -> None:
    told = []
    for participant, registered in ((None, True), ("orders", True), (None, False), ("orders", False)):
        store.claim("checkout", 0, 4, participant, registered)
        with store.unit() as unit:
            told.append((unit.registered("checkout"), unit.registered("returns"), unit.partitions("checkout")))

    assert told == [(False, False, 4), (True, False, 4), (True, False, 4), (False, False, 4)]
