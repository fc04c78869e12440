"""Which errors are the same: those that differ only in what differs from one workflow to the next. Pure.

Blanked are ids, hexadecimal numbers, numbers, moments, addresses, and quoted texts that are no plain name: `KeyError: 'size'`
names the fault, `no shelf for 'MUG-12'` names the goods.
"""

from __future__ import annotations

import re

from saga.participant.dependency import awaited

_QUOTED = r"""(?P<quote>["'`])(?![A-Za-z_]+(?P=quote))(?:(?!(?P=quote)).)*(?P=quote)(?!\w)"""
_VARIES = re.compile(
    rf"(?<![\w#]){_QUOTED}"
    r"|\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b"
    r"|\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|\b0x[0-9a-f]+\b"
    r"|\b(?=\w*\d)[0-9a-f]{8,}\b"
    r"|\d+(?:[.,:]\d+)*",
    re.IGNORECASE,
)


def fingerprint(error: str, workflow_id: str) -> str:
    """The first line of an error with a `#` for each thing that varies; of a wait for a dependency, only for which."""
    if (what := awaited(error)) is not None:
        return what
    itself = rf"(?<!\w){re.escape(workflow_id)}(?!\w)"
    return _VARIES.sub("#", re.sub(itself, "#", error.strip().partition("\n")[0])) or "no text"
