"""`analyze.py patches search`: two stores opened, checked and searched; then statistics, tables and pictures."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memlight.analyses.patches import ANALYSIS
from memlight.analyses.patches.chart import PatchedImage, patch_distances, patch_maps, patch_origins
from memlight.analyses.patches.command import SearchFlags
from memlight.display.pictures import image_grid
from memlight.errors import named
from memlight.metrics.origins import OriginStatistics, origin_statistics
from memlight.patches.approximate import approximate_patches
from memlight.patches.grid import patch_boxes
from memlight.patches.nearest import SearchProgress
from memlight.patches.results import PatchResults, write_results
from memlight.patches.search import Neighbours, available_devices, nearest_patches
from memlight.patches.store import PatchStore, open_store
from memlight.runs.device import process_group
from memlight.runs.flags import Results
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir

ROWS = 6
"""Images drawn with the lowest mean distance, and with the highest."""

TOP_SOURCES = 50
"""Sources drawn, from the most used."""


def run_search(out: str, flags: SearchFlags, results: Results) -> None:
    """Search, and write neighbours, statistics and pictures.

    Args:
        out: run directory for the results.
        flags: stores, and how they are searched.
        results: tag and logger.

    Raises:
        UserError: a store is missing, damaged or made in another way, or nothing can be written.
    """
    run = RunDir(Path(out))
    with named(run="out"):
        run.require_writable()
    with named(path="queries"):
        queries = open_store(flags.queries, flags.verify, images=flags.query_images)
    with named(path="index"):
        index = open_store(flags.index, flags.verify, images=flags.index_images)
    queries.require_comparable(index)
    queries.image(0), index.image(0)  # the pictures need them, and the search may take long
    with process_group(flags.device) as device:
        devices = available_devices() if flags.device == "auto" else [device]
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        with AnalysisLog(
            run,
            ANALYSIS,
            tag=results.tag,
            logger=results.logger,
            seed=0,
            split_sha256=None,
            checkpoints={"extractor": str(index.fingerprint["extraction"].get("weights_sha256") or "random")},
            device=name if len(devices) == 1 else f"{len(devices)} x {name}",
        ) as log:
            identity = {"metric": flags.metric, "query_store": queries.fingerprint, "index": index.fingerprint}
            progress = run.analysis("patches", results.tag).progress
            saved = SearchProgress(progress, identity, queries.num_rows, flags.k)
            if flags.approximate is None:
                log.afterwards(saved.remove)
            start = time.perf_counter()
            neighbours, more = _search(flags, queries, index, None if flags.device == "auto" else device, saved)
            seconds = time.perf_counter() - start
            about = {
                **{"queries": flags.queries, "index": flags.index, "metric": flags.metric, "k": flags.k},
                **{"backend": flags.backend, "approximate": flags.approximate, "seconds": seconds},
                "pairs_per_second": queries.num_rows * index.num_rows / seconds,
                **more,
                **{"query_patches": queries.num_rows, "index_patches": index.num_rows, "grid": index.grid},
                "query_images": queries.images,
                "index_images": index.images,
                "index_sha256": index.fingerprint["data"]["names_sha256"],
                "extraction": index.fingerprint["extraction"],
            }
            kept = PatchResults(neighbours.distances, neighbours.indices, about)
            write_results(log.partial, kept)
            log.images = queries.num_images
            print(_words(about))
            study_patches(run.name, kept, queries, index, log)
    print(f"{log.final.dir}: tables, figures, summary.json; `analyze.py patches report --run {out}` makes the page")


def _search(
    flags: SearchFlags, queries: PatchStore, index: PatchStore, device: torch.device | None, saved: SearchProgress
) -> tuple[Neighbours, dict[str, Any]]:
    """Neighbours, and what is to be said of the search."""
    k, metric = flags.k, flags.metric
    if flags.approximate is None:
        found = nearest_patches(queries, index, k, metric, flags.backend, device, saved=saved, progress=True)
        times = {"read_seconds": found.read_seconds, "wait_seconds": found.wait_seconds, "widened": found.widened}
        return found, times
    device = device or available_devices()[0]
    with named(factory="approximate"):
        found, recall = approximate_patches(
            queries, index, flags.approximate, k, metric, device, nprobe=flags.nprobe, progress=True
        )
    words = {"recall_first": recall.first, "recall_among_k": recall.among_k, "recall_queries": recall.queries}
    return found, words


def _words(about: dict[str, Any]) -> str:
    speed = f"{about['seconds']:.1f} s, {about['pairs_per_second'] / 1e6:.3g} million pairs/s"
    start = f"{about['query_patches']} patches against {about['index_patches']}: {speed}"
    if about["approximate"] is not None:
        return (
            f"{start}; {about['approximate']} finds the nearest patch of {about['recall_first']:.2%} of "
            f"{about['recall_queries']} queries, {about['recall_among_k']:.2%} of their {about['k']} nearest"
        )
    return (
        f"{start}; reading took {about['read_seconds']:.2f} s, of which {about['wait_seconds']:.2f} s were waited for"
    )


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
