"""When to try a failed handler again: a pure policy."""

from __future__ import annotations

from dataclasses import dataclass

from saga.errors import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A few quick tries in place, then parked tries with exponential backoff and full jitter.

    `attempts` counts all tries, the first included; `quick` of them follow the first at once, while the lane waits. The wait
    before a later one is a random part of `first * 2 ** n` seconds, n counting those waits from 0, capped at `longest`.
    Source: Brooker, "Exponential Backoff And Jitter", 2015.
    """

    attempts: int = 12
    quick: int = 2
    first: float = 1.0
    longest: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.quick <= 10 or not 0 <= self.first <= self.longest:
            raise DefinitionError(
                f"found {self}; expected attempts of at least 1, quick from 0 to 10, and 0 <= first <= longest (seconds). "
                f"Correct the numbers."
            )

    def is_quick(self, attempt: int) -> bool:
        """Whether the try after the failure of `attempt` (from 1) is made at once."""
        return attempt <= self.quick and attempt < self.attempts

    def delay(self, attempt: int, chance: float) -> float | None:
        """Seconds to wait after the failure of `attempt` (from 1), None when it was the last; `chance` is in [0, 1)."""
        if attempt >= self.attempts:
            return None
        doublings = min(max(attempt - 1 - self.quick, 0), 1000)  # the next power of two that a float holds is not far
        return chance * min(self.longest, self.first * 2.0**doublings)
