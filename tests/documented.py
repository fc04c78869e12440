"""Sagas whose texts are all there: the checkout, and a small one with everything that documents must be able to tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saga import Saga

CHECKOUT = Path(__file__).parents[1] / "schemas" / "checkout"


def returns() -> Saga:
    """A branch, alternatives, a step with nothing to undo, one that fails by itself, nested and logical types, a secret."""
    return Saga.of(*_events(), _saga())


def _saga() -> dict[str, Any]:
    return {
        "type": "record",
        "name": "Return",
        "namespace": "returns",
        "doc": "Goods that come <back> & are paid for.",
        "saga": {
            "name": "returns",
            "version": 2,
            "owner": "desk",
            "deadline": "P14D",
            "deadline_doc": "The customer is asked.",
        },
        "fields": [
            _step("open", {"by": "desk", "emits": ["ReturnOpened"], "compensated": "ReturnClosed"}),
            _step(
                "inspect",
                {
                    "by": "ware-house",
                    "on": ["ReturnOpened"],
                    "emits": ["GoodsIntact", "GoodsDamaged"],
                    "compensated": None,
                    "on_error": "fail",
                },
            ),
            _step(
                "repair",
                {
                    "by": "workshop",
                    "on": ["GoodsDamaged"],
                    "emits": ["GoodsRepaired"],
                    "fails": "GoodsScrapped",
                    "compensated": "RepairUndone",
                },
            ),
            _step(
                "refund", {"by": "desk", "on": [["GoodsIntact"], ["GoodsRepaired"]], "emits": ["ReturnRefunded"], "pivot": True}
            ),
            _step("tell", {"by": "desk", "on": ["ReturnRefunded"], "emits": ["CustomerTold"]}),
        ],
    }


def _step(name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    compensated = [attributes["compensated"]] if attributes.get("compensated") else []
    events = [*attributes["emits"], *([attributes["fails"]] if "fails" in attributes else []), *compensated]
    return {
        "name": name,
        "type": ["null", *events],
        "default": None,
        "doc": f"Succeeds when {name} is done.",
        "step": attributes,
    }


def _events() -> list[dict[str, Any]]:
    names = ("ReturnClosed", "GoodsIntact", "GoodsDamaged", "GoodsRepaired", "GoodsScrapped", "RepairUndone", "CustomerTold")
    plain = [_record(name, {"name": "return_id", "type": "string", "doc": "Its number."}) for name in names]
    return [*plain, _opened(), _record("ReturnRefunded", {"name": "iban", "type": "string", "sensitive": True})]


def _opened() -> dict[str, Any]:
    money = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
    owner = {
        "type": "record",
        "name": "Customer",
        "doc": "Who sends it.",
        "fields": [{"name": "mail", "type": "string", "doc": "Where to write to."}, {"name": "age", "type": "int"}],
    }
    return _record(
        "ReturnOpened",
        {"name": "return_id", "type": {"type": "string", "logicalType": "uuid"}, "doc": "Its <number>."},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "worth", "type": ["null", money], "default": None},
        {"name": "customer", "type": owner, "sensitive": True, "doc": "Personal."},
        {"name": "photos", "type": {"type": "map", "values": {"type": "array", "items": "bytes"}}},
        {"name": "grade", "type": {"type": "enum", "name": "Grade", "symbols": ["A", "B"]}},
        {"name": "seal", "type": {"type": "fixed", "name": "Seal", "size": 4}},
        {"name": "weight", "type": "double"},
        {"name": "gift", "type": "boolean"},
    )


def _record(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "returns", "doc": f"{name} is a fact.", "fields": list(fields)}


def loan() -> Saga:
    """Wide: three steps in parallel, joins in alternatives, an arrow that passes four layers, and long names."""
    steps: list[tuple[str, dict[str, Any]]] = [
        ("request", {"by": "front", "emits": ["Requested"], "compensated": "Withdrawn"}),
        (
            "score",
            {"by": "risk", "on": ["Requested"], "emits": ["ScoredLow", "ScoredHigh"], "compensated": None, "external": True},
        ),
        (
            "identify",
            {"by": "identity", "on": ["Requested"], "emits": ["Identified"], "fails": "Unknown", "compensated": "Forgotten"},
        ),
        ("reserve_funds", {"by": "treasury", "on": ["Requested"], "emits": ["FundsReserved"], "compensated": "FundsReleased"}),
        ("review", {"by": "officers", "on": ["ScoredHigh"], "emits": ["Approved"], "fails": "Rejected", "compensated": None}),
        (
            "offer",
            {
                "by": "front",
                "on": [["ScoredLow", "Identified", "FundsReserved"], ["Approved", "Identified", "FundsReserved"]],
                "emits": ["OfferMade"],
                "compensated": "OfferRevoked",
            },
        ),
        ("sign", {"by": "front", "on": ["OfferMade"], "emits": ["Signed"], "fails": "NotSigned", "pivot": True}),
        ("pay_out", {"by": "treasury", "on": ["Signed"], "emits": ["PaidOut"]}),
        ("archive", {"by": "archive", "on": ["Signed", "Requested"], "emits": ["Archived"]}),
        ("close", {"by": "front", "on": ["PaidOut", "Archived"], "emits": ["LoanOpenedForTheCustomerWhoAskedForItLongAgo"]}),
    ]
    fields = [_step(name, attributes) for name, attributes in steps]
    events = dict.fromkeys(event for field in fields for event in field["type"][1:])
    own = {"type": "record", "name": "Loan", "namespace": "returns", "doc": "Money for a while.", "fields": fields}
    return Saga.of(*map(_record, events), {**own, "saga": {"name": "loan", "version": 1, "owner": "front"}})
