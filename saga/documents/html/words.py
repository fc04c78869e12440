"""How pages say what schemas write in Avro and ISO 8601."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from saga.protocol.definition import Definition, Step
from saga.protocol.facts import FactStatus
from saga.protocol.story import listed, short

MEANING: Mapping[FactStatus | None, str] = {
    None: "acknowledgment",
    FactStatus.DONE: "success",
    FactStatus.FAILED: "failure",
    FactStatus.COMPENSATED: "compensation",
    FactStatus.SKIPPED: "will not happen",
    FactStatus.STUCK: "needs an operator",
    FactStatus.ABORT: "wish to unwind",
    FactStatus.REFUSED: "too late to unwind",
}


def duration(span: timedelta) -> str:
    """`30 s`, `1 min 30 s`, `14 d`: every unit that is not zero."""
    seconds = span.total_seconds()
    whole = int(seconds)
    units = (("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60))
    said = [f"{count} {unit}" for unit, count in units if count]
    rest = seconds - whole // 60 * 60
    return " ".join([*said, *([f"{rest:g} s"] if rest or not said else [])])


def type_name(schema: Any) -> str:
    """A type in words: `string or null`, `list of OrderLine`, `long (timestamp-micros)`."""
    match schema:
        case str():
            return short(schema) or schema
        case list():
            return " or ".join(map(type_name, sorted(schema, key=lambda branch: branch == "null")))
        case {"type": "array", "items": items}:
            return f"list of {type_name(items)}"
        case {"type": "map", "values": values}:
            return f"map to {type_name(values)}"
        case {"type": "enum", "symbols": symbols}:
            return f"one of {', '.join(symbols)}"
        case {"type": "fixed", "size": size}:
            return f"{size} bytes"
        case {"type": "record", "name": name}:
            return short(name)
        case {"type": kind, "logicalType": "decimal"}:
            return f"{type_name(kind)} (decimal {schema.get('precision')},{schema.get('scale', 0)})"
        case {"type": kind, "logicalType": logical}:
            return f"{type_name(kind)} ({logical})"
    return type_name(schema["type"])


def trigger(step: Step) -> str:
    """What begins the step: `A and B, or C`."""
    return ", or ".join(listed(sorted(map(short, join))) for join in step.on)


def no_way_back(saga: Definition, step: Step) -> str | None:
    """Why the step is never undone, if it is not."""
    if step.name in saga.pivots:
        return "The pivot: from here on the workflow only goes forward, so it is never undone."
    if step.name in saga.after_pivot:
        return "After the pivot: it may not fail, and is never undone."
    return None
