"""Where steps stand in a picture of a saga: in layers from the root down, so that every arrow forward points downward. Pure.

The method is Sugiyama's, in small: longest paths give the layers, barycentres the order in them; an arrow that passes a layer
takes a place of its own there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from saga.protocol.definition import Definition

GAP = 20.0
"""Between neighbours of one layer."""
PASSAGE = 36.0
"""Width that a passing arrow takes."""
_SWEEPS = 8

Spot = tuple[str, str, int]
"""A step, as (name, name, layer); or the arrow between two steps where it passes a layer."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The layers of steps and passages from left to right, and the middle of each; the leftmost edge is at 0."""

    layers: Sequence[Sequence[Spot]]
    x: Mapping[Spot, float]
    width: float

    def chain(self, before: str, after: str) -> list[Spot]:
        """The spots along the arrow between two steps, the steps themselves included."""
        rows = {spot[0]: number for number, layer in enumerate(self.layers) for spot in layer if spot[0] == spot[1]}
        between = [(before, after, number) for number in range(rows[before] + 1, rows[after])]
        return [(before, before, rows[before]), *between, (after, after, rows[after])]


def layout(saga: Definition, width: float) -> Layout:
    """Places for cards of this width."""
    layers = _layers(saga)
    neighbours = _neighbours(layers, saga)
    _order(layers, neighbours)
    widths = {spot: width if spot[0] == spot[1] else PASSAGE for layer in layers for spot in layer}
    x = _placed(layers, neighbours, widths)
    left = min(x[spot] - widths[spot] / 2 for spot in widths)
    right = max(x[spot] + widths[spot] / 2 for spot in widths)
    return Layout(layers, {spot: at - left for spot, at in x.items()}, right - left)


def _layers(saga: Definition) -> list[list[Spot]]:
    depth: dict[str, int] = {}
    while len(depth) < len(saga.steps):
        for step in saga.steps:
            before = saga.predecessors[step.name]
            if step.name not in depth and all(name in depth for name in before):
                depth[step.name] = max((depth[name] + 1 for name in before), default=0)
    layers: list[list[Spot]] = [[] for _ in range(max(depth.values()) + 1)]
    for step in saga.steps:
        layers[depth[step.name]].append((step.name, step.name, depth[step.name]))
        for after in saga.successors[step.name]:
            for number in range(depth[step.name] + 1, depth[after]):
                layers[number].append((step.name, after, number))
    return layers


def _neighbours(layers: Sequence[Sequence[Spot]], saga: Definition) -> Mapping[Spot, list[Spot]]:
    """The spots above and below to which each has an arrow."""
    found: dict[Spot, list[Spot]] = {spot: [] for layer in layers for spot in layer}
    bare = Layout(layers, {}, 0.0)
    for step in saga.steps:
        for after in saga.successors[step.name]:
            chain = bare.chain(step.name, after)
            for upper, lower in pairwise(chain):
                found[upper].append(lower)
                found[lower].append(upper)
    return found


def _order(layers: list[list[Spot]], neighbours: Mapping[Spot, list[Spot]]) -> None:
    """Sort each layer by where its neighbours stand, downward and upward in turn."""
    for _ in range(_SWEEPS):
        for number in range(1, len(layers)):
            layers[number] = _sorted(layers[number], layers[number - 1], neighbours)
        for number in reversed(range(len(layers) - 1)):
            layers[number] = _sorted(layers[number], layers[number + 1], neighbours)


def _sorted(layer: Sequence[Spot], beside: Sequence[Spot], neighbours: Mapping[Spot, list[Spot]]) -> list[Spot]:
    """By the mean place of the neighbours beside; a spot without any keeps its own place."""
    place = {spot: index for index, spot in enumerate(beside)}
    wished = {
        spot: fmean([place[other] for other in neighbours[spot] if other in place] or [index])
        for index, spot in enumerate(layer)
    }
    return sorted(layer, key=wished.__getitem__)


def _placed(
    layers: Sequence[Sequence[Spot]], neighbours: Mapping[Spot, list[Spot]], widths: Mapping[Spot, float]
) -> dict[Spot, float]:
    """The middle of each spot: near its neighbours, in the layer's order, nowhere overlapping."""
    x = {spot: 0.0 for layer in layers for spot in layer}
    for _ in range(_SWEEPS):
        for layer in layers:
            wished = [fmean([x[n] for n in neighbours[spot]] or [0.0]) for spot in layer]
            apart = [(widths[a] + widths[b]) / 2 + GAP for a, b in pairwise(layer)]
            x.update(zip(layer, _apart(wished, apart), strict=True))
    return x


def _apart(wished: Sequence[float], apart: Sequence[float]) -> list[float]:
    """Positions near the wished ones that keep the distances: the middle between pushing to the right and to the left."""
    right, left = [*wished], [*wished]
    for index, distance in enumerate(apart):
        right[index + 1] = max(right[index + 1], right[index] + distance)
    for index, distance in reversed([*enumerate(apart)]):
        left[index] = min(left[index], left[index + 1] - distance)
    return [(a + b) / 2 for a, b in zip(right, left, strict=True)]
