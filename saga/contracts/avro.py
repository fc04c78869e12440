"""Events to bytes and back: Avro in the Confluent wire format (0x00, schema id as 4 bytes big-endian, body).

The sole importer of fastavro. Bytes are made before the commit, so what can never be published fails its handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from typing import Any

import fastavro
from fastavro.types import Schema as Parsed

from saga.contracts.saga import Saga
from saga.errors import DecodeError, EncodeError, EventTooLarge

MAX_EVENT_BYTES = 900_000


class AvroCodec:
    """Encodes and decodes the types of one saga.

    `max_bytes` bounds what `encode` makes and what `decode` accepts; it must stay below the topics' `max.message.bytes`.
    """

    def __init__(self, saga: Saga, *, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self.saga, self.max_bytes = saga, max_bytes

    @cached_property
    def _writers(self) -> dict[str, tuple[bytes, Parsed]]:
        return {
            name: (b"\0" + self.saga.schema_id(name).to_bytes(4, "big"), fastavro.parse_schema(self.saga.contract(name)))
            for name in self.saga.types
        }

    @cached_property
    def _readers(self) -> dict[bytes, tuple[str, Parsed]]:
        return {prefix: (name, schema) for name, (prefix, schema) in self._writers.items()}

    def encode(self, name: str, fields: Mapping[str, Any]) -> bytes:
        """Write a record of the type `name` (full name); raises EncodeError or EventTooLarge."""
        prefix, schema = self._writers[name]
        buffer = BytesIO(prefix)
        buffer.seek(len(prefix))
        try:
            fastavro.schemaless_writer(buffer, schema, fields)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise EncodeError(f"event {name} does not fit its contract: {error}") from error
        if buffer.tell() > self.max_bytes:
            raise EventTooLarge(name, buffer.tell(), self.max_bytes)
        return buffer.getvalue()

    def decode(self, name: str, payload: bytes) -> dict[str, Any]:
        """Read a record that must be of the type `name`; raises DecodeError."""
        if len(payload) > self.max_bytes:
            raise DecodeError(f"event {name} is {len(payload)} bytes; at most {self.max_bytes} are decoded")
        if (known := self._readers.get(payload[:5])) is None or known[0] != name:
            raise DecodeError(
                f"event {name} begins with {payload[:5].hex() or 'nothing'}; expected 00 and the schema id "
                f"{self._writers[name][0][1:].hex()}: producer and consumer read different contracts; "
                f"share the folder or the registry"
            )
        try:
            record = fastavro.schemaless_reader(BytesIO(payload[5:]), known[1], None)
        except (ValueError, EOFError, IndexError, TypeError, KeyError, UnicodeDecodeError, OverflowError) as error:
            raise DecodeError(f"event {name} cannot be read: {type(error).__name__}: {error}") from error
        assert isinstance(record, dict)
        return record
