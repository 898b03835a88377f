"""The report's image browser: layers, their units, the images that drive them, as one JSON text of bounded size."""

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.unitmem.browser.thumbnails import MOST_IMAGES, Thumbnails, driving_images, driving_rows
from memlight.analyses.unitmem.columns import UNITMEM_EXCESS, UNITMEM_TABLE, UNITMEM_TOP
from memlight.display import page
from memlight.storage.image_names import ImageNames, printable
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_table


class Content(NamedTuple):
    """The browser's data.

    Attributes:
        text: JSON, safe within a ``script`` element.
        images: how many images are among the strongest of some unit.
        stored: how many of these have a picture in the run directory.
        pictures: how many have one in ``text``.
        left_out: names of results that are not in ``text``.
    """

    text: str
    images: int
    stored: int
    pictures: int
    left_out: list[str]


def browser_section(run: RunDir, most_bytes: int) -> str:
    """HTML of the browser over all UnitMem results of a run; empty where none names its strongest images.

    Args:
        run: the run.
        most_bytes: of the data within; pictures that do not fit are left out.

    Raises:
        UserError: a table or a file of thumbnails is damaged.
    """
    analyses = [analysis for analysis in run.analyses("unitmem") if analysis.table("top").is_file()]
    if not analyses:
        return ""
    content = browser_content(analyses, most_bytes, ImageNames.read(run.images))
    tables = [f"analysis/{analysis.dir.name}/top.csv" for analysis in analyses]
    explained = page.paragraph(
        "Choose a layer to see its units, the highest UnitMem first; a unit to see the images that it answers to most, "
        "with mu, its activation averaged over an image's views; an image to see which units it drives. Arrow keys "
        "walk through a list. The address names what is shown, so it can be sent to somebody who has this file. Every "
        "unit has a strongest image, memorised or not: its score says something where it lies above its null and above "
        "what it gives for held-out images.",
        "soft",
    )
    without_script = page.paragraph(
        "The browser needs JavaScript. The pictures above show the strongest units, and the strongest images of every "
        f"unit are in {', '.join(tables)}.",
        "missing",
    )
    return (
        explained
        + page.paragraph(browser_words(content), "soft")
        + f"<noscript>{without_script}</noscript>"
        + f"<style>{_source('browser.css')}</style>"
        + '<div id="browser"></div>'
        + f'<script type="application/json" id="browser-data">{content.text}</script>'
        + f"<script>{_source('browser.js')}</script>"
    )


def browser_words(content: Content) -> str:
    """How many images there are, and which are shown without a picture, and why."""
    text = f"{content.images} images are among the strongest of some unit."
    if content.left_out:
        text = f"There is no room here for {', '.join(content.left_out)}; tables are in analysis/. {text}"
    if content.pictures == content.images:
        return f"{text} Each has a picture here, reduced where it was large."
    text += f" {content.pictures} have a picture here, reduced where it was large; the others are shown by their ids."
    if content.stored < content.images:
        text += (
            f" {content.images - content.stored} have none in the run directory: a result keeps {MOST_IMAGES:,}, of "
            "the images that matter most, and one that was made before there were any keeps none until analyze.py "
            "unitmem makes it again."
        )
    if content.pictures < content.stored:
        text += f" {content.stored - content.pictures} are left out, so that the page stays below 30 MB."
    return text


def _source(name: str) -> str:
    return files("memlight.analyses.unitmem.browser").joinpath(name).read_text(encoding="utf-8")


def browser_content(analyses: Sequence[AnalysisDir], most_bytes: int, names: ImageNames | None = None) -> Content:
    """Units, scores, strongest images and pictures of several UnitMem results of one run.

    ``{"ids": [image id], "webp": [base64 or null], "paths": [path], "results": [...]}``: images are named by their
    position in ``ids``, those that matter most first (`driving_images`), and pictures that do not fit are left out from
    the end. Of files the first `MOST_IMAGES` have their path; there is no list where there are none. Results are left
    out from the end, down to the first, while they take more than half of the room. Images that leave a unit
    silent, with a mu of 0, are not among its strongest.

    Args:
        analyses: results of ``analyze.py unitmem`` that have a table ``top``, at least one; their ids number the same
            images.
        most_bytes: of the text. The first result is never cut: should it alone be longer, there are no pictures.
        names: of the images; None where they are not known.

    Raises:
        UserError: a table or a file of thumbnails is damaged.
    """
    tops = [driving_rows(read_table(analysis.table("top"), UNITMEM_TOP)) for analysis in analyses]
    kept = len(analyses)
    while len(_json(bare := _without_pictures(analyses[:kept], tops[:kept], names))) > most_bytes / 2 and kept > 1:
        kept -= 1
    stored = _pictures(analyses[:kept])
    webp = _within(most_bytes - len(_json(bare)), stored, bare["ids"])
    return Content(
        text=_json({**bare, "webp": webp}),
        images=len(webp),
        stored=sum(image in stored for image in bare["ids"]),
        pictures=sum(picture is not None for picture in webp),
        left_out=[analysis.dir.name for analysis in analyses[kept:]],
    )


def _without_pictures(
    analyses: Sequence[AnalysisDir], tops: Sequence[Table], names: ImageNames | None
) -> dict[str, Any]:
    ids = driving_images({name: np.concatenate([top[name] for top in tops]) for name in ("rank", "id")})
    results = [_result(analysis, top, ids) for analysis, top in zip(analyses, tops, strict=True)]
    paths = [printable(names.paths[id_]) for id_ in ids[:MOST_IMAGES].tolist()] if names and names.are_files else None
    return {
        "ids": ids.tolist(),
        "webp": [None] * len(ids),
        **({} if paths is None else {"paths": paths}),
        "results": results,
    }


def _result(analysis: AnalysisDir, top: Table, ids: NDArray[np.int64]) -> dict[str, Any]:
    """One result: its directory's name, and its layers in execution order."""
    units = read_table(analysis.table(), UNITMEM_TABLE)
    path = analysis.table("excess")
    nulls = read_table(path, UNITMEM_EXCESS) if path.is_file() else {}
    by_unit = np.lexsort((top["rank"], top["unit"]))
    top = {name: column[by_unit] for name, column in top.items()}
    by_id = ids.argsort()
    top["image"] = by_id[np.searchsorted(ids[by_id], top["id"])]
    layers = [
        _layer(name, _of_layer(units, name), _of_layer(nulls, name), _of_layer(top, name))
        for name in dict.fromkeys(units["layer"].tolist())
    ]
    return {"name": analysis.dir.name, "layers": layers}


def _layer(name: str, units: Table, nulls: Table, top: Table) -> dict[str, Any]:
    """One layer, its units from the highest score to the lowest, dead ones last."""
    order = np.lexsort((units["unit"], -units["unitmem"], units["dead"]))
    starts = np.searchsorted(top["unit"], units["unit"][order], "left").tolist()
    ends = np.searchsorted(top["unit"], units["unit"][order], "right").tolist()
    images, mu = top["image"].tolist(), _rounded(top["mu"])
    return {
        "name": name,
        "unit": units["unit"][order].tolist(),
        "score": _rounded(units["unitmem"][order]),
        "rest": _rounded(units["mu_rest"][order]),
        "alive": int((~units["dead"]).sum()),
        **{column: _rounded(nulls[column][order]) for column in ("null", "null_p95", "held_out") if nulls},
        **({"calibrated": bool(nulls["p95_calibrated"].any())} if "p95_calibrated" in nulls else {}),
        "images": [images[start:end] for start, end in zip(starts, ends, strict=True)],
        "mu": [mu[start:end] for start, end in zip(starts, ends, strict=True)],
    }


def _of_layer(table: Table, layer: str) -> Table:
    return {name: column[table["layer"] == layer] for name, column in table.items()}


def _rounded(values: NDArray[Any]) -> list[float | None]:
    """Four digits; None for what is not finite."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.tolist()]


def _pictures(analyses: Sequence[AnalysisDir]) -> dict[int, bytes]:
    """Every picture by image id, from the first result that has it."""
    pictures: dict[int, bytes] = {}
    for analysis in analyses:
        if analysis.thumbnails.is_file():
            stored = Thumbnails.read(analysis.thumbnails)
            pictures = dict(zip(stored.ids.tolist(), stored.webp, strict=True)) | pictures
    return pictures


def _within(most_bytes: int, pictures: Mapping[int, bytes], ids: Sequence[int]) -> list[str | None]:
    """Pictures in base64, in the order of ``ids``, for as long as there is room."""
    encoded: list[str | None] = []
    for image in ids:
        picture = base64.b64encode(pictures[image]).decode() if image in pictures else None
        most_bytes -= len(picture) if picture else 0
        encoded.append(picture if most_bytes >= 0 else None)
    return encoded


def _json(content: Mapping[str, Any]) -> str:
    """Compact JSON in which nothing can end a ``script`` element."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
