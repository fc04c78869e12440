"""Avro schemas as JSON: names, self-contained copies, fingerprints. No Avro library."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from typing import Any

import orjson

Schema = dict[str, Any]

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "enum", "fixed", "error"})
COLLECTIONS = frozenset({"array", "map"})
MAX_DEPTH = 64
MAX_PARTS = 100_000


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
            case {"type": kind} if kind in NAMED:
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
        case {"type": kind} if kind in NAMED:
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
        case str() if schema not in PRIMITIVES | COLLECTIONS and "." not in schema and namespace:
            return f"{namespace}.{schema}"
    return schema


def hazards(schema: Schema) -> Iterator[str]:
    """What in a self-contained schema lets a few bytes exhaust a decoder's stack (the process dies), its memory or its time.

    Each looks only at what those before it have found harmless.
    """
    if _is_deeper(schema, MAX_DEPTH):
        yield f"types are written more than {MAX_DEPTH} deep in each other"
        return
    types = outline(schema)
    if looped := _looped(types):
        yield from (f"type {name} contains itself" for name in looped if name in _reachable(name, looped))
    else:
        yield from _expansion(types) or _weightless_items(types)


def _looped(types: Mapping[str, Schema]) -> dict[str, set[str]]:
    """What is left of "names another type" once all is taken away that leads into no circle: nothing, if there is none."""
    names = {name: {part for part in parts(type_) if isinstance(part, str) and part in types} for name, type_ in types.items()}
    users: dict[str, list[str]] = {name: [] for name in types}
    for name, used in names.items():
        for other in used:
            users[other].append(name)
    done = [name for name, used in names.items() if not used]
    for name in done:  # grows meanwhile
        for user in users[name]:
            names[user].discard(name)
            if not names[user]:
                done.append(user)
    return {name: used for name, used in names.items() if used}


def _expansion(types: Mapping[str, Schema]) -> list[str]:
    """Types that come to much more than what is written: each names others, which name others."""
    known: dict[str, tuple[int, int]] = {}
    depth, size = map(max, zip(*(_measured(name, types, known, 0) for name in types), strict=True))
    if depth > MAX_DEPTH:
        return [f"types contain each other more than {MAX_DEPTH} deep"]
    return [f"a type comes to more than {MAX_PARTS} parts, which may take no byte"] if size > MAX_PARTS else []


def _weightless_items(types: Mapping[str, Schema]) -> list[str]:
    found = []
    for name, type_ in types.items():
        arrays = (part["items"] for part in parts(type_) if isinstance(part, dict) and part.get("type") == "array")
        if any(_weightless(items, types) for items in arrays):
            found.append(f"type {name} has an array of items that take no bytes")
    return found


def _is_deeper(schema: Any, limit: int) -> bool:
    """Whether the JSON is nested deeper than that; on a level at a time, since recursion itself would be the hazard."""
    level = [schema]
    for _ in range(limit):
        level = [part for outer in level for part in _inside(outer)]
    return bool(level)


def _measured(schema: Any, types: Mapping[str, Schema], known: dict[str, tuple[int, int]], above: int) -> tuple[int, int]:
    """How deep a decoder goes below those `above`, and how many values it may make where no collection has items."""
    if above > MAX_DEPTH * 2:
        return above, 1  # too deep already, whatever comes
    if isinstance(schema, str):
        if schema in types and schema not in known:
            known[schema] = _measured(types[schema], types, known, above + 1)
        return known.get(schema, (1, 1))
    inner = [_measured(part, types, known, above + 1) for part in _inside(schema)]
    return 1 + max((depth for depth, _ in inner), default=0), 1 + sum(size for _, size in inner)


def _reachable(name: str, names: Mapping[str, Collection[str]]) -> set[str]:
    """The types that a type comes to, however deep."""
    found: set[str] = set()
    frontier = [name]
    while frontier:
        more = {*names[frontier.pop()]} & names.keys()
        frontier.extend(more - found)
        found |= more
    return found


def parts(schema: Any) -> Iterator[Any]:
    """A schema and everything that is written inside it."""
    yield schema
    for part in _inside(schema):
        yield from parts(part)


def _inside(schema: Any) -> list[Any]:
    """What is written directly inside a schema."""
    if isinstance(schema, dict):
        inner = [schema[key] for key in ("type", "items", "values") if key in schema]
        return inner + [field["type"] for field in schema.get("fields", [])]
    return schema if isinstance(schema, list) else []


def _weightless(schema: Any, types: Mapping[str, Schema]) -> bool:
    match schema:
        case str():
            return schema == "null" or (schema in types and _weightless(types[schema], types))
        case {"type": "fixed", "size": size}:
            return bool(size == 0)
        case {"type": "record", "fields": fields}:
            return all(_weightless(field["type"], types) for field in fields)
        case {"type": kind}:
            return _weightless(kind, types)
    return False


def fingerprint(schema: Any) -> int:
    """31 bits of SHA-256 over the schema's sorted JSON: another number for whatever is changed in it."""
    digest = sha256(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def computed_id(schema: Schema) -> int:
    """The id of a self-contained schema that every process computes alike, of what bytes mean by it and of nothing else.

    What is said for people, or of how to read other bytes by it (defaults, aliases), changes it as little as it changes them.
    """
    name = full_name(schema, "")
    return fingerprint([name, {full: _meaning(type_) for full, type_ in outline(schema).items()}])


def _meaning(schema: Any) -> Any:
    """The Parsing Canonical Form of a type that names others, and its logical type. Source: Avro 1.12 specification."""
    if isinstance(schema, list):
        return [_meaning(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: schema[key] for key in ("symbols", "size", "logicalType", "precision", "scale") if key in schema}
    kept |= {key: _meaning(schema[key]) for key in ("type", "items", "values") if key in schema}
    if "fields" in schema:
        kept["fields"] = [[field["name"], _meaning(field["type"])] for field in schema["fields"]]
    return kept["type"] if len(kept) == 1 else kept
