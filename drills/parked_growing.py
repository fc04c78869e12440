"""A release of stock in which a `return` is missing: every order is parked, and waits for an operator."""

from __future__ import annotations

from drills.drill import Drill
from drills.scene import Scene

GOOD, BAD = "return StockReserved(", "StockReserved("
PARKED = "SELECT count(*) FROM saga_fence WHERE error IS NOT NULL AND due IS NULL"


def cause(scene: Scene) -> None:
    scene.stop("stock")
    scene.release.replace("stock/app.py", f"    {GOOD}", f"    {BAD}")
    scene.start("stock")
    workflow, *_ = scene.order(6)
    scene.until(lambda: scene.count("stock", PARKED) == 6, "six parked workflows")
    scene.look_at("stock", WORKFLOW=workflow)


def roll_back(scene: Scene) -> None:
    """Stock runs the release before."""
    scene.stop("stock")
    scene.release.replace("stock/app.py", f"    {BAD}", f"    {GOOD}")
    scene.start("stock")


DRILL = Drill(
    name="parked-growing",
    text="a new release of stock has a handler that fails for every order",
    cause=cause,
    alarm=("stock", "saga.workflows.parked"),
    acts={"roll-back": roll_back},
)
