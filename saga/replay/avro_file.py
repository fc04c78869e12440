"""Avro object container files: what replay writes for others to read.

Imports fastavro, for these files alone and when one is opened: every command of `saga` loads this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saga.contracts.schema import Schema
from saga.errors import DecodeError
from saga.whole import whole


def write(file: Path, schema: Schema, records: Iterable[Mapping[str, Any]], metadata: Mapping[str, str]) -> None:
    """Write records of a self-contained schema, one block after the other; union branches are (name, record).

    The file appears under its name once it is whole.
    """
    import fastavro

    with whole(file) as opened:
        fastavro.writer(opened, fastavro.parse_schema(schema), records, codec="deflate", metadata=dict(metadata))


def metadata(file: Path) -> Mapping[str, str]:
    """What the file says of itself; raises DecodeError if it is no Avro container."""
    with file.open("rb") as opened:
        return _reader(file, opened).metadata  # type: ignore[no-any-return]


def read(file: Path) -> Iterator[dict[str, Any]]:
    """The records, one after the other; raises DecodeError."""
    from fastavro.read import SchemaResolutionError

    with file.open("rb") as opened:
        try:
            yield from _reader(file, opened)
        except (ValueError, EOFError, KeyError, IndexError, SchemaResolutionError) as error:
            raise DecodeError(f"{file} cannot be read to its end: {type(error).__name__}: {error}") from error


def _reader(file: Path, opened: Any) -> Any:
    import fastavro

    try:
        return fastavro.reader(opened)
    except (ValueError, EOFError, KeyError) as error:
        raise DecodeError(f"{file} is no Avro object container file: {error}") from error
