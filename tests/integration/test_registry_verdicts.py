"""A real registry says of every change in the table what the offline checker says."""

from __future__ import annotations

import pytest

from saga.contracts.registry import Registry
from tests.changes import CASES, SOLD, edited

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CASES)
def test_the_registry_agrees_with_the_offline_checker(name: str, registry: str) -> None:
    case, client = CASES[name], Registry(registry)
    subject = f"verdicts.events-{name.replace(' ', '-')}"
    client.register(subject, SOLD)

    refused = client.incompatible(subject, edited(case))

    assert refused is (case.registry and not case.compatible)
