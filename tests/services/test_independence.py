"""The services may be read and deployed one by one: they share contracts, never Python."""

from __future__ import annotations

import re

import pytest

from tests.services.tables import SERVICES

NAMES = ("orders", "stock", "payments", "shipping")


@pytest.mark.parametrize("service", NAMES)
def test_a_service_imports_no_other(service: str) -> None:
    others = [name for name in NAMES if name != service]
    imported = {
        found
        for file in (SERVICES / service).glob("*.py")
        for found in re.findall(r"(?:from|import)\s+services\.(\w+)", file.read_text())
    }

    assert imported <= {service}
    assert imported.isdisjoint(others)
