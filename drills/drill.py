"""A drill: how the state of one page is caused for real, and what people do about it besides running commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drills import page
from drills.page import Act
from drills.scene import DEADLINE, TIMEOUT, DrillFailed, Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """`name` is that of the page, unless `practises` says which.

    `cause` brings the state about in a scene, and says there whose alarm it is.

    `alarm` is a figure, as (service, name), that is above 0 then. `acts` are what people do, by the page's name for it.
    `sooner` maps spans of time on the page to those of the drill; `timeout` and `deadline` are those of its contracts. `real`
    drills need Kafka and PostgreSQL.
    """

    name: str
    text: str
    cause: Act
    alarm: tuple[str, str] | None = None
    acts: Mapping[str, Act] = field(default_factory=dict)
    sooner: Mapping[str, str] = field(default_factory=dict)
    timeout: str = TIMEOUT
    deadline: str = DEADLINE
    real: bool = False
    practises: str | None = None

    @property
    def page(self) -> Path:
        """The page that is practised."""
        return page.page(self.practises or self.name)

    @property
    def is_ordinary(self) -> bool:
        """Whether a fleet on which other drills take place will do."""
        return (self.timeout, self.deadline, self.real) == (TIMEOUT, DEADLINE, False)

    def check(self, scene: Scene) -> None:
        """Cause the state, see the alarm, follow the page, and find the books in order. Raises DrillFailed."""
        self.cause(scene)
        if self.alarm is not None:
            service, figure = self.alarm
            if figure not in self.page.read_text():
                raise DrillFailed(f"the page {self.page.stem} does not tell of its alarm, {figure}")
            scene.until(lambda: scene.figure(service, figure) > 0, f"the alarm {figure} of {service}")
        page.follow(self.page, scene, self.acts, self.sooner)
        scene.finish()
