"""Curves and a histogram as SVG, in the colours of the page, so that they follow its light and dark modes.

Pure functions: numbers in, markup out. `STYLE` colours the classes `first`, `second`, `band` and `limit`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from blemish.metrics import Curve

WIDTH, HEIGHT = 320, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 302, 12, 204
N_BINS = 30
SERIES = ("first", "second")


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: its label, its range, and its ticks, with names (of x) that are not their values."""

    label: str
    low: float = 0.0
    high: float = 1.0
    ticks: tuple[float, ...] = (0.0, 0.5, 1.0)
    names: tuple[str, ...] = ()

    def share(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values as shares of the length of the axis."""
        return np.asarray((values - self.low) / (self.high - self.low))


class Band(NamedTuple):
    """An area between two lines, such as a mean with its standard deviation; (n,) float in the axes' units."""

    name: str
    x: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]


def curves_chart(
    title: str,
    x: Axis,
    y: Axis,
    curves: Sequence[tuple[str, Curve]],
    *,
    band: Band | None = None,
    limit: tuple[str, float] | None = None,
    has_points: bool = False,
) -> str:
    """A figure with up to two curves, each with its name in the legend; curves without points are left out.

    Parameters
    ----------
    curves : name and points in the axes' units.
    band : drawn behind the curves, clipped to the frame.
    limit : name and x value of a vertical line.
    has_points : mark each point with a dot.
    """
    drawn = [(name, points) for name, points in curves if len(points.x)]
    if not drawn:
        return _figure(title, _note("Not defined: the test set lacks good or defective samples."), ())
    keys = [(kind, name) for kind, (name, _) in zip(SERIES, drawn, strict=False)]
    content = "".join(
        f'<polyline class="{kind}" points="{_points(x, y, points.x, points.y)}"/>'
        for kind, (_, points) in zip(SERIES, drawn, strict=False)
    )
    if has_points:
        content += "".join(
            f'<circle class="{kind}" cx="{left:.1f}" cy="{top:.1f}" r="3.5"/>'
            for kind, (_, points) in zip(SERIES, drawn, strict=False)
            for left, top in zip(_x(x, points.x), _y(y, points.y), strict=True)
        )
    if band is not None:
        low, high = (np.clip(edge, y.low, y.high) for edge in (band.low, band.high))
        corners = _points(x, y, np.concatenate([band.x, band.x[::-1]]), np.concatenate([low, high[::-1]]))
        content = f'<polygon class="band" points="{corners}"/>{content}'
        keys.append(("band", band.name))
    if limit is not None:
        content += _limit(x, limit[1])
        keys.append(("limit", limit[0]))
    return _figure(title, _axes(x, y) + content, keys)


def axis_to(label: str, most: float) -> Axis:
    """An axis with three ticks, from 0 to a round number that is at least ``most``."""
    if not most > 0.0:
        return Axis(label)
    unit = 10.0 ** np.floor(np.log10(most))
    high = float(next(step * unit for step in (2, 4, 6, 8, 10) if step * unit >= most))
    return Axis(label, 0.0, high, (0.0, high / 2.0, high))


def scores_chart(title: str, good: NDArray[Any], defective: NDArray[Any], threshold: float) -> str:
    """A histogram of image scores: good images above the line, defective ones below it, and the threshold.

    Parameters
    ----------
    good, defective : (N,) float image scores; either may be empty.
    """
    scores = np.concatenate([good, defective, [threshold]])
    low, high = float(min(scores.min(), 0.0)), float(scores.max())
    high = high if high > low else low + 1.0
    edges = np.linspace(low, high, N_BINS + 1)
    counts = [np.histogram(values, edges)[0] for values in (good, defective)]
    most = max(1, *(int(count.max()) for count in counts))
    x = Axis("image score", low, high, (low, float(f"{(low + high) / 2:.2g}"), high))
    y = Axis("images", -most, most, (-most, 0, most))
    middle = (TOP + BOTTOM) / 2
    unit = (BOTTOM - TOP) / 2 / most
    bars = []
    for kind, sign, count in zip(SERIES, (-1, 1), counts, strict=True):
        for start, end, n in zip(_x(x, edges[:-1]), _x(x, edges[1:]), count.tolist(), strict=True):
            if n:
                top = middle if sign > 0 else middle - n * unit
                bars.append(
                    f'<rect class="{kind}" x="{start:.1f}" y="{top:.1f}" width="{max(end - start - 0.8, 0.8):.1f}" '
                    f'height="{n * unit:.1f}"/>'
                )
    line = f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{middle}" y2="{middle}"/>'
    keys = (
        ("first", f"{len(good)} good, upwards"),
        ("second", f"{len(defective)} defective, downwards"),
        ("limit", "threshold"),
    )
    return _figure(title, _axes(x, y) + "".join(bars) + line + _limit(x, threshold), keys)


def _figure(title: str, content: str, keys: Sequence[tuple[str, str]]) -> str:
    """A chart with its legend; ``keys`` are the class and the name of each item drawn."""
    legend = "".join(f'<span><i class="key {kind}"></i>{html.escape(name)}</span>' for kind, name in keys)
    label = html.escape(title)
    description = html.escape(f"{title}: {', '.join(name for _, name in keys)}") if keys else label
    return (
        f'<figure class="chart"><figcaption>{label}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{description}">{content}</svg>'
        f'<p class="keys">{legend}</p></figure>'
    )


def _axes(x: Axis, y: Axis) -> str:
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/>']
    names = x.names or tuple(map(_tick, x.ticks))
    for name, place in zip(names, _x(x, np.array(x.ticks)), strict=True):
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{BOTTOM}"/>')
        parts.append(f'<text x="{place:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{html.escape(name)}</text>')
    for tick, place in zip(y.ticks, _y(y, np.array(y.ticks)), strict=True):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{_tick(abs(tick))}</text>')
    middle_x, middle_y = (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2
    parts.append(f'<text x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x.label)}</text>')
    rotation = f"rotate(-90 11 {middle_y})"
    parts.append(
        f'<text x="11" y="{middle_y}" text-anchor="middle" transform="{rotation}">{html.escape(y.label)}</text>'
    )
    return "".join(parts)


def _limit(x: Axis, value: float) -> str:
    place = float(_x(x, np.array([value]))[0])
    return f'<line class="limit" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{BOTTOM}"/>'


def _tick(value: float) -> str:
    return f"{value:.3g}" if value % 1 or abs(value) >= 1e6 else f"{value:.0f}"


def _note(text: str) -> str:
    return f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">{html.escape(text)}</text>'


def _points(x: Axis, y: Axis, xs: NDArray[Any], ys: NDArray[Any]) -> str:
    return " ".join(f"{left:.1f},{top:.1f}" for left, top in zip(_x(x, xs), _y(y, ys), strict=True))


def _x(axis: Axis, values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(LEFT + axis.share(values) * (RIGHT - LEFT))


def _y(axis: Axis, values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(BOTTOM - axis.share(values) * (BOTTOM - TOP))


STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14.5rem), 1fr)); gap: .75rem;
margin: 1rem 0; }
.chart { padding: .6rem .75rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.chart figcaption { color: var(--text); font-size: .92rem; font-weight: 600; }
.chart svg { display: block; width: 100%; height: auto; }
.chart text { fill: var(--dim); font-size: 11px; }
.chart .frame { fill: none; stroke: var(--line); } .chart .grid { stroke: var(--line); stroke-dasharray: 2 3; }
.chart .axis { stroke: var(--dim); }
.chart polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart polyline.first { stroke: var(--first); }
.chart polyline.second { stroke: var(--second); stroke-dasharray: 6 3; }
.chart rect.first { fill: var(--first); } .chart rect.second { fill: var(--second); }
.chart circle.first { fill: var(--first); } .chart circle.second { fill: var(--second); }
.chart .band { fill: var(--first); opacity: .22; }
.chart .limit { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 4 2; }
.keys { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .2rem 0 0; font-size: .82rem; }
.key { display: inline-block; width: 1.4rem; margin-right: .35rem; vertical-align: middle; border-top: 3px solid; }
.key.first { border-color: var(--first); } .key.second { border-color: var(--second); border-top-style: dashed; }
.key.band { border-color: var(--first); border-top-width: .7rem; opacity: .3; }
.key.limit { border-color: var(--text); border-top-style: dashed; }
:root { --first: #0072b2; --second: #c45500; }
@media (prefers-color-scheme: dark) { :root { --first: #56b4e9; --second: #f0a04b; } }
"""
