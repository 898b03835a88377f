"""How much does each layer memorise? LayerMem, its controls and the contrast."""

from memlight.analyses.columns_joined import JOINED, PICTURED
from memlight.analyses.layermem.columns import (
    LAYERMEM_AGREEMENT,
    LAYERMEM_BLOCKS,
    LAYERMEM_INTERVALS,
    LAYERMEM_SAMPLES,
    LAYERMEM_TABLE,
    LAYERMEM_TESTS,
    MEMBERSHIP,
    PLACEBOS,
    headline,
)
from memlight.analyses.layermem.command import layermem
from memlight.runs.analysis import Analysis, Curve, Number, later

ANALYSIS = Analysis(
    "layermem",
    layermem,
    {
        "table": LAYERMEM_TABLE,
        "samples": LAYERMEM_SAMPLES,
        "intervals": LAYERMEM_INTERVALS,
        "tests": LAYERMEM_TESTS,
        "agreement": LAYERMEM_AGREEMENT,
        "blocks": LAYERMEM_BLOCKS,
        "membership": MEMBERSHIP,
        "placebos": PLACEBOS,
        "pictured": PICTURED,
        "joined": JOINED,
    },
    heading="Where it memorises",
    section=later("memlight.analyses.layermem.section", "layermem_section"),
    missed="in pairs",
    headline=headline,
    numbers={
        "contrast/last": Number("contrast, last layer", interval=True, digits=4, panel="contrast, last layer"),
        "contrast/peak": Number("contrast, highest layer", interval=True, digits=4, panel="contrast, highest layer"),
        "contrast/peak_p": Number(),
        "layermem/last": Number(),
        "membership/auc_pair_peak": Number(
            "membership AUC, highest layer", interval=True, panel="membership AUC", chance=0.5
        ),
        "membership/auc_pair_peak_p": Number(),
    },
    words=("contrast/peak_layer", "membership/auc_pair_peak_layer"),
    by_layer="table",
    beside=("membership",),
    curves={
        "contrast": Curve("contrast", "contrast", interval=("contrast_low", "contrast_high")),
        "layermem": Curve("layermem", "LayerMem"),
    },
    docs="METHODS.md",
    answers=(
        "where: the **contrast** of every layer, tested over all layers at once, LayerMem as published, its controls;"
        " whether a layer gives away which images were trained on (AUC); the most and least memorised images"
    ),
)
