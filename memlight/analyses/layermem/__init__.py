"""How much does each layer memorise? LayerMem, its controls and the contrast."""

from memlight.analyses.layermem.columns import (
    LAYERMEM_AGREEMENT,
    LAYERMEM_BLOCKS,
    LAYERMEM_INTERVALS,
    LAYERMEM_SAMPLES,
    LAYERMEM_TABLE,
    LAYERMEM_TESTS,
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
    },
    heading="Where it memorises",
    section=later("memlight.analyses.layermem.section", "layermem_section"),
    missed="in pairs",
    headline=headline,
    numbers={
        "contrast/last": Number("contrast, last layer", interval=True, digits=4, panel="contrast, last layer"),
        "contrast/peak": Number("contrast, highest layer", interval=True, digits=4, panel="contrast, highest layer"),
        "layermem/last": Number(),
    },
    words=("contrast/peak_layer",),
    by_layer="table",
    curves={
        "contrast": Curve("contrast", "contrast", interval=("contrast_low", "contrast_high")),
        "layermem": Curve("layermem", "LayerMem"),
    },
    docs="METHODS.md",
    answers=(
        "where: the **contrast** with its interval, LayerMem as published, and the controls, for every layer;"
        " the most and least memorised images"
    ),
)
