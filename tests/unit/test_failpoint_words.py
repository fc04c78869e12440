"""Failpoints: armed by name, in the words of the environment; what they do to a real process is in tests/crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from saga import DefinitionError
from saga.failpoints import Failpoint, FailpointRaised, armed, failpoint


def test_unarmed_a_failpoint_does_nothing() -> None:
    for name in Failpoint:
        failpoint(name)


def test_the_nth_hit_raises_and_no_other() -> None:
    with armed("unit.inside:raise:2"):
        failpoint(Failpoint.UNIT_INSIDE)
        with pytest.raises(FailpointRaised, match=r"unit\.inside"):
            failpoint(Failpoint.UNIT_INSIDE)
        failpoint(Failpoint.UNIT_INSIDE)


def test_only_the_named_place_is_armed_and_only_inside_the_block() -> None:
    with armed("unit.inside:raise"):
        failpoint(Failpoint.UNIT_COMMITTED)

    failpoint(Failpoint.UNIT_INSIDE)


def test_several_are_armed_at_once() -> None:
    with armed("unit.inside:raise,unit.committed:raise"):
        for name in (Failpoint.UNIT_INSIDE, Failpoint.UNIT_COMMITTED):
            with pytest.raises(FailpointRaised):
                failpoint(name)


def test_a_delay_happens_from_the_nth_hit_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slept, after = list[float](), list[list[float]]()
    monkeypatch.setattr("saga.failpoints.time.sleep", slept.append)
    with armed("unit.inside:delay=0.05:2"):
        for _ in range(3):
            failpoint(Failpoint.UNIT_INSIDE)
            after.append([*slept])

    assert after == [[], [0.05], [0.05, 0.05]]


@pytest.mark.parametrize(
    "wrong",
    [
        "unit.outside:kill",
        "unit.inside:explode",
        "unit.inside",
        "unit.inside:kill:soon",
        "unit.inside:delay=long",
        "unit.inside:kill:0",
    ],
)
def test_what_arms_nothing_is_refused_with_the_names_that_there_are(wrong: str) -> None:
    with pytest.raises(DefinitionError, match=r"SAGA_FAILPOINTS has .*; expected NAME:kill") as refused, armed(wrong):
        pass

    assert all(name in str(refused.value) for name in Failpoint)


def test_what_makes_no_sense_in_the_environment_is_told_by_commands_and_by_the_first_place_that_is_reached() -> None:
    code = "import saga.failpoints as f\nprint('alive', flush=True)\nf.failpoint(f.Failpoint.UNIT_COMMITTED)\nprint('survived')"
    environment = {**os.environ, "SAGA_FAILPOINTS": "unit.outside:kill"}

    reached, commanded = (
        subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60, check=False)
        for command in (("-c", code), ("-m", "saga", "parked"))
    )

    assert reached.stdout == "alive\n"
    assert "DefinitionError: SAGA_FAILPOINTS has 'unit.outside:kill'; expected NAME:kill" in reached.stderr
    assert commanded.returncode == 2
    assert commanded.stderr.startswith("error: SAGA_FAILPOINTS has 'unit.outside:kill'; expected NAME:kill")


def test_a_process_armed_from_its_environment_is_killed_without_a_last_word() -> None:
    code = "import saga.failpoints as f\nprint('alive', flush=True)\nf.failpoint(f.Failpoint.UNIT_COMMITTED)\nprint('survived')"
    environment = {**os.environ, "SAGA_FAILPOINTS": "unit.committed:kill"}

    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "alive\n"
