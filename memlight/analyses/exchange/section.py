"""What the report says about exchanged layers: accuracy on both data sets and LayerMem, before and after."""

import numpy as np

from memlight.analyses.exchange.columns import EXCHANGE_EFFECTS, EXCHANGE_LAYERS, EXCHANGE_TABLE
from memlight.display import page
from memlight.display.page import Cell, decimals, interval, number, word
from memlight.display.parts import figures, heading, rows_of, section
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_table


def exchange_section(run: RunDir) -> str:
    """HTML of all exchanges of layers into the encoders of a run; empty where there are none.

    Raises:
        UserError: a table or summary is damaged.
    """
    explained = (
        "In copies of this run's encoder layers were replaced by those of a donor: an encoder of the same architecture "
        "from another run. A new probe on each data set says what a copy can still be used for. Layers that were not "
        "trained together fit badly, whatever they have learned, so a fall in accuracy alone is no sign of memory. "
        "Intervals are 95 %; those of accuracies are of the difference to the unexchanged encoder on the same test "
        "images. The contrast compares the copy with its partner, whose memory of its own images stays in it."
    )
    return section(run, "exchange", explained, _exchange_of)


def _exchange_of(analysis: AnalysisDir) -> str:
    effects = read_table(analysis.table("effects"), EXCHANGE_EFFECTS)
    table = rows_of(read_table(analysis.table(), EXCHANGE_TABLE))
    layermem = {row["layers"]: (row["layermem_before"], row["layermem_after"]) for row in table}
    by_name: dict[tuple[str, bool], list[Cell]] = {}
    for row in rows_of(effects):
        cells = by_name.setdefault((row["layers"], row["recalibrated"]), [])
        cells += [
            number(100 * row["top1"], 2),
            number(-100 * row["drop"], 2),
            interval(-100 * row["drop_high"], -100 * row["drop_low"], 2),
        ]
    datasets = dict.fromkeys(effects["dataset"].tolist())
    heads = [head for name in datasets for head in (f"{name}, top-1 %", "change", "95 % interval")]
    rows = [
        [word(name), *cells, *(number(value) for value in layermem[name])]
        for (name, recalibrated), cells in by_name.items()
        if not recalibrated
    ]
    again = [[word(name), *cells] for (name, recalibrated), cells in by_name.items() if recalibrated]
    folded = "BatchNorm statistics of all encoders measured anew on this run's shared images"
    return (
        heading(analysis)
        + page.paragraph(exchange_words(effects))
        + page.table(("layers", *heads, "LayerMem before", "after"), rows)
        + figures(analysis)
        + (page.folded(folded, page.table(("layers", *heads), again)) if again else "")
        + _layers_of(analysis)
    )


def _layers_of(analysis: AnalysisDir) -> str:
    path = analysis.table("layers")
    if not path.is_file():
        return ""
    rows = [
        [
            *(word(row["layers"]), word(row["layer"]), word("measured anew" if row["recalibrated"] else "as it is")),
            *(number(row[f"layermem_{when}"]) for when in ("before", "after")),
            *(
                cell
                for when in ("before", "after")
                for cell in (
                    number(row[f"contrast_{when}"]),
                    interval(row[f"contrast_{when}_low"], row[f"contrast_{when}_high"]),
                )
            ),
        ]
        for row in rows_of(read_table(path, EXCHANGE_LAYERS))
    ]
    header = (
        *("layers", "layer", "BatchNorm", "LayerMem before", "after"),
        *("contrast before", "95 % interval", "after", "95 % interval"),
    )
    return page.folded("Every exchanged layer: LayerMem and contrast", page.table(header, rows))


def exchange_words(effects: Table) -> str:
    """What the exchanges did, in words that follow the numbers.

    Args:
        effects: columns ``EXCHANGE_EFFECTS``.
    """
    plain = {name: column[~effects["recalibrated"]] for name, column in effects.items()}
    sentences = []
    for dataset in dict.fromkeys(plain["dataset"].tolist()):
        here = {name: column[plain["dataset"] == dataset] for name, column in plain.items()}
        none, donor = (100 * here["top1"][here["layers"] == name][0] for name in ("none", "donor"))
        copies = np.flatnonzero((here["layers"] != "none") & (here["layers"] != "donor"))
        order = copies[np.argsort(here["drop"][copies], kind="stable")]
        fell, rose = (here["drop_low"][copies] > 0).sum(), (here["drop_high"][copies] < 0).sum()
        sentences.append(
            f"On {dataset} the unexchanged encoder names {none:.1f} % of the test images rightly, the donor "
            f"{donor:.1f} %. Accuracy fell in {fell} of {len(copies)} exchanges and rose in {rose}, by intervals that "
            f"leave out 0; {_extreme(here, order[-1])}" + (f", {_extreme(here, order[0])}." if len(order) > 1 else ".")
        )
    return " ".join(sentences)


def _extreme(effects: Table, row: int) -> str:
    change, low, high = (-100 * effects[name][row] for name in ("drop", "drop_high", "drop_low"))
    sign = "+" if change > 0 else ""
    return (
        f"exchanging {effects['layers'][row]} changed it by {sign}{decimals(change, 1)} points "
        f"({decimals(low, 1)} to {decimals(high, 1)})"
    )
