"""Where a run happens: servers, how much is done, and names that are used once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import count

SMALL = 20  # a trial does a twentieth, in one round


@dataclass
class Place:
    """Servers of this run; `small` is for trying the programs, whose figures then mean nothing."""

    kafka: str
    postgres: str
    small: bool = False
    _numbers: count[int] = field(default_factory=count)

    def number(self) -> int:
        """One that no other run has, even where the servers outlive the run."""
        return os.getpid() * 1000 + next(self._numbers)

    def label(self, kind: str) -> str:
        """A name for topics and databases that nobody else has."""
        return f"{kind}-{self.number()}"

    def count(self, whole: int) -> int:
        """How many of these are enough."""
        return max(whole // SMALL, 40) if self.small else whole

    def rounds(self, whole: int) -> int:
        """How many rounds are enough."""
        return 1 if self.small else whole
