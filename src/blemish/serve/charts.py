"""Small charts of the page, as SVG in the page's colours. Pure functions: numbers in, markup out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

WIDTH, LEFT, RIGHT = 380, 48, 8
"""Of a narrow chart, and its margins."""
WIDE, WIDE_LEFT = 760, 40
N_BINS = 60


def rate_chart(buckets: Sequence[tuple[int, int]], span: str) -> Markup:
    """Bars of the share of parts that are not good, oldest first.

    Parameters
    ----------
    buckets : number of parts, and of those that are not good, in equal times.
    span : how long ago the first begins, such as ``1 h``.
    """
    top, bottom, height = 10, 130, 156
    shares = [100 * n_bad / n if n else 0.0 for n, n_bad in buckets]
    high = next((step for step in (5, 10, 20, 50) if max(shares, default=0.0) <= step), 100)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(buckets))
    unit = (bottom - top) / high
    bars = [
        f'<rect class="reject" x="{LEFT + number * step + 2:.1f}" y="{bottom - share * unit:.1f}" '
        f'width="{step - 4:.1f}" height="{share * unit:.1f}"/>'
        for number, share in enumerate(shares) if share
    ]  # fmt: skip
    without = [
        f'<text x="{LEFT + (number + 0.5) * step:.1f}" y="{bottom - 4}" text-anchor="middle">·</text>'
        for number, (n, _) in enumerate(buckets) if not n
    ]  # fmt: skip
    lines = [
        f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g} %</text>'
        for kind, value, y in (
            ("axis", 0, bottom), ("grid", high / 2, (top + bottom) / 2), ("grid", high, top),
        )
    ]  # fmt: skip
    n, n_bad = sum(n for n, _ in buckets), sum(n_bad for _, n_bad in buckets)
    label = f"Share of parts that are not good since {span} ago: {n_bad} of {n}"
    names = (
        f'<text x="{LEFT}" y="{height - 6}">{span} ago</text>'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 6}" text-anchor="middle">not good, %</text>'
        f'<text x="{WIDTH - RIGHT}" y="{height - 6}" text-anchor="end">now</text>'
    )
    return _svg(WIDTH, height, label, "".join([*lines, *bars, *without, names]))


def scores_chart(scores: Sequence[float], own: float, threshold: float, high: float) -> Markup:
    """A histogram of scores from 0 to ``high``, with a line at the threshold (id ``limit``) and a mark at ``own``."""
    top, bottom, height = 24, 92, 114
    counts, edges = np.histogram(np.clip(scores, 0, high), N_BINS, (0.0, high))
    width = WIDE - WIDE_LEFT - RIGHT
    unit = (bottom - top) / max(1, int(counts.max()))
    bars = [
        f'<rect class="bar" x="{WIDE_LEFT + edge / high * width:.1f}" y="{bottom - max(n * unit, 1.5):.1f}" '
        f'width="{width / N_BINS - 1:.1f}" height="{max(n * unit, 1.5):.1f}"/>'
        for n, edge in zip(counts.tolist(), edges.tolist(), strict=False) if n
    ]  # fmt: skip
    mark, limit = (WIDE_LEFT + min(value, high) / high * width for value in (own, threshold))
    more = " and above" if max(scores, default=0.0) > high else ""
    anchor, shift = ("end", -10) if mark > WIDE * 0.7 else ("start", 10)
    parts = [
        f'<line class="axis" x1="{WIDE_LEFT}" x2="{WIDE - RIGHT}" y1="{bottom}" y2="{bottom}"/>', *bars,
        f'<text x="{WIDE_LEFT - 6}" y="{top + 4}" text-anchor="end">{int(counts.max())}</text>',
        f'<text x="{WIDE_LEFT}" y="{height - 6}">0</text>',
        f'<text x="{WIDE - RIGHT}" y="{height - 6}" text-anchor="end">score {high:.3g}{more}</text>',
        f'<line class="limit" id="limit" x1="{limit:.1f}" x2="{limit:.1f}" y1="{top - 4}" y2="{bottom}"/>',
        f'<path class="here" d="M{mark:.1f} {top - 2}l-6 -9h12z"/>',
        f'<text x="{mark + shift:.1f}" y="{top - 6}" text-anchor="{anchor}">this part</text>',
    ]  # fmt: skip
    label = f"Scores of the last {len(scores)} parts, with this part and the threshold"
    return _svg(WIDE, height, label, "".join(parts), f' data-left="{WIDE_LEFT}" data-width="{width}"')


def _svg(width: int, height: int, label: str, content: str, more: str = "") -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"{more}>{content}</svg>'
    )
