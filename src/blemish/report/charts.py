"""Curves and a histogram as SVG: drawn with the page's own colours, so they follow its light and dark.

Pure: numbers in, markup out. Classes (`first`, `second`, `limit`) are coloured by `STYLE`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    """One axis of a chart: what it counts, where it begins and ends, and where it has ticks."""

    label: str
    low: float = 0.0
    high: float = 1.0
    ticks: tuple[float, ...] = (0.0, 0.5, 1.0)

    def share(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values as shares of the axis' length."""
        return np.asarray((values - self.low) / (self.high - self.low))


def curves_chart(title: str, x: Axis, y: Axis, curves: Sequence[tuple[str, Curve]]) -> str:
    """A figure with up to two curves, each with its name in the legend; those without points are left out.

    Parameters
    ----------
    curves : name and points in the axes' units.
    """
    drawn = [(name, points) for name, points in curves if len(points.x)]
    if not drawn:
        return _figure(title, _note("Not defined: the test set lacks good or defective samples."), ())
    lines = [
        f'<polyline class="{kind}" points="{_points(x, y, points.x, points.y)}"/>'
        for kind, (_, points) in zip(SERIES, drawn, strict=False)
    ]
    return _figure(title, _axes(x, y) + "".join(lines), [name for name, _ in drawn])


def scores_chart(title: str, good: NDArray[Any], defective: NDArray[Any], threshold: float) -> str:
    """How image scores are spread: good ones above the line, defective ones below it, and the threshold across.

    Parameters
    ----------
    good, defective : (N,) float image scores; either may be empty.
    """
    scores = np.concatenate([good, defective, [threshold]])
    low, high = float(min(scores.min(), 0.0)), float(scores.max())
    high = high if high > low else low + 1.0
    edges = np.linspace(low, high, N_BINS + 1)
    counts = [np.histogram(one, edges)[0] for one in (good, defective)]
    most = max(1, *(int(one.max()) for one in counts))
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
    at = float(_x(x, np.array([threshold]))[0])
    limit = f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{BOTTOM}"/>'
    line = f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{middle}" y2="{middle}"/>'
    names = (f"{len(good)} good, upwards", f"{len(defective)} defective, downwards", "threshold")
    return _figure(title, _axes(x, y) + "".join(bars) + line + limit, names)


def _figure(title: str, content: str, names: Sequence[str]) -> str:
    kinds = (*SERIES, "limit")
    keys = "".join(
        f'<span><i class="key {kind}"></i>{html.escape(name)}</span>'
        for kind, name in zip(kinds, names, strict=False)
    )
    label = html.escape(title)
    described = html.escape(f"{title}: {', '.join(names)}") if names else label
    return (
        f'<figure class="chart"><figcaption>{label}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}">{content}</svg>'
        f'<p class="keys">{keys}</p></figure>'
    )


def _axes(x: Axis, y: Axis) -> str:
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/>']
    for tick, at in zip(x.ticks, _x(x, np.array(x.ticks)), strict=True):
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{tick:.3g}</text>')
    for tick, at in zip(y.ticks, _y(y, np.array(y.ticks)), strict=True):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{abs(tick):.3g}</text>')
    middle_x, middle_y = (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2
    parts.append(f'<text x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x.label)}</text>')
    turned = f"rotate(-90 11 {middle_y})"
    parts.append(
        f'<text x="11" y="{middle_y}" text-anchor="middle" transform="{turned}">{html.escape(y.label)}</text>'
    )
    return "".join(parts)


def _note(text: str) -> str:
    return f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">{html.escape(text)}</text>'


def _points(x: Axis, y: Axis, xs: NDArray[Any], ys: NDArray[Any]) -> str:
    return " ".join(f"{one:.1f},{other:.1f}" for one, other in zip(_x(x, xs), _y(y, ys), strict=True))


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
.chart .limit { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 4 2; }
.keys { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .2rem 0 0; font-size: .82rem; }
.key { display: inline-block; width: 1.4rem; margin-right: .35rem; vertical-align: middle; border-top: 3px solid; }
.key.first { border-color: var(--first); } .key.second { border-color: var(--second); border-top-style: dashed; }
.key.limit { border-color: var(--text); border-top-style: dashed; }
:root { --first: #0072b2; --second: #c45500; }
@media (prefers-color-scheme: dark) { :root { --first: #56b4e9; --second: #f0a04b; } }
"""
