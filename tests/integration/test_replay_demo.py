"""A run of the demo, read again from its topics: what replay tells is what the databases of all services hold."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import avro.datafile
import avro.io
import fastavro
import pytest

from demo import sample
from demo.books import ROOT, SERVICES
from demo.embedded import Embedded
from demo.feed import Feed, settle
from demo.fleet import Fleet
from demo.order import Intake
from demo.stocking import opening_stock
from saga.store.sqlite import SqliteStore
from tests.commands import Commands

pytestmark = pytest.mark.slow


def test_all_workflows_of_a_run_are_records_that_agree_with_every_live_database(tmp_path: Path) -> None:
    invoices = [*islice(sample.invoices(), 120)]
    home, file = tmp_path / "home", tmp_path / "checkout.avro"
    home.mkdir()
    ground, intake = Embedded(home), Intake.of(invoices)
    with Fleet(home, opening=opening_stock(intake.demand), ground=ground) as fleet:
        Feed(fleet.url, fleet.books).send(invoice.order for invoice in invoices if invoice.order)
        settle(fleet.books, fleet.require_alive)
        environment = {key: ground.environment("orders")[key] for key in ("SAGA_BROKER", "SAGA_EMBEDDED")}

        said = Commands(ROOT)("state", "checkout", "--schemas", "schemas/checkout", "-o", file, **environment)

        assert said.code == 0, said.err
        live = stores(fleet, [one["workflow"]["id"] for one in read_by_fastavro(file)])
    ours, theirs = read_by_fastavro(file), read_by_avro(file)
    assert len(ours) == intake.ordered
    assert {one["workflow"]["id"]: (one["workflow"]["status"], one["workflow"]["steps"]) for one in ours} == live
    assert [one["workflow"]["steps"] for one in theirs] == [one["workflow"]["steps"] for one in ours]
    assert {status for status, _ in live.values()} == {"completed", "compensated"}


def stores(fleet: Fleet, ids: list[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Of each workflow its status, and of each step what its owner's database says."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for service in SERVICES:
        with closing(SqliteStore(fleet.books.path(service))) as store:
            for id_ in ids:
                for _, workflow, _ in store.find(id_):
                    status, steps = found.get(id_, (workflow.status.value, {}))
                    assert status == workflow.status.value
                    own = {step: fence.status.value for step, fence in workflow.fences.items()}
                    found[id_] = status, {**steps, **own}
    order = ("place", "reserve", "authorise", "dispatch", "confirm")
    return {id_: (status, {step: steps.get(step, "idle") for step in order}) for id_, (status, steps) in found.items()}


def read_by_fastavro(file: Path) -> list[Any]:
    with file.open("rb") as opened:
        return [*fastavro.reader(opened)]


def read_by_avro(file: Path) -> list[Any]:
    with avro.datafile.DataFileReader(file.open("rb"), avro.io.DatumReader()) as reader:
        return [*reader]
