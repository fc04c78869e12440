"""Spans of time as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from saga.span import span_of


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("0.5s", timedelta(seconds=0.5)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("PT2H", timedelta(hours=2)),
        ("P7DT12H", timedelta(days=7, hours=12)),
    ],
)
def test_a_span_is_a_number_with_its_unit_or_iso_8601(text: str, span: timedelta) -> None:
    assert span_of(text) == span


@pytest.mark.parametrize(
    "text", ["", "7", "30", "h", "2 weeks", "2w", "1e999d", "nand", "P", "PT", "00:10:00", "-1h", "999999d", "P-1D"]
)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"found '{text}'; expected a span such as 90s, 10m, 2h, 7d or PT2H"):
        span_of(text)
