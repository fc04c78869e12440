"""The alarming rules and the dashboard beside the pages speak of figures that there are, and of pages that there are."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from saga.observe.figures import FIGURES
from saga.observe.prometheus import name_of
from saga.observer.figures import ALARMED, BEHIND, WORKFLOWS
from tests.sources import ROOT

DOCS = ROOT / "docs"
NAMES = {*map(name_of, FIGURES), WORKFLOWS, ALARMED, BEHIND}
RULES: list[dict[str, Any]] = yaml.safe_load((DOCS / "operations" / "alarms.yml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((DOCS / "operations" / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def figures(expression: str) -> set[str]:
    """The names of ours in it, without the labels."""
    return set(re.findall(r"\bsaga_\w+", re.sub(r"(by|on) \([^)]*\)|\{[^}]*\}", "", expression)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_is_about_figures_and_leads_to_a_heading_of_a_page(rule: dict[str, Any]) -> None:
    path, _, heading = rule["annotations"]["page"].partition("#")

    assert figures(rule["expr"]), rule["expr"]
    assert figures(rule["expr"]) <= NAMES
    headings = re.findall(r"^#+ (.*)$", (DOCS / path).read_text(), re.MULTILINE)
    assert not heading or heading in {each.lower().replace(" ", "-") for each in headings}


def test_every_alarm_that_a_figure_tells_of_has_a_rule_that_leads_to_its_page() -> None:
    ruled = {(name, rule["annotations"]["page"].rpartition("/")[2]) for rule in RULES for name in figures(rule["expr"])}
    table = (DOCS / "operations" / "README.md").read_text()
    rows = re.findall(r"^\| (.+?) \| .*`(saga\.[\w.]+)`.* \| \[.*\]\((.*)\) \|$", table, re.MULTILINE)
    known = {figure.name: name_of(figure) for figure in FIGURES}
    told = {(known[figure], page): what for what, figure, page in rows if figure in known and "restored" not in what}

    assert len(told) == 5
    assert told.keys() <= ruled, {what for place, what in told.items() if place not in ruled}


def test_the_dashboard_shows_every_figure_and_no_other() -> None:
    shown = {name for panel in PANELS for target in panel.get("targets", ()) for name in figures(target["expr"])}

    assert shown == NAMES


def test_no_panel_lies_on_another() -> None:
    places = [panel["gridPos"] for panel in PANELS]

    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart, (a, b)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
