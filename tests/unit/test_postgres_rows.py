"""What rows become on their way to PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from saga.store.postgres_rows import iso

ZONES = st.just(UTC) | st.timezones()


@given(st.datetimes(timezones=ZONES))
def test_a_moment_is_written_as_python_reads_it(moment: datetime) -> None:
    assert iso(moment) == moment.isoformat()
