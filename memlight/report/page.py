"""One HTML page from a run directory: what was memorised, where, and how that was found."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memlight.analyses import unitmem
from memlight.analyses.layermem.assumptions import design_of_run
from memlight.analyses.layermem.section import finding, membership_words, with_verdicts
from memlight.analyses.registry import ANALYSES
from memlight.analyses.unitmem.browser.section import browser_section
from memlight.display import page
from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, STYLE
from memlight.display.parts import consistent, missing, provenance
from memlight.display.words import joined
from memlight.report.adopted import adopted_section
from memlight.storage.run_files import ReleasedFile, SplitsFile
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_json, read_table, read_yaml_config, write_text

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
    sections = [] if trained else [("What encoder", _released(run))]
    adopted = run.adopted.is_file()
    if adopted:
        sections.append(("What was adopted", adopted_section(run)))
    for analysis in ANALYSES:
        html = analysis.section(run) if analysis.section is not None else ""
        if not html and (analysis.missed == "always" or (trained and analysis.missed == "in pairs")):
            html = missing(run, analysis.name)
        if html:
            sections.append((analysis.heading, html))
    sections += [("Training", _training(run))] if trained and not adopted else []
    sections.append(("How it was made", _provenance(run)))
    with consistent(run.root):
        browser = browser_section(run, PAGE_BYTES - sum(len(html) for _, html in sections))
    if browser:
        after = [heading for heading, _ in sections].index(unitmem.ANALYSIS.heading)
        sections.insert(after + 1, ("Browse units and images", browser))
    title = f"What {run.name} memorises" if trained else f"The units of {run.name}"
    write_text(run.report, page.page(title, _opening(run), sections))
    return run.report


def _opening(run: RunDir) -> str:
    layermem = next(run.analyses("layermem"), None)
    lead = ""
    if layermem:
        with consistent(layermem.dir):
            table, membership, _ = with_verdicts(layermem)
            words = membership_words(membership, design_of_run(run))
            lead = page.paragraph(f"{finding(table)} {words}".strip(), "lead")
    return lead + page.paragraph(_what_was_measured(run), "soft")


def _what_was_measured(run: RunDir) -> str:
    if run.released.is_file():
        return "An encoder that was not trained here, measured on images of one's own."
    members = joined([member.role for member in run.members() if member.encoder.is_file()]) or "none yet"
    if not run.splits.is_file():
        return f"Encoders trained: {members}."
    splits = read_json(run.splits, SplitsFile)
    ids = {"shared": splits["shared"], "candidate": splits["candidate"], "independent": splits["independent"]}
    sizes = ", ".join(f"{len(of_split)} {name}" for name, of_split in {**ids, "external": splits["external"]}.items())
    made = "adopted" if run.adopted.is_file() else "trained"
    return f"Data: {splits['dataset']} ({sizes} images). Encoders {made}: {members}."


def _released(run: RunDir) -> str:
    """Name, weights and images of an encoder that was not trained here."""
    made, splits = read_json(run.released, ReleasedFile), read_json(run.splits, SplitsFile)
    weights, views = made["weights"], made["views"]
    origin = (
        [("weights", f"{weights['file']}: {weights['words']}"), ("weights, sha256", weights["sha256"])]
        if weights
        else [("weights", f"random weights, seed {made['init_seed']}: nothing was learned")]
    )
    if weights and (trained_on := weights.get("trained_on")):
        origin.append(("weights, trained on", trained_on))
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


def _training(run: RunDir) -> str:
    logged = {member.role: read_table(member.metrics) for member in run.members() if member.metrics.is_file()}
    png = io.BytesIO()
    with consistent(run.root / "*/metrics.csv"):
        metrics = {role: table for role, table in logged.items() if np.isfinite(table.get("epoch", np.nan)).any()}
        if not metrics:
            return page.paragraph("No epoch was logged yet.", "missing")
        training_curves(metrics).savefig(png, format="png")
    picture = page.picture(png.getvalue(), f"Training of {joined(list(metrics))}, as logged in metrics.csv.")
    return picture + (page.paragraph(words) if (words := _start_of(run)) else "")


def _start_of(run: RunDir) -> str:
    """What the encoders started from, where a file was given; else empty."""
    config: object = read_yaml_config(run.config, object) if run.config.is_file() else None
    model = config.get("model") if isinstance(config, dict) else None
    options = model.get("init_args") if isinstance(model, dict) else None
    start = options.get("init_from") if isinstance(options, dict) else None
    if not isinstance(start, str):
        return ""
    given = f"Every encoder started from the weights of {Path(start).name}, not from random ones"
    return f"{given}: what those weights were trained on, all of them have seen."


def _provenance(run: RunDir) -> str:
    commands = [analysis.name for analysis in ANALYSES]
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


def _short(digest: str) -> str:
    """The first twelve characters of a hash; words as they are."""
    return digest if " " in digest else digest[:12]


MEMBER_COLOURS = {"candidate": BLUE, "independent": ORANGE, "all": GREEN}


TRAINING_PANELS = {
    "loss": "loss",
    "embedding_std": "spread of embeddings\n(1 = isotropic, 0 = collapsed)",
    "lr": "learning rate",
    "top1": "kNN accuracy (fraction)",
}


@rc_context(STYLE)
def training_curves(metrics: Mapping[str, Table]) -> Figure:
    """Loss, spread of embeddings, learning rate and kNN accuracy while the members were trained.

    Args:
        metrics: each member's ``metrics.csv``, at least one epoch long; what was not logged is left out.
    """
    panels = [name for name in TRAINING_PANELS if any(_keys_of(table, name) for table in metrics.values())]
    figure = Figure(figsize=(9.6, 3.1), dpi=160, layout="constrained")
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=False):
        for member, table in metrics.items():
            epochs = _epochs_trained(table)
            for key in _keys_of(table, panel):
                held_out = key.startswith("val/")
                logged = np.isfinite(table[key])
                ax.plot(
                    epochs[logged],
                    table[key][logged],
                    "--" if held_out else "-",
                    color=MEMBER_COLOURS.get(member, GREY),
                    lw=1.2,
                    label=f"{member}, external" if held_out else member,
                )
        ax.set_xlabel("epochs trained")
        ax.set_ylabel(TRAINING_PANELS[panel])
    if panels:
        axes[0].legend(fontsize=8)
    return figure


def _keys_of(table: Table, panel: str) -> list[str]:
    if panel == "lr":
        return [key for key in table if key.startswith("lr-")]
    return [key for key in table if key.endswith(f"/{panel}")]


def _epochs_trained(table: Table) -> NDArray[np.float64]:
    """Every row's step in epochs; most rows are logged between two epochs and name none."""
    named = np.flatnonzero(np.isfinite(table["epoch"]))[-1]
    steps_per_epoch = (table["step"][named] + 1) / (table["epoch"][named] + 1)
    epochs: NDArray[np.float64] = (table["step"] + 1) / steps_per_epoch
    return epochs
