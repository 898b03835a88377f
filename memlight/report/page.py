"""One HTML page from a run directory: what was memorised, where, and how that was found."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from memlight.analyses.classmem.section import class_section
from memlight.analyses.exchange.section import exchange_section
from memlight.analyses.finetune.section import finetune_section
from memlight.analyses.images.section import images_section
from memlight.analyses.prune.section import prune_section
from memlight.analyses.removal.section import removal_section
from memlight.analyses.unit.section import unit_section
from memlight.analyses.unitmem.browser.section import browser_section
from memlight.analyses.unitmem.section import unitmem_section
from memlight.columns import LAYERMEM_TABLE, LAYERMEM_TESTS, PROBE_TABLE
from memlight.display import page
from memlight.display.figures import training_curves
from memlight.display.page import Cell, interval, number, word
from memlight.display.parts import figures, heading, provenance, rows_of
from memlight.display.words import blocks_words, contrast_words, joined
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import read_json, read_table, write_text

SPLITS = ("shared", "candidate", "independent", "external")

PAGE_BYTES = 29_900_000
"""All that the page's sections take together: pictures of the image browser fill what the others leave of 30 MB."""


def write_report(run: RunDir) -> Path:
    """Write ``report.html`` from whatever analyses the run directory holds.

    Args:
        run: an existing run; a section whose analysis is missing says which command makes it.

    Returns:
        The page's path.

    Raises:
        UserError: a table or summary is damaged.
    """
    trained = not run.released.is_file()
    sections = [
        *([("Where it memorises", _layermem(run))] if trained else [("What encoder", _released(run))]),
        ("Units", unitmem_section(run) or _missing(run, "unitmem")),
        *([("What the images that drive units look like", looks)] if (looks := images_section(run)) else []),
        *([("Classes", classes)] if (classes := class_section(run)) else []),
        *([("A unit trained on chosen images", units)] if (units := unit_section(run)) else []),
        *([("Pruning", pruned)] if (pruned := prune_section(run)) else []),
        *([("Exchanged layers", exchanged)] if (exchanged := exchange_section(run)) else []),
        *([("Fine-tuning", tuned)] if (tuned := finetune_section(run)) else []),
        *([("Images left out", removed)] if (removed := removal_section(run)) else []),
        *([("Accuracy", _probe(run))] if trained or any(run.analyses("probe")) else []),
        *([("Training", _training(run))] if trained else []),
        ("How it was made", _provenance(run)),
    ]
    if browser := browser_section(run, PAGE_BYTES - sum(len(html) for _, html in sections)):
        sections.insert(2, ("Browse units and images", browser))
    title = f"What {run.name} memorises" if trained else f"The units of {run.name}"
    write_text(run.report, page.page(title, _opening(run), sections))
    return run.report


def contrast_verdict(low: float, high: float) -> Cell:
    """What an interval of the contrast says about one layer."""
    if low > 0:
        return word("memorisation measured", "yes")
    if high < 0:
        return word("below 0", "no")
    if math.isnan(low) or math.isnan(high):
        return word("not defined", "no")
    return word("no memorisation measured", "no")


def _opening(run: RunDir) -> str:
    layermem = next(run.analyses("layermem"), None)
    lead = page.paragraph(contrast_words(read_table(layermem.table(), LAYERMEM_TABLE)), "lead") if layermem else ""
    return lead + page.paragraph(_what_was_measured(run), "soft")


def _what_was_measured(run: RunDir) -> str:
    if run.released.is_file():
        return "An encoder that was not trained here, measured on images of one's own."
    members = joined([member.role for member in run.members() if member.encoder.is_file()]) or "none yet"
    if not run.splits.is_file():
        return f"Encoders trained: {members}."
    splits = read_json(run.splits)
    sizes = ", ".join(f"{len(splits[n])} {n}" for n in SPLITS if n in splits)
    return f"Data: {splits['dataset']} ({sizes} images). Encoders trained: {members}."


def _released(run: RunDir) -> str:
    """Name, weights and images of an encoder that was not trained here."""
    made, splits = read_json(run.released), read_json(run.splits)
    weights, views = made["weights"], made["views"]
    origin = (
        [("weights", f"{weights['file']}: {weights['words']}"), ("weights, sha256", weights["sha256"])]
        if weights
        else [("weights", f"random weights, seed {made['init_seed']}: nothing was learned")]
    )
    if weights and weights.get("trained_on"):
        origin.append(("weights, trained on", weights["trained_on"]))
    held_out = f"{len(splits['external'])} of {made['held_out'] or made['images']}" if splits["external"] else "none"
    pairs = [
        ("encoder", made["encoder"]),
        *origin,
        ("images measured", f"{len(splits['candidate'])} of {made['images']}"),
        ("images held out", held_out),
        ("views", f"{views['name']} unless the command names others, {views['size']} pixels"),
        ("mean and std", "; ".join(", ".join(f"{value:g}" for value in views[name]) for name in ("mean", "std"))),
    ]
    explained = page.paragraph(
        "Without a second encoder that was trained on other images, what is memorised cannot be told from what is "
        "merely striking: compare with the held-out images, with the null, and with the same encoder with random "
        "weights (--member random).",
        "soft",
    )
    warning = page.paragraph(f"Warning: {made['warning']}.") if made.get("warning") else ""
    return page.facts(pairs) + warning + explained


def _layermem(run: RunDir) -> str:
    explained = page.paragraph(
        "The contrast compares images only one encoder has seen: (mean score of candidates minus mean score of "
        "independent images) / 2. Differences in smoothness between the two trainings cancel in it, so it is 0 where "
        "nothing is memorised; the published LayerMem, beside its controls, keeps that offset. Intervals are 95 %, "
        "for each layer by itself.",
        "soft",
    )
    found = [explained + _layermem_of(analysis) for analysis in run.analyses("layermem")]
    return "".join(found) or _missing(run, "layermem")


def _layermem_of(analysis: AnalysisDir) -> str:
    table = read_table(analysis.table(), LAYERMEM_TABLE)
    header = (
        *("layer", "contrast", "95 % interval", "reading", "LayerMem", "delta"),
        *("independent", "external", "shared", "top 50", "least 50"),
    )
    names = ("layermem", "delta", "control_independent", "control_external", "control_shared", "top50", "least50")
    rows = [
        [
            Cell(row["layer"], row["depth"], word=True),
            number(row["contrast"]),
            interval(row["contrast_low"], row["contrast_high"]),
            contrast_verdict(row["contrast_low"], row["contrast_high"]),
            *(number(row[name]) for name in names),
        ]
        for row in rows_of(table)
    ]
    in_words = heading(analysis) + page.paragraph(contrast_words(table)) if analysis.tag else ""
    parts = blocks_words(read_json(analysis.summary)["headline"])
    in_words += page.paragraph(parts) if parts else ""
    return in_words + page.table(header, rows) + _control_tests(analysis) + figures(analysis)


def _control_tests(analysis: AnalysisDir) -> str:
    rows = [
        [word(row["layer"]), word(row["control"]), number(row["t"], 2), Cell(f"{row['p']:.1e}", row["p"])]
        for row in rows_of(read_table(analysis.table("tests"), LAYERMEM_TESTS))
    ]
    title = "Welch's t-test of the candidates' published scores against each control"
    return page.folded(title, page.table(("layer", "control", "t", "p"), rows))


def _probe(run: RunDir) -> str:
    found = []
    for analysis in run.analyses("probe"):
        rows = [
            [
                *(word(row[name]) for name in ("member", "features", "evaluation")),
                *(number(100 * row[name], 2) for name in ("top1", "top5")),
                *(number(row[name]) for name in ("n_train", "n_test")),
            ]
            for row in rows_of(read_table(analysis.table(), PROBE_TABLE))
        ]
        header = ("encoder", "features", "evaluation", "top-1 %", "top-5 %", "trained on", "tested on")
        found.append(heading(analysis) + page.table(header, rows) + figures(analysis))
    return "".join(found) or _missing(run, "probe")


def _training(run: RunDir) -> str:
    logged = {member.role: read_table(member.metrics) for member in run.members() if member.metrics.is_file()}
    metrics = {role: table for role, table in logged.items() if np.isfinite(table.get("epoch", np.nan)).any()}
    if not metrics:
        return page.paragraph("No epoch was logged yet.", "missing")
    png = io.BytesIO()
    training_curves(metrics).savefig(png, format="png")
    return page.picture(png.getvalue(), f"Training of {joined(list(metrics))}, as logged in metrics.csv.")


def _provenance(run: RunDir) -> str:
    commands = ("layermem", "unitmem", "images", "classmem", "prune", "removal", "finetune", "probe")
    return provenance(run, commands, _made, "Nothing was analysed yet.")


def _made(summary: Any) -> list[tuple[str, str]]:
    speed = f"{summary['seconds']:.1f} s, {summary['images_per_second']:.0f} images/s"
    return [
        ("finished", f"{summary['finished']}, {speed}"),
        ("device", summary["device"]),
        ("seed", str(summary["seed"])),
        ("split sha256", str(summary["split_sha256"])),
        ("encoders, sha256", ", ".join(f"{role} {_short(digest)}" for role, digest in summary["checkpoints"].items())),
    ]


def _missing(run: RunDir, command: str) -> str:
    which = ""
    if run.released.is_file():
        made = read_json(run.released)
        weights = f" --weights {made['weights']['file']}" if made["weights"] else ""
        which = f" --encoder {made['encoder']}{weights} --images {made['images']}"
    return page.paragraph(
        "Not measured yet. Make it with", "missing", code=f"python analyze.py {command}{which} --run {run.root}"
    )


def _short(digest: str) -> str:
    """The first twelve characters of a hash; words as they are."""
    return digest if " " in digest else digest[:12]
