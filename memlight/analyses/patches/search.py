"""Two stores of patches opened, checked and searched, for `analyze.py patches search`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from memlight.analyses.patches import ANALYSIS
from memlight.analyses.patches.study import study_patches
from memlight.errors import UserError
from memlight.patches.approximate import approximate_patches
from memlight.patches.progress import SearchProgress
from memlight.patches.results import PatchResults, write_results
from memlight.patches.search import Backend, Neighbours, available_devices, nearest_patches
from memlight.patches.space import Metric
from memlight.patches.store import PatchStore, open_store
from memlight.runs.device import process_group
from memlight.runs.flags import Results
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir


@dataclass(frozen=True)
class SearchFlags:
    """Flags of the command, as it describes them.

    Attributes:
        queries: store of the images in question.
        index: store of the training images.
        out: run directory.
        metric: what the distances are.
        k: nearest patches kept.
        backend: what finds the candidates.
        approximate: name of a faiss index; None searches exactly.
        nprobe: of that index.
        verify: how thoroughly stores are checked.
        query_images: where the images lie now.
        index_images: likewise of the index.
        device: ``auto`` or a torch device.
    """

    queries: str
    index: str
    out: str
    metric: Metric
    k: int
    backend: Backend
    approximate: str | None
    nprobe: int
    verify: Literal["fast", "full"]
    query_images: str | None
    index_images: str | None
    device: str


def run_search(flags: SearchFlags, results: Results) -> None:
    """Search, and write neighbours, statistics and pictures.

    Raises:
        UserError: a store is missing, damaged or made in another way, or nothing can be written.
    """
    run = RunDir(Path(flags.out))
    run.require_writable()
    queries = _opened("--queries", flags.queries, flags.verify, flags.query_images)
    index = _opened("--index", flags.index, flags.verify, flags.index_images)
    queries.require_comparable(index)
    queries.image(0), index.image(0)  # the pictures need them, and the search may take long
    with process_group(flags.device) as device:
        devices = available_devices() if flags.device == "auto" else [device]
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        checkpoints = {"extractor": str(index.fingerprint["extraction"].get("weights_sha256") or "random")}
        with AnalysisLog(
            run,
            ANALYSIS,
            tag=results.tag,
            logger=results.logger,
            seed=0,
            split_sha256=None,
            checkpoints=checkpoints,
            device=name if len(devices) == 1 else f"{len(devices)} x {name}",
        ) as log:
            start = time.perf_counter()
            saved = _progress(flags, run, queries, index, results.tag)
            found, more = _search(flags, queries, index, None if flags.device == "auto" else device, saved)
            seconds = time.perf_counter() - start
            pairs = queries.num_rows * index.num_rows
            about = {
                **{"queries": flags.queries, "index": flags.index, "metric": flags.metric, "k": flags.k},
                **{"backend": flags.backend, "approximate": flags.approximate, "seconds": seconds},
                "pairs_per_second": pairs / seconds,
                **more,
                **{"query_patches": queries.num_rows, "index_patches": index.num_rows, "grid": index.grid},
                "query_images": queries.images,
                "index_images": index.images,
                "index_sha256": index.fingerprint["data"]["names_sha256"],
                "extraction": index.fingerprint["extraction"],
            }
            kept = PatchResults(found.distances, found.indices, about)
            write_results(log.partial, kept)
            log.images = queries.num_images
            print(_words(about))
            study_patches(run.name, kept, queries, index, log)
        if saved is not None:
            saved.remove()
    print(
        f"{log.final.dir}: tables, figures, summary.json; `analyze.py patches report --run {flags.out}` makes the page"
    )


def _progress(
    flags: SearchFlags, run: RunDir, queries: PatchStore, index: PatchStore, tag: str | None
) -> SearchProgress | None:
    if flags.approximate is not None:
        return None
    identity = {"metric": flags.metric, "queries": queries.fingerprint, "index": index.fingerprint}
    return SearchProgress(run.analysis("patches", tag).progress, identity, queries.num_rows, flags.k)


def _search(
    flags: SearchFlags,
    queries: PatchStore,
    index: PatchStore,
    device: torch.device | None,
    saved: SearchProgress | None,
) -> tuple[Neighbours, dict[str, Any]]:
    """Neighbours, and what is to be said of the search."""
    if flags.approximate is not None:
        found, recall = approximate_patches(
            queries,
            index,
            flags.approximate,
            flags.k,
            flags.metric,
            device or available_devices()[0],
            nprobe=flags.nprobe,
            progress=True,
        )
        words = {"recall_first": recall.first, "recall_among_k": recall.among_k, "recall_queries": recall.queries}
        return found, words
    found = nearest_patches(queries, index, flags.k, flags.metric, flags.backend, device, saved=saved, progress=True)
    times = {"read_seconds": found.read_seconds, "wait_seconds": found.wait_seconds, "widened": found.widened}
    return found, times


def _opened(flag: str, path: str, verify: Literal["fast", "full"], images: str | None) -> PatchStore:
    """A store, whose errors name the flag that it was given by."""
    try:
        return open_store(path, verify, images=images)
    except UserError as error:
        raise UserError(f"{flag} {error}") from error


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
