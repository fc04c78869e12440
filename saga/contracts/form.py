"""Whether a schema, as JSON, has the form of an Avro schema, so that it can be walked. Source: Avro 1.12 specification."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from math import log10
from typing import Any

from saga.contracts.schema import COLLECTIONS, NAMED, PRIMITIVES, Schema, outline, parts

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def malformed(schema: Any, place: str = "") -> Iterator[str]:
    """What has not the form that it should have, each with its place; of a part that has none nothing more is said."""
    match schema:
        case str():
            return
        case list() if schema:
            for branch in schema:
                yield from malformed(branch, place)
        case {"type": str(kind)} if kind in NAMED or kind in COLLECTIONS:
            yield from _complex(schema, place)
        case {"type": inner}:
            yield from malformed(inner, place)
            yield from _decimal(schema, place)
        case _:
            yield _wrong(place, schema, "a type: a name, a union of at least one, or an object with a type")


def repeated(text: bytes) -> list[str]:
    """Keys that stand more than once in an object of a JSON text, with its name: whoever reads it takes the last in silence."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        whose = f" of {made['name']!r}" if isinstance(made.get("name"), str) else ""
        found.extend(f"{key!r}{whose}" for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return made

    json.loads(text, object_pairs_hook=look)
    return found


def unknown(schema: Schema, known: Collection[str] = ()) -> Iterator[str]:
    """Names in a self-contained schema that no type bears."""
    types = outline(schema)
    named = {*types, *known, *PRIMITIVES, *NAMED, *COLLECTIONS}
    for type_ in types.values():
        yield from (part for part in parts(type_) if isinstance(part, str) and part not in named)


def _complex(schema: Any, place: str) -> Iterator[str]:
    kind, here = schema["type"], str(schema.get("name") or place)
    if kind in NAMED and not (isinstance(schema.get("name"), str) and schema["name"]):
        yield _wrong(place, schema.get("name"), f"the name of the {kind}")
    elif kind in NAMED and not isinstance(schema.get("namespace") or "", str):
        yield _wrong(here, schema["namespace"], "a namespace")
    elif kind in NAMED and not isinstance(schema.get("doc") or "", str):
        yield _wrong(here, schema["doc"], 'a text as "doc"')
    match schema:
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            yield from malformed(inner, here)
        case {"type": "enum", "symbols": [_, *_] as symbols} if all(isinstance(symbol, str) for symbol in symbols):
            yield from _symbols(schema, here)
        case {"type": "fixed", "size": int(size)} if size >= 0 and not isinstance(size, bool):
            yield from _decimal(schema, here)
        case {"type": "record" | "error", "fields": list(fields)}:
            for field in fields:
                yield from _field(field, here)
        case _:
            needs = {"array": "items", "map": "values", "enum": "symbols", "fixed": "size"}.get(kind, "fields")
            yield _wrong(here, schema.get(needs), f'"{needs}" of the {kind}')


def _symbols(schema: Any, place: str) -> Iterator[str]:
    symbols = schema["symbols"]
    if wrong := [one for one in symbols if not _NAME.fullmatch(one) or symbols.count(one) > 1]:
        yield _wrong(place, wrong[0], "symbols of letters, digits and underscores, each once")
    elif schema.get("default", symbols[0]) not in symbols:
        yield _wrong(place, schema["default"], f'one of its symbols as "default": {", ".join(symbols)}')


def _decimal(schema: Any, place: str) -> Iterator[str]:
    if schema.get("logicalType") != "decimal" or schema["type"] not in ("bytes", "fixed"):
        return  # elsewhere it means nothing, which the lint says
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision or precision == 0:
        yield _wrong(place, f"precision {precision!r} and scale {scale!r}", "a precision from 1, and a scale up to it")
    elif schema["type"] == "fixed" and precision > (8 * schema["size"] - 1) * log10(2):
        yield _wrong(place, f"precision {precision}", f"no more digits than {schema['size']} bytes hold")


def _field(field: Any, place: str) -> Iterator[str]:
    if not (isinstance(field, dict) and isinstance(field.get("name"), str) and field["name"]):
        yield _wrong(place, field, "a field with a name")
    elif "type" not in field:
        yield f"{place}.{field['name']}: found no type; expected the type of the field"
    elif not isinstance(field.get("doc") or "", str):
        yield _wrong(f"{place}.{field['name']}", field["doc"], 'a text as "doc"')
    elif not isinstance(field.get("aliases", []), list):
        yield _wrong(f"{place}.{field['name']}", field["aliases"], 'a list as "aliases"')
    else:
        yield from malformed(field["type"], f"{place}.{field['name']}")


def _wrong(place: str, found: Any, expected: str) -> str:
    what = "nothing" if found is None else repr(found)[:80]
    return f"{place or 'the schema'}: found {what}; expected {expected}"
