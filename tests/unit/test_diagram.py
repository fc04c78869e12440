"""The flow chart of a saga."""

from __future__ import annotations

from saga.protocol.diagram import mermaid
from tests.simulation.sagas import last, on, saga, step


def test_owners_whose_names_differ_in_a_hyphen_are_not_drawn_as_one() -> None:
    lines = mermaid(saga(step("place", "back-office"), last("ship", "back_office", on("Place")))).splitlines()

    assert len({line.partition("[")[0] for line in lines if "subgraph" in line}) == 2


def test_a_diagram_shows_steps_owners_events_the_pivot_and_how_it_unwinds() -> None:
    checkout = saga(
        step("place", "orders", emits="checkout.Placed"),
        step("reserve", "stock", on("checkout.Placed"), "checkout.Reserved", fails="checkout.OutOfStock"),
        step("authorise", "payments", on("checkout.Placed"), "checkout.Authorised", external=True),
        last("dispatch", "shipping", on("checkout.Reserved checkout.Authorised"), "checkout.Dispatched", pivot=True),
        last("end", "orders", on("checkout.Dispatched"), "checkout.Ended"),
    )

    assert (
        mermaid(checkout)
        == """\
flowchart LR
  subgraph by_orders["orders"]
    step_place["place"]
    step_end["end"]
  end
  subgraph by_payments["payments"]
    step_authorise["authorise (external)"]
  end
  subgraph by_shipping["shipping"]
    step_dispatch{{"dispatch"}}
  end
  subgraph by_stock["stock"]
    step_reserve["reserve"]
  end
  step_place -- Placed --> step_reserve
  step_reserve -- OutOfStock --x fail_reserve((abort))
  step_place -- Placed --> step_authorise
  join_dispatch_0(("and")) --> step_dispatch
  step_authorise -- Authorised --> join_dispatch_0
  step_reserve -- Reserved --> join_dispatch_0
  step_dispatch -- Dispatched --> step_end
  step_place -. ↩ ReserveUndone .- step_reserve
  step_place -. ↩ AuthoriseUndone .- step_authorise
  step_reserve -. ↩ skipped .- step_dispatch
  step_authorise -. ↩ skipped .- step_dispatch
  classDef pivot stroke-width:4px
  class step_dispatch pivot"""
    )


def test_alternatives_arrive_by_arrows_of_their_own() -> None:
    branch = saga(step("a", "p", emits="Small Large"), step("b", "p", on("Large")), last("c", "q", on("Small", "B")))

    lines = mermaid(branch).split("\n")

    assert "  step_a -- Small --> step_c" in lines
    assert "  step_b -- B --> step_c" in lines
    assert not [line for line in lines if "join_" in line]
