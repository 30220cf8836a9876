"""SSAE's tables 2 to 4, its figures 9 and 11, and its section 4.4 (https://arxiv.org/abs/2206.11723)."""

from __future__ import annotations

from blemish.studies.tables.base import MVTEC, MVTEC_TEXTURES, PaperTable, Variant

PROTOCOL = "network/1"
ENSEMBLE = Variant("ssae-ensemble", "ensemble", ("SSAE ensemble", ""), {"objective": "ensemble"})
OBJECTIVES = (
    Variant("ssae-filter", "objective (1)", ("SSAE", ""), of="ssae-ensemble", part="filter"),
    Variant("ssae-amplify", "objective (4)", ("SSAE objective 4", ""), of="ssae-ensemble", part="amplify"),
    ENSEMBLE,
)
_ELASTIC = {"corruption": {"kinds": ["elastic"]}}
_ZEROS = {"corruption": {"kinds": ["cut-out"]}}
_REMARKS = (
    "there is no code of the authors: how they resize images and masks is not known",
    "the ensemble and its parts are one run; n, k and t are chosen for each of them on good images",
)


def _filter(key: str, label: str, **corruption: object) -> Variant:
    return Variant(key, label, settings={"objective": "filter", "corruption": corruption})


TABLES = (
    PaperTable(
        "ssae-2", "ssae", "table 2", "Localization of anomalies in MVTec AD", "ssae", MVTEC, ("pixel_auroc",),
        OBJECTIVES, PROTOCOL, remarks=_REMARKS,
    ),
    PaperTable(
        "ssae-3", "ssae", "table 3", "Detection of anomalies in MVTec AD", "ssae", MVTEC, ("image_auroc",),
        OBJECTIVES, PROTOCOL, remarks=_REMARKS,
    ),
    PaperTable(
        "ssae-4", "ssae", "table 4", "Both objectives and their ensemble, on textures", "ssae", MVTEC_TEXTURES,
        ("image_auroc", "pixel_auroc"), OBJECTIVES, PROTOCOL, remarks=_REMARKS,
    ),
    PaperTable(
        "ssae-figure-11", "ssae", "figure 11", "Objective and damage: what heatmaps show", "ssae", MVTEC,
        ("image_auroc", "pixel_auroc"),
        (
            Variant("ssae-amplify-elastic", "(4), elastic", settings={"objective": "amplify", **_ELASTIC}),
            Variant("ssae-filter-elastic", "(1), elastic", settings={"objective": "filter", **_ELASTIC}),
            Variant("ssae-filter-zeros", "(1), zeros", settings={"objective": "filter", **_ZEROS}),
        ),
        PROTOCOL, remarks=_REMARKS[:1],
    ),
    PaperTable(
        "ssae-section-4.4", "ssae", "section 4.4", "Kinds of damage alone and together, and a segmentation loss",
        "ssae", MVTEC, ("image_auroc", "pixel_auroc", "pixel_ap"),
        (
            _filter("ssae-elastic", "elastic", kinds=["elastic"]),
            _filter("ssae-occlusion", "occlusion", kinds=["occlusion"]),
            _filter("ssae-elastic-occlusion", "elastic and occlusion", kinds=["elastic", "occlusion"]),
            _filter(
                "ssae-elastic-occlusion-rotation", "elastic, occlusion and rotation", kinds=["elastic", "occlusion"],
                rotation_probability=0.5,
            ),
            Variant(
                "ssae-segmentation", "segmentation loss", settings={"objective": "segment", **_ELASTIC},
            ),
        ),
        PROTOCOL, by="variant", reference="ssae-elastic",
        remarks=(*_REMARKS[:1], "the paper states these findings without figures"),
    ),
    PaperTable(
        "ssae-figure-9", "ssae", "figure 9", "Is the repair an orthogonal projection?", "ssae", MVTEC,
        ("image_auroc", "pixel_auroc"), (_filter("ssae-elastic", "objective (1), elastic", kinds=["elastic"]),),
        PROTOCOL, remarks=_REMARKS[:1],
    ),
)  # fmt: skip
