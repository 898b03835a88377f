"""Where the patches of a set of images come from: statistics, tables and pictures of one search."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.patches.chart import patch_distances, patch_origins
from memlight.analyses.patches.chart_maps import PatchedImage, patch_maps
from memlight.display.pictures import image_grid
from memlight.metrics.origins import OriginStatistics, origin_statistics
from memlight.patches.grid import patch_boxes
from memlight.patches.results import PatchResults
from memlight.patches.store import PatchStore
from memlight.runs.log import AnalysisLog

ROWS = 6
"""Images drawn with the lowest mean distance, and with the highest."""

TOP_SOURCES = 50


def study_patches(name: str, results: PatchResults, queries: PatchStore, index: PatchStore, log: AnalysisLog) -> None:
    """Write tables and figures of a search.

    Args:
        name: of the set of images.
        results: what the search found.
        queries: the images' store.
        index: the store that was searched.
        log: where everything goes.
    """
    found = origin_statistics(results.indices, index.grid, index.num_images, results.distances)
    source_names, query_names = np.array(index.names), np.array(queries.names)
    log.table("table", found.table)
    names = {"name": query_names, "top_name": source_names[found.images["top_source"]]}
    log.table("images", {**found.images, **names})
    log.table("origins", {**found.origins, "name": source_names[found.origins["source"]]})
    log.table("rarefaction", found.rarefaction)
    image, patch = np.divmod(np.arange(queries.num_rows), queries.patches)
    source, place = np.divmod(results.indices[:, 0], index.patches)
    nearest = {"image": image, "patch": patch, "source": source, "source_patch": place}
    log.table("nearest", {**nearest, "distance": results.distances[:, 0]})
    log.headline(dict(zip(found.table["statistic"].tolist(), found.table["value"].tolist(), strict=True)))
    far = results.distances[:, 0].reshape(-1, queries.patches).astype(np.float64)
    caption = "Distance of every patch to the nearest of the index, and of images, the mean over their patches."
    log.figure("distances", patch_distances({name: far}, results.metric), caption)
    caption = "How often single sources are used, and how many sources so many patches have."
    log.figure("origins", patch_origins({name: found.origins["patches"]}, {name: found.rarefaction}), caption)
    _top_sources(found, index, log)
    order = np.argsort(found.images["mean_distance"], kind="stable")
    highest = float(np.quantile(far, 0.99))
    for which, chosen in (("lowest", order[:ROWS]), ("highest", order[::-1][:ROWS])):
        images = patched_images(chosen.tolist(), results, queries, index)
        title = f"Images of {name} with the {which} mean distance"
        log.figure(
            f"{which}_distance", patch_maps(images, highest, title), f"{title}, and where their patches are from."
        )


def patched_images(
    chosen: Sequence[int], results: PatchResults, queries: PatchStore, index: PatchStore
) -> list[PatchedImage]:
    """Some images with the pictures of all their sources.

    Args:
        chosen: ids of query images.
        results: what the search found.
        queries: the images' store.
        index: the store that was searched.

    Raises:
        UserError: the images of a store are gone.
    """
    patches = queries.patches
    pictures: dict[int, NDArray[np.uint8]] = {}
    found = []
    for image in chosen:
        rows = slice(image * patches, (image + 1) * patches)
        sources, places = np.divmod(results.indices[rows, 0], patches)
        for source in set(sources.tolist()) - set(pictures):
            pictures[source] = index.image(source)
        pixels = queries.image(image)
        height, width, _ = pixels.shape
        boxes = patch_boxes(height, width, queries.grid)
        far = results.distances[rows, 0].astype(np.float64)
        own = {source: pictures[source] for source in sources.tolist()}
        found.append(PatchedImage(_short(queries.names[image]), pixels, sources, places, far, own, boxes))
    return found


def _short(name: str) -> str:
    """The end of a file's name, without its extension."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return stem if len(stem) <= 12 else f"…{stem[-11:]}"


def _top_sources(found: OriginStatistics, index: PatchStore, log: AnalysisLog) -> None:
    top = found.origins["source"][:TOP_SOURCES].tolist()
    counts = zip(found.origins["patches"].tolist(), found.origins["images"].tolist(), strict=True)
    captions = [
        f"{_short(index.names[s])}\n{patches} in {images}" for s, (patches, images) in zip(top, counts, strict=False)
    ]
    title = f"The {len(top)} most used sources"
    pictures = np.stack([index.image(source) for source in top])
    log.figure("top_sources", image_grid(pictures, captions, title=title), f"{title}: patches, and images they are in.")
