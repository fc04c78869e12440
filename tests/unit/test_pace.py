"""How far a command is, told once a second, and how long it will take."""

from __future__ import annotations

import pytest

from saga.cli.past import replaying


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, whose latest moment is the last one."""
    found = [0.0]
    monkeypatch.setattr("saga.cli.past.replaying.time.monotonic", lambda: found[-1])
    return found


def test_whatever_the_batches_somebody_hears_of_it(moments: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    pace = replaying.Pace(200_000)

    for read in (667, 1167, 1334):
        moments.append(moments[-1] + 1)
        pace(read)

    assert capsys.readouterr().err == "1167 of 200000 records, 584/s, 5 min 40 s left\n"


def test_what_is_read_a_second_time_is_counted_from_the_beginning(
    moments: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    pace = replaying.Pace(6000)

    for moment, read in ((1, 2000), (2, 6000), (3, 500), (4, 2500)):
        moments.append(moment)
        pace(read)

    assert capsys.readouterr().err.splitlines()[-1] == "2500 of 6000 records, 2500/s, 1 s left"
