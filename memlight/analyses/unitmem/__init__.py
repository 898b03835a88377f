"""Which units fire for single images? UnitMem, its null, held-out images and the unit contrast."""

from memlight.analyses.unitmem.columns import TABLES, headline
from memlight.analyses.unitmem.command import unitmem
from memlight.runs.analysis import Analysis, Curve, Number, later

ANALYSIS = Analysis(
    "unitmem",
    unitmem,
    TABLES,
    heading="Units",
    section=later("memlight.analyses.unitmem.section", "unitmem_section"),
    missed="always",
    headline=headline,
    numbers={
        "unitmem/last": Number("UnitMem, last layer"),
        "unit_contrast/last": Number(
            "unit contrast, last layer", interval=True, digits=4, panel="unit contrast, last layer"
        ),
        "own_max_share/last": Number("own-max share, last layer", interval=True, chance=0.5),
    },
    by_layer="layers",
    curves={
        "unitmem": Curve("mean", "UnitMem", 3),
        "null": Curve("null_mean", "UnitMem of exchangeable images", 3),
        "unit_contrast": Curve("unit_contrast", "unit contrast", interval=("unit_contrast_low", "unit_contrast_high")),
        "own_max_share": Curve("own_max_share", "own-max share", 3, interval=("own_max_low", "own_max_high")),
    },
    docs="HONESTY.md",
    answers=(
        "what: UnitMem of every unit beside its null and held-out images, the unit contrast of the pair, and "
        "the images that drive the top units"
    ),
)
