"""What changed between two versions of an event, each change in one sentence.

The verdict on each is the Avro checker's, asked about the changed part alone; a logical type, which no checker looks at, is
ours: the bytes would be read, and mean something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from saga.contracts.schema import Schema, full_name, inline, outline
from saga.evolution.change import Change, Verdict
from saga.evolution.compatibility import incompatible, unreadable

_NO_DEFAULT = object()


def event_changes(old: Schema, new: Schema) -> list[Change]:
    """The changes from one self-contained schema to another of the same event; what concerns a nested type names that type."""
    comparison = _Comparison(outline(old), outline(new))
    found = list(dict.fromkeys(comparison.types(str(new["name"]), old, new)))
    if not any(change.verdict is Verdict.REFUSED for change in found) and (why := incompatible(old, new)):
        found.append(Change(str(new["name"]), f"old and new do not read each other: {'; '.join(why)}", Verdict.REFUSED))
    return found


class _Comparison:
    """Walks two schemas side by side; `before` and `after` are their named types."""

    def __init__(self, before: Mapping[str, Schema], after: Mapping[str, Schema]) -> None:
        self.before, self.after = before, after
        self.seen: set[tuple[str, str]] = set()

    def types(self, place: str, old: Any, new: Any) -> Iterator[Change]:
        """Changes from one type to another that stands in its place."""
        old, new = _written(old, self.before), _written(new, self.after)
        match _kind(old), _kind(new):
            case ("union", _) | (_, "union"):
                yield from self._unions(place, old, new)
            case ("record", "record") if _short(old) == _short(new):
                if (both := (full_name(old, ""), full_name(new, ""))) not in self.seen:
                    self.seen.add(both)
                    yield from self._records(_short(new), old, new)
            case ("enum", "enum") if _short(old) == _short(new):
                yield from self._enums(old, new)
            case ("array", "array"):
                yield from self.types(f"{place}[]", old["items"], new["items"])
            case ("map", "map"):
                yield from self.types(f"{place}{{}}", old["values"], new["values"])
            case _ if _spelt(old) != _spelt(new):
                yield self._judged(place, f"the type changed from {_spelt(old)} to {_spelt(new)}", *_fields(old, new))
            case _ if _logical(old) != _logical(new):
                text = f"the type changed from {_meaning(old)} to {_meaning(new)}: the same bytes would mean something else"
                yield Change(place, text, Verdict.REFUSED)

    def _records(self, place: str, old: Schema, new: Schema) -> Iterator[Change]:
        if old.get("doc") != new.get("doc"):
            yield Change(place, "its description changed, which nobody reads but people", Verdict.COMPATIBLE)
        before = {field["name"]: field for field in old["fields"]}
        after = {field["name"]: field for field in new["fields"]}
        renamed = {alias: name for name in after if name not in before for alias in after[name].get("aliases", [])}
        for name, field in before.items():
            if name in after:
                yield from self._same_field(f"{place}.{name}", field, after[name])
            elif (now := renamed.get(name)) is not None:
                yield self._judged(f"{place}.{name}", f"it is called {now} now", field, after[now])
                yield from self.types(f"{place}.{now}", field["type"], after[now]["type"])
            else:
                default = "its default" if "default" in field else "no default"
                yield self._judged(f"{place}.{name}", f"it was removed and had {default}", field, None)
        gone = {alias for alias in renamed if alias in before}
        for name, field in after.items():
            if name not in before and not gone.intersection(field.get("aliases", [])):
                default = f"the default {_json(field['default'])}" if "default" in field else "no default"
                yield self._judged(f"{place}.{name}", f"it was added with {default}", None, field)
        common = [name for name in before if name in after]
        if common != [name for name in after if name in before]:
            yield Change(place, "its fields stand in another order, which Avro does not mind", Verdict.COMPATIBLE)

    def _same_field(self, place: str, old: Schema, new: Schema) -> Iterator[Change]:
        yield from self.types(place, old["type"], new["type"])
        was, now = old.get("default", _NO_DEFAULT), new.get("default", _NO_DEFAULT)
        if was is not _NO_DEFAULT and now is _NO_DEFAULT:
            yield Change(place, "its default is gone, so it can never be removed", Verdict.COMPATIBLE)
        elif was is _NO_DEFAULT and now is not _NO_DEFAULT:
            yield Change(place, f"it has the default {_json(now)} now, and may be removed one day", Verdict.COMPATIBLE)
        elif was is not _NO_DEFAULT and _json(was) != _json(now):
            text = f"its default changed from {_json(was)} to {_json(now)}, for events written before the field was there"
            yield Change(place, text, Verdict.COMPATIBLE)
        if old.get("doc") != new.get("doc"):
            yield Change(place, "its description changed, which nobody reads but people", Verdict.COMPATIBLE)
        if bool(old.get("sensitive")) != bool(new.get("sensitive")):
            text = "it is sensitive from now on" if new.get("sensitive") else "it is not sensitive any more, and will be shown"
            yield Change(place, text, Verdict.COMPATIBLE)

    def _enums(self, old: Schema, new: Schema) -> Iterator[Change]:
        place = _short(new)
        for what, symbols in (
            ("came", [s for s in new["symbols"] if s not in old["symbols"]]),
            ("went", [s for s in old["symbols"] if s not in new["symbols"]]),
        ):
            if symbols:
                yield self._judged(
                    place, f"the symbol{'s' * (len(symbols) > 1)} {', '.join(symbols)} {what}", *_fields(old, new)
                )
        if old.get("default") != new.get("default"):
            text = f"the symbol for those that a reader does not know was {old.get('default')} and is {new.get('default')}"
            yield Change(place, text, Verdict.COMPATIBLE)

    def _unions(self, place: str, old: Any, new: Any) -> Iterator[Change]:
        before = {_spelt(_written(b, self.before)): b for b in (old if isinstance(old, list) else [old])}
        after = {_spelt(_written(b, self.after)): b for b in (new if isinstance(new, list) else [new])}
        added, removed = [b for b in after if b not in before], [b for b in before if b not in after]
        if added:
            yield self._judged(
                place, f"it may be {' or '.join(added)} now", *_fields(old, [*_listed(old), *map(after.get, added)])
            )
        if removed:
            kept = [branch for spelt, branch in before.items() if spelt in after]
            if kept:
                yield self._judged(place, f"it may no longer be {' or '.join(removed)}", *_fields(old, kept))
        for spelt, branch in before.items():
            if spelt in after:
                yield from self.types(place, branch, after[spelt])

    def _judged(self, place: str, what: str, old: Schema | None, new: Schema | None) -> Change:
        """The checker's verdict on one field before and after, None where there is none."""
        before, after = _record(old, self.before), _record(new, self.after)
        past, future = unreadable(after, before), unreadable(before, after)
        if past and future:
            effect = "neither version reads the other"
        elif past:
            effect = "events written before could not be read any more"
        elif future:
            effect = "services that still read the old version could not read what is written from now on"
        else:
            return Change(place, f"{what}; old and new read each other", Verdict.COMPATIBLE)
        return Change(place, f"{what}; {effect}", Verdict.REFUSED)


def _record(field: Schema | None, types: Mapping[str, Schema]) -> Schema:
    fields = [] if field is None else [field]
    return inline({"type": "record", "name": "Event", "fields": fields}, types)


def _fields(old: Any, new: Any) -> tuple[Schema, Schema]:
    return {"name": "value", "type": old}, {"name": "value", "type": new}


def _listed(union: Any) -> list[Any]:
    return union if isinstance(union, list) else [union]


def _written(schema: Any, types: Mapping[str, Schema]) -> Any:
    """The named type that a reference stands for; without wrapping."""
    if isinstance(schema, str):
        return types.get(schema, schema)
    if isinstance(schema, dict) and isinstance(schema["type"], dict):
        return _written(schema["type"], types)
    return schema


def _kind(schema: Any) -> str:
    if isinstance(schema, list):
        return "union"
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def _short(schema: Schema) -> str:
    return str(schema["name"]).rpartition(".")[2]


def _spelt(schema: Any) -> str:
    """The type as people say it, without what a checker does not look at."""
    match schema:
        case list():
            return " or ".join(_spelt(branch) for branch in schema)
        case {"type": "fixed", "name": name, "size": size}:
            return f"{str(name).rpartition('.')[2]} of {size} bytes"
        case {"name": name}:
            return str(name).rpartition(".")[2]
        case {"type": kind, **rest} if kind in ("array", "map"):
            return f"{kind} of {_spelt(rest.get('items', rest.get('values')))}"
        case {"type": kind}:
            return _spelt(kind)
    return str(schema).rpartition(".")[2]


def _logical(schema: Any) -> tuple[Any, Any, Any]:
    """The logical type, precision and scale."""
    if not isinstance(schema, dict):
        return None, None, 0
    return schema.get("logicalType"), schema.get("precision"), schema.get("scale", 0)


def _meaning(schema: Any) -> str:
    kind, precision, scale = _logical(schema)
    if kind == "decimal":
        return f"decimal({precision}, {scale})"
    return f"{_spelt(schema)} ({kind})" if kind else f"plain {_spelt(schema)}"


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
