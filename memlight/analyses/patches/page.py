"""Searches of patches opened, compared and shown on a page, for `analyze.py patches report`."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memlight.analyses.patches import COMPARISON
from memlight.analyses.patches.browser import ShownImage, ShownSource, patch_browser
from memlight.analyses.patches.compare import compare_patches, require_same_search
from memlight.analyses.patches.section import write_patches_page
from memlight.display.figures import spread_over
from memlight.errors import UserError
from memlight.patches.grid import patch_boxes
from memlight.patches.results import PatchResults, read_results
from memlight.patches.store import PatchStore, open_store
from memlight.runs.flags import Results
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir

SHOWN = 36
"""Images on the page, spread over their mean distances."""

SMALL, LARGE = 64, 160
"""Pictures up to this side are kept as they are, larger ones reduced to at most that, in pixels."""


def run_report(
    run: str,
    compare: Sequence[str],
    held_out: str | None,
    query_images: str | None,
    index_images: str | None,
    results: Results,
) -> None:
    """Write the comparison, if there is one, and the page.

    Raises:
        UserError: a search is missing or in another index, two have one name, or the images are gone.
    """
    found = read_results(run)
    directory = RunDir(Path(run))
    directory.require_writable()
    others = [("--compare", other) for other in compare if other != held_out]
    others += [("--held-out", held_out)] if held_out is not None else []
    searches = {directory.name: found}
    for flag, other in others:
        searches[_new_name(flag, other, searches)] = searched = read_results(other)
        require_same_search(flag, other, found, searched)
    queries = open_store(found.queries, images=query_images)
    index = open_store(found.index, images=index_images)
    browser = _browser(found, queries, index)
    if len(searches) > 1:
        baseline = RunDir(Path(held_out)).name if held_out is not None else None
        _compare(directory, searches, baseline, index.num_images, results)
    write_patches_page(directory, browser)
    print(f"report: {directory.report}")


def _new_name(flag: str, run: str, searches: dict[str, PatchResults]) -> str:
    name = RunDir(Path(run)).name
    if name in searches:
        raise UserError(f"{flag} {run}: another of the runs is called {name} too; rename one of the directories")
    return name


def _compare(
    run: RunDir, searches: dict[str, PatchResults], held_out: str | None, num_sources: int, results: Results
) -> None:
    with AnalysisLog(
        run,
        COMPARISON,
        tag=results.tag,
        logger=results.logger,
        seed=0,
        split_sha256=None,
        checkpoints={},
        device="CPU",
    ) as log:
        log.headline({"held_out": held_out, "compared": list(searches)})
        compare_patches(searches, held_out, num_sources, log)


def _browser(found: PatchResults, queries: PatchStore, index: PatchStore) -> str:
    far = found.distances[:, 0].reshape(-1, queries.patches)
    chosen = spread_over(np.argsort(far.mean(1), kind="stable").tolist(), SHOWN)
    images: list[ShownImage] = []
    sources: dict[int, ShownSource] = {}
    for image in chosen:
        rows = slice(image * queries.patches, (image + 1) * queries.patches)
        of_image, places = np.divmod(found.indices[rows, 0], index.patches)
        for source in set(of_image.tolist()) - set(sources):
            sources[source] = ShownSource(index.names[source], _file(index.image(source)))
        patches = list(zip(of_image.tolist(), places.tolist(), far[image].tolist(), strict=True))
        caption = f"{queries.names[image]}: {far[image].mean():.3g}"
        images.append(ShownImage(caption, _file(queries.image(image)), patches))
    height, width = queries.image(chosen[0]).shape[:2]
    boxes = [
        (top * 100 / height, left * 100 / width, (bottom - top) * 100 / height, (right - left) * 100 / width)
        for top, left, bottom, right in patch_boxes(height, width, queries.grid)
    ]
    return patch_browser(images, sources, boxes, aspect=width / height, sharp=max(height, width) <= SMALL)


def _file(pixels: NDArray[np.uint8]) -> bytes:
    """A picture as a file, small enough for a page with hundreds of them."""
    picture = Image.fromarray(pixels)
    small = max(picture.size) <= SMALL
    picture.thumbnail((LARGE, LARGE))
    out = io.BytesIO()
    picture.save(out, "PNG" if small else "JPEG", **({} if small else {"quality": 85}))
    return out.getvalue()
