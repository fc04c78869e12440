"""What a participant does next, rule by rule (ARCHITECTURE.md, facts and the protocol)."""

from __future__ import annotations

from collections.abc import Mapping

from saga.protocol.decide import Action, Close, Compensate, FenceView, Refuse, Run, Skip, Withdraw, answer, decide
from saga.protocol.decide import status as standing
from saga.protocol.definition import Definition
from saga.protocol.facts import Fact, FactStatus, StepStatus, WorkflowStatus
from tests.simulation.protocol_world import Fence
from tests.simulation.sagas import branching, last, on, saga, step

CHECKOUT = saga(
    step("place", "orders", emits="Placed"),
    step("reserve", "stock", on("Placed"), "Reserved", fails="OutOfStock"),
    step("authorise", "payments", on("Placed"), "Authorised", fails="Declined"),
    last("dispatch", "shipping", on("Reserved Authorised"), "Dispatched", pivot=True),
    last("confirm", "orders", on("Dispatched"), "Confirmed"),
)
ABORT = Fact("place", FactStatus.ABORT)


def done(name: str, event: str) -> Fact:
    return Fact(name, FactStatus.DONE, event)


PLACED, RESERVED, AUTHORISED = done("place", "Placed"), done("reserve", "Reserved"), done("authorise", "Authorised")
DISPATCHED, CONFIRMED = done("dispatch", "Dispatched"), done("confirm", "Confirmed")


def report(name: str, status: FactStatus) -> Fact:
    return Fact(name, status)


def ask(participant: str, *facts: Fact, definition: Definition = CHECKOUT, **fences: Fence | StepStatus) -> tuple[Action, ...]:
    return decide(definition, participant, set(facts), own(fences))


def own(fences: Mapping[str, Fence | StepStatus]) -> Mapping[str, FenceView]:
    return {name: Fence(fence) if isinstance(fence, StepStatus) else fence for name, fence in fences.items()}


WAITING = Fence(StepStatus.RUNNING, pending=True)
CALLING = Fence(StepStatus.RUNNING)


def test_a_note_is_no_knowledge() -> None:
    """Nobody is its audience; should it be known all the same, everybody does what they would do without."""
    known = [(), (PLACED,), (PLACED, ABORT), (PLACED, RESERVED, report("authorise", FactStatus.FAILED)), (CONFIRMED,)]
    fences = [{}, {"reserve": StepStatus.DONE}, {"reserve": StepStatus.STUCK}]
    for facts in known:
        for held in fences:
            notes = {Fact(step.name, FactStatus.NOTE) for step in CHECKOUT.steps}
            for participant in CHECKOUT.participants:
                mine = own({name: status for name, status in held.items() if CHECKOUT[name].by == participant})
                assert decide(CHECKOUT, participant, {*facts, *notes}, mine) == decide(CHECKOUT, participant, {*facts}, mine)
            assert standing(CHECKOUT, {*facts, *notes}, own(held)) == standing(CHECKOUT, {*facts}, own(held))
    assert answer(CHECKOUT, "shipping", Fact("dispatch", FactStatus.NOTE), own({"dispatch": StepStatus.DONE})) is None


# Rule 1: a triggered step runs


def test_a_step_runs_once_its_trigger_is_done() -> None:
    assert ask("stock", PLACED) == (Run("reserve", frozenset({"Placed"})),)


def test_a_join_waits_for_all_of_its_events() -> None:
    assert ask("shipping", RESERVED) == ()
    assert ask("shipping", RESERVED, AUTHORISED) == (Run("dispatch", frozenset({"Reserved", "Authorised"})),)


def test_one_alternative_is_enough_and_is_named() -> None:
    assert ask("shop", done("escort", "Escort"), definition=branching()) == (Run("close", frozenset({"Escort"})),)


def test_own_events_trigger_own_steps_only_through_the_topics() -> None:
    both = saga(step("first", "ann"), last("second", "ann", on("First")))

    assert ask("ann", definition=both, first=StepStatus.DONE) == ()
    assert ask("ann", done("first", "First"), definition=both, first=StepStatus.DONE) == (Run("second", frozenset({"First"})),)


def test_a_step_that_has_begun_is_not_run_again() -> None:
    for fence in (CALLING, WAITING, Fence(StepStatus.DONE), Fence(StepStatus.FAILED), Fence(StepStatus.SKIPPED)):
        assert Run("reserve", frozenset({"Placed"})) not in ask("stock", PLACED, reserve=fence)


# Rule 2: who knows of an abort


def test_a_failure_elsewhere_is_an_abort() -> None:
    assert ask("payments", PLACED, report("reserve", FactStatus.FAILED)) == (Skip("authorise"),)


def test_a_report_implies_an_abort_that_has_not_arrived() -> None:
    for status in (FactStatus.SKIPPED, FactStatus.FAILED, FactStatus.COMPENSATED):
        assert ask("stock", PLACED, report("dispatch", status)) == (Skip("reserve"),)


def test_an_own_step_that_failed_is_an_abort_before_its_fact_comes_back() -> None:
    two = saga(
        step("s0", "ann"),
        step("s1", "bob", on("S0"), fails="S1Failed"),
        step("s2", "bob", on("S0")),
        last("s3", "ann", on("S1 S2")),
    )

    assert ask("bob", done("s0", "S0"), definition=two, s1=StepStatus.FAILED) == (Skip("s2"),)


# Rule 3: what an abort does to a step that is not done


def test_an_idle_step_becomes_a_tombstone_and_a_late_trigger_finds_it() -> None:
    assert ask("stock", ABORT) == (Skip("reserve"),)
    assert ask("stock", ABORT, PLACED, reserve=StepStatus.SKIPPED) == ()


def test_a_compensating_event_that_overtakes_its_action_leaves_a_tombstone() -> None:
    overtaken = report("dispatch", FactStatus.SKIPPED)

    assert ask("stock", overtaken) == (Skip("reserve"),)
    assert ask("stock", overtaken, PLACED, reserve=StepStatus.SKIPPED) == ()


def test_the_outcome_of_an_external_call_comes_first() -> None:
    assert ask("payments", PLACED, ABORT, authorise=CALLING) == ()


def test_a_step_that_waits_for_the_world_is_withdrawn_and_then_undone() -> None:
    withdrawn = Fence(StepStatus.COMPENSATING, pending=True)

    assert ask("payments", PLACED, ABORT, authorise=WAITING) == (Withdraw("authorise"),)
    assert ask("payments", PLACED, ABORT, authorise=withdrawn) == ()
    assert ask("payments", ABORT, report("dispatch", FactStatus.SKIPPED), authorise=withdrawn) == (Compensate("authorise"),)


def test_a_compensation_under_way_is_not_begun_again() -> None:
    skipped = report("dispatch", FactStatus.SKIPPED)

    assert ask("payments", ABORT, skipped, authorise=Fence(StepStatus.COMPENSATING)) == ()


def test_a_step_after_the_pivot_is_never_skipped() -> None:
    assert ask("orders", ABORT, place=StepStatus.DONE) == ()
    assert ask("orders", ABORT, DISPATCHED, place=StepStatus.DONE) == (Run("confirm", frozenset({"Dispatched"})),)


# Rule 4: the order of compensation


def test_a_done_step_is_undone_when_all_that_follows_has_reported() -> None:
    reserve, authorise = report("reserve", FactStatus.COMPENSATED), report("authorise", FactStatus.FAILED)

    assert ask("orders", ABORT, place=StepStatus.DONE) == ()
    assert ask("orders", ABORT, reserve, place=StepStatus.DONE) == ()
    assert ask("orders", ABORT, reserve, authorise, place=StepStatus.DONE) == (Compensate("place"),)


def test_reports_without_the_abort_itself_are_enough() -> None:
    assert ask("stock", report("dispatch", FactStatus.SKIPPED), reserve=StepStatus.DONE) == (Compensate("reserve"),)


def test_the_root_undone_closes_the_workflow() -> None:
    assert ask("orders", ABORT, place=StepStatus.COMPENSATED) == (Close(WorkflowStatus.COMPENSATED),)
    assert ask("shipping", report("place", FactStatus.COMPENSATED)) == (Close(WorkflowStatus.COMPENSATED),)


# Rule 5: the pivot decides


def test_an_abort_that_comes_before_the_pivot_wins() -> None:
    assert ask("shipping", RESERVED, AUTHORISED, ABORT) == (Skip("dispatch"),)
    assert ask("shipping", RESERVED, AUTHORISED, ABORT, dispatch=WAITING) == (Skip("dispatch"),)


def test_an_abort_that_comes_after_the_pivot_is_refused_once() -> None:
    assert ask("shipping", RESERVED, AUTHORISED, ABORT, dispatch=StepStatus.DONE) == (Refuse("dispatch"),)
    assert ask("shipping", RESERVED, AUTHORISED, ABORT, dispatch=Fence(StepStatus.DONE, refused=True)) == ()


def test_an_external_pivot_in_flight_is_left_to_decide() -> None:
    assert ask("shipping", RESERVED, AUTHORISED, ABORT, dispatch=CALLING) == ()


def test_what_stands_under_a_done_pivot_is_never_undone() -> None:
    assert ask("stock", PLACED, ABORT, report("dispatch", FactStatus.REFUSED), reserve=StepStatus.DONE) == ()


def test_without_declared_pivots_the_completing_step_is_the_pivot() -> None:
    plain = saga(step("s0", "ann"), step("s1", "bob", on("S0")), last("s2", "cid", on("S1")))

    assert ask("cid", done("s1", "S1"), ABORT, definition=plain) == (Skip("s2"),)
    assert ask("cid", ABORT, definition=plain, s2=StepStatus.DONE) == (Refuse("s2"), Close(WorkflowStatus.COMPLETED))


def test_a_participant_of_the_branch_not_taken_closes_when_it_hears_the_refusal() -> None:
    refused = report("ship", FactStatus.REFUSED)
    skipped = {"review": StepStatus.SKIPPED}

    assert ask("clerk", ABORT, refused, definition=branching()) == (Skip("review"),)
    assert ask("clerk", ABORT, refused, definition=branching(), **skipped) == (Close(WorkflowStatus.COMPLETED),)


def test_what_is_stuck_after_the_pivot_is_no_wish_to_abort() -> None:
    passed_over = saga(
        step("place", "orders", emits="Placed"),
        last("dispatch", "shipping", on("Placed"), "Dispatched", pivot=True),
        last("confirm", "orders", on("Dispatched"), "Confirmed", on_stuck="continue"),
    )
    stuck = report("confirm", FactStatus.STUCK)

    assert ask("shipping", PLACED, stuck, definition=passed_over, dispatch=StepStatus.DONE) == ()


def test_who_knows_of_a_step_after_the_pivot_knows_that_the_workflow_does_not_unwind() -> None:
    billed = saga(
        step("place", "orders", emits="Placed"),
        step("reserve", "billing", on("Placed"), "Reserved"),
        last("dispatch", "shipping", on("Reserved"), "Dispatched", pivot=True),
        last("arrive", "carrier", on("Dispatched"), "Arrived"),
        last("bill", "billing", on("Arrived")),
    )

    known = {PLACED, ABORT, done("arrive", "Arrived")}
    assert standing(billed, known, own({"reserve": StepStatus.DONE})) is WorkflowStatus.IN_PROGRESS
    assert standing(billed, {PLACED, ABORT}, own({"reserve": StepStatus.DONE})) is WorkflowStatus.FAILED


# Rule 6: failure


def test_a_failed_step_is_not_undone() -> None:
    assert ask("stock", PLACED, ABORT, report("dispatch", FactStatus.SKIPPED), reserve=StepStatus.FAILED) == ()


# Rule 7: stuck


def test_what_stands_under_a_stuck_compensation_waits() -> None:
    facts = ABORT, report("reserve", FactStatus.SKIPPED), report("authorise", FactStatus.STUCK)

    assert ask("orders", *facts, place=StepStatus.DONE) == ()
    assert ask("payments", ABORT, report("dispatch", FactStatus.SKIPPED), authorise=StepStatus.STUCK) == ()


# Rule 8: the own fence is the truth of an own step


def test_a_foreign_fact_about_an_own_step_does_not_stand_for_its_fence() -> None:
    assert ask("stock", PLACED, RESERVED) == (Run("reserve", frozenset({"Placed"})),)


# Rule 9: the end, and what comes after


def test_the_completing_step_closes_for_everybody() -> None:
    for participant in CHECKOUT.participants:
        assert ask(participant, CONFIRMED) == (Close(WorkflowStatus.COMPLETED),)
    assert ask("orders", DISPATCHED, confirm=StepStatus.DONE) == (Close(WorkflowStatus.COMPLETED),)


def test_the_pivot_refuses_before_it_closes() -> None:
    assert ask("shipping", ABORT, CONFIRMED, dispatch=StepStatus.DONE) == (Refuse("dispatch"), Close(WorkflowStatus.COMPLETED))


def test_a_closed_pivot_answers_a_late_wish_to_abort_once() -> None:
    fences = own({"dispatch": StepStatus.DONE})
    for status in (FactStatus.ABORT, FactStatus.FAILED):
        assert answer(CHECKOUT, "shipping", report("reserve", status), fences) == Refuse("dispatch")
    assert answer(CHECKOUT, "shipping", ABORT, own({"dispatch": Fence(StepStatus.DONE, refused=True)})) is None


def test_any_other_closed_row_takes_a_late_fact_without_effect() -> None:
    assert answer(CHECKOUT, "stock", ABORT, own({"reserve": StepStatus.DONE})) is None
    assert answer(CHECKOUT, "shipping", ABORT, own({"dispatch": StepStatus.SKIPPED})) is None
    assert answer(CHECKOUT, "shipping", ABORT, {}) is None
    assert answer(CHECKOUT, "shipping", AUTHORISED, own({"dispatch": StepStatus.DONE})) is None


def test_a_stranger_has_nothing_to_do() -> None:
    assert ask("marketing", PLACED, ABORT) == ()
