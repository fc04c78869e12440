"""The place in a trace, as it travels in the headers of events and is kept in rows (W3C Trace Context)."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Traced(Protocol):
    """Whatever carries a place in a trace: a message, a workflow."""

    @property
    def traceparent(self) -> str | None: ...

    @property
    def tracestate(self) -> str | None: ...


class TraceContext(NamedTuple):
    """A place in a trace; both None outside of any."""

    traceparent: str | None = None
    tracestate: str | None = None


NOWHERE = TraceContext()


def is_sampled(traced: Traced) -> bool:
    """Whether whoever began the trace wants it recorded: the lowest bit of the flags, the last of its hexadecimal digits."""
    return traced.traceparent is not None and traced.traceparent[-1:] in _ODD


_ODD = frozenset("13579bdf")
