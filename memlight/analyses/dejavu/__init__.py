"""Does an encoder know from one corner of an image which other corner belongs to it? Deja Vu without labels."""

from memlight.analyses.dejavu.columns import TABLES, headline
from memlight.analyses.dejavu.command import dejavu
from memlight.runs.analysis import Analysis, Curve, Number, later

ANALYSIS = Analysis(
    "dejavu",
    dejavu,
    TABLES,
    heading="Déjà vu",
    section=later("memlight.analyses.dejavu.section", "dejavu_section"),
    headline=headline,
    numbers={"dejavu/last": Number("déjà vu, last layer", interval=True, digits=4, panel="déjà vu, last layer")},
    by_layer="table",
    curves={"dejavu": Curve("difference", "déjà vu", interval=("difference_low", "difference_high"))},
    docs="DEJAVU.md",
    answers=(
        "whether a layer finds the other corner of an image better where its encoder was trained on the image: Deja Vu"
        " without labels, both members on both groups, beside placebos"
    ),
)
