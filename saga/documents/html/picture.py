"""The picture of a saga as inline SVG: cards in layers, solid arrows forward, dashed ones along which it unwinds.

Colours are the page's style sheet's, so that it is legible in light and dark and on paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from saga.documents.html.card import Link, Mark, card, height, width
from saga.documents.html.layout import Layout, Spot, layout
from saga.documents.html.markup import Markup, element
from saga.protocol.definition import Definition, Step
from saga.protocol.story import short

_MARGIN, _ENDS, _BETWEEN, _JOIN = 14.0, 58.0, 74.0, 13.0
_LANE = 9.0
"""Half the distance between an arrow forward and the one back."""
_MEET = 34.0
"""How far above a card the arrows of a join meet."""
_COLUMN = 420.0
"""The width that fits beside a text."""
_SMALLEST = 0.82
"""Below this scale the text would be too small: the frame scrolls instead."""

Point = tuple[float, float]


def owners(saga: Definition) -> Mapping[str, int]:
    """The number of each participant's colour."""
    return {participant: number % 8 for number, participant in enumerate(sorted(saga.participants))}


def picture(saga: Definition, link: Link, *, of: str | None = None, marks: Mapping[str, Mark] | None = None) -> Markup:
    """The saga drawn from top to bottom; the steps of others are dimmed where it is the picture `of` one participant.

    With `marks`, those are drawn of their steps, and the steps that have none are dimmed.
    """
    return _Picture(saga, link, of, marks).svg()


class _Picture:
    def __init__(self, saga: Definition, link: Link, of: str | None, marks: Mapping[str, Mark] | None) -> None:
        self.saga, self.link, self.of, self.marks = saga, link, of, marks
        self.size = width(saga)
        self.plan: Layout = layout(saga, self.size)
        self.tops = [*self._tops()]
        self.width = max(self.plan.width, 300.0) + 2 * _MARGIN
        self.shift = (self.width - self.plan.width) / 2

    def svg(self) -> Markup:
        tall = self.tops[-1] + self._tall(-1) + _ENDS
        body = [*self._edges(), *self._cards(), *self._begin(), *self._end()]
        steps = f"The flow of saga {self.saga.name}: {len(self.saga.steps)} steps of {len(self.saga.participants)} participants"
        return element(
            "svg",
            element("title", steps, id="flow-title"),
            element("defs", *map(_arrowhead, ("forward", "back"))),
            *body,
            viewBox=f"0 0 {self.width:.0f} {tall:.0f}",
            role="group",
            aria_labelledby="flow-title",
            style=f"max-width:{self.width:.0f}px;min-width:{self.width * _SMALLEST:.0f}px",
        )

    def _tops(self) -> Iterator[float]:
        top = _ENDS
        for number, layer in enumerate(self.plan.layers):
            steps = [self.saga[spot[0]] for spot in layer if spot[0] == spot[1]]
            top += (_MEET + 6) * any(len(join) > 1 for step in steps for join in step.on)
            yield top
            top += self._tall(number) + _BETWEEN

    def _tall(self, layer: int) -> float:
        return max(height(self.saga[spot[0]]) for spot in self.plan.layers[layer] if spot[0] == spot[1])

    def _x(self, spot: Spot) -> float:
        return self.plan.x[spot] + self.shift

    def _spot(self, step: str) -> Spot:
        return next(spot for layer in self.plan.layers for spot in layer if spot[:2] == (step, step))

    def _top(self, step: str) -> Point:
        spot = self._spot(step)
        return self._x(spot), self.tops[spot[2]]

    def _bottom(self, step: str) -> Point:
        x, y = self._top(step)
        return x, y + height(self.saga[step])

    def _cards(self) -> Iterator[Markup]:
        colours = owners(self.saga)
        for step in self.saga.steps:
            x, y = self._top(step.name)
            mark = self.marks.get(step.name) if self.marks else None
            dimmed = (self.of is not None and step.by != self.of) or (self.marks is not None and mark is None)
            left, owner = x - self.size / 2, colours[step.by]
            yield card(self.saga, step, left, y, self.size, owner, self.link, dimmed=dimmed, mark=mark)

    def _begin(self) -> Iterator[Markup]:
        """The start, and the end of what was unwound."""
        x, y = self._top(self.saga.root.name)
        yield _curve([(x - 34, y - 26), (x - 34, y - 2)], "forward")
        yield element("circle", class_="start", cx=x - 34, cy=y - 30, r=5)
        yield element("text", "start", class_="end-text left", x=x - 44, y=y - 26)
        if self.saga.root.name not in self.saga.pivots:
            yield _curve([(x + 34, y), (x + 34, y - 22)], "back")
            yield element("circle", class_="end back", cx=x + 34, cy=y - 30, r=6)
            yield element("text", "compensated", class_="end-text", x=x + 46, y=y - 26)

    def _end(self) -> Iterator[Markup]:
        x, y = self._bottom(self.saga.sink.name)
        yield _curve([(x, y), (x, y + 26)], "forward")
        yield element("circle", class_="end forward", cx=x, cy=y + 35, r=7)
        yield element("circle", class_="start", cx=x, cy=y + 35, r=3.5)
        yield element("text", "completed", class_="end-text", x=x + 14, y=y + 39)

    def _edges(self) -> Iterator[Markup]:
        for step in self.saga.steps:
            yield from self._arrivals(step)

    def _arrivals(self, step: Step) -> Iterator[Markup]:
        """Every alternative at a place of its own; the arrows of a join meet in a circle above the card."""
        x, y = self._top(step.name)
        joins = sorted(step.on, key=lambda join: (min(map(self._source, join)), sorted(join)))
        places = [x + (number - (len(joins) - 1) / 2) * 56 for number in range(len(joins))]
        for at in places[1:]:
            yield element("text", "or", class_="or", x=at - 28, y=y - 10)
        for at, join in zip(places, joins, strict=True):
            for event in sorted(join):
                yield from self._forward(step, event, at, meets=len(join) > 1)
            if len(join) > 1:
                yield _curve([(at, y - _MEET + _JOIN), (at, y - 2)], "forward")
                yield element("circle", class_="join", cx=at, cy=y - _MEET, r=_JOIN)
                yield element("text", "and", class_="join-text", x=at, y=y - _MEET + 3.5)
        if step.name not in self.saga.after_pivot:
            yield from self._backs(step, dict(zip(joins, places, strict=True)))

    def _forward(self, step: Step, event: str, at: float, *, meets: bool) -> Iterator[Markup]:
        before, y = self.saga.emitter[event], self._top(step.name)[1]
        aside = 0.0 if step.name in self.saga.after_pivot else -self._side(before, step) * _LANE
        slot, number = self._slot(before, step.name, event)
        x, low = self._bottom(before)
        end = (at, y - _MEET - _JOIN) if meets else (at + aside, y - 2)
        points = [(x + slot + aside, low), *self._via(before, step.name, aside), end]
        yield _curve(points, "forward")
        if len(self.saga[before].emits) > 1:
            at_x, at_y = _along(points[0], points[1], (0.4, 0.65)[number % 2])
            yield element("text", short(event), class_="label", x=at_x, y=at_y + 4)

    def _backs(self, step: Step, places: Mapping[frozenset[str], float]) -> Iterator[Markup]:
        """One arrow to each step before, nearest first, on the outer side of the arrows forward."""
        x, y = self._top(step.name)
        taken = {-1: 0, 1: 0}
        for before in sorted(self.saga.predecessors[step.name], key=lambda name: abs(self._top(name)[0] - x)):
            joins = [join for join in places if any(self.saga.emitter[event] == before for event in join)]
            side = self._side(before, step)
            outermost = max((places[join] for join in joins), key=lambda at: at * side)
            meets = any(len(join) > 1 for join in joins)
            end = outermost + side * (_JOIN * 2 + 14 * taken[side] if meets else _LANE)
            taken[side] += meets
            event = next(event for event in sorted(joins[0]) if self.saga.emitter[event] == before)
            low_x, low = self._bottom(before)
            start = (low_x + self._slot(before, step.name, event)[0] + side * _LANE, low + 2)
            yield _curve([start, *self._via(before, step.name, side * _LANE), (end, y)][::-1], "back")

    def _side(self, before: str, step: Step) -> int:
        """-1 where the way back is to the left of the way forward."""
        chain = [self._x(spot) for spot in self.plan.chain(before, step.name)]
        several = len(self.saga.predecessors[step.name]) > 1
        distance = chain[-2] - chain[-1] if several else chain[1] - chain[0]
        return -1 if distance < -1 else 1

    def _slot(self, before: str, after: str, event: str) -> tuple[float, int]:
        """Where at the lower edge of a card its arrow to a step leaves, counted from the middle; and as which of them."""
        ways = sorted(
            (self._x(self.plan.chain(before, name)[1]), name, sent)
            for name in self.saga.successors[before]
            for sent in self.saga[before].emits
            if sent in self.saga[name].consumes
        )
        number = [(name, sent) for _, name, sent in ways].index((after, event))
        return (number - (len(ways) - 1) / 2) * min(60.0, (self.size - 50) / len(ways)), number

    def _source(self, event: str) -> float:
        return self._top(self.saga.emitter[event])[0]

    def _via(self, before: str, after: str, aside: float) -> Iterator[Point]:
        """Straight through every layer that the arrow passes."""
        for spot in self.plan.chain(before, after)[1:-1]:
            x, top = self._x(spot) + aside, self.tops[spot[2]]
            yield from ((x, top), (x, top + self._tall(spot[2])))


def is_wide(saga: Definition) -> bool:
    """Whether the picture needs the width of the page for itself."""
    return layout(saga, width(saga)).width > _COLUMN


def _along(start: Point, end: Point, t: float) -> Point:
    """A point of the curve that `_curve` draws between two others."""
    share = t * t * (3 - 2 * t)
    middle, rest = (start[1] + end[1]) / 2, 1 - t
    y = rest**3 * start[1] + 3 * rest * t * middle + t**3 * end[1]
    return start[0] + share * (end[0] - start[0]), y


def _curve(points: Sequence[Point], way: str) -> Markup:
    """A line through points, which leaves and reaches each of them vertically."""
    drawn = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        drawn.append(f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}")
    return element("path", class_=f"way {way}", d="".join(drawn), marker_end=f"url(#{way}-head)")


def _arrowhead(way: str) -> Markup:
    point = element("path", d="M1 1 9 5 1 9z", class_=f"head {way}")
    return element(
        "marker", point, id=f"{way}-head", viewBox="0 0 10 10", refX=9, refY=5, markerWidth=7, markerHeight=7, orient="auto"
    )
