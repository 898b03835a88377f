"""The page of a patch search, `analyze.py patches report`: which training patches a set of images reuses.

It has a wall of images on which the pointer on a patch shows its nearest patch, in the picture that it belongs to.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memlight.analyses.patches import COMPARISON
from memlight.analyses.patches.columns import PATCHES_COMPARE, PATCHES_ORIGINS, PATCHES_TABLE
from memlight.analyses.patches.compare import compare_patches, require_same_search
from memlight.analyses.verdicts import holm, interval_p
from memlight.display import page
from memlight.display.figures import spread_over
from memlight.display.page import Cell, interval, number, p_value, word
from memlight.display.parts import Shown, consistent, drawn, figures, rows_of
from memlight.display.words import FAMILY_WISE, together
from memlight.errors import UserError, named
from memlight.patches.grid import patch_boxes
from memlight.patches.results import PatchResults, read_results
from memlight.patches.store import PatchStore, open_store
from memlight.runs.flags import Results
from memlight.runs.log import AnalysisLog
from memlight.storage.run_files import SearchFile, Summary
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_json, read_table, write_text
from memlight.storage.writing import sweep

SHOWN = 36
"""Images on the page, spread over their mean distances."""

SMALL, LARGE = 64, 160
"""Pictures up to this side are kept as they are, larger ones reduced to at most that, in pixels."""

NAMES = {
    "mean_distance": "mean distance",
    "median_distance": "median distance",
    "same_position": "same-position share",
    "top_contributor_share": "top contributor's share of an image",
    "sources_per_image": "sources of an image",
    "entropy_bits": "entropy (bits)",
    "effective_sources": "effective sources (2^entropy)",
    "collision": "collision index",
    "collision_sources": "effective sources (1 / collision)",
    "unique_sources": "sources that occur",
    "gini": "Gini of those",
    "top_1_percent_share": "share of their top 1 %",
}

MOST_ORIGINS = 50

STYLE = """
.wall { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: .8rem; }
.wall figure, .beside figure { margin: 0; }
.browser { display: grid; grid-template-columns: minmax(0, 1fr) 17rem; gap: 1.5rem; margin: 1rem 0; }
.browser .beside { position: sticky; top: 4rem; align-self: start; font-size: .88rem; min-height: 24rem; }
.cells { position: relative; background-size: 100% 100%; border-radius: 3px; overflow: hidden; }
.sharp { image-rendering: pixelated; }
.cells i { position: absolute; cursor: crosshair; outline: 1px solid transparent; outline-offset: -1px; }
.cells i.same { outline: 2px solid #ffb000; outline-offset: -2px; }
.cells i.here { outline: 3px solid #ff2d55; outline-offset: -3px; }
.beside .cells { width: 17rem; } .beside p { margin: .5rem 0; overflow-wrap: anywhere; }
.wall figcaption { font-size: .78rem; margin: .15rem 0 0; overflow-wrap: anywhere; }
@media (max-width: 50rem) { .browser { grid-template-columns: 1fr; } }
"""

SCRIPT = """
const patchSources = JSON.parse(document.getElementById("patch-sources").textContent);
const beside = document.querySelector(".browser .beside");
const showPatch = event => {
  const cell = event.target.closest(".wall i");
  if (!cell || cell.classList.contains("here")) return;
  for (const other of document.querySelectorAll(".browser i")) other.classList.remove("here", "same");
  const [source, place, far] = cell.dataset.p.split(" "), [name, picture] = patchSources[source];
  const alike = document.querySelectorAll(`.wall i[data-p^="${source} "]`);
  for (const other of alike) other.classList.add("same");
  cell.classList.add("here");
  const shown = beside.querySelector(".cells");
  shown.style.backgroundImage = `url(${picture})`;
  shown.children[place].classList.add("here");
  const own = [...cell.parentNode.children];
  for (const other of own) if (other.dataset.p.startsWith(source + " "))
    shown.children[other.dataset.p.split(" ")[1]].classList.add(other === cell ? "here" : "same");
  const here = own.filter(other => other.dataset.p.startsWith(source + " ")).length;
  beside.querySelector("p").textContent =
    `${name}, patch ${place}, at distance ${far} of patch ${own.indexOf(cell)}. ` +
    `Nearest to ${here} of the ${own.length} patches of this image, and to ${alike.length} patches shown here.`;
};
document.querySelector(".wall").addEventListener("pointerover", showPatch);
document.querySelector(".wall").addEventListener("click", showPatch);
const firstPatch = document.querySelector(".wall i");
if (firstPatch) showPatch({target: firstPatch});
"""


def run_report(
    run: str,
    compare: Sequence[str],
    held_out: str | None,
    query_images: str | None,
    index_images: str | None,
    results: Results,
) -> None:
    """Write the comparison, if there is one, and the page; arguments as `analyze.py patches report` describes them.

    Raises:
        UserError: a search is missing or in another index, two have one name, or the images are gone.
    """
    ours = read_results(run)
    directory = RunDir(Path(run))
    directory.require_writable()
    searches = {directory.name: ours}
    others = [("compare", other) for other in compare if other != held_out]
    for argument, other in [*others, *([("held_out", held_out)] if held_out is not None else [])]:
        name = RunDir(Path(other)).name
        if name in searches:
            why = f"another of the runs is called {name} too"
            raise UserError(argument, other, why, "rename one of the directories")
        with named(run=argument):
            searches[name] = read_results(other)
        require_same_search(argument, other, ours, searches[name])
    with named(path="queries"):
        queries = open_store(ours.queries, images=query_images)
    with named(path="index"):
        index = open_store(ours.index, images=index_images)
    browser = _browser(ours, queries, index)
    if len(searches) > 1:
        baseline = RunDir(Path(held_out)).name if held_out is not None else None
        with AnalysisLog(
            directory,
            COMPARISON,
            tag=results.tag,
            logger=results.logger,
            seed=0,
            split_sha256=None,
            checkpoints={},
            device="CPU",
        ) as log:
            log.headline({"held_out": baseline, "compared": list(searches)})
            compare_patches(searches, baseline, index.num_images, log)
    sweep(directory.root)
    write_patches_page(directory, browser)
    print(f"report: {directory.report}")


def _browser(found: PatchResults, queries: PatchStore, index: PatchStore) -> str:
    """HTML of the wall of images, with its own style and script."""
    far = found.distances[:, 0].reshape(-1, queries.patches)
    chosen = spread_over(np.argsort(far.mean(1), kind="stable").tolist(), SHOWN)
    height, width = queries.image(chosen[0]).shape[:2]
    boxes = [
        f"top:{top * 100 / height:.4g}%;left:{left * 100 / width:.4g}%;"
        f"height:{(bottom - top) * 100 / height:.4g}%;width:{(right - left) * 100 / width:.4g}%"
        for top, left, bottom, right in patch_boxes(height, width, queries.grid)
    ]

    def cells(picture: str, patches: Sequence[str] = ("",) * len(boxes)) -> str:
        """A picture under a cell for every patch."""
        covers = "".join(f'<i style="{box}"{patch}></i>' for box, patch in zip(boxes, patches, strict=True))
        sharp = " sharp" if max(height, width) <= SMALL else ""
        background = f";background-image:url({picture})" if picture else ""
        return f'<div class="cells{sharp}" style="aspect-ratio:{width / height:.4g}{background}">{covers}</div>'

    wall, sources = "", dict[int, list[str]]()
    for image in chosen:
        rows = found.indices[image * queries.patches : (image + 1) * queries.patches, 0]
        of_image, places = (numbers.tolist() for numbers in np.divmod(rows, index.patches))
        for source in set(of_image) - set(sources):
            sources[source] = [index.names[source], _uri(index.image(source))]
        nearest = zip(of_image, places, far[image].tolist(), strict=True)
        patches = [f' data-p="{source} {place} {distance:.4g}"' for source, place, distance in nearest]
        caption = escape(f"{queries.names[image]}: {far[image].mean():.3g}")
        wall += f"<figure>{cells(_uri(queries.image(image)), patches)}<figcaption>{caption}</figcaption></figure>"
    data = json.dumps(sources, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<style>{STYLE}</style><div class="browser"><div class="wall">{wall}</div>'
        f'<div class="beside">{cells("")}<p></p></div></div>'
        f'<script type="application/json" id="patch-sources">{data}</script><script>{SCRIPT}</script>'
    )


def _uri(pixels: NDArray[np.uint8]) -> str:
    """A picture as the address of an ``img``, small enough for a page with hundreds of them."""
    picture = Image.fromarray(pixels)
    small = max(picture.size) <= SMALL
    picture.thumbnail((LARGE, LARGE))
    out = io.BytesIO()
    picture.save(out, "PNG" if small else "JPEG", **({} if small else {"quality": 85}))
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(out.getvalue()).decode()}"


def write_patches_page(run: RunDir, browser: str) -> None:
    """Write ``report.html`` of a run directory that holds a patch search.

    Args:
        run: the run directory.
        browser: HTML of the wall of images.

    Raises:
        UserError: a table or summary is damaged.
    """
    analysis = run.analysis("patches")
    with consistent(analysis.dir):
        write_text(run.report, _page(run, analysis, browser))


def _page(run: RunDir, analysis: AnalysisDir, browser: str) -> str:
    about = read_json(analysis.search, SearchFile)
    table = read_table(analysis.table(), PATCHES_TABLE)
    compared = run.analysis("patches_compare")
    beside = read_table(compared.table(), PATCHES_COMPARE) if compared.summary.is_file() else None
    held_out = read_json(compared.summary, Summary)["headline"].get("held_out") if beside is not None else None
    opening = page.paragraph(patches_words(table, about, beside, run.name, held_out), "lead")
    images = about["query_patches"] // about["grid"] ** 2
    sources = about["index_patches"] // about["grid"] ** 2
    opening += page.paragraph(
        f"{images} images of {about['grid']} x {about['grid']} patches, {sources} sources.", "soft"
    )
    explained = (
        "Images from the lowest mean distance to the highest. Point at a patch: on the right is the training image "
        "that holds the nearest one, framed in red; frames in yellow are the other patches with that source."
    )
    origins = {
        name: column[:MOST_ORIGINS] for name, column in read_table(analysis.table("origins"), PATCHES_ORIGINS).items()
    }
    sections = [
        ("Patches and their sources", page.paragraph(explained, "soft") + browser),
        ("Statistics", _statistics(table) + (_compared(beside) if beside is not None else "")),
        *([("Beside other images", figures(compared))] if beside is not None else []),
        ("Pictures", figures(analysis)),
        ("Most used sources", drawn(origins, PATCHES_ORIGINS, "name", "source", "patches", "images")),
        ("How it was made", _made(about, read_json(analysis.summary, Summary))),
    ]
    return page.page(f"Where the patches of {run.name} come from", opening, sections)


def patches_words(
    table: Table, about: Mapping[str, Any], beside: Table | None = None, name: str = "", held_out: str | None = None
) -> str:
    """What a search shows, in words that follow the numbers.

    Args:
        table: columns ``PATCHES_TABLE``.
        about: what the search wrote down.
        beside: columns ``PATCHES_COMPARE``; None where nothing is compared.
        name: of this set of images among those compared.
        held_out: of the baseline.
    """
    value = dict(zip(table["statistic"].tolist(), table["value"].tolist(), strict=True))
    null = dict(zip(table["statistic"].tolist(), table["null"].tolist(), strict=True))
    sentences = [
        f"The nearest training patch is at a mean {about['metric']} distance of {value['mean_distance']:.3g}.",
        f"The patches of an image come from {value['sources_per_image']:.2f} training images on average "
        f"({null['sources_per_image']:.2f} if every patch had a random source), and its top contributor gives "
        f"{value['top_contributor_share']:.1%} of them ({null['top_contributor_share']:.1%}).",
        f"{value['same_position']:.1%} of the patches have their nearest at the same place "
        f"({null['same_position']:.1%} by chance).",
    ]
    if beside is not None and held_out is not None:
        rows = [row for row in rows_of(_tested(beside)) if row["model"] == name]
        apart = [NAMES[row["statistic"]] for row in rows if row["over_p_adjusted"] <= FAMILY_WISE]
        tested = together(sum(np.isfinite(row["over_p_adjusted"]) for row in rows), "statistics")
        sentences.append(
            f"Against as many held-out images ({held_out}) "
            + (f"these differ beyond chance: {', '.join(apart)}" if apart else "no statistic differs beyond chance")
            + f" ({tested})."
        )
    return " ".join(sentences)


def _statistics(table: Table) -> str:
    explained = (
        "Null: what the same number of patches would give if each had a random source and place, with the central 95 % "
        "of such draws. Intervals of means are over images. Entropy is at most its maximum, and with few patches close "
        "to it whatever they are; the collision index (the chance that two patches have the same source) is not."
    )
    return page.paragraph(explained, "soft") + drawn(
        table,
        PATCHES_TABLE,
        _NAME,
        _numbers("value"),
        _range("95 % over images", "low", "high"),
        _numbers("null"),
        _range("95 % of draws", "null_low", "null_high"),
        _numbers("maximum"),
    )


def _compared(beside: Table) -> str:
    explained = (
        "All sets of images at the size of the smallest. Over held-out: the difference from as many held-out images, "
        "with the interval of a permutation test that deals whole images out anew, for each statistic by itself; p is "
        "adjusted for all statistics of a set."
    )
    beside = _tested(beside)
    order = np.argsort([list(NAMES).index(name) for name in beside["statistic"].tolist()], kind="stable")
    return (
        "<h3>Beside other images</h3>"
        + page.paragraph(explained, "soft")
        + drawn(
            {name: column[order] for name, column in beside.items()},
            PATCHES_COMPARE,
            _NAME,
            "model",
            _numbers("value"),
            _numbers("null"),
            _numbers("over_held_out", "over held-out"),
            _range("95 % interval", "over_low", "over_high"),
            ("p, adjusted", lambda row: p_value(row["over_p_adjusted"])),
            ("", lambda row: _verdict(row["over_held_out"], row["over_p_adjusted"])),
        )
    )


def _tested(beside: Table) -> Table:
    """A comparison with its adjusted p-values; of an older one they are made from the intervals (Holm), set by set."""
    if "over_p_adjusted" in beside:
        return beside
    p = interval_p(*(beside[name] for name in ("over_held_out", "over_low", "over_high")))
    for model in np.unique(beside["model"]):
        of_model = beside["model"] == model
        p[of_model] = holm(p[of_model])
    return {**beside, "over_p_adjusted": p}


def _verdict(over: float, p_adjusted: float) -> Cell:
    if not np.isfinite(p_adjusted):
        return word("")
    if p_adjusted <= FAMILY_WISE:
        return word("higher" if over > 0 else "lower", "yes")
    return word("not told apart", "no")


def _made(about: SearchFile, summary: Summary) -> str:
    extraction = about["extraction"]
    weights = extraction.get("weights_sha256")
    how = f"approximate, {about['approximate']}" if about["approximate"] else f"exact, {about['backend']}"
    facts = [
        ("command", str(summary["command_line"])),
        ("images", str(about["query_images"])),
        ("sources", str(about["index_images"])),
        ("extractor", f"{extraction['extractor']}, {extraction['mode']} mode"),
        ("weights, sha256", str(weights) if weights else "random weights: nothing was learned"),
        ("search", f"{how}; {about['metric']}; {about['seconds']:.1f} s on {summary['device']}"),
    ]
    if about["approximate"]:
        facts.append(("recall", f"{about['recall_first']:.2%} of the nearest, on {about['recall_queries']} patches"))
    return page.facts(facts)


_NAME: Shown = ("statistic", lambda row: word(NAMES[row["statistic"]]))


def _numbers(column: str, title: str = "") -> Shown:
    """A column with as many decimals as each number needs."""
    return title or column, lambda row: number(row[column], _digits(row[column]))


def _range(title: str, low: str, high: str) -> Shown:
    """Two columns as one cell."""
    return title, lambda row: interval(row[low], row[high], min(_digits(row[low]), _digits(row[high])))


def _digits(value: float) -> int:
    return 0 if abs(value) >= 1000 else 2 if abs(value) >= 1 else 4 if abs(value) >= 0.01 or value == 0 else 6
