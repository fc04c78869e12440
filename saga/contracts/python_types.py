"""An Avro type, and a default of it, as Python source: annotations that `check_view` accepts and literals that fit them."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import orjson

from saga.contracts.schema import Schema
from saga.contracts.sensitive import is_sensitive
from saga.errors import DefinitionError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN = {
    "null": "None",
    "boolean": "bool",
    "int": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "bytes": "bytes",
    "string": "str",
}
_MODULES = {
    "Annotated": "typing",
    "AwareDatetime": "pydantic",
    "BaseModel": "pydantic",
    "Decimal": "decimal",
    "Event": "saga",
    "Field": "pydantic",
    "NaiveDatetime": "pydantic",
    "StrEnum": "enum",
    "UTC": "datetime",
    "UUID": "uuid",
    "date": "datetime",
    "datetime": "datetime",
    "time": "datetime",
}
_TIMES = {
    "date": "date",
    "time-millis": "time",
    "time-micros": "time",
    "timestamp-millis": "AwareDatetime",
    "timestamp-micros": "AwareDatetime",
    "local-timestamp-millis": "NaiveDatetime",
    "local-timestamp-micros": "NaiveDatetime",
}


class Names:
    """The names that a module needs from elsewhere: each under its own name, unless a field or class bears that."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken, self._used = frozenset(taken), set[str]()

    def __call__(self, name: str) -> str:
        """How this name is written in the module; from now on it is imported."""
        if name not in _MODULES:
            if name not in self._taken or not hasattr(builtins, name):
                return name
            self._used.add("builtins")
            return f"builtins.{name}"
        self._used.add(name)
        return f"{name}_" if name in self._taken else name

    def imports(self) -> list[str]:
        """The import statements, the standard library first."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._used - {"builtins"}, key=lambda name: (not name.isupper(), not name[0].isupper(), name)):
            found.setdefault(_MODULES[name], []).append(f"{name} as {name}_" if name in self._taken else name)
        lines = [f"from {module} import {', '.join(names)}" for module, names in sorted(found.items())]
        third = [line for line in lines if line.startswith(("from pydantic ", "from saga "))]
        own = (["import builtins"] if "builtins" in self._used else []) + [line for line in lines if line not in third]
        groups = [own, third]
        return "\n\n".join("\n".join(group) for group in groups if group).splitlines()


class TypeSource:
    """Writes types and defaults; `types` are the named types by full name."""

    def __init__(self, types: Mapping[str, Schema], names: Names) -> None:
        self.types, self.names = types, names

    def annotation(self, schema: Any) -> str:
        """The Python type of a field."""
        schema = self.resolved(schema)
        if isinstance(schema, list):
            branches = [self.annotation(branch) for branch in schema if branch != "null"]
            if "null" in schema:
                branches.append("None")
            return " | ".join(dict.fromkeys(branches))
        if isinstance(schema, str):
            return self._primitive(schema)
        return self._logical(schema) or self._complex(schema)

    def default(self, field: Schema) -> str:
        """What stands behind the equals sign of a field that has a default or is sensitive, and then not shown.

        Raises DefinitionError for a default that is not of the field's type (of a union: the first).
        """
        try:
            return self._default(field)
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            shown = orjson.dumps(field["default"]).decode()
            raise DefinitionError(
                f"the default {shown} of field {field['name']!r} does not fit its type (of a union: the first); correct it. "
                f"See: saga schemas check"
            ) from error

    def _default(self, field: Schema) -> str:
        hidden = ["repr=False"] if is_sensitive(field) else []
        if "default" not in field:
            return f"{self.names('Field')}({', '.join(hidden)})"
        value, schema = field["default"], self.resolved(field["type"])
        if isinstance(schema, dict) and schema["type"] in ("array", "map"):
            empty = self.names("list" if schema["type"] == "array" else "dict")
            factory = f"lambda: {self.literal(value, schema)}" if value else empty
            return f"{self.names('Field')}({', '.join([f'default_factory={factory}', *hidden])})"
        literal = self.literal(value, schema)
        return f"{self.names('Field')}({', '.join([f'default={literal}', *hidden])})" if hidden else literal

    def literal(self, value: Any, schema: Any) -> str:
        """The value that an Avro default (as JSON) stands for; of a union it belongs to the first branch."""
        schema = self.resolved(schema)
        if isinstance(schema, list):
            return self.literal(value, schema[0])
        kind = schema["type"] if isinstance(schema, dict) else schema
        logical = self._logical_literal(value, schema) if isinstance(schema, dict) else None
        match kind:
            case _ if logical is not None:
                return logical
            case "null":
                return "None"
            case "bytes" | "fixed":
                return _bytes(value)
            case "enum":
                return f"{schema['name']}.{members(schema)[value]}"
            case "array":
                return f"[{', '.join(self.literal(item, schema['items']) for item in value)}]"
            case "map":
                items = (f"{_text(key)}: {self.literal(item, schema['values'])}" for key, item in value.items())
                return f"{{{', '.join(items)}}}"
            case "record":
                return self._record_literal(value, schema)
            case "float" | "double":
                return repr(float(value))
        return _text(value) if kind == "string" else repr(value)

    def resolved(self, schema: Any) -> Any:
        """The type itself, in place of a name or of a type in a type."""
        if isinstance(schema, str):
            return self.types.get(schema, schema)
        if isinstance(schema, dict) and isinstance(schema["type"], dict | list):
            return self.resolved(schema["type"])
        return schema

    def _primitive(self, name: str) -> str:
        return self.names(_PLAIN[name])

    def _logical(self, schema: Schema) -> str | None:
        match schema.get("logicalType"):
            case "uuid":
                return self.names("UUID")
            case "decimal":
                limits = f"max_digits={schema['precision']}, decimal_places={schema.get('scale', 0)}"
                return f"{self.names('Annotated')}[{self.names('Decimal')}, {self.names('Field')}({limits})]"
            case str() as name if name in _TIMES:
                return self.names(_TIMES[name])
        return None

    def _complex(self, schema: Schema) -> str:
        match schema:
            case {"type": "array", "items": items}:
                return f"{self.names('list')}[{self.annotation(items)}]"
            case {"type": "map", "values": values}:
                return f"{self.names('dict')}[{self.names('str')}, {self.annotation(values)}]"
            case {"type": "fixed", "size": size}:
                limits = f"min_length={size}, max_length={size}"
                return f"{self.names('Annotated')}[{self.names('bytes')}, {self.names('Field')}({limits})]"
            case {"name": name}:
                return str(name)
        return self._primitive(schema["type"])

    def _record_literal(self, value: Mapping[str, Any], schema: Schema) -> str:
        fields = [field for field in schema["fields"] if field["name"] in value]
        given = (f"{field['name']}={self.literal(value[field['name']], field['type'])}" for field in fields)
        return f"{schema['name']}({', '.join(given)})"

    def _logical_literal(self, value: Any, schema: Schema) -> str | None:
        match schema.get("logicalType"):
            case "uuid" if schema["type"] == "string":
                return f"{self.names('UUID')}({_text(value)})"
            case "uuid":
                return f"{self.names('UUID')}(bytes={_bytes(value)})"
            case "decimal":
                unscaled = int.from_bytes(value.encode("latin-1"), "big", signed=True)
                return f"{self.names('Decimal')}({_text(str(Decimal(unscaled).scaleb(-schema.get('scale', 0))))})"
            case "date":
                return self._moment(_EPOCH.date() + timedelta(days=value))
            case "time-millis" | "time-micros" as kind:
                return self._moment((_EPOCH + _span(value, kind)).time())
            case "timestamp-millis" | "timestamp-micros" as kind:
                return self._moment(_EPOCH + _span(value, kind))
            case "local-timestamp-millis" | "local-timestamp-micros" as kind:
                return self._moment((_EPOCH + _span(value, kind)).replace(tzinfo=None))
        return None

    def _moment(self, moment: date | time | datetime) -> str:
        if isinstance(moment, datetime) and moment.tzinfo is None:
            return f"{self.names('datetime')}.fromisoformat({_text(moment.isoformat())})"
        if isinstance(moment, datetime):
            parts = (*moment.timetuple()[:6], *([moment.microsecond] if moment.microsecond else []))
            return f"{self.names('datetime')}({', '.join(map(str, parts))}, tzinfo={self.names('UTC')})"
        if isinstance(moment, date):
            return f"{self.names('date')}({moment.year}, {moment.month}, {moment.day})"
        return f"{self.names('time')}({moment.hour}, {moment.minute}, {moment.second}, {moment.microsecond})"


def members(schema: Schema) -> dict[str, str]:
    """Symbol to the name of its enum member: in capitals, unless two symbols would then be one."""
    capitals = [symbol.upper() for symbol in schema["symbols"]]
    unique = len(set(capitals)) == len(capitals)
    return {symbol: _member(symbol.upper() if unique else symbol) for symbol in schema["symbols"]}


def _member(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) or name.startswith("_") or name in dir(str) else name


def _span(value: int, kind: str) -> timedelta:
    return timedelta(milliseconds=value) if kind.endswith("millis") else timedelta(microseconds=value)


def _text(value: str) -> str:
    return repr(value) if '"' in value else orjson.dumps(value).decode()


def _bytes(value: str) -> str:
    written = repr(value.encode("latin-1"))
    return written if '"' in written else f'b"{written[2:-1]}"'
