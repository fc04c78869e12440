"""Hiding what contracts call sensitive: fields tagged `"sensitive": true` are replaced, alike for alike.

Equal values stay equal, so that what is joined by them still is. Whoever can guess a value can test the guess, unless `salt`
is a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID

from saga.contracts.saga import Saga
from saga.contracts.schema import PRIMITIVES, Schema, outline
from saga.errors import ContractError
from saga.replay.history import History

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Masking:
    """Masks the payloads of one saga's events."""

    def __init__(self, saga: Saga, codec: AvroCodec, *, salt: str = "") -> None:
        self.saga, self.codec = saga, codec
        self.key = blake2b(salt.encode(), digest_size=32).digest()
        self._types: dict[str, Mapping[str, Schema]] = {}

    def payloads(self, history: History) -> dict[str, bytes]:
        """The payload of each event, by event id; of one that cannot be read, and so not be masked, nothing."""
        return {one.id: self.payload(one.type, one.record.value or b"") for one in history.entries.values()}

    def payload(self, name: str, payload: bytes) -> bytes:
        """The same record with its tagged fields replaced; untouched where its type has none.

        Of one that was written by another schema, what the contract does not have is not kept: it may have been tagged there.
        """
        if name not in self.saga.types:
            return b""
        if name not in self._types:
            self._types[name] = outline(self.saga.contract(name))
        types = self._types[name]
        is_plain = not any(field.get("sensitive") for type_ in types.values() for field in type_.get("fields", ()))
        if is_plain and self.codec.is_own(name, payload):
            return payload
        try:
            return self.codec.encode(name, self._walked(types[name], self.codec.decode(name, payload), types, hide=False))
        except ContractError:
            return b""

    def _walked(self, schema: Any, value: Any, types: Mapping[str, Schema], *, hide: bool) -> Any:
        schema = types.get(schema, schema) if isinstance(schema, str) else schema
        match schema, value:
            case {"fields": fields}, dict():
                return {
                    field["name"]: self._walked(
                        field["type"], value[field["name"]], types, hide=hide or field.get("sensitive") is True
                    )
                    for field in fields
                }
            case {"type": "array", "items": items}, list():
                return [self._walked(items, item, types, hide=hide) for item in value]
            case {"type": "map", "values": values}, dict():
                return {
                    self._hidden(key) if hide else key: self._walked(values, item, types, hide=hide)
                    for key, item in value.items()
                }
            case list(), _:
                return self._branch(schema, value, types, hide=hide)
            case {"type": "enum", "symbols": symbols}, _:
                return symbols[0] if hide else value
            case {"type": "fixed", "size": size}, bytes():
                return self._digest(value)[:size].ljust(size, b"\0") if hide else value
        return self._hidden(value) if hide else value

    def _branch(self, union: list[Any], value: Any, types: Mapping[str, Schema], *, hide: bool) -> Any:
        """A union of null and one type is looked into; of several types only as far as plain values go."""
        others = [branch for branch in union if branch != "null"]
        if value is None:
            return None
        if len(others) == 1:
            return self._walked(others[0], value, types, hide=hide)
        if isinstance(value, dict | list):
            raise ContractError("a union of several types holds what may be sensitive")
        return (
            self._hidden(value)
            if hide or not all(branch in PRIMITIVES for branch in others if isinstance(branch, str))
            else value
        )

    def _hidden(self, value: Any) -> Any:
        digest = self._digest(value)
        match value:
            case bool() | None:
                return value and False
            case str():
                return f"masked-{digest.hex()[:12]}"
            case bytes():
                return digest
            case int():
                return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
            case float():
                return float(int.from_bytes(digest[:3], "big"))
            case UUID():
                return UUID(bytes=digest[:16])
            case Decimal():
                return value * 0
            case datetime():
                return _LONG_AGO
            case date():
                return _LONG_AGO.date()
            case time():
                return time()
        raise ContractError(f"nobody knows how to mask a {type(value).__name__}")

    def _digest(self, value: Any) -> bytes:
        return blake2b(repr(value).encode(), key=self.key, digest_size=16).digest()
