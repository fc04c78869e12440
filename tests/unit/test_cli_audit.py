"""`saga audit`, as an operator meets it: what holds, what is violated, what was not judged, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saga import assembly
from saga.testing.harness import Harness
from tests.commands import Commands
from tests.histories import lived

MODULE = """
from tests.travel import Script, fleet

agency, hotels, airline, bank = fleet(Script())
"""


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    with lived() as running:
        monkeypatch.setattr(assembly, "broker", lambda settings: running.broker)
        yield running


@pytest.fixture
def service(contracts: Commands, fleet: Harness) -> Commands:
    """With a database of the hotels, `hotels.db`."""
    (contracts.folder / "audited.py").write_text(MODULE)
    said = contracts("rebuild", "audited:hotels", "--to", "sqlite:///hotels.db", "--engine-tables-only")
    assert said.code == 0, said.err
    return contracts


def test_what_holds_is_told_with_what_was_looked_at_and_what_was_not_judged(service: Commands) -> None:
    said = service("audit", "travel", "--schemas", "contracts", "--store", "sqlite:///hotels.db", "--running")

    assert said.code == 0, said.err
    rows = {row.split()[0]: row for row in said.out.splitlines()}
    assert rows["I4"].split()[1] == "ok"
    assert "4 workflows, 20 facts" in rows["I4"]
    assert rows["I3"].split()[1] == "skipped"
    assert "not judged: the run still goes on" in rows["I3"]
    assert said.out.splitlines()[-1] == "4 workflows, 20 facts: nothing is against it"


def test_a_fact_that_is_missing_is_found_and_ends_with_exit_code_1(fleet: Harness, service: Commands) -> None:
    log = next(log for partition, log in fleet.broker.logs.items() if partition.topic == "travel.events" and log)
    lost = log.pop(0)

    said = service("audit", "travel", "--schemas", "contracts", "--running", "--json")

    assert said.code == 1
    assert not said.json["holds"]
    broken = {violation["invariant"] for violation in said.json["violations"]}
    assert "I9" in broken
    assert {violation["workflow"] for violation in said.json["violations"]} == {(lost.key or b"").decode()}


def test_a_workflow_that_has_not_ended_is_one_when_all_should_have(service: Commands) -> None:
    said = service("audit", "travel", "--schemas", "contracts", SAGA_DATABASE="sqlite:///hotels.db")

    assert said.code == 1
    assert "  I3 workflow open: found it neither ended nor parked anywhere; expected an end, or a reason" in said.out


def test_a_record_of_somebody_else_s_is_told_and_is_no_workflow_that_has_not_ended(fleet: Harness, service: Commands) -> None:
    log = next(log for partition, log in fleet.broker.logs.items() if partition.topic == "travel.events" and log)
    log.append(log[-1]._replace(offset=log[-1].offset + 1, key=b"click", headers=(), value=b"{}"))

    said = service("audit", "travel", "--schemas", "contracts", "--store", "sqlite:///hotels.db", "--json")

    assert said.code == 1
    about = {violation["invariant"] for violation in said.json["violations"] if violation["workflow"] == "click"}
    assert about == {"I11"}


def test_a_database_that_was_named_twice_is_refused(service: Commands) -> None:
    said = service("audit", "travel", "--schemas", "contracts", *["--store", "sqlite:///hotels.db"] * 2)

    assert said.code == 2
    assert "sqlite:///hotels.db is of hotels, as another one is; correct --store" in said.err
