"""The texts that a contract owes its readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from saga import Saga
from saga.documents.lint import Finding, lint
from tests.commands import schemas
from tests.documented import CHECKOUT, returns


def test_the_checkout_and_the_example_say_everything() -> None:
    assert lint(Saga.load(CHECKOUT)) == []
    assert lint(returns()) == []


def test_a_contract_without_texts_is_told_every_one() -> None:
    bare = Saga.of(
        *schemas(
            {"name": "begin", "by": "a", "emits": ["Begun"], "compensated": "Unbegun"},
            {"name": "end", "by": "b", "on": ["Begun"], "emits": ["Ended"], "fails": "NotEnded", "timeout": "PT1M"},
        )
    )

    assert lint(bare) == [
        Finding("Checkout", 'no "doc"; say what the saga is for'),
        Finding("Checkout", '"deadline" without "deadline_doc"; say what it means for the customer when the deadline passes'),
        Finding("Checkout.begin", 'no "doc"; say when the step succeeds'),
        Finding("Checkout.end", 'no "doc"; say when the step succeeds'),
        Finding("Checkout.end", '"timeout" without "timeout_doc"; say what is known, and what is not, when the timeout passes'),
        Finding("checkout.Begun", 'no "doc"; say what happened'),
        Finding("checkout.Unbegun", 'no "doc"; say what happened'),
        Finding("checkout.Ended", 'no "doc"; say what happened'),
        Finding("checkout.NotEnded", 'no "doc"; say when step end fails, and what is then unchanged'),
    ]


def _blank(saga: dict[str, Any]) -> None:
    saga["doc"] = "  "


def _idle_text(saga: dict[str, Any]) -> None:
    del saga["saga"]["deadline"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_blank, 'no "doc"; say what the saga is for'),
        (_idle_text, '"deadline_doc" explains a "deadline" that is not there; remove it'),
    ],
)
def test_texts_that_say_nothing_do_not_count(change: Callable[[dict[str, Any]], None], text: str) -> None:
    whole = returns()
    own = {**whole.own, "saga": {**whole.own["saga"]}}
    change(own)

    found = lint(Saga.of(own, *(whole.types[name] for name in whole.types if name.startswith("returns."))))

    assert [finding.text for finding in found] == [text]
