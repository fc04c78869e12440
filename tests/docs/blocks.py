"""The blocks of documents, where the tests of documents look for them."""

from __future__ import annotations

from drills.blocks import Block, blocks, matches

__all__ = ["Block", "blocks", "matches"]
