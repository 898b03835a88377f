"""What the report says about LayerMem: where something is memorised, in words, a table and figures."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from memlight.analyses.layermem.assumptions import dealt_words, design_of_run, explained
from memlight.analyses.layermem.columns import (
    LAYERMEM_SAMPLES,
    LAYERMEM_TABLE,
    LAYERMEM_TESTS,
    MEMBERSHIP,
    PLACEBOS,
)
from memlight.analyses.layermem.design import PAIR, Design, design_of
from memlight.analyses.section_joined import joined_part, pictured_part
from memlight.display import page
from memlight.display.page import Cell, decimals, word
from memlight.display.parts import drawn, figures, heading, section
from memlight.display.words import FAMILY_WISE, joined, named_above
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_json, read_table

_WHICH_MEMBER = "which member was trained on which"


def contrast_words(table: Table) -> str:
    """What the contrast says in words that follow the numbers: layers are named by adjusted p-values only.

    Args:
        table: columns ``LAYERMEM_TABLE``, with ``p_adjusted``; see `with_verdicts` for tables that lack it.
    """
    text, contrast, p = finding(table), table["contrast"], table["p_adjusted"]
    above, below = (table["layer"][named_above(sign * contrast, p)].tolist() for sign in (1, -1))
    silent = [name for name in table["layer"][np.isfinite(p)].tolist() if name not in (*above, *below)]
    if above and silent:
        text += f" No memorisation is measured in {joined(silent, 'the others')}."
    if below:
        text += f" In {joined(below)} the contrast lies below 0, which memorisation cannot explain."
    return text


def finding(table: Table) -> str:
    """Whether and where most is memorised, in one sentence.

    Args:
        table: columns ``LAYERMEM_TABLE``, with ``p_adjusted``.
    """
    layers, contrast, p = table["layer"].tolist(), table["contrast"], table["p_adjusted"]
    above = named_above(contrast, p)
    tested = "all layers tested together" if len(layers) > 1 else "the only layer tested"
    if not above.any():
        lowest = f"; smallest adjusted p {p_words(np.nanmin(p))}" if np.isfinite(p).any() else ""
        nowhere = f"No memorisation is measured in any of {len(layers)} layers"
        return f"{nowhere}: no contrast lies above 0 ({tested}{lowest})."
    top = int(np.nanargmax(np.where(above, contrast, np.nan)))
    return (
        f"Memorisation is measured in {above.sum()} of {len(layers)} layers, most in {layers[top]}: its contrast is "
        f"{decimals(contrast[top])}, where 0 is nothing memorised{_band(table, top, 'contrast')}; adjusted p "
        f"{p_words(p[top])}, {tested})."
    )


def membership_words(membership: Table, design: Design = PAIR) -> str:
    """What the AUC says, in a sentence that follows the numbers.

    Args:
        membership: columns ``MEMBERSHIP``.
        design: whether it is of a pair or of half a pair.
    """
    value, p = membership["auc_pair"], membership["p_adjusted"]
    if not np.isfinite(value).any():
        return ""
    top = int(np.nanargmax(value))
    layer, shown, which = membership["layer"][top], "Shown one image of each member's own,", _WHICH_MEMBER
    if design.half:
        shown, which = "Shown a candidate and an external image,", "which of them the encoder was trained on"
    if named_above(value, p, 0.5)[top]:
        return (
            f"{shown} the score of {layer} tells in {decimals(100 * value[top], 0)} of 100 cases {which}, where 50 "
            f"are guessing (AUC {decimals(value[top], 2)}"
            f"{_band(membership, top, 'auc_pair', 2).replace(' (', ', ')}; adjusted p {p_words(p[top])})."
        )
    return (
        f"{shown} no layer's score tells better than guessing {which} (highest AUC "
        f"{decimals(value[top], 2)}, in {layer}; chance is .5; adjusted p {p_words(p[top])})."
    )


def _band(table: Table, row: int, name: str, digits: int = 4) -> str:
    """The simultaneous band as it stands at the opening of a bracket."""
    if f"{name}_simultaneous_low" not in table:
        return " ("
    low, high = (table[f"{name}_simultaneous_{end}"][row] for end in ("low", "high"))
    return f" (95 % band over all layers {decimals(low, digits)} to {decimals(high, digits)}"


def p_words(p: float) -> str:
    """A p-value in two digits."""
    return "undefined" if math.isnan(p) else f"{p:.2g}"


def blocks_words(headline: Mapping[str, Any]) -> str:
    """Whether attention or MLP memorises more, in words that follow the numbers; empty for other architectures.

    It is one test, of the mean over blocks, so there is no family to correct for.

    Args:
        headline: of the summary of ``layermem``.
    """
    if "mlp_minus_attention" not in headline:
        return ""
    value, low, high = (headline[f"mlp_minus_attention{end}"] for end in ("", "_low", "_high"))
    apart = headline.get("mlp_minus_attention_p", 0.0) <= FAMILY_WISE
    verdict = "neither memorises measurably more than the other"
    if low > 0 and apart:
        verdict = "the MLPs memorise more"
    elif high < 0 and apart:
        verdict = "the attentions memorise more"
    return (
        f"MLP minus attention, image by image and averaged over the blocks: contrast {decimals(value)}, 95 % interval "
        f"{decimals(low)} to {decimals(high)}; {verdict}."
    )


def contrast_verdict(contrast: float, p_adjusted: float) -> Cell:
    """What is said about one layer."""
    if math.isnan(contrast) or math.isnan(p_adjusted):
        return word("not defined", "no")
    if p_adjusted > FAMILY_WISE:
        return word("no memorisation measured", "no")
    return word("memorisation measured", "yes") if contrast > 0 else word("below 0", "no")


def with_verdicts(analysis: AnalysisDir) -> tuple[Table, Table, Table]:
    """Tables of LayerMem, membership and placebos; those of an earlier version are made anew from its samples.

    Args:
        analysis: a result of `analyze.py layermem`.
    """
    table = read_table(analysis.table(), LAYERMEM_TABLE)
    if "p_adjusted" in table and analysis.table("membership").is_file():
        membership = read_table(analysis.table("membership"), MEMBERSHIP)
        return table, membership, read_table(analysis.table("placebos"), PLACEBOS)
    from memlight.analyses.layermem.membership import membership_table, placebo_table, scores_in

    scores = scores_in(read_table(analysis.table("samples"), LAYERMEM_SAMPLES))
    layers, design = table["layer"].tolist(), design_of(scores)
    tested = design.contrast(scores["candidate"]["score"], scores[design.control]["score"])
    verdicts = {
        "contrast_low": tested.low,
        "contrast_high": tested.high,
        "p_adjusted": tested.p_adjusted,
        "contrast_simultaneous_low": tested.simultaneous_low,
        "contrast_simultaneous_high": tested.simultaneous_high,
    }
    return {**table, **verdicts}, membership_table(layers, scores), placebo_table(layers, scores)


JOINED_CONTROLS = {
    "independent": "the independent images, which only the other member was trained on",
    "external": "external images, which neither encoder was trained on",
}
"""What the control of a joined score is called, by the control of the contrast."""


@section("layermem", explained)
def layermem_section(analysis: AnalysisDir) -> str:
    """HTML of the results of `analyze.py layermem`; empty where there are none."""
    (table, membership, placebos), tests = with_verdicts(analysis), read_table(analysis.table("tests"), LAYERMEM_TESTS)
    run = RunDir(analysis.dir.parent.parent)
    html = heading(analysis) + page.paragraph(contrast_words(table)) + page.paragraph(dealt_words(run))
    if by_block := blocks_words(read_json(analysis.summary, Summary)["headline"]):
        html += page.paragraph(by_block)
    reading = ("reading", lambda row: contrast_verdict(row["contrast"], row["p_adjusted"]))
    own = ("layer", "contrast", "p_adjusted")
    others = [name for name, column in LAYERMEM_TABLE.items() if column.title and name not in own]
    html += drawn(table, LAYERMEM_TABLE, *own, reading, *others)
    p = ("p", lambda row: Cell(f"{row['p']:.1e}", row["p"]))
    title = "Welch's t-test of the candidates' published scores against each control"
    html += page.folded(title, drawn(tests, LAYERMEM_TESTS, "layer", "control", "t", p))
    joined_scores = joined_part(analysis, "LayerMem", JOINED_CONTROLS[design_of_run(run).control])
    pictured = pictured_part(analysis, "The most and the least memorised candidates, with their files")
    return (
        html + membership_part(membership, placebos, design_of_run(run)) + joined_scores + figures(analysis) + pictured
    )


def membership_part(membership: Table, placebos: Table, design: Design = PAIR) -> str:
    """Membership by layer, what each number may be called, and the placebos."""
    if not np.isfinite(membership["auc_pair"]).any():
        return ""
    html = "<h3>Membership by layer</h3>" + page.paragraph(membership_words(membership, design))
    of_pair = (
        "The AUC of half a pair is an attack with one reference encoder: candidates against external images."
        if design.half
        else "The AUC of the pair is a contrast and not an attack: its reference encoder was trained on the other "
        "group, which doubles the effect."
    )
    html += page.paragraph(
        f"Chance is .5. {of_pair} The attack compares with one reference encoder that saw neither group "
        "of images; TPR is the share of members that it finds at that share of false alarms. Alone is an attack that "
        "needs no reference. Norm and density are contrasts of the two encoders. The probe is a white-box attack, and "
        "no upper bound: membership is a change of smoothness around an image, which a probe of features hardly sees. "
        "Sentences rest on the AUC of the pair alone.",
        "soft",
    )
    html += drawn(membership, MEMBERSHIP)
    return html + page.paragraph(placebo_words(placebos)) + page.folded("Placebos", drawn(placebos, PLACEBOS))


def placebo_words(placebos: Table) -> str:
    """Whether halves of images that no encoder tells apart differ, which they should not."""
    parts = []
    for name in dict.fromkeys(placebos["placebo"].tolist()):
        rows = placebos["placebo"] == name
        layers = placebos["layer"][rows & (placebos["p_adjusted"] <= FAMILY_WISE)].tolist()
        found = f"differ in {joined(layers)}, which happens in 5 of 100 cases" if layers else "differ in no layer"
        share = placebos["outside"][rows][0]
        parts.append(f"halves of the {name} images {found} ({100 * share:.1f} % of 200 halvings do; 5 % are expected)")
    return f"Placebos: {'; '.join(parts)}." if parts else "Placebos: no shared or external images were measured."
