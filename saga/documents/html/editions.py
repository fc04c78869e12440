"""How a contract changed, newest first, and whether old and new go together."""

from __future__ import annotations

from collections.abc import Sequence

from saga.documents.html.address import tag
from saga.documents.html.markup import Content, element, joined
from saga.documents.html.page import table
from saga.documents.past import Edition
from saga.evolution.change import Change, Verdict, heaviest

_KINDS = {Verdict.COMPATIBLE: "success", Verdict.NEW_VERSION: "pivot-tag", Verdict.REFUSED: "failure"}


def editions(told: Sequence[Edition]) -> Content:
    """A table of the editions, or why there is none."""
    if not told:
        return element("p", "Nothing is known: the contracts were not committed to git, or git does not have their past.")
    return table(["When", "What changed", "Verdict", "Commit"], map(_row, told))


def _row(edition: Edition) -> list[Content]:
    revision, verdict = edition.revision, heaviest(edition.changes)
    return [
        element("span", revision.day if revision else "not committed", class_="when"),
        joined(element("p", _said(change)) for change in edition.changes),
        tag(verdict, _KINDS[verdict]),
        element("code", revision.commit[:10], class_="when") if revision else "—",
    ]


def _said(change: Change) -> str:
    return f"{change.place}: {change.text}"
