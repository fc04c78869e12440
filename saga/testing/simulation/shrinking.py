"""From a schedule that breaks a promise to one that still does and from which nothing can be left out.

By delta debugging (Zeller and Hildebrandt, 2002): large parts are tried first, single acts last.
"""

from __future__ import annotations

from collections.abc import Callable

from saga.testing.simulation.act import Schedule

Breaks = Callable[[Schedule], bool]


def shrink(schedule: Schedule, breaks: Breaks, *, budget: int = 400) -> Schedule:
    """The smallest part found for which `breaks` still holds, with no more than `budget` trials."""
    size = len(schedule) // 2
    while size >= 1:
        begin, smaller = 0, False
        while begin < len(schedule):
            if budget == 0:
                return schedule
            budget -= 1
            rest = schedule[:begin] + schedule[begin + size :]
            if breaks(rest):
                schedule, smaller = rest, True
            else:
                begin += size
        if size > 1 or not smaller:
            size //= 2
    return schedule
