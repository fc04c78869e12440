"""The picture of a saga: everything is there once, arrows forward point down, and nothing lies on top of anything."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from saga.documents.html.card import height, width
from saga.documents.html.layout import GAP, PASSAGE, layout
from saga.documents.html.picture import is_wide, picture
from saga.protocol.definition import Definition
from tests.documented import loan, returns
from tests.simulation.sagas import fork, linear, sound_sagas

FEW = settings(max_examples=40)


def drawn(saga: Definition, of: str | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(picture(saga, lambda name: f"#{name}", of=of))


def classes(root: ElementTree.Element, *wanted: str) -> list[ElementTree.Element]:
    return [e for e in root.iter() if {*wanted} <= {*(e.get("class") or "").split()}]


@FEW
@given(sound_sagas())
def test_every_step_has_a_card_and_every_trigger_its_arrows(saga: Definition) -> None:
    root = drawn(saga)

    assert len(classes(root, "card")) == len(saga.steps)
    assert len(classes(root, "pivot", "step")) == len(saga.pivots)
    joins = [join for step in saga.steps for join in step.on]
    start_and_end = 2
    meetings = sum(len(join) > 1 for join in joins)
    assert len(classes(root, "way", "forward")) == sum(map(len, joins)) + meetings + start_and_end
    assert len(classes(root, "join")) == meetings


@FEW
@given(sound_sagas())
def test_an_arrow_back_is_drawn_from_every_step_that_reports_to_every_step_before_it(saga: Definition) -> None:
    root = drawn(saga)

    reports = sum(len(saga.predecessors[step.name]) for step in saga.steps if step.name not in saga.after_pivot)
    assert len(classes(root, "way", "back")) == reports + (saga.root.name not in saga.pivots)


@FEW
@given(sound_sagas())
def test_steps_stand_below_those_before_them_and_beside_their_neighbours(saga: Definition) -> None:
    size = width(saga)
    plan = layout(saga, size)

    for step in saga.steps:
        for after in saga.successors[step.name]:
            assert [spot[2] for spot in plan.chain(step.name, after)] == [
                *range(plan.chain(step.name, after)[0][2], plan.chain(step.name, after)[-1][2] + 1)
            ]
    for layer in plan.layers:
        for left, right in pairwise(layer):
            room = sum(size if spot[0] == spot[1] else PASSAGE for spot in (left, right)) / 2
            assert plan.x[right] - plan.x[left] >= room + GAP - 1e-6
    assert min(plan.x.values()) >= PASSAGE / 2 - 1e-6


@pytest.mark.parametrize("saga", [returns(), loan(), linear(), fork(3)], ids=lambda saga: saga.name)
def test_the_same_saga_gives_the_same_picture(saga: Definition) -> None:
    assert picture(saga, str) == picture(saga, str)


def test_a_branch_says_which_event_goes_where() -> None:
    assert [label.text for label in classes(drawn(returns()), "label")] == ["GoodsDamaged", "GoodsIntact"]


def test_steps_of_others_are_dimmed_in_the_picture_of_one() -> None:
    assert len(classes(drawn(returns(), of="desk"), "dimmed")) == 2
    assert classes(drawn(returns()), "dimmed") == []


def test_only_a_picture_that_fits_stands_beside_the_text() -> None:
    assert is_wide(loan())
    assert not is_wide(returns())


def test_a_name_out_of_all_proportion_is_cut_in_the_picture() -> None:
    texts = [text.text or "" for text in drawn(loan()).iter("text")]

    assert [text for text in texts if text.startswith("LoanOpened")] == ["LoanOpenedForTheCustomerWhoAsk…"]
    assert height(loan()["close"]) < height(loan()["identify"])
