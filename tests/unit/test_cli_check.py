from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saga.cli.contracts.check import _Pace
from saga.protocol.check import Report
from saga.protocol.story import Problem
from saga.testing.clock import ManualClock
from tests.commands import Commands, schemas, written

CHECKOUT = Path(__file__).parents[2] / "schemas" / "checkout"


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def test_a_sound_saga_holds(saga: Commands) -> None:
    said = saga("check", CHECKOUT)

    assert said.code == 0
    assert said.out.startswith("saga checkout v1 holds: in all ")
    assert said.err == "exploring saga checkout v1\n"


def test_a_long_proof_tells_every_few_seconds_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    pace = _Pace(clock)
    for found in range(1000, 13_000, 1000):
        clock.advance(1)
        pace(found)

    assert capsys.readouterr().err.splitlines() == [
        "5,000 situations so far; Ctrl-C ends it, with nothing proved",
        "10,000 situations so far; Ctrl-C ends it, with nothing proved",
    ]


def test_the_verdict_is_data_too(saga: Commands) -> None:
    report = saga("check", CHECKOUT, "--json").json

    assert report["verdict"] == "holds"
    assert report["states"] > 0
    assert report["problems"] == []


def test_a_step_that_cannot_be_undone_is_refused_with_its_reason(saga: Commands, tmp_path: Path) -> None:
    unsound = written(
        tmp_path / "contracts",
        schemas(
            {"name": "begin", "by": "orders", "emits": ["Begun"], "compensated": "Unbegun"},
            {"name": "take", "by": "b", "on": ["Begun"], "emits": ["Taken"], "timeout": "PT1M"},
            {"name": "close", "by": "orders", "on": ["Taken"], "emits": ["Closed"], "fails": "Unclosed", "timeout": "PT1M"},
        ),
    )

    said, report = saga("check", unsound), saga("check", unsound, "--json")

    assert (said.code, report.code) == (1, 1)
    assert said.out.startswith("saga checkout v1 is refused\n")
    assert "take" in said.out
    assert report.json["verdict"] == "refused"
    assert report.json["problems"][0]["rule"]


def test_a_counterexample_is_a_numbered_story(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem("deadlock", "Nobody goes on.", ("orders starts the workflow.", "stock waits."))
    monkeypatch.setattr("saga.cli.contracts.check.proved", lambda saga, tell: Report("refused", 7, (problem,)))

    said = saga("check", CHECKOUT)

    assert said.code == 1
    assert said.out.splitlines()[1:] == ["deadlock: Nobody goes on.", "   1. orders starts the workflow.", "   2. stock waits."]


def test_a_folder_that_makes_no_saga_is_refused(saga: Commands, tmp_path: Path) -> None:
    circle = written(
        tmp_path / "contracts",
        schemas(
            {"name": "begin", "by": "orders", "emits": ["Begun"], "compensated": "Unbegun"},
            {"name": "take", "by": "b", "on": ["Stolen"], "emits": ["Taken"], "compensated": "Untaken", "timeout": "PT1M"},
        ),
    )

    said = saga("check", circle)

    assert said.code == 1
    assert "event 'Stolen', for which there is no .avsc" in said.out


@pytest.mark.parametrize(
    ("attribute", "told"),
    [
        ({"timout": "PT1M"}, "found timout: 'PT1M'; expected one of the attributes by, on, emits, fails, compensated, pivot,"),
        ({"timeout": "1m"}, "found timeout: '1m'; expected an ISO 8601 duration such as PT90S, PT5M or P1D"),
        ({"timeout": "PT0S"}, "found timeout: 'PT0S'; expected a duration longer than none and of no more than 100 years"),
        ({"timeout": "-PT5M"}, "found timeout: '-PT5M'; expected a duration longer than none"),
        ({"timeout": "P9999999D"}, "found timeout: 'P9999999D'; expected a duration longer than none"),
        ({"timeout": 300}, "found timeout: 300; expected an ISO 8601 duration such as PT90S, PT5M or P1D, as text"),
        ({"timeout": "300"}, "found timeout: '300'; expected an ISO 8601 duration"),
        ({"timeout": "14D"}, "found timeout: '14D'; expected an ISO 8601 duration"),
        ({"timeout": "00:05:00"}, "found timeout: '00:05:00'; expected an ISO 8601 duration"),
        ({"by": ""}, "found by: ''; expected the name of a participant"),
        ({"external": "yes"}, "found external: 'yes'; expected a valid boolean"),
    ],
)
def test_an_attribute_that_is_none_is_told_with_what_there_is(
    saga: Commands, tmp_path: Path, attribute: dict[str, str], told: str
) -> None:
    contracts = schemas({"name": "begin", "by": "orders", "emits": ["Begun"], "pivot": True, **attribute})

    said = saga("check", written(tmp_path / "contracts", contracts))

    assert said.code == 1
    assert told in said.out


@pytest.mark.parametrize(
    ("attribute", "told"),
    [
        ({"deadline": "PT0S"}, "found deadline: 'PT0S'; expected a duration longer than none and of no more than 100 years"),
        ({"deadline": "P9999999D"}, "found deadline: 'P9999999D'; expected a duration longer than none"),
        ({"unwind": "-PT1H"}, "found unwind: '-PT1H'; expected a duration longer than none"),
        *(({"version": n}, f"found version: {n}; expected an integer from 1 to 2147483647") for n in (-1, 0, 2**31)),
        ({"name": "my orders"}, "found name: 'my orders'; expected letters, digits, '.', '_' and '-', up to 200,"),
    ],
)
def test_a_time_that_no_clock_can_keep_a_version_that_no_record_and_a_name_that_no_topic_can_bear_are_refused(
    saga: Commands, tmp_path: Path, attribute: dict[str, Any], told: str
) -> None:
    contracts = schemas({"name": "begin", "by": "orders", "emits": ["Begun"], "pivot": True})
    contracts[-1]["saga"] |= attribute

    said = saga("check", written(tmp_path / "contracts", contracts))

    assert said.code == 1
    assert told in said.out


@pytest.mark.parametrize(
    ("place", "found"), [("nowhere", "no such folder"), (".", "no .avsc file in it"), ("notes.txt", "a file")]
)
def test_no_contracts_are_wrong_use(saga: Commands, place: str, found: str) -> None:
    (saga.folder / "notes.txt").touch()

    said = saga("check", place)

    assert said.code == 2
    assert f"error: no saga at '{place}': found {found}, expected a folder" in said.err


def test_a_diagram_is_ready_for_markdown(saga: Commands) -> None:
    said = saga("diagram", CHECKOUT)

    assert said.code == 0
    assert said.out.startswith("flowchart LR\n")
    assert "reserve" in said.out


def test_no_diagram_of_nothing(saga: Commands) -> None:
    assert saga("diagram", "nowhere").code == 2


def test_an_attribute_that_is_missing_is_named(saga: Commands, tmp_path: Path) -> None:
    contracts = schemas({"name": "begin", "by": "orders", "emits": ["Begun"], "pivot": True})
    attributes = next(schema["saga"] for schema in contracts if "saga" in schema)
    del attributes["version"]

    said = saga("check", written(tmp_path / "contracts", contracts))

    assert said.code == 1
    assert "found no version; expected the attribute 'version' (see docs, 'The saga schema')" in said.out
