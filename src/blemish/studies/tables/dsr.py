"""DSR's tables 1 to 6 and its figure 9 (https://arxiv.org/abs/2208.01521, section 4)."""

from __future__ import annotations

from dataclasses import replace

from blemish.studies.tables import draem
from blemish.studies.tables.base import KSDD2, MVTEC, PaperTable, Variant

PROTOCOL = "dsr-authors/1"
N_DEFECTS = (16, 53, 246)
BOUNDS = (0.01, 0.05, 0.1, 0.2, 0.4)
"""Similarity bounds lambda_s of table 5."""
_ABLATION = "ablation"
_UPSAMPLED = {"upsampling": "reconstructions"}  # also with recipe `small`, which leaves the module out
FULL = Variant("dsr", "DSR", ("DSR", ""), _UPSAMPLED)

ABLATIONS = (
    FULL,
    Variant("dsr-image", "DSR (anomalies on images)", ("DSR_img", _ABLATION), {**_UPSAMPLED, "anomalies": "image"}),
    Variant(
        "dsr-random", "DSR (codes drawn uniformly)", ("DSR_random", _ABLATION),
        {**_UPSAMPLED, "latent": {"sampling": "uniform"}},
    ),
    Variant(
        "dsr-image-loss", "DSR (loss on images)", ("DSR_Limg", _ABLATION), {**_UPSAMPLED, "feature_weight": 0.0}
    ),
    Variant(
        "dsr-feature-loss", "DSR (loss on features)", ("DSR_Lfeat", _ABLATION), {**_UPSAMPLED, "image_weight": 0.0}
    ),
    Variant("dsr-not-upsampled", "DSR (not upsampled)", ("DSR_U-", _ABLATION), of="dsr", part="no-upsampling"),
)  # fmt: skip
_KSDD2_REMARK = "how the paper's authors crop KSDD2 is not known; their code for MVTec AD crops 224 of 256 px"

TABLES = (
    PaperTable(
        "dsr-1", "dsr", "table 1", "KSDD2, learned from good images alone", "dsr", KSDD2, ("image_ap", "pixel_ap"),
        (FULL,), PROTOCOL, remarks=(_KSDD2_REMARK,),
    ),
    PaperTable(
        "dsr-2", "dsr", "table 2", "KSDD2, learned from N real defects, too", "dsr", KSDD2, ("image_ap", "pixel_ap"),
        (
            Variant("dsr", "N = 0", ("DSR", "0 annotated defects"), _UPSAMPLED),
            *(
                Variant(
                    f"dsr-{n}-defects", f"N = {n}", ("DSR", f"{n} annotated defects"), _UPSAMPLED,
                    {"n_defects": n}, needs="defects",
                )
                for n in N_DEFECTS
            ),
        ),
        PROTOCOL, by="variant", reference="dsr",
        remarks=(_KSDD2_REMARK, "the N defects are evenly spaced among all; the paper's were drawn by other authors"),
    ),
    PaperTable(
        "dsr-3", "dsr", "table 3", "Detection of anomalies in MVTec AD", "dsr", MVTEC, ("image_auroc",), (FULL,),
        PROTOCOL,
    ),
    PaperTable(
        "dsr-4", "dsr", "table 4", "Localization of anomalies in MVTec AD", "dsr", MVTEC, ("pixel_ap",), (FULL,),
        PROTOCOL,
    ),
    PaperTable(
        "dsr-5", "dsr", "table 5", "The similarity bound", "dsr", MVTEC, ("image_auroc", "pixel_ap"),
        tuple(
            FULL if bound == 0.05 else Variant(
                f"dsr-bound-{bound:g}", f"lambda_s = {bound:g}",
                settings={**_UPSAMPLED, "latent": {"similarity_bound": bound}},
            )
            for bound in BOUNDS
        ),
        PROTOCOL, by="variant", reference="dsr",
        remarks=(
            "lambda_s = 0.05 is DSR; the paper's figures for other bounds are not in our copy of its tables",
            "for bounds above 0.2 the reach n is drawn from U[lambda_s N, N], as in the paper's text",
        ),
    ),
    PaperTable(
        "dsr-6", "dsr", "table 6", "Ablation of anomalies, losses and upsampling", "dsr", MVTEC,
        ("image_auroc", "pixel_ap"), ABLATIONS, PROTOCOL, by="variant", reference="dsr",
        remarks=(
            "without a loss on images nothing trains the object-specific image decoder; the general one replaces it",
            "without upsampling it is the same training, of which another map is taken",
        ),
    ),
    PaperTable(
        "dsr-figure-9", "dsr", "figure 9", "What DRÆM and DSR make of anomalies", "dsr", MVTEC,
        ("image_auroc", "pixel_ap"), (replace(draem.FULL, method="draem"), FULL), PROTOCOL,
        remarks=("DRÆM is evaluated under DSR's protocol here, too",),
    ),
)  # fmt: skip
