"""Of which workflows a database may have rows: so that it is not asked about the many that are read of for the first time."""

from __future__ import annotations


class Met:
    """Remembers workflows by two bits of many: it may know one that it never met, and never fails to know one that it did.

    `expected` is how many it is made for; with more of them it is wrong more often.
    """

    def __init__(self, expected: int) -> None:
        bits = 1 << (8 * expected).bit_length()
        self._mask, self._bits = bits - 1, bytearray(bits >> 3 or 1)

    def add(self, workflow: str) -> None:
        number, mask, bits = hash(workflow), self._mask, self._bits
        for place in (number & mask, number >> 32 & mask):
            bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, workflow: str) -> bool:
        number, mask, bits = hash(workflow), self._mask, self._bits
        place, other = number & mask, number >> 32 & mask
        return bool(bits[place >> 3] >> (place & 7) & bits[other >> 3] >> (other & 7) & 1)
