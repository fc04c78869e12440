"""Feature gates: the saga as one workflow runs it, and the proof of every combination."""

from __future__ import annotations

import pytest

from saga.errors import DefinitionError
from saga.protocol.check import check
from saga.protocol.definition import Definition
from saga.protocol.gates import gates, variant, variants
from tests.simulation.sagas import last, on, saga, step

NONE: frozenset[str] = frozenset()


def shop() -> Definition:
    """An order that is looked at for fraud if the gate is open, and rated in a new way or in the old one."""
    return saga(
        step("order", "shop"),
        step("fraud", "risk", on("Order"), fails="Fraudulent", gate="fraud-check"),
        step("rate", "ratings", on("Order"), gate="!new-rating"),
        step("score", "scores", on("Order"), gate="new-rating"),
        last("ship", "depot", on("Fraud Rate", "Fraud Score"), pivot=True),
        last("thank", "shop", on("Ship")),
    )


def test_a_step_behind_a_gate_is_there_only_while_it_is_open() -> None:
    sample = shop()

    assert gates(sample) == {"fraud-check", "new-rating"}
    assert [s.name for s in variant(sample, NONE).steps] == ["order", "rate", "ship", "thank"]
    assert [s.name for s in variant(sample, frozenset({"fraud-check", "new-rating"})).steps] == [
        "order", "fraud", "score", "ship", "thank",
    ]  # fmt: skip


def test_nobody_waits_for_what_is_taken_out() -> None:
    sample = shop()

    assert variant(sample, NONE)["ship"].on == on("Rate")
    assert variant(sample, frozenset({"fraud-check", "new-rating"}))["ship"].on == on("Fraud Score")
    assert variant(sample, NONE).participants == {"shop", "ratings", "depot"}


def test_a_saga_without_gates_is_its_own_and_only_variant() -> None:
    plain = saga(step("a", "p"), last("b", "q", on("A")))

    assert variant(plain, NONE) is plain
    assert list(variants(plain)) == [(NONE, plain)]


def test_a_gate_that_the_saga_does_not_have_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"has no gate 'fraud'; its gates are fraud-check, new-rating"):
        variant(shop(), frozenset({"fraud"}))


def test_more_gates_than_can_be_proved_are_refused() -> None:
    many = [step(f"s{n}", "p", on("Root"), gate=f"g{n}") for n in range(9)]
    wide = saga(step("root", "p"), *many, last("end", "p", on(" ".join(["Root", *(f"S{n}" for n in range(9))]))))

    with pytest.raises(DefinitionError, match="has 9 gates; expected at most 8"):
        check(wide)


def test_every_combination_of_gates_is_proved() -> None:
    one = check(saga(step("order", "shop"), step("rate", "ratings", on("Order")), last("ship", "depot", on("Rate"))))

    report = check(shop())

    assert report.verdict == "holds"
    assert report.states > 4 * one.states


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (
            lambda: saga(
                step("order", "shop"),
                step("fraud", "risk", on("Order"), gate="fraud-check"),
                last("ship", "depot", on("Fraud")),
            ),
            "with fraud-check shut: saga 'sample': step 'ship' waits only for events of steps behind gates",
        ),
        (
            lambda: saga(
                step("order", "shop"),
                step("rate", "ratings", on("Order"), gate="old-rating"),
                step("score", "scores", on("Order"), gate="new-rating"),
                last("ship", "depot", on("Rate", "Score")),
            ),
            "with new-rating open and old-rating open: step 'ship' is triggered by Rate and by Score in the same run",
        ),
        (
            lambda: saga(
                step("order", "shop"),
                last("pay", "bank", on("Order"), pivot=True, gate="prepaid"),
                last("ship", "depot", on("Order Pay"), pivot=False, fails="Lost"),
            ),
            "with prepaid open: step 'ship' fails with Lost, but it comes after a pivot",
        ),
    ],
    ids=["nothing left to wait for", "two ways at once", "a pivot that comes and goes"],
)
def test_a_combination_that_is_not_safe_is_refused_with_the_gates_under_which_it_shows(broken, text: str) -> None:  # type: ignore[no-untyped-def]
    report = check(broken())

    assert report.verdict == "refused"
    assert any(text in problem.text for problem in report.problems), report.problems
