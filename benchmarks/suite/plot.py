"""Plots as SVG, written by hand: bars of one measure, and lines of several series. Readable on light and on dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

INK, FAINT, OURS, OTHERS = "#57606a", "#d0d7de", "#0969da", "#8c959f"
LINES = ("#0969da", "#bc4c00", "#1a7f37", "#8250df")
FONT = 'font-family="system-ui, sans-serif" font-size="13"'
WIDTH, LEFT, RIGHT, TOP, ROW = 760, 240, 90, 48, 30


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
        _text(16, 26, title, weight="600"),
        *_grid([(x(tick) if tick > low or not log else LEFT, tick) for tick in ticks], height),
    ]
    for row, (name, value) in enumerate(values.items()):
        y, colour = TOP + ROW * row, OURS if name in ours else OTHERS
        parts.append(f'<rect x="{LEFT}" y="{y + 5}" width="{x(value) - LEFT:.1f}" height="{ROW - 10}" rx="3" fill="{colour}"/>')
        parts.append(_text(LEFT - 10, y + 20, name, anchor="end"))
        parts.append(_text(x(value) + 8, y + 20, _short(value), weight="600"))
    parts.append(_text(LEFT + room / 2, height - 4, f"{measure}{' (logarithmic)' if log else ''}", anchor="middle"))
    _write(path, title, parts, height)


def lines(path: Path, title: str, measure: str, places: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """A line for each series over the places, on a logarithmic measure."""
    values = [value for line in series.values() for value in line]
    if not values:
        return
    low, ticks = _ticks(values, True)
    left, bottom, height = 80, 300, 350
    step = (WIDTH - left - 120) / max(len(places) - 1, 1)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * math.log(value / low) / math.log(ticks[-1] / low)

    parts = [_text(16, 26, f"{title}, {measure} (logarithmic)", weight="600")]
    for tick in ticks:
        parts.append(f'<line x1="{left}" x2="{WIDTH - 100}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="{FAINT}"/>')
        parts.append(_text(left - 10, y(tick) + 4, _short(tick), anchor="end"))
    for place, name in enumerate(places):
        parts.append(_text(left + step * place, bottom + 24, name, anchor="middle"))
    for colour, (name, line) in zip(LINES, series.items(), strict=False):
        points = " ".join(f"{left + step * place:.1f},{y(value):.1f}" for place, value in enumerate(line))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [
            f'<circle cx="{point.split(",")[0]}" cy="{point.split(",")[1]}" r="4" fill="{colour}"/>' for point in points.split()
        ]
        parts.append(_text(left + step * (len(line) - 1) + 12, y(line[-1]) + 4, name, colour=colour, weight="600"))
    _write(path, title, parts, height)


def _ticks(values: object, log: bool) -> tuple[float, list[float]]:
    found = [float(value) for value in values]  # type: ignore[attr-defined]
    if log:
        first, last = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
        return 10.0**first, [10.0**power for power in range(first, max(last, first + 1) + 1)]
    step = 10 ** math.floor(math.log10(max(found)))
    step = next(size for size in (step / 5, step / 2, step, 2 * step) if max(found) / size <= 6)
    return 0.0, [step * count for count in range(math.ceil(max(found) / step) + 1)]


def _grid(ticks: Sequence[tuple[float, float]], height: int) -> list[str]:
    found = []
    for x, tick in ticks:
        found.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 36}" stroke="{FAINT}"/>')
        found.append(_text(x, height - 22, _short(tick), anchor="middle"))
    return found


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = INK, weight: str = "400") -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}" {FONT}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _write(path: Path, title: str, parts: Sequence[str], height: int) -> None:
    path.parent.mkdir(exist_ok=True)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    path.write_text("\n".join([head, *parts, "</svg>"]) + "\n")
