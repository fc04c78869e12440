"""Avro schemas as JSON: names, self-contained copies, fingerprints. No Avro library."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

Schema = dict[str, Any]

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAMED = frozenset({"record", "enum", "fixed", "error"})
_COLLECTIONS = frozenset({"array", "map"})


def full_name(schema: Mapping[str, Any], namespace: str) -> str:
    """The full name of a named type; `namespace` is the enclosing one. Source: Avro 1.12 specification, Names."""
    name = str(schema["name"])
    space = schema.get("namespace", namespace)
    return name if "." in name or not space else f"{space}.{name}"


def resolve(name: str, namespace: str, types: Mapping[str, Schema]) -> str | None:
    """The full name under which a reference is known, None for a primitive or an unknown name."""
    if name in PRIMITIVES:
        return None
    candidates = (name, f"{namespace}.{name}") if "." not in name else (name,)
    return next((c for c in candidates if c in types), None)


def inline(schema: Schema, types: Mapping[str, Schema]) -> Schema:
    """The schema with every type of `types` written out where it is first used; references after that."""
    copied = _Inliner(types).copy(schema, "")
    assert isinstance(copied, dict)
    return copied


class _Inliner:
    def __init__(self, types: Mapping[str, Schema]) -> None:
        self.types = types
        self.written: set[str] = set()

    def copy(self, schema: Any, namespace: str) -> Any:
        match schema:
            case str():
                return self._reference(schema, namespace)
            case list():
                return [self.copy(branch, namespace) for branch in schema]
            case {"type": kind} if kind in _NAMED:
                return self._named(schema, namespace)
            case dict():
                nested = {k: self.copy(schema[k], namespace) for k in ("type", "items", "values") if k in schema}
                return {**schema, **nested}
        return schema

    def _reference(self, name: str, namespace: str) -> Any:
        found = resolve(name, namespace, self.types)
        if found is None or found in self.written:
            return found or name
        return self.copy(self.types[found], "")

    def _named(self, schema: Schema, namespace: str) -> Schema:
        name = full_name(schema, namespace)
        self.written.add(name)
        space = name.rpartition(".")[0]
        copied = {**schema, "name": name.rpartition(".")[2], **({"namespace": space} if space else {})}
        if "fields" in schema:
            copied["fields"] = [{**f, "type": self.copy(f["type"], space)} for f in schema["fields"]]
        return copied


def outline(schema: Schema) -> dict[str, Schema]:
    """The named types of a self-contained schema, each by its full name, with references where others stood inside."""
    types: dict[str, Schema] = {}
    _outlined(schema, "", types)
    return types


def _outlined(schema: Any, namespace: str, types: dict[str, Schema]) -> Any:
    match schema:
        case list():
            return [_outlined(branch, namespace, types) for branch in schema]
        case {"type": kind} if kind in _NAMED:
            name = full_name(schema, namespace)
            space = name.rpartition(".")[0]
            copied = {**schema, "name": name.rpartition(".")[2], **({"namespace": space} if space else {})}
            if "fields" in schema:
                copied["fields"] = [{**f, "type": _outlined(f["type"], space, types)} for f in schema["fields"]]
            types[name] = copied
            return name
        case dict():
            nested = {k: _outlined(schema[k], namespace, types) for k in ("type", "items", "values") if k in schema}
            return {**schema, **nested}
        case str() if schema not in PRIMITIVES | _COLLECTIONS and "." not in schema and namespace:
            return f"{namespace}.{schema}"
    return schema


def fingerprint(schema: Schema) -> int:
    """31 bits of SHA-256 over the schema's sorted JSON: a schema id that every process computes alike."""
    digest = sha256(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
