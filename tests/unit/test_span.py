"""Spans of time as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from saga.span import span_of, spelt


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


@pytest.mark.parametrize(
    "text", ["0s", "0.5s", "59s", "2m", "23h", "7d", "365000d", "1.000001s", "PT1M30S", "P1DT10M", "P30DT1S", "PT1H0.5S"]
)
def test_a_span_is_spelt_as_it_is_read(text: str) -> None:
    assert spelt(span_of(text)) == text


def test_it_is_spelt_in_one_unit_if_that_is_all_there_is() -> None:
    assert [spelt(span_of(text)) for text in ("120m", "PT24H", "36h")] == ["2h", "1d", "P1DT12H"]
