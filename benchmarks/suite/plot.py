"""Plots as SVG, written by hand: bars of one measure, and lines of several series.

They follow the reader's light or dark, and are narrow, so that their letters are legible on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

LINES = ("blue", "orange", "green", "purple")
STYLE = """<style>
text { font: 14px system-ui, sans-serif }
.strong { font-weight: 600 }
.ink { fill: #57606a } .faint { stroke: #d0d7de } .ours { fill: #0969da } .others { fill: #8c959f }
.blue { color: #0969da } .orange { color: #bc4c00 } .green { color: #1a7f37 } .purple { color: #8250df }
polyline { fill: none; stroke: currentColor; stroke-width: 2.5 } .dot { fill: currentColor }
@media (prefers-color-scheme: dark) {
  .ink { fill: #b1bac4 } .faint { stroke: #373e47 } .ours { fill: #316dca } .others { fill: #636e7b }
  .blue { color: #6cb6ff } .orange { color: #f0883e } .green { color: #57ab5a } .purple { color: #b083f0 }
}
</style>"""
WIDTH, LEFT, RIGHT, TOP, ROW = 560, 190, 60, 48, 30
APART = 16  # between two lines of text


def bars(
    path: Path, title: str, measure: str, values: Mapping[str, float], *, ours: Sequence[str] = (), log: bool = False
) -> None:
    """A horizontal bar for each; with `log` each power of ten is as long as the next."""
    values = {name: value for name, value in values.items() if value > 0}
    if not values:
        return
    low, ticks = _ticks(values.values(), log)
    room, height = WIDTH - LEFT - RIGHT, TOP + ROW * len(values) + 40

    def x(value: float) -> float:
        part = math.log(value / low) / math.log(ticks[-1] / low) if log else value / ticks[-1]
        return LEFT + room * max(part, 0.004)

    parts = [
        _text(16, 26, title, "ink strong"),
        *_grid([(x(tick) if tick > low or not log else LEFT, tick) for tick in ticks], height),
    ]
    for row, (name, value) in enumerate(values.items()):
        y, whose = TOP + ROW * row, "ours" if name in ours else "others"
        parts.append(f'<rect x="{LEFT}" y="{y + 5}" width="{x(value) - LEFT:.1f}" height="{ROW - 10}" rx="3" class="{whose}"/>')
        parts.append(_text(LEFT - 10, y + 20, name, anchor="end"))
        parts.append(_text(x(value) + 8, y + 20, _short(value), "ink strong"))
    parts.append(_text(LEFT + room / 2, height - 4, f"{measure}{' (logarithmic)' if log else ''}", anchor="middle"))
    _write(path, title, parts, height)


def lines(path: Path, title: str, measure: str, places: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """A line for each series over the places, on a logarithmic measure."""
    values = [value for line in series.values() for value in line]
    if not values:
        return
    low, ticks = _ticks(values, True)
    left, bottom, height = 80, 280, 320
    step = (WIDTH - left - RIGHT - 40) / max(len(places) - 1, 1)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * math.log(value / low) / math.log(ticks[-1] / low)

    parts = [_text(16, 26, f"{title}, {measure} (logarithmic)", "ink strong")]
    for tick in ticks:
        parts.append(f'<line x1="{left}" x2="{WIDTH - RIGHT - 20}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="faint"/>')
        parts.append(_text(left - 10, y(tick) + 4, _short(tick), anchor="end"))
    for place, name in enumerate(places):
        parts.append(_text(left + step * place, bottom + 24, name, anchor="middle"))
    names = _apart({name: y(line[-1]) + 4 for name, line in series.items()})
    for colour, (name, line) in zip(LINES, series.items(), strict=False):
        points = [(left + step * place, y(value)) for place, value in enumerate(line)]
        parts.append(f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" class="{colour}"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" class="{colour} dot"/>' for a, b in points]
        parts.append(_text(points[-1][0] + 12, names[name], name, f"{colour} dot strong"))
    _write(path, title, parts, height)


def _ticks(values: object, log: bool) -> tuple[float, list[float]]:
    found = [float(value) for value in values]  # type: ignore[attr-defined]
    if log:
        first, last = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
        return 10.0**first, [10.0**power for power in range(first, max(last, first + 1) + 1)]
    step = 10 ** math.floor(math.log10(max(found)))
    step = next(size for size in (step / 5, step / 2, step, 2 * step) if max(found) / size <= 6)
    return 0.0, [step * count for count in range(math.ceil(max(found) / step) + 1)]


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """Where texts go that would else lie over each other: from the lowest up, each clear of the one below."""
    found: dict[str, float] = {}
    for name, y in sorted(heights.items(), key=lambda item: -item[1]):
        found[name] = min(y, *(below - APART for below in found.values())) if found else y
    return found


def _grid(ticks: Sequence[tuple[float, float]], height: int) -> list[str]:
    found = []
    for x, tick in ticks:
        found.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 36}" class="faint"/>')
        found.append(_text(x, height - 22, _short(tick), anchor="middle"))
    return found


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _text(x: float, y: float, words: str, style: str = "ink", *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(words)}</text>'


def _write(path: Path, title: str, parts: Sequence[str], height: int) -> None:
    path.parent.mkdir(exist_ok=True)
    size = f'width="{WIDTH}" viewBox="0 0 {WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'
    path.write_text("\n".join([head, STYLE, *parts, "</svg>"]) + "\n")
