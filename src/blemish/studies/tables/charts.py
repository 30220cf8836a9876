"""Charts of the papers' figures: DRÆM's figure 9."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.metrics import Curve
from blemish.report.charts import Axis, curves_chart
from blemish.studies.tables.base import PaperTable
from blemish.studies.tables.results import MEAN, Figure
from blemish.studies.tables.text import name_of_metric


def charts_html(table: PaperTable, figures: Sequence[Figure]) -> str:
    """A chart for each metric of a figure over the number of textures; "" for other tables."""
    if table.name != "draem-figure-9":
        return ""
    return "".join(_textures_chart(metric, figures) for metric in table.metrics)


def _textures_chart(metric: str, figures: Sequence[Figure]) -> str:
    curves = []
    for name, is_augmented in (("augmented", True), ("as they are", False)):
        points = sorted(
            (figure.variant.settings["anomalies"]["n_textures"], figure.mean)
            for figure in figures
            if (figure.metric, figure.category) == (metric, MEAN)
            and figure.mean is not None
            and ("augment_textures" not in figure.variant.settings["anomalies"]) == is_augmented
        )
        n, values = zip(*points, strict=True) if points else ((), ())
        curves.append((name, Curve(np.log10(np.array(n, float)), np.array(values, float))))
    x = Axis("number of textures", 0.0, 3.0, (0.0, 1.0, 2.0, 3.0), ("1", "10", "100", "1000"))
    lowest = min((float(curve.y.min()) for _, curve in curves if len(curve.y)), default=0.0)
    low = min(10.0 * (lowest // 10.0), 90.0)
    y = Axis("%", low, 100.0, (low, (low + 100.0) / 2.0, 100.0))
    return curves_chart(f"{name_of_metric(metric)}, %", x, y, curves, has_points=True)
