"""What the report says about exchanged layers: accuracy on both data sets and LayerMem, before and after."""

from collections.abc import Mapping

import numpy as np

from memlight.analyses.exchange.columns import DONOR, EXCHANGE_EFFECTS, EXCHANGE_LAYERS, EXCHANGE_TABLE, NONE, by_cost
from memlight.analyses.verdicts import against_untreated
from memlight.display import page
from memlight.display.page import Cell, decimals, interval, number, p_value, word
from memlight.display.parts import POINTS, drawn, figures, heading, rows_of, section
from memlight.display.words import named_above, together
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_table


@section(
    "exchange",
    "In copies of this run's encoder layers were replaced by those of a donor: an encoder of the same architecture "
    "from another run. A new probe on each data set says what a copy can still be used for. Layers that were not "
    "trained together fit badly, whatever they have learned, so a fall in accuracy alone is no sign of memory. "
    "Intervals in the tables are 95 % for each row by itself; those of accuracies are of the difference to the "
    "unexchanged encoder on the same test images, whose p (exact, McNemar) is adjusted for all exchanges on all data "
    "sets (Holm). The contrast compares the copy with its partner, whose memory of its own images stays in it.",
)
def exchange_section(analysis: AnalysisDir) -> str:
    """HTML of all exchanges of layers into the encoders of a run; empty where there are none."""
    effects = against_untreated(read_table(analysis.table("effects"), EXCHANGE_EFFECTS), (NONE, DONOR))
    layermem = {
        row["layers"]: [number(row["layermem_before"]), number(row["layermem_after"])]
        for row in rows_of(read_table(analysis.table(), EXCHANGE_TABLE))
    }
    html = heading(analysis) + page.paragraph(exchange_words(effects)) + _by_encoder(effects, False, layermem)
    html += figures(analysis)
    if effects["recalibrated"].any():
        title = "BatchNorm statistics of all encoders measured anew on this run's shared images"
        html += page.folded(title, _by_encoder(effects, True))
    if (path := analysis.table("layers")).is_file():
        form = ("BatchNorm", lambda row: word("measured anew" if row["recalibrated"] else "as it is"))
        scores = ("layermem_before", "layermem_after", "contrast_before", "contrast_after")
        table = drawn(read_table(path, EXCHANGE_LAYERS), EXCHANGE_LAYERS, "layers", "layer", form, *scores)
        html += page.folded("Every exchanged layer: LayerMem and contrast", table)
    return html


def _by_encoder(effects: Table, recalibrated: bool, layermem: Mapping[str, list[Cell]] | None = None) -> str:
    """A row for each encoder of one form: accuracy and its change on every data set, then LayerMem where given."""
    datasets = dict.fromkeys(effects["dataset"].tolist())
    heads = ["layers"]
    for name in datasets:
        heads += [f"{name}, top-1 %", "change", "95 % interval", "p, adjusted"]
    cells: dict[str, list[Cell]] = {}
    for row in rows_of(effects):
        if row["recalibrated"] == recalibrated:
            cells.setdefault(row["layers"], [word(row["layers"])]).extend(
                (
                    number(POINTS * row["top1"], 2),
                    number(-POINTS * row["drop"], 2),
                    interval(-POINTS * row["drop_high"], -POINTS * row["drop_low"], 2),
                    p_value(row["p_adjusted"]),
                )
            )
    if layermem is None:
        return page.table(heads, list(cells.values()))
    rows = [[*of_encoder, *layermem[name]] for name, of_encoder in cells.items()]
    return page.table([*heads, "LayerMem before", "after"], rows)


def exchange_words(effects: Table) -> str:
    """What the exchanges did, in words that follow the numbers.

    Args:
        effects: columns ``EXCHANGE_EFFECTS``, with what may be said of them.
    """
    sentences = []
    among = f"{together(int(np.isfinite(effects['p_adjusted']).sum()), 'comparisons')}, intervals too"
    for dataset in dict.fromkeys(effects["dataset"].tolist()):
        none, donor, *copies = by_cost(effects, dataset).values()
        before, others = (POINTS * effects["top1"][row] for row in (none, donor))
        drop, p = effects["drop"][copies], effects["p_adjusted"][copies]
        fell, rose = named_above(drop, p).sum(), named_above(-drop, p).sum()
        least = f", {_extreme(effects, copies[0])}." if len(copies) > 1 else "."
        sentences.append(
            f"On {dataset} the unexchanged encoder classifies {before:.1f} % of the test images correctly, the donor "
            f"{others:.1f} %. Accuracy fell in {fell} of {len(copies)} exchanges and rose in {rose} ({among}); "
            f"{_extreme(effects, copies[-1])}{least}"
        )
    return " ".join(sentences)


def _extreme(effects: Table, row: int) -> str:
    """The change of an exchange that was chosen for it, with the interval that holds all of them at once."""
    change, low, high = (
        -POINTS * effects[f"drop{end}"][row] for end in ("", "_simultaneous_high", "_simultaneous_low")
    )
    sign = "+" if change > 0 else ""
    return (
        f"exchanging {effects['layers'][row]} changed it by {sign}{decimals(change, 1)} points "
        f"({decimals(low, 1)} to {decimals(high, 1)})"
    )
