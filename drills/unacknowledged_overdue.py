"""Shipping is away: what stock and payments have told it is acknowledged by nobody."""

from __future__ import annotations

from drills.drill import Drill
from drills.scene import Scene

OUTSTANDING = "SELECT count(*) FROM saga_outbox WHERE published IS NOT NULL"


def cause(scene: Scene) -> None:
    scene.order(4)
    scene.settle()
    scene.stop("shipping")
    workflow, *_ = scene.order(4)
    scene.until(lambda: scene.count("stock", OUTSTANDING) >= 4, "four events that shipping does not acknowledge")
    scene.look_at("stock", WORKFLOW=workflow)


def bring_back(scene: Scene) -> None:
    """Shipping runs again."""
    scene.start("shipping")


DRILL = Drill(
    name="unacknowledged-overdue",
    text="shipping does not run, and nobody acknowledges what it should hear of",
    cause=cause,
    alarm=("stock", "saga.unhandled.oldest_age"),
    acts={"bring-back": bring_back},
    sooner={"than 5m": "than 1s"},
)
