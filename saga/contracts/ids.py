"""Ids of workflows: unique without coordination, and in order of time."""

from __future__ import annotations

import os
import time
from uuid import UUID


def workflow_id() -> str:
    """A UUID of version 7: rows of one moment share pages of the database's indexes. Source: RFC 9562, section 5.7."""
    moment = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10), "big")
    bits = (moment & (1 << 48) - 1) << 80 | 0x7 << 76 | (chance >> 68) << 64 | 0b10 << 62 | chance & (1 << 62) - 1
    return str(UUID(int=bits))
