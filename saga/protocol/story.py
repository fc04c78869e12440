"""What went wrong, told so that a newcomer understands it: numbered lines that name who does what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from saga.protocol.definition import Definition

Kind = Literal["start", "begin", "done", "failed", "pending", "abort", "skip", "withdraw", "undo", "undone", "refuse", "close"]


class Happening(NamedTuple):
    """One thing that happens in a workflow; `heard`: its participant has only now heard of the abort."""

    kind: Kind
    step: str
    event: str | None = None
    heard: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a definition is refused: the rule it breaks, what is wrong and what to do, and a run that shows it, line by line."""

    rule: str
    text: str
    story: tuple[str, ...] = ()


def tell(saga: Definition, happenings: Iterable[Happening], moral: str) -> tuple[str, ...]:
    """The lines of a story, without numbers; the last one says what is wrong by then."""
    return (*(_line(saga, happening) for happening in happenings), moral)


def render(problem: Problem) -> str:
    """The problem as text: what is wrong, then its story with numbered lines."""
    numbered = (f"  {number:>2}. {line}" for number, line in enumerate(problem.story, 1))
    return "\n".join((f"{problem.rule}: {problem.text}", *numbered))


def short(event: str | None) -> str:
    """An event's name without its namespace."""
    return (event or "").rpartition(".")[2]


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, final = list(names)
    return f"{', '.join(most)} and {final}" if most else final


def _line(saga: Definition, happening: Happening) -> str:
    kind, name, event, heard = happening
    if kind == "abort":
        return "The deadline passes, or an operator steps in: the workflow is to be aborted."
    step = saga[name]
    who = f"{step.by} hears of the abort and" if heard else step.by
    told = short(event)
    undone = short(step.compensated) if isinstance(step.compensated, str) else "nothing to undo"
    return {
        "start": f"{who} starts the workflow: {name} is done ({told}).",
        "begin": f"{who} begins {name}: its external call is under way.",
        "done": f"{who} runs {name}: done ({told}).",
        "failed": f"{who} runs {name}: it fails ({told or 'technical error'}), so the workflow is to be aborted.",
        "pending": f"{who} runs {name}: it waits for the world.",
        "skip": f"{who} skips {name}: it will not run any more.",
        "withdraw": f"{who} withdraws {name}: it waits for the world no longer.",
        "undo": f"{who} begins to undo {name}: its external call is under way.",
        "undone": f"{who} undoes {name} ({undone}).",
        "refuse": f"{who} refuses: {name} is done, and there is no way back from a pivot.",
        "close": f"{who} closes the workflow.",
    }[kind]
