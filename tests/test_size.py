"""A file that grows beyond 400 lines has more than one noun in it."""

from __future__ import annotations

from tests.sources import FILES, ROOT

LIMIT = 400


def test_no_file_of_the_library_exceeds_the_limit() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}

    assert {name: length for name, length in lengths.items() if length > LIMIT} == {}
