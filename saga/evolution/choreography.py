"""What changed between two versions of a saga's steps, and which changes ask for a new version of the saga.

The rule behind all verdicts: workflows are under way, and their participants learn of a change at different times. What
another participant would act on, or was promised, needs a new version; what its owner alone acts on does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from saga.evolution.change import Change, Verdict
from saga.protocol.definition import Compensated, Definition, Step, Undo

_ASKS = Verdict.NEW_VERSION


def saga_changes(old: Definition, new: Definition) -> Iterator[Change]:
    """The changes of the choreography alone; events are compared elsewhere."""
    if old.name != new.name:
        text = f"it is called {new.name} now, which renames its topics and groups: that is another saga, in a folder of its own"
        yield Change(f"saga {old.name}", text, Verdict.REFUSED)
    if new.version < old.version:
        text = f"its version went back from {old.version} to {new.version}; a number is never used twice"
        yield Change(f"saga {new.name}", text, Verdict.REFUSED)
    place = f"saga {new.name}"
    if old.owner != new.owner:
        yield Change(place, f"{new.owner} answers for it now, and not {old.owner}", Verdict.COMPATIBLE)
    yield from _clock(place, "deadline", old.deadline, new.deadline, "workflows")
    if old.unwind != new.unwind:
        text = f"the time for unwinding was {_told(old.unwind)} and is {_told(new.unwind)}, which only raises alarms"
        yield Change(place, text, Verdict.COMPATIBLE)
    for step in old.steps:
        if step.name not in new:
            yield Change(f"step {step.name}", "it was removed, and workflows under way would wait for it", _ASKS)
    for step in new.steps:
        if step.name not in old:
            yield Change(f"step {step.name}", "it was added, and participants of before would not wait for it", _ASKS)
        else:
            yield from _step_changes(old, new, old[step.name], step)


def _step_changes(before: Definition, after: Definition, old: Step, new: Step) -> Iterator[Change]:
    place = f"step {new.name}"
    if old.by != new.by:
        yield Change(place, f"{new.by} owns it now, and not {old.by}: both would do it for workflows under way", _ASKS)
    if set(old.on) != set(new.on):
        yield Change(place, f"it was triggered by {_trigger(old)} and is by {_trigger(new)}", _ASKS)
    if set(old.emits) != set(new.emits):
        yield Change(place, f"it emitted {_either(old.emits)} and emits {_either(new.emits)}", _ASKS)
    if old.fails != new.fails:
        yield Change(place, _failing(old.fails, new.fails), _ASKS)
    if old.compensated != new.compensated:
        text = f"its undoing was reported by {_undoing(old.compensated)} and is by {_undoing(new.compensated)}"
        yield Change(place, text, _ASKS)
    was, now = _position(before, old), _position(after, new)
    if was != now:
        yield Change(place, f"it was {was} and is {now}: what can still be undone is another", _ASKS)
    if old.external != new.external:
        text = "it calls the world now" if new.external else "it does not call the world any more"
        yield Change(place, f"{text}, so an abort that meets it under way ends otherwise", _ASKS)
    if old.gate != new.gate:
        yield Change(place, f"it was behind {_gate(old)} and is behind {_gate(new)}, for workflows under way too", _ASKS)
    yield from _clock(place, "timeout", old.timeout, new.timeout, "steps")
    if old.on_error != new.on_error:
        if new.on_error == "fail":
            yield Change(place, "it fails when its tries are spent, and stayed parked before", _ASKS)
        else:
            yield Change(place, "it stays parked when its tries are spent, and failed before", Verdict.COMPATIBLE)
    if old.on_stuck != new.on_stuck:
        text = "do not wait any more" if new.on_stuck == "continue" else "wait now"
        yield Change(place, f"those before it {text} while its compensation is stuck", _ASKS)
    if old.acknowledged != new.acknowledged:
        lost = "one that is lost is sent again" if new.acknowledged else "one that is lost is not noticed"
        text = f"its events need {'an' if new.acknowledged else 'no'} acknowledgment from now on: {lost}"
        yield Change(place, text, Verdict.COMPATIBLE)


def _clock(place: str, what: str, old: timedelta | None, new: timedelta | None, whose: str) -> Iterator[Change]:
    if old == new:
        return
    if old is None:
        yield Change(place, f"a {what} of {_told(new)} came: {whose} that had all the time would unwind", _ASKS)
    elif new is None:
        yield Change(place, f"its {what} of {_told(old)} is gone: what ended by the clock would wait for ever", _ASKS)
    elif new < old:
        text = f"its {what} went from {_told(old)} down to {_told(new)}: {whose} that were in time would be late"
        yield Change(place, text, _ASKS)
    else:
        yield Change(place, f"its {what} went from {_told(old)} up to {_told(new)}", Verdict.COMPATIBLE)


def _position(definition: Definition, step: Step) -> str:
    if step.name in definition.pivots:
        return "the pivot"
    return "after the pivot" if step.name in definition.after_pivot else "before the pivot"


def _failing(old: str | None, new: str | None) -> str:
    if old is None:
        return f"it may fail now, with {_short(str(new))}, and others were told that it does not"
    if new is None:
        return f"it may not fail any more, and workflows under way may hold its {_short(old)}"
    return f"it failed with {_short(old)} and fails with {_short(new)}"


def _trigger(step: Step) -> str:
    return " or ".join(" and ".join(sorted(map(_short, join))) for join in step.on) or "the start"


def _either(events: tuple[str, ...]) -> str:
    return " or ".join(sorted(map(_short, events)))


def _undoing(compensated: Compensated) -> str:
    if compensated is Undo.NOTHING:
        return "nothing, since there is nothing to undo"
    return _short(compensated) if compensated else "nothing, since it cannot be undone"


def _told(span: timedelta | None) -> str:
    if span is None:
        return "none"
    seconds = span.total_seconds()
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return _counted(seconds / size, word)
    return _counted(seconds, "second")


def _counted(number: float, word: str) -> str:
    return f"{number:g} {word}{'' if number == 1 else 's'}"


def _gate(step: Step) -> str:
    return f"the gate {step.gate}" if step.gate else "no gate"


def _short(event: str) -> str:
    return event.rpartition(".")[2]
