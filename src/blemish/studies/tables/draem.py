"""DRÆM's tables 1 to 4 and its figure 9 (https://arxiv.org/abs/2108.07610, section 4)."""

from __future__ import annotations

from blemish.studies.tables.base import DAGM, MVTEC, PaperTable, Variant

PROTOCOL = "draem-authors/1"
FULL = Variant("draem", "DRÆM", ("DRÆM", ""))
N_TEXTURES = (1, 3, 10, 30, 100, 300, 1000)
"""Numbers of textures in figure 9; the paper's plot reaches from a few to all 5640 of its dataset."""
_ABLATION = "ablation"

ABLATIONS = (
    Variant("disc", "Disc.", ("Disc.", _ABLATION), {"architecture": "discriminative"}),
    Variant("recon-ssim", "Recon.-AE", ("Recon.-AE", _ABLATION), {"architecture": "reconstruction-ssim"}),
    Variant(
        "recon-msgms", "Recon.-AE (MSGMS)", ("Recon.-AE_MSGMS", _ABLATION),
        of="recon-ssim", part="reconstruction-msgms",
    ),
    Variant("imagenet", "DRÆM (ImageNet)", ("DRÆM_ImageNet", _ABLATION), needs="other_textures"),
    Variant("colour", "DRÆM (colour)", ("DRÆM_color", _ABLATION), {"anomalies": {"source": "colours"}}),
    Variant("rectangles", "DRÆM (rectangles)", ("DRÆM_rect", _ABLATION), {"anomalies": {"shape": "rectangles"}}),
    Variant(
        "no-augmentation", "DRÆM (no augmentation, opaque)", ("DRÆM_no_aug", _ABLATION),
        {"anomalies": {"augment_textures": False, "min_opacity": 1.0}},
    ),
    Variant(
        "image-augmentation", "DRÆM (augmentation, opaque)", ("DRÆM_img_aug", _ABLATION),
        {"anomalies": {"min_opacity": 1.0}},
    ),
    Variant(
        "opacity", "DRÆM (no augmentation, random opacity)", ("DRÆM_β", _ABLATION),
        {"anomalies": {"augment_textures": False}},
    ),
    FULL,
)  # fmt: skip


def _textures(n: int, augmented: bool) -> Variant:
    settings = {"anomalies": {"n_textures": n} if augmented else {"n_textures": n, "augment_textures": False}}
    how = "augmented" if augmented else "as they are"
    plural = "s" * (n != 1)
    return Variant(f"textures-{n}{'' if augmented else '-plain'}", f"{n} texture{plural}, {how}", settings=settings)


TABLES = (
    PaperTable(
        "draem-1", "draem", "table 1", "Detection of anomalies in MVTec AD", "draem", MVTEC, ("image_auroc",),
        (FULL,), PROTOCOL,
    ),
    PaperTable(
        "draem-2", "draem", "table 2", "Localization of anomalies in MVTec AD", "draem", MVTEC,
        ("pixel_auroc", "pixel_ap"), (FULL,), PROTOCOL,
    ),
    PaperTable(
        "draem-3", "draem", "table 3", "Ablation of architecture and simulated anomalies", "draem", MVTEC,
        ("image_auroc", "pixel_auroc", "pixel_ap"), ABLATIONS, PROTOCOL, by="variant", reference="draem",
        remarks=(
            "the network of other authors (Božič et al.) is not part of it",
            "both reconstructions without a discriminative network are one training, since their losses are the same",
        ),
    ),
    PaperTable(
        "draem-4", "draem", "table 4", "Classification of DAGM's images, ten classes", "draem", DAGM,
        ("image_auroc", "tpr", "tnr", "ca"), (FULL,), PROTOCOL, calibration=None,
        remarks=(
            "TPR, TNR and CA are those at the threshold that held-out good images set; the paper does not say at "
            "which threshold its own are",
        ),
    ),
    PaperTable(
        "draem-figure-9", "draem", "figure 9", "How many textures simulated anomalies need", "draem", MVTEC,
        ("image_auroc", "pixel_auroc", "pixel_ap"),
        tuple(_textures(n, augmented) for augmented in (True, False) for n in N_TEXTURES), PROTOCOL, by="variant",
        remarks=("the paper prints no numbers for this figure, only a plot",),
    ),
)  # fmt: skip
