"""Shipping is away for longer than an order may take: the deadlines of all open orders pass."""

from __future__ import annotations

from drills.drill import Drill
from drills.scene import Scene

PASSED = "SELECT count(*) FROM saga_workflow WHERE error LIKE 'the deadline passed%' AND closed IS NULL"


def cause(scene: Scene) -> None:
    scene.stop("shipping")
    workflow, *_ = scene.order(5)
    scene.until(lambda: scene.count("orders", PASSED) == 5, "five deadlines that have passed")
    scene.look_at("orders", WORKFLOW=workflow, LOG=str(scene.fleet.log("orders")))


def bring_back(scene: Scene) -> None:
    """Shipping runs again."""
    scene.start("shipping")


DRILL = Drill(
    name="deadline-burst",
    text="shipping is away until the deadlines of all open orders have passed",
    cause=cause,
    acts={"bring-back": bring_back},
    deadline="PT5S",
)
