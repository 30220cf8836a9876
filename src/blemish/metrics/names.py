"""Titles and meanings of the main metrics, for reports, tables and studies.

All are fractions of 1; higher is better. The keys are those of ``metrics.json``, where ``pixel_auspro_05`` is missing
unless the data have saturation areas.
"""

from __future__ import annotations

TITLES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "pixel AUPRO",
    "pixel_auspro_05": "pixel AUsPRO, FPR 0.05",
}
MEANINGS = {
    "image_auroc": "how often a defective image scores above a good one; 50 % is chance, whatever the threshold",
    "image_ap": "average precision of the image score; it depends on how many defective images there are",
    "pixel_auroc": "the same ranking for pixels; high already for rough maps, as most pixels are good",
    "pixel_ap": "average precision of pixels; strict where defects are small",
    "pixel_aupro": "how much of each defect, large or small, is covered before 30 % of the good area is marked",
    "pixel_auspro_05": (
        "how much of each annotated defect is covered, of as much as is enough to find it, before 5 % of the good "
        "area is marked; papers on MVTec LOCO AD print the mean of its two kinds of defects"
    ),
}
