"""When to try a failed handler again: a pure policy."""

from __future__ import annotations

from dataclasses import dataclass

from saga.errors import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Exponential backoff with full jitter.

    `attempts` counts all tries, the first included; the wait before try n + 1 is a random part of `first * 2 ** (n - 1)`
    seconds, capped at `longest`. Source: Brooker, "Exponential Backoff And Jitter", 2015.
    """

    attempts: int = 4
    first: float = 0.05
    longest: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first < 0 or self.longest < self.first:
            raise DefinitionError(
                f"found {self}; expected attempts of at least 1 and 0 <= first <= longest (seconds). Correct the numbers."
            )

    def delay(self, attempt: int, chance: float) -> float | None:
        """Seconds to wait after the failure of `attempt` (from 1), None when it was the last; `chance` is in [0, 1)."""
        if attempt >= self.attempts:
            return None
        doublings = min(attempt - 1, 1000)  # the next power of two that a float holds is not far
        return chance * min(self.longest, self.first * 2.0**doublings)
