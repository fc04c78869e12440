"""How many there are of something, in words."""

from __future__ import annotations

import pytest

from saga.count import many


@pytest.mark.parametrize(("number", "said"), [(0, "0 dead letters"), (1, "1 dead letter"), (2, "2 dead letters")])
def test_one_is_told_as_one(number: int, said: str) -> None:
    assert many(number, "dead letter") == said


def test_what_changes_otherwise_is_said_by_whoever_tells_it() -> None:
    assert [many(number, "event waits", "events wait") for number in (1, 2)] == ["1 event waits", "2 events wait"]
