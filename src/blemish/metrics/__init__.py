"""Image and pixel metrics of many anomaly maps. Does not import torch.

`evaluate_maps` computes all of them, exactly, from one sort of the scores; `StreamingMetrics` computes the same batch
by batch in constant memory, with a bound on the error of each. Both compute them from `Rankings`, which also returns
the curves to draw.
"""

from blemish.metrics.curves import Curve, overlap_curve, pr_curve, roc_curve
from blemish.metrics.pimo import aupimo, aupimo_per_image
from blemish.metrics.ranking import Ranking, auroc, average_precision, f1_max, rank
from blemish.metrics.regions import aupro
from blemish.metrics.saturated import Region, Regions, auspro
from blemish.metrics.streaming import StreamingMetrics
from blemish.metrics.summary import Rankings, Rates, evaluate_maps, rank_maps, rates_at, smoothed_maxima

__all__ = [
    "Curve",
    "Ranking",
    "Rankings",
    "Rates",
    "Region",
    "Regions",
    "StreamingMetrics",
    "aupimo",
    "aupimo_per_image",
    "aupro",
    "auroc",
    "auspro",
    "average_precision",
    "evaluate_maps",
    "f1_max",
    "overlap_curve",
    "pr_curve",
    "rank",
    "rank_maps",
    "rates_at",
    "roc_curve",
    "smoothed_maxima",
]
