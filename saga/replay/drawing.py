"""A timeline as text: a tree of causes for the terminal, a sequence diagram for a page. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta

from saga.protocol.diagram import identifier
from saga.replay.timeline import Moment, Timeline


def tree(told: Timeline) -> list[str]:
    """One line for each record: when, by whom, and what, under what it came of."""
    if not told.moments:
        return []
    children: dict[str | None, list[Moment]] = defaultdict(list)
    known = {moment.id for moment in told.moments}
    for moment in told.moments:
        children[moment.cause if moment.cause in known else None].append(moment)
    began = min(moment.time for moment in told.moments)
    width = max(len(moment.source) for moment in told.moments)
    return [
        f"{_since(moment.time - began):>9}  {moment.source:<{width}}  {branch}{moment.words}{_remarks(moment, known)}"
        for branch, moment in _branches(children)
    ]


def _branches(children: dict[str | None, list[Moment]]) -> Iterator[tuple[str, Moment]]:
    """Each with what is drawn before it; of what lies behind whom, as much is kept as there are causes in a row."""
    drawn = set[str]()
    waiting = [(moment, "", "") for moment in reversed(children[None])]
    while waiting:
        moment, branch, indent = waiting.pop()
        if moment.id in drawn:
            continue
        drawn.add(moment.id)
        yield branch, moment
        own = [one for one in children[moment.id] if one.id not in drawn]
        for one in reversed(own):
            is_last = one is own[-1]
            waiting.append((one, indent + ("└─ " if is_last else "├─ "), indent + ("   " if is_last else "│  ")))


def _remarks(moment: Moment, known: set[str]) -> str:
    said = [f"#{moment.sequence}"]
    if moment.attempt > 1:
        said.append(f"attempt {moment.attempt}")
    if moment.cause and moment.cause not in known:
        said.append("of an event that is missing")
    return f"  ({', '.join(said)})"


def _since(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"+{seconds:.3f}" if seconds < 1000 else f"+{seconds:.0f}"


def mermaid(told: Timeline) -> str:
    """A sequence diagram: an arrow to everybody that must handle a record, a note for what nobody must."""
    names = list(dict.fromkeys(moment.source for moment in told.moments))
    names += sorted({heard for moment in told.moments for heard in moment.heard_by} - set(names))
    lines = ["sequenceDiagram", *(f"  participant {_id(name)} as {_safe(name) or 'unknown'}" for name in names)]
    for moment in told.moments:
        lines += _arrows(moment)
    lines += [f"  Note over {_id(one.participant)}: awaited: {_safe(one.what)}" for one in told.awaited]
    return "\n".join([*lines, *_missing(told.holes, names)])


def _arrows(moment: Moment) -> Iterator[str]:
    words, arrow = _safe(moment.words), "->>" if moment.status == "done" else "-->>"
    others = [heard for heard in moment.heard_by if heard != moment.source]
    if not others:
        yield f"  Note over {_id(moment.source)}: {words}"
    for heard in others:
        yield f"  {_id(moment.source)}{arrow}{_id(heard)}: {words}"


def _missing(holes: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    if holes and names:
        yield f"  Note over {_id(names[0])}: not whole: {_safe('; '.join(holes))}"


def _id(name: str) -> str:
    return identifier(name) or "_"


def _safe(text: str) -> str:
    """Mermaid ends a line at a semicolon, and takes # for an entity."""
    return " ".join(text.replace(";", ",").replace("#", "no. ").split())
