"""A file of business records, one at a time: JSON lines or CSV, each with the line it stands on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from saga.errors import DefinitionError


class Row(NamedTuple):
    """One record; `wrong` says why it is none."""

    line: int
    fields: dict[str, Any]
    wrong: str | None = None


def rows(file: Path) -> Iterator[Row]:
    """The records of a file that ends in `.jsonl` (an object a line) or `.csv` (the first line names the fields).

    Raises DefinitionError for any other file, one that is not there, or where it comes to what no table has.
    """
    readers = {".jsonl": _json_lines, ".csv": _csv}
    if file.suffix not in readers or not file.is_file():
        found = f"a file that ends in {file.suffix!r}" if file.is_file() else "no such file"
        raise DefinitionError(f"{file}: found {found}; expected {' or '.join(readers)}")
    return readers[file.suffix](file)


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _object(number, line)


def _object(number: int, line: bytes) -> Row:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Row(number, {}, f"no JSON: {error}")
    return (
        Row(number, found) if isinstance(found, dict) else Row(number, {}, f"found {type(found).__name__}; expected an object")
    )


def _csv(file: Path) -> Iterator[Row]:
    with file.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets begin a file with a mark
        reader = csv.DictReader(lines)
        try:
            _refuse_doubles(file, reader.fieldnames or ())
            for fields in reader:
                if None in fields or None in fields.values():
                    yield Row(reader.line_num, {}, f"expected {len(reader.fieldnames or [])} values, as in the first line")
                else:
                    yield Row(reader.line_num, dict(fields))
        except UnicodeDecodeError as error:
            raise DefinitionError(f"{file}: it is no UTF-8: {error}; save it as UTF-8") from error
        except csv.Error as error:
            raise DefinitionError(
                f"{file}: behind line {reader.line_num}: {error}; correct it, or give it as .jsonl"
            ) from error


def _refuse_doubles(file: Path, names: Sequence[str]) -> None:
    """Of two columns of one name a reader keeps the last."""
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(f"{file}: found two columns {name!r}; expected each name once in the first line")
