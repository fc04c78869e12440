"""Own facts whose bytes nobody can read any more: refused by name, or kept as far as their headers tell."""

from __future__ import annotations

import pytest

from saga.errors import ContractError
from saga.testing.harness import Harness
from tests.histories import lived
from tests.rebuilding import begun, gone_on, put_in_place, rebuilt, rows, stored
from tests.travel import Script, TripBooked, harness


def spoil(fleet: Harness, workflow: str, step: str, status: str = "done") -> str:
    """Have the bytes of one fact be nothing that can be read; answers where it stands."""
    for log in fleet.facts():
        for place, record in enumerate(log):
            raw = dict(record.headers)
            if (raw["ce_subject"], raw.get("ce_step", b""), raw["ce_status"]) == (
                workflow.encode(),
                step.encode(),
                status.encode(),
            ):
                log[place] = record._replace(value=(record.value or b"")[:-1])
                return f"{record.topic}/{record.partition}@{record.offset}"
    raise AssertionError(f"{workflow} has no {step} {status}")


SPOILT = [
    ("hotels", "smooth", "hotel", "done", [("smooth", "hotel", "action", "")]),
    ("hotels", "open", "hotel", "done", [("open", "hotel", "action", "")]),
    ("bank", "smooth", "pay", "done", [("smooth", "pay", "action", "")]),
    ("hotels", "poor", "hotel", "compensated", [("poor", "hotel", "compensation", "")]),
    ("airline", "poor", "flight", "done", [("poor", "flight", "action", ""), ("poor", "flight", "compensation", "")]),
]
"""What is spoilt, and which rows need it: a flight that is freed looks at the one that was booked."""


@pytest.mark.parametrize(("name", "workflow", "step", "status", "left_out"), SPOILT)
def test_an_own_fact_that_cannot_be_read_is_refused_with_its_record_and_what_to_do(
    name: str, workflow: str, step: str, status: str, left_out: list[tuple[str, ...]]
) -> None:
    with lived() as fleet:
        place = spoil(fleet, workflow, step, status)

        told = rf"workflow {workflow}, record {place}: event travel\.\w+ cannot be read.*Add --partial to keep"
        with pytest.raises(ContractError, match=told):
            rebuilt(fleet, name)


@pytest.mark.parametrize("batch", [1, 20_000])
@pytest.mark.parametrize(("name", "workflow", "step", "status", "left_out"), SPOILT)
def test_of_an_own_fact_that_cannot_be_read_the_step_is_kept_its_rows_are_left_out_and_the_workflow_is_marked(
    name: str, workflow: str, step: str, status: str, left_out: list[tuple[str, ...]], batch: int
) -> None:
    with lived() as fleet:
        whole, place = rows(rebuilt(fleet, name)), spoil(fleet, workflow, step, status)
        refused = begun(fleet, name, batch=batch)
        with pytest.raises(ContractError):
            refused.catch_up()

        partial = gone_on(fleet, name, refused, partial=True, batch=batch)
        partial.catch_up()
        told = partial.finish()

        assert [*told] == [workflow]
        assert place in told[workflow][0].text
        found = {one.id: one for one in stored(partial).page("travel", "", 10)}
        assert [id for id, one in found.items() if one.error] == [workflow]
        assert f"not whole: record {place}: event travel." in str(found[workflow].error)
        assert sorted([*rows(stored(partial)), *left_out]) == whole
        live = fleet.workflow(name, workflow)
        assert live is not None
        assert (found[workflow].status, found[workflow].closed) == (live.status, live.closed)
        assert found[workflow].fences[step].status is live.fences[step].status


def test_words_of_an_operator_that_cannot_be_read_are_left_out_and_the_worker_goes_on_with_the_rest() -> None:
    with harness(Script(waiting={"open"})) as fleet:
        fleet.start(TripBooked(trip="open"), workflow_id="open")
        fleet.settle()
        with fleet.transaction("hotels") as tx:
            fleet.participants["hotels"].abort("open", tx, reason="flooded", by="ann")
        while fleet.turn("hotels"):
            pass
        place = spoil(fleet, "open", "", "abort")

        with pytest.raises(ContractError, match=f"workflow open, record {place}: .*Add --partial"):
            rebuilt(fleet, "hotels", evolve=False)
        partial = begun(fleet, "hotels", partial=True)
        partial.catch_up()

        assert [*partial.finish()] == ["open"]
        [found] = stored(partial).page("travel", "", 10)
        assert (found.sequence, found.interventions) == (2, ())
        put_in_place(fleet, "hotels", stored(partial))
        fleet.settle()
        assert not fleet.stopped()
