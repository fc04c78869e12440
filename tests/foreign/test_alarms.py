"""The alarming rules in Prometheus's own hands: each rings for what it is about, and none for a fleet that is well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import yaml

from servers.programs import promtool
from tests.serving import missing_is_told
from tests.sources import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RULES = ROOT / "docs" / "operations" / "alarms.yml"
ALL: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
WHOSE = {"saga_name": "checkout", "saga_participant": "stock"}
WELL = {
    'saga_worker_state{%,instance="a"}': "0x120",
    'saga_lanes_owned{%,instance="a"}': "2x120",
    'saga_lanes_owned{%,instance="b"}': "2x120",
    'saga_lanes_stopped{%,instance="a"}': "0x120",
    'saga_lane_lag{%,saga_lane="0"}': "0 5000 0 5000x117",
    'saga_workflows_parked{%,instance="a"}': "0 3 2 5 0x116",
    'saga_breaker_state{%,saga_dependency="gateway"}': "0 2 2 1 0x116",
    'saga_facts_total{%,saga_outcome="handled"}': "0+100x120",
    'saga_facts_total{%,saga_outcome="dead"}': "0x120",
    'saga_facts_total{%,saga_outcome="refused"}': "0x120",
    'saga_outbox_oldest_age_seconds{%,instance="a"}': "0 20 40 0x117",
    'saga_unhandled_oldest_age_seconds{%,instance="a"}': "0 400 0x118",
    'saga_events_lost_total{%,instance="a"}': "0x120",
    'saga_workflows_alarmed{saga_name="checkout",saga_concern="stuck"}': "0x120",
    'saga_workflows_alarmed{saga_name="checkout",saga_concern="overdue"}': "0 3 3 0x117",
    'saga_workflows_alarmed{saga_name="checkout",saga_concern="not whole"}': "0x120",
    'saga_observer_age_seconds{saga_name="checkout"}': "1x120",
}
"""A fleet that is well, minute by minute: what is over soon is nobody's business."""


class Sick(NamedTuple):
    """One thing that goes wrong after an hour, and the labels beside `WHOSE` with which its alarm rings."""

    series: str
    values: str
    labels: Mapping[str, str] = MappingProxyType({})


def _alarmed(concern: str) -> Sick:
    return Sick(
        f'saga_workflows_alarmed{{saga_name="checkout",saga_concern="{concern}"}}', "0x60 1x60", {"saga_concern": concern}
    )


SICK = {
    "SagaWorkerDead": Sick('saga_worker_state{%,instance="a"}', "0x60 2x60", {"instance": "a"}),
    "SagaWorkerDegraded": Sick('saga_worker_state{%,instance="a"}', "0x60 1x60", {"instance": "a"}),
    "SagaLanesWithoutOwner": Sick('saga_lanes_owned{%,instance="b"}', "2x60 stale"),
    "SagaLaneStopped": Sick('saga_lanes_stopped{%,instance="a"}', "0x60 1x60"),
    "SagaLaneFallsBehind": Sick('saga_lane_lag{%,saga_lane="0"}', "0x60 1000+500x60", {"saga_lane": "0"}),
    "SagaParkedGrowing": Sick('saga_workflows_parked{%,instance="a"}', "0x60 0+2x60"),
    "SagaBreakerOpen": Sick('saga_breaker_state{%,saga_dependency="gateway"}', "0x60 2x60", {"saga_dependency": "gateway"}),
    "SagaDeadLetters": Sick('saga_facts_total{%,saga_outcome="dead"}', "0x85 1x35"),
    "SagaFactsRefused": Sick('saga_facts_total{%,saga_outcome="refused"}', "0x85 1x35"),
    "SagaOutboxOld": Sick('saga_outbox_oldest_age_seconds{%,instance="a"}', "0x60 0+60x60"),
    "SagaUnacknowledged": Sick('saga_unhandled_oldest_age_seconds{%,instance="a"}', "0x60 0+60x60"),
    "SagaCompensationStuck": _alarmed("stuck"),
    "SagaWorkflowsOverdue": _alarmed("overdue"),
    "SagaWorkflowsNotWhole": _alarmed("not whole"),
    "SagaObserverBlind": Sick('saga_observer_age_seconds{saga_name="checkout"}', "1x60 0+60x60"),
    "SagaEventsLost": Sick('saga_events_lost_total{%,instance="a"}', "0x60 1x60"),
}
LATE = "90m"


@pytest.fixture(scope="module")
def judge() -> Path:
    with missing_is_told(os.environ):
        return promtool(print)


def verdict(judge: Path, folder: Path, series: Mapping[str, str], expected: Mapping[str, Sick]) -> str:
    """What promtool objects to if these alarms, and no others, are to ring after an hour and a half; their words apart."""
    rules = [{key: value for key, value in rule.items() if key != "annotations"} for rule in ALL]
    rung = {name: [{"exp_labels": {**_whose(sick), **sick.labels, **_labels(name)}}] for name, sick in expected.items()}
    alarms = [{"eval_time": LATE, "alertname": rule["alert"], "exp_alerts": rung.get(rule["alert"], [])} for rule in rules]
    whose = ",".join(f'{name}="{value}"' for name, value in WHOSE.items())
    given = [{"series": name.replace("%", whose), "values": values} for name, values in series.items()]
    tests = [{"interval": "1m", "input_series": given, "alert_rule_test": alarms}]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "saga", "rules": rules}]}))
    given_to = folder / "tests.yml"
    given_to.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}))
    return asked(judge, "test", "rules", given_to)


def asked(judge: Path, *arguments: str | Path) -> str:
    """What promtool objects to."""
    done = subprocess.run([judge, *arguments], capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _whose(sick: Sick) -> Mapping[str, str]:
    return WHOSE if "%" in sick.series else {"saga_name": WHOSE["saga_name"]}


def _labels(name: str) -> dict[str, str]:
    return next(rule["labels"] for rule in ALL if rule["alert"] == name)


def test_prometheus_takes_the_rules(judge: Path) -> None:
    assert asked(judge, "check", "rules", RULES) == ""


def test_nothing_rings_for_a_fleet_that_is_well(judge: Path, tmp_path: Path) -> None:
    assert verdict(judge, tmp_path, WELL, {}) == ""


def test_every_rule_has_its_sickness() -> None:
    assert SICK.keys() == {rule["alert"] for rule in ALL}


@pytest.mark.parametrize("name", SICK)
def test_what_goes_wrong_rings_its_alarm_and_no_other(judge: Path, tmp_path: Path, name: str) -> None:
    sick = SICK[name]

    assert verdict(judge, tmp_path, {**WELL, sick.series: sick.values}, {name: sick}) == ""
    assert "FAILED" in verdict(judge, tmp_path, WELL, {name: sick})
