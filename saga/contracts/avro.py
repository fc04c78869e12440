"""Events to bytes and back: Avro in the Confluent wire format (0x00, schema id as 4 bytes big-endian, body).

The sole importer of fastavro. Bytes are made before the commit, so what can never be published fails its handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import fastavro
from fastavro.types import Schema as Parsed

from saga.contracts.acknowledged import RECORD as ACKNOWLEDGED
from saga.contracts.defaults import with_values
from saga.contracts.registry import Registry
from saga.contracts.schema import Schema, computed_id, hazards
from saga.contracts.sensitive import has_sensitive
from saga.contracts.upcast import Upcasters
from saga.errors import DecodeError, EncodeError, EventTooLarge, SchemaNotFound, UnknownSchema

MAX_EVENT_BYTES = 900_000

_INT32 = "saga-int32"
_MAX_DECIMAL = 1024


class _Beyond:
    """A number that is no int: another branch of a union may take it, and whoever writes it as an int is told."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __index__(self) -> int:
        raise ValueError(f"{self._number} is beyond the 32 bits of an int; let the contract say long")


def _in_range(value: Any, *_: object) -> Any:
    return _Beyond(value) if isinstance(value, int) and not -(2**31) <= value < 2**31 else value


def _of_bounded_length(read: Callable[..., Any]) -> Callable[..., Any]:
    """Read a decimal of a kilobyte at most: one of a megabyte keeps a processor busy for minutes."""

    def bounded(data: bytes, *more: Any) -> Any:
        if len(data) > _MAX_DECIMAL:
            raise ValueError(f"found a decimal of {len(data)} bytes; at most {_MAX_DECIMAL} are read")
        return read(data, *more)

    return bounded


for _kind in ("bytes-decimal", "fixed-decimal"):
    fastavro.read.LOGICAL_READERS[_kind] = _of_bounded_length(fastavro.read.LOGICAL_READERS[_kind])

# it knows a uuid in a text only, and the specification one of 16 bytes as well
fastavro.write.LOGICAL_WRITERS["fixed-uuid"] = lambda value, *_: value.bytes if isinstance(value, UUID) else value
fastavro.read.LOGICAL_READERS["fixed-uuid"] = lambda data, *_: UUID(bytes=data)

# fastavro writes such a value as the long that it is, which no other Avro library reads back.
fastavro.write.LOGICAL_WRITERS[f"int-{_INT32}"] = _in_range


class Contracts(Protocol):
    """What a codec must know: a `Saga`, or the control records alone."""

    @property
    def registry(self) -> Registry | None: ...
    @property
    def published(self) -> tuple[str, ...]: ...
    def contract(self, name: str) -> Schema: ...
    def subject(self, name: str) -> str: ...


class _Type(NamedTuple):
    """How a type begins, and its schema; what is guarded in `writing` would only be looked for in vain while reading."""

    prefix: bytes
    writing: Parsed
    reading: Parsed


class AvroCodec:
    """Encodes and decodes the types of one saga.

    With a `registry` (by default the one in which the saga was found) ids are those registered there, without one they are
    computed of what bytes mean by each schema.
    `others` are sagas that have other versions of its types: without a registry, what was written by them can be read, too.
    `max_bytes` (900 kB if it is not said) bounds what `encode` makes and what `decode` accepts, acknowledgments apart, which
    nobody would have to blame; it must stay below the topics' `max.message.bytes`. `upcasters` raise old events to those that
    are asked for.
    """

    def __init__(
        self,
        saga: Contracts,
        registry: Registry | None = None,
        *,
        max_bytes: int | None = None,
        upcasters: Upcasters | None = None,
        others: Iterable[Contracts] = (),
    ) -> None:
        self.saga, self.registry, self.max_bytes = saga, registry or saga.registry, max_bytes or MAX_EVENT_BYTES
        self.upcasters, self.others = upcasters or Upcasters(), tuple(others)
        self._types: dict[str, _Type] = {}
        self._others: dict[tuple[str, bytes], Parsed] = {}

    def warm(self) -> None:
        """Learn the ids of all types; raises SchemaNotFound for one that is not registered, RegistryUnavailable."""
        for name in self.saga.published:
            self._type(name)

    def encode(self, name: str, fields: Mapping[str, Any]) -> bytes:
        """Write a record of the type `name` (full name); raises EncodeError or EventTooLarge."""
        prefix, schema, _ = self._type(name)
        buffer = BytesIO(prefix)
        buffer.seek(len(prefix))
        try:
            fastavro.schemaless_writer(buffer, schema, fields)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise EncodeError(f"event {name} does not fit its contract: {self._told(name, error)}") from self._cause(
                name, error
            )
        if buffer.tell() > self.max_bytes and name != ACKNOWLEDGED:
            raise EventTooLarge(name, buffer.tell(), self.max_bytes)
        return buffer.getvalue()

    def decode(self, name: str, payload: bytes) -> dict[str, Any]:
        """Read a record that must be of the type `name`, to its last byte.

        Raises DecodeError, which is UnknownSchema if the registry does not know (yet) with which schema it was written, and
        RegistryUnavailable.
        """
        if len(payload) > self.max_bytes and name != ACKNOWLEDGED:
            raise DecodeError(f"event {name} is {len(payload)} bytes; at most {self.max_bytes} are decoded")
        prefix, _, schema = self._type(name)
        writer = schema if payload.startswith(prefix) else self._other(name, payload[:5])
        if writer is not schema and isinstance(writer, dict) and self.upcasters.leads(writer["name"], name):
            return self._raised(writer["name"], name, payload, writer)
        return self._read(name, payload, writer, schema)

    def _read(self, name: str, payload: bytes, writer: Parsed, reader: Parsed) -> dict[str, Any]:
        """By the writer's schema first: fastavro skips what a reader leaves out without a look at the end of the bytes."""
        record = self._read_by(name, payload, writer)
        return record if reader is writer else self._read_by(name, payload, writer, reader)

    def _read_by(self, name: str, payload: bytes, writer: Parsed, reader: Parsed | None = None) -> dict[str, Any]:
        body = BytesIO(payload)
        body.seek(5)
        try:
            record = fastavro.schemaless_reader(body, writer, reader)
        except Exception as error:  # foreign bytes, perhaps by a foreign schema: whatever the library makes of them
            told = f"event {name} cannot be read: {type(error).__name__}: {self._told(name, error)}"
            raise DecodeError(told) from self._cause(name, error)
        if not isinstance(record, dict):
            raise DecodeError(f"event {name} cannot be read: it is a {type(record).__name__}, expected a record")
        if rest := len(payload) - body.tell():
            raise DecodeError(f"event {name} cannot be read: {rest} bytes are left over")
        return record

    def _raised(self, old: str, new: str, payload: bytes, writer: Parsed) -> dict[str, Any]:
        """The old event, by its own contract where the saga still has it, as the new one, which must fit its own."""
        known = self._known(old)
        fields = self.upcasters.raised(old, new, self._read(old, payload, writer, writer if known is None else known.reading))
        if not fastavro.validation.validate(fields, self._type(new).writing, raise_errors=False, strict=True):
            raise DecodeError(f"event {old} was raised to {new}, and does not fit that contract; correct its upcaster")
        return fields

    def _known(self, name: str) -> _Type | None:
        try:
            return self._type(name)
        except (KeyError, SchemaNotFound):
            return None

    def _told(self, name: str, error: Exception) -> str:
        """The Avro library shows the value that does not fit; a contract with sensitive fields keeps it quiet."""
        return f"{type(error).__name__}, not shown for its sensitive fields" if self._is_quiet(name) else str(error)

    def _cause(self, name: str, error: Exception) -> Exception | None:
        return None if self._is_quiet(name) else error

    def _is_quiet(self, name: str) -> bool:
        try:
            return has_sensitive(self.saga.contract(name))
        except KeyError:  # an old event of which the saga knows the name alone
            return True

    def _type(self, name: str) -> _Type:
        if (known := self._types.get(name)) is None:
            prefix, schema = _prefix(self.schema_id(name)), self.saga.contract(name)
            known = _Type(prefix, _own(_guarded(schema)), _own(schema))
            self._types[name] = known
        return known

    def is_own(self, name: str, payload: bytes) -> bool:
        """Whether it was written by the very schema at hand, not by an earlier one or that of somebody else."""
        return payload.startswith(self._type(name).prefix)

    def schema_id(self, name: str) -> int:
        """The id written before the Avro body of this type."""
        schema = self.saga.contract(name)
        return computed_id(schema) if self.registry is None else self.registry.id_of(self.saga.subject(name), schema)

    def _other(self, name: str, prefix: bytes) -> Parsed:
        """The schema of another version of this type, or of one that is raised to it, with which a record was written."""
        if (known := self._others.get((name, prefix))) is None:
            known = self._raisable(name, prefix) or self._beside(name, prefix) or self._registered(name, prefix)
            self._others[name, prefix] = known
        return known

    def _raisable(self, name: str, prefix: bytes) -> Parsed | None:
        for old in self.upcasters.olds:
            if self.upcasters.leads(old, name) and (known := self._known(old)) is not None and known.prefix == prefix:
                return known.reading
        return None

    def _beside(self, name: str, prefix: bytes) -> Parsed | None:
        if self.registry is not None:
            return None
        schemas = (one.contract(name) for one in self.others if name in one.published)
        return next((fastavro.parse_schema(each) for each in schemas if prefix == _prefix(computed_id(each))), None)

    def _registered(self, name: str, prefix: bytes) -> Parsed:
        if self.registry is None or len(prefix) < 5 or prefix[0] != 0:
            raise DecodeError(
                f"event {name} begins with {prefix.hex() or 'nothing'}; expected 00 and the schema id "
                f"{self._type(name).prefix[1:].hex()}: producer and consumer read different contracts; "
                f"share the folder, load the one that it was written by as another version of the saga too, "
                f"or ask the registry that gave the id (SAGA_REGISTRY)"
            )
        id = int.from_bytes(prefix[1:], "big")
        if id >= 2**31:
            raise DecodeError(f"event {name} was written with schema {id}, beyond all that a registry gives out")
        try:
            schema = self.registry.schema_of(id)
        except SchemaNotFound as error:
            raise UnknownSchema(f"event {name} was written with schema {id}, which the registry does not know") from error
        return _parsed(f"event {name} was written with schema {id}", schema)


def _prefix(id: int) -> bytes:
    return b"\0" + id.to_bytes(4, "big")


def _own(schema: Schema) -> Parsed:
    """A schema by which fields that are missing are filled in: fastavro takes a default as it stands in the JSON."""
    return with_values(fastavro.parse_schema(schema), fastavro.read.LOGICAL_READERS)


def _parsed(what: str, schema: Any) -> Parsed:
    """A schema from outside, if it makes sense and does no harm."""
    try:
        if (hazard := next(hazards(schema), None)) is not None:
            raise DecodeError(f"{what}, in which {hazard}: it is not decoded")
        return fastavro.parse_schema(schema)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(f"{what}, which makes no sense: {type(error).__name__}: {error}") from error


def _guarded(schema: Any) -> Any:
    """The same schema, each plain int of which is looked at before it is written."""
    match schema:
        case "int":
            return {"type": "int", "logicalType": _INT32}
        case list():
            return [_guarded(branch) for branch in schema]
        case {"fields": fields}:
            return {**schema, "fields": [{**field, "type": _guarded(field["type"])} for field in fields]}
        case {"type": "int"} if "logicalType" not in schema:
            return {**schema, "logicalType": _INT32}
        case dict():
            return {**schema, **{key: _guarded(schema[key]) for key in ("items", "values") if key in schema}}
    return schema
