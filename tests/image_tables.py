"""Made-up results of `analyze.py images`, for the tests of its figures and its section of the report."""

import numpy as np

from memlight.analyses.images.columns import (
    IMAGES_CLUSTERS,
    IMAGES_CURVE,
    IMAGES_DESCRIBED,
    IMAGES_DESCRIPTORS,
    IMAGES_MATCHED,
    IMAGES_OWNERSHIP,
)
from memlight.storage.tables import Table, table_of

LAYERS = ("conv.in", "down.0.downsample", "mid.attn.1")


def tables(held_out: bool = True) -> dict[str, Table]:
    """144 top units of three layers, 500 images of which 47 own any; bytes per pixel is found, contrast beyond too."""
    splits = ("candidate", "external") if held_out else ("candidate",)
    groups = [("all layers", which) for which in ("top 10 %", "all", "bottom 10 %")]
    groups += [(layer, "top 10 %") for layer in LAYERS]
    ownership = [
        (split, *group, 144, 500, *owners, 0.375, 0.08, 0.07, 0.1, 0.9, 0.5, 0.4, 0.6, 0.1, 0.02, 0.01, 0.03)
        for split, owners in zip(splits, ((0.094, 0.251, 0.24, 0.26), (0.102, 0.251, 0.24, 0.26)), strict=False)
        for group in groups
    ]
    count = len(IMAGES_DESCRIBED)
    rho = np.linspace(-0.3, 0.4, count)
    nothing = np.full(count, np.nan)
    q = np.where(np.arange(count) == 3, 0.001, 0.5)
    named = {"descriptor": np.array(IMAGES_DESCRIBED)}
    band = {"null_low": np.full(count, -0.09), "null_high": np.full(count, 0.09), "p": q / 2, "q": q}
    descriptors = named | band | {"rho": rho}
    descriptors |= {
        name: (rho - 0.05 if held_out else nothing)
        for name in ("held_out_rho", "held_out_p", "held_out_q", "beyond", "beyond_p")
    }
    descriptors["beyond_q"] = np.where(np.arange(count) == 7, 0.01, 0.6) if held_out else nothing
    matched = named | band | {"pairs": np.full(count, 40), "within_class": np.full(count, True), "difference": 2 * rho}
    matched |= {name: rho for name in ("unmatched", "imbalance", "imbalance_unmatched")}
    matched |= {"held_out_pairs": np.full(count, 40 * held_out)}
    for name in ("held_out_difference", "held_out_p", "held_out_q"):
        matched[name] = rho if held_out else nothing
    clusters = table_of(
        IMAGES_CLUSTERS,
        [
            (0, 63, 23, 40, 23 / 63, 0.4, 0.54, 0.007, 0.014, 67, 0.465, "cat & dog", 0.17),
            (1, 37, 24, 13, 24 / 37, 0.35, 0.59, 0.2, 0.2, 77, 0.535, "", np.nan),
        ],
    )
    share = np.geomspace(0.002, 1, 20)
    curve = dict(zip(IMAGES_CURVE, (share, share**0.3, share, 0.9 * share, share, share**0.4), strict=True))
    if not held_out:
        curve["held_out_units"] = np.full(20, np.nan)
    return {
        "ownership": table_of(IMAGES_OWNERSHIP, ownership),
        "descriptors": {name: descriptors[name] for name in IMAGES_DESCRIPTORS},
        "matched": {name: matched[name] for name in IMAGES_MATCHED},
        "clusters": clusters,
        "curve": curve,
    }
