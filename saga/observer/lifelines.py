"""One workflow as a picture: a line for each participant, an arrow from who said something to who must handle it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from saga.documents.html.markup import Markup, element
from saga.documents.html.picture import owners
from saga.protocol.definition import Definition
from saga.replay.timeline import Moment, Timeline

_APART, _ROW, _HEAD, _SIDE = 220.0, 40.0, 44.0, 100.0
_LETTER = 6.4
_SMALLEST = 0.82
_LONGEST = 25


def lifelines(saga: Definition, told: Timeline) -> Markup:
    """Time runs downward; solid arrows go forward, dashed ones unwind. What nobody else must handle is a dot with its words."""
    names = [*dict.fromkeys(moment.source for moment in told.moments)]
    names += sorted({heard for moment in told.moments for heard in moment.heard_by} - {*names})
    x = {name: _SIDE + number * _APART for number, name in enumerate(names)}
    wide, tall = 2 * _SIDE + max(len(names) - 1, 0) * _APART, _HEAD + _ROW * (len(told.moments) + 1)
    rows = (part for number, moment in enumerate(told.moments) for part in _said(moment, x, _HEAD + _ROW * (number + 1)))
    return element(
        "svg",
        element("title", f"What was said about workflow {told.workflow}, from above to below", id="lifelines-title"),
        *_lines(saga, x, tall),
        *rows,
        viewBox=f"0 0 {wide:.0f} {tall:.0f}",
        role="img",
        aria_labelledby="lifelines-title",
        style=f"max-width:{wide:.0f}px;min-width:{wide * _SMALLEST:.0f}px",
    )


def _lines(saga: Definition, x: dict[str, float], tall: float) -> Iterator[Markup]:
    colours = owners(saga)
    for name, at in x.items():
        yield element("line", class_="life", x1=at, y1=_HEAD - 10, x2=at, y2=tall - 8)
        yield element("path", class_=f"stripe owner-{colours.get(name, 7)}", d=f"M{at - 30:.1f} {_HEAD - 12:.1f}H{at + 30:.1f}")
        yield element("text", element("title", name), short(name or "unknown"), class_="name said", x=at, y=_HEAD - 22)


def short(name: str) -> str:
    """As much of a name as is drawn; what sets long ones apart is mostly at their end."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-(_LONGEST // 2) :]}"


def _said(moment: Moment, x: dict[str, float], y: float) -> Iterator[Markup]:
    here, kind = x[moment.source], "forward" if moment.status == "done" else "back"
    for heard in moment.heard_by:
        if heard != moment.source:
            yield _arrow(here, x[heard], y, kind)
    yield element("circle", class_="heard", cx=here, cy=y, r=4)
    others = [x[heard] for heard in moment.heard_by if heard != moment.source]
    reach = [here, *others]
    middle = (min(reach) + max(reach)) / 2
    words = moment.words
    most = int(max(max(reach) - min(reach), _APART) / _LETTER)
    yield element("text", words if len(words) <= most else f"{words[: most - 1]}…", class_="said", x=middle, y=y - 8)


def _arrow(start: float, end: float, y: float, kind: str) -> Markup:
    towards = 1 if end > start else -1
    tip = end - towards * 2
    head = f"M{tip:.1f} {y:.1f}l{-7 * towards} -4v8z"
    line = element("path", class_=f"way {kind}", d=f"M{start:.1f} {y:.1f}H{tip - towards * 6:.1f}")
    return element("g", line, element("path", class_=f"head {kind}", d=head))
