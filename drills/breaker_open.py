"""The payment gateway is away: the breaker of payments opens, and orders wait for it."""

from __future__ import annotations

from demo.books import GATEWAY
from drills.drill import Drill
from drills.scene import Scene

WAITING = "SELECT count(*) FROM saga_fence WHERE error LIKE 'waits for gateway%'"


def cause(scene: Scene) -> None:
    scene.stop(GATEWAY)
    workflow, *_ = scene.order(12)
    scene.until(lambda: scene.count("payments", WAITING) == 12, "twelve workflows that wait for the gateway")
    scene.look_at("payments", WORKFLOW=workflow)


def bring_back(scene: Scene) -> None:
    """The gateway answers again."""
    scene.start(GATEWAY)


DRILL = Drill(
    name="breaker-open",
    text="the payment gateway does not answer",
    cause=cause,
    alarm=("payments", "saga.breaker.state"),
    acts={"bring-back": bring_back},
)
