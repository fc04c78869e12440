"""`saga simulate`: what is told of many seeds, of one, and of what breaks a promise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saga.protocol.definition import Definition
from tests.commands import Commands

TRIPS = """
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet

agency, hotels, airline, bank = fleet(Script())


def booked(number):
    return TripBooked(trip=f"trip {number}")


def tables(participant, tx):
    tx.execute(CREATE_EFFECTS)


def nothing_holds(world):
    return [f"{len(world.workflows)} trips are too many"]
"""
RELEASES = """
from tests.travel import CREATE_EFFECTS, Script, fleet

agency, hotels, airline, bank = fleet(Script(), versions=(1, 2))
old_hotels, new_bank = fleet(Script())[1], fleet(Script(), versions=(2,))[3]


def tables(participant, tx):
    tx.execute(CREATE_EFFECTS)


def nothing_holds(world):
    return [f"{len(world.workflows)} trips are too many"]
"""
FLEET = ("trips:agency", "trips:hotels", "trips:airline", "trips:bank")
USUAL = (*FLEET, "--prepare", "trips:tables", "--processes", "1")


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    for name in ("trips", "releases"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "trips.py").write_text(TRIPS)
    return Commands(tmp_path)


def test_seeds_that_keep_every_promise_are_told_with_the_rare_states_they_met(simulate: Commands) -> None:
    said = simulate("simulate", *USUAL, "--seeds", "1..3", "--start", "trips:booked")

    assert said.code == 0
    assert "3 seeds of saga travel: no promise is broken" in said.out
    assert "a workflow ends compensated" in said.out


def test_one_seed_is_told_act_by_act(simulate: Commands) -> None:
    said = simulate("simulate", *USUAL, "--seed", "2", "--workflows", "2")

    assert said.code == 0
    assert "workflow 0 begins" in said.out
    assert "agency states book done of w0 (travel.TripBooked, number 1, travel.events/" in said.out
    assert said.out.endswith("seed 2: no promise is broken\n")


@pytest.mark.slow
def test_a_broken_promise_is_told_as_a_story_with_the_command_that_shows_it_again(
    simulate: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Definition, "pivots", property(lambda self: frozenset({self.sink.name})))

    said = simulate("simulate", *USUAL, "--seeds", "1..20", "--workflows", "2", "--acts", "40", "--faults", "abort,fail")

    assert said.code == 1
    assert "is asked to unwind workflow" in said.out
    assert f"again: saga simulate {' '.join(FLEET)} --seed " in said.out
    assert "--workflows 2 --acts 40 --faults abort,fail --prepare trips:tables" in said.out
    assert "of 20 seeds broke a promise" in said.out


def test_one_cause_is_told_once_with_all_whom_it_concerns(simulate: Commands, tmp_path: Path) -> None:
    """What waits for a step that never succeeds is open at every participant."""
    (tmp_path / "trips.py").write_text(TRIPS.replace("Script()", 'Script(away={"pay", "free_flight"})'))

    said = simulate("simulate", *USUAL, "--seed", "1", "--workflows", "3", "--acts", "20", "--faults", "")

    told = [line for line in said.out.splitlines() if line.startswith("everything ends")]
    assert len(told) == 1
    assert "open at agency, hotels, airline, bank; 'flight' of airline is parked: " in told[0]
    assert told[0].endswith("(also: w1, w2)")
    assert said.out.count("what operators did") == 1
    assert "saga.OperatorActed" not in said.out


def test_a_check_of_ones_own_is_asked_too(simulate: Commands) -> None:
    said = simulate("simulate", *USUAL, "--seeds", "7..7", "--check", "trips:nothing_holds", "--no-shrink", "--json")

    told = said.json
    assert said.code == 1
    assert told["broken"][0]["violations"] == ["the user's own check: 10 trips are too many"]
    assert told["broken"][0]["seed"] == 7


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--seeds", "9..1"), "found --seeds '9..1'; expected A..B"),
        (("--faults", "gremlin"), "found fault gremlin; expected some of fail"),
        (("--start", "trips:nobody"), "found 'trips:nobody', which is no function"),
    ],
)
def test_what_cannot_be_simulated_is_refused(simulate: Commands, options: tuple[str, ...], why: str) -> None:
    said = simulate("simulate", *USUAL, *options)

    assert said.code == 2
    assert why in said.err


@pytest.mark.slow
def test_releases_are_deployed_and_taken_back(simulate: Commands) -> None:
    (simulate.folder / "releases.py").write_text(RELEASES)
    fleet = [f"releases:{name}" for name in ("agency", "hotels", "airline", "bank")]
    others = ["--release", "releases:old_hotels", "--release", "releases:new_bank"]

    said = simulate("simulate", *fleet, "--prepare", "releases:tables", "--processes", "1", "--seeds", "1", *others)
    broken = simulate("simulate", *fleet, "--seed", "1", "--acts", "40", "--check", "releases:nothing_holds", *others)
    backwards = simulate("simulate", *FLEET, "--release", "releases:new_bank")

    assert said.code == 0, said.out + said.err
    assert "a release is taken back" in said.out
    assert "another release of bank is deployed" in broken.out
    assert "found a release of 'bank' that knows versions [2], and one that knows [1] to run in the end" in backwards.err


def test_a_fleet_in_which_somebody_is_missing_is_refused(simulate: Commands) -> None:
    said = simulate("simulate", *FLEET[:2], "--prepare", "trips:tables")

    assert said.code == 2
    assert "found the participants agency, hotels; expected each of saga 'travel' once" in said.err
