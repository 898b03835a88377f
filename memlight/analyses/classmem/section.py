"""What the report says about classes: which units answer to one, and how far that exceeds shuffled labels."""

import numpy as np

from memlight.analyses.classmem.columns import CLASSMEM_CLASSES, CLASSMEM_LAYERS, CLASSMEM_TABLE
from memlight.display import page
from memlight.display.page import word
from memlight.display.parts import drawn, figures, heading, section
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_table

TOP_UNITS = 20
"""Length of the list of units with the highest scores."""


@section(
    "classmem",
    "ClassMem is high for a unit that answers to one class far more than to the others: UnitMem with class means "
    "in place of images. It is not 0 where classes mean nothing: the null shuffles the labels of the same images. "
    "On held-out images, which no encoder was trained on, the same number is class selectivity: units that score "
    "alike there answer to the class, and not to the images they were trained on.",
)
def class_section(analysis: AnalysisDir) -> str:
    """HTML of all ClassMem results of a run; empty where there are none."""
    layers = read_table(analysis.table("layers"), CLASSMEM_LAYERS)
    units = read_table(analysis.table(), CLASSMEM_TABLE)
    classes = read_table(analysis.table("classes"), CLASSMEM_CLASSES)
    order = np.argsort(-units["classmem"], kind="stable")[:TOP_UNITS]
    strongest = ("class", lambda row: word(str(classes["class_name"][row["max_class"]])))
    top = {name: column[order] for name, column in units.items()}
    scores = ("mean", "held_out_mean", "null_mean", "null_p95", "p95", "max", "unitmem_mean")
    return (
        heading(analysis)
        + page.paragraph(classmem_words(layers, classes))
        + drawn(layers, CLASSMEM_LAYERS, "layer", "units", "dead", *scores)
        + figures(analysis)
        + f"<h3>The {len(order)} units with the highest ClassMem</h3>"
        + drawn(top, CLASSMEM_TABLE, "layer", "unit", strongest, "classmem", "mu_max", "mu_rest")
    )


def classmem_words(layers: Table, classes: Table) -> str:
    """What the classes show, in words, from tables ``CLASSMEM_LAYERS`` and ``CLASSMEM_CLASSES``."""
    last = {name: column[-1] for name, column in layers.items()}
    held_out = f" and on held-out images {last['held_out_mean']:.3f}" if np.isfinite(last["held_out_mean"]) else ""
    sizes = f"{classes['images'].min()} to {classes['images'].max()}"
    return (
        f"{len(classes['class'])} classes of {sizes} images. Mean ClassMem goes from {layers['mean'][0]:.3f} in "
        f"{layers['layer'][0]} to {last['mean']:.3f} in {last['layer']}, where the same units score "
        f"{last['null_mean']:.3f} with shuffled labels{held_out}; their UnitMem is {last['unitmem_mean']:.3f}."
    )
