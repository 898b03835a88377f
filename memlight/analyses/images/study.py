"""What the images that drive units look like: the study behind `analyze.py images`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm import tqdm

from memlight import dist
from memlight.analyses.images import ANALYSIS
from memlight.analyses.images.chart import image_descriptors, image_ownership
from memlight.analyses.images.columns import IMAGES_DESCRIBED
from memlight.analyses.images.descriptors import describe_images
from memlight.analyses.images.tables import (
    Owned,
    cluster_table,
    correlation_table,
    curve_table,
    extreme_units,
    image_table,
    matched_table,
    owned_units,
    ownership_table,
)
from memlight.analyses.joined import Measured, write_joined
from memlight.analyses.unitmem.columns import UNITMEM_TABLE
from memlight.data.images import ImageDataModule
from memlight.data.joining import JoinedScores
from memlight.data.splits import Ids
from memlight.display.pictures import channels_last, image_grid
from memlight.errors import UserError
from memlight.features.passes import device_of
from memlight.metrics.ids import distinct
from memlight.metrics.knn import embed
from memlight.runs.flags import Logger
from memlight.runs.log import AnalysisLog
from memlight.runs.opened import OpenedRun
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_json, read_table

MOST_CLUSTERS = 8
"""Largest number of clusters that is tried."""

MOST_DRIVING = 1000
"""Driving images that are clustered; of more, those that own most units."""

LEAST_CLUSTERED = 100
"""Images that are clustered at least, where there are so many: fewer owners get more controls."""

PICTURES = 20
"""Images in a picture."""

PIXELS_AT_ONCE = 1 << 22
"""Pixels that are described at once."""


def look_at_images(
    opened: OpenedRun,
    encoder: nn.Module,
    measured: AnalysisDir,
    split: str,
    max_forward: int,
    logger: Logger,
    joined: JoinedScores | None = None,
) -> None:
    """Look at the images behind one result of unitmem; the result goes beside it. `analyze.py unitmem` ends so as well.

    Args:
        opened: the run, its images read.
        encoder: whose units were measured.
        measured: the result.
        split: the images that it is of.
        max_forward: most images in one forward.
        logger: where numbers go.
        joined: scores that others computed of the images; None for none.

    Raises:
        UserError: there is no such result, or it is of another encoder or of other images.
    """
    dist.barrier()  # the first process may just have written the result
    units = _measured_units(opened, measured, split)
    with opened.log(ANALYSIS, measured.tag, logger, None) as log:
        at_once = opened.at_once(max_forward)
        study_images(encoder, opened.data, units, split, log, joined=joined, max_forward=at_once)


def _measured_units(opened: OpenedRun, measured: AnalysisDir, split: str) -> dict[str, Table]:
    """The units of a result of unitmem on its split, and on the held-out images where it has those, as ``external``.

    Raises:
        UserError: there is no such result, or it is of another encoder or of other images.
    """
    root = opened.run.root
    again = f"make it again with `python analyze.py unitmem --run {root}` and the same flags"
    if not measured.summary.is_file():
        raise UserError("run", root, f"no {measured.dir}, whose units this command looks at", again)
    hashes = read_json(measured.summary, Summary)["checkpoints"]  # a callback measures before there is a file to hash
    if hashes and any(hashes.get(role) != digest for role, digest in opened.hashes.items()):
        raise UserError("run", root, f"{measured.dir} is of another encoder than the run has now", again)
    units = {split: read_table(measured.table(), UNITMEM_TABLE)}
    if split != "external" and measured.table("held_out").is_file():
        units["external"] = read_table(measured.table("held_out"), UNITMEM_TABLE)
    for name, table in units.items():
        limit = None if name == split else len(opened.split.ids(split))
        ids = opened.data.batches(name, limit=limit).ids
        if not np.isin(table["max_id"][~table["dead"]], ids).all():
            argument, value = ("split", split) if name == split else ("external", None)
            raise UserError(argument, value, f"{measured.dir} was measured on other {name} images", again)
    return units


def study_images(
    encoder: nn.Module,
    data: ImageDataModule,
    units: Mapping[str, Table],
    split: str,
    log: AnalysisLog,
    *,
    joined: JoinedScores | None = None,
    max_forward: int = 1024,
    progress: bool = True,
) -> None:
    """Who owns the units, what sets those images apart, and of which kinds they are; write tables and figures.

    Args:
        encoder: the encoder whose units were scored; it shows which images are alike.
        data: splits and images.
        units: columns ``UNITMEM_TABLE`` of the units on ``split``, and on as many held-out images as ``external`` where
            there are any.
        split: the images whose units were scored.
        log: where the results go.
        joined: scores that others computed of the images; None for none.
        max_forward: most images in one forward.
        progress: show bars.
    """
    seed = data.seed
    owned = {name: _owned(data, name, split, table) for name, table in units.items()}
    for images in owned.values():
        images.descriptors.update(_described(encoder, data, images, log, progress))
    scored = owned[split]
    chosen = _driving_and_controls(scored, seed)
    clean = data.view_maker(data.make_views("clean"))
    batches = replace(data.batches(split, max_forward, dist.rank(), dist.world_size()), ids=chosen)
    features, _, _ = embed(
        encoder, batches, clean, max_forward=max_forward, progress=progress, title="driving images and others"
    )
    log.images += len(chosen)
    if dist.rank() > 0:
        return
    held_out = owned.get("external") if split != "external" else None
    clusters = cluster_images(features.cpu().numpy(), seed=seed)
    tables = {
        "images": image_table(owned, chosen, clusters.labels),
        "ownership": ownership_table(owned, seed),
        "curve": curve_table(scored, held_out, seed),
        "descriptors": correlation_table(scored, held_out, seed),
        "matched": matched_table(scored, held_out, seed),
        "clusters": cluster_table(scored, chosen, clusters.labels, data.classes),
        "silhouettes": {"k": clusters.numbers, "silhouette": clusters.silhouettes},
    }
    for name, table in tables.items():
        log.table(name, table)
    caption = "How few images own the units with the highest scores, beside owners drawn at random."
    log.figure("ownership", image_ownership(tables["curve"], tables["ownership"]), caption)
    caption = "What sets images that own top units apart; grey is where owners are assigned at random."
    log.figure("descriptors", image_descriptors(tables["descriptors"], tables["matched"]), caption)
    _pictures(scored, chosen, clusters.labels, tables["clusters"], data, log, joined)
    if joined is not None:
        own, unseen = _counted(scored), None if held_out is None else _counted(held_out)
        write_joined(["all units", "top 10 % of units"], own, joined, unseen, data, log)
    log.headline({name: tables["ownership"][name][0] for name in ("owners", "owners_null", "top_1", "top_10")})


def _owned(data: ImageDataModule, name: str, scored: str, table: Table) -> Owned:
    """Which images of a split own which units; others than the scored ones are as many, as UnitMem takes them."""
    limit = None if name == scored else len(data.split.ids(scored))
    ids = data.batches(name, limit=limit).ids
    top = extreme_units(table["unitmem"], table["dead"])
    return Owned(
        split=name,
        ids=ids,
        labels=data.labels_of(ids),
        table=table,
        units=owned_units(table["max_id"][~table["dead"]], ids),
        top_units=owned_units(table["max_id"][top], ids),
        descriptors={},
    )


def _described(
    encoder: nn.Module, data: ImageDataModule, images: Owned, log: AnalysisLog, progress: bool
) -> dict[str, NDArray[np.float64]]:
    """Every descriptor of the images of a split, by ascending id, each process describing its share."""
    device, ids, split = device_of(encoder), images.ids, images.split
    at_once = max(1, PIXELS_AT_ONCE // data.images_of(ids[:1])[0, 0].numel())
    batches = replace(data.batches(split, at_once, dist.rank(), dist.world_size()), ids=ids)
    values = [torch.empty(0, len(IMAGES_DESCRIBED), dtype=torch.float64)]  # a process may have no image
    seen = [torch.empty(0, dtype=torch.int64)]
    for batch in tqdm(batches, desc=f"describing {split}", unit="batch", disable=not progress or dist.rank() > 0):
        descriptors = describe_images(batch.images.to(device), threads=max(1, torch.get_num_threads()))
        values.append(torch.stack([descriptors[name] for name in IMAGES_DESCRIBED], dim=1))
        seen.append(batch.ids)
    log.images += len(ids)
    order = distinct(all_ids := dist.gather_cat(torch.cat(seen).to(device)))
    described = dist.gather_cat(torch.cat(values).to(device))[order].cpu().numpy()
    assert torch.equal(all_ids[order].cpu(), torch.from_numpy(ids))
    return dict(zip(IMAGES_DESCRIBED, described.T, strict=True))


def _driving_and_controls(scored: Owned, seed: int) -> Ids:
    """The images that own top units, and as many others drawn at random (few owners get more), by ascending id."""
    driving = np.flatnonzero(scored.top_units)
    driving = driving[np.argsort(-scored.top_units[driving], kind="stable")[:MOST_DRIVING]]
    others = np.flatnonzero(scored.top_units == 0)
    count = max(len(driving), LEAST_CLUSTERED - len(driving))
    controls = np.random.default_rng(seed).permutation(others)[:count]
    chosen: Ids = np.sort(scored.ids[np.concatenate([driving, controls])])
    return chosen


def _counted(images: Owned) -> Measured:
    """How many units each image owns, and how many of the 10 % with the highest scores."""
    counts = np.stack([images.units, images.top_units], axis=1).astype(np.float64)
    return Measured(images.split, images.ids, counts, "units that an image owns")


def _pictures(
    scored: Owned,
    chosen: Ids,
    labels: NDArray[np.int64],
    groups: Table,
    data: ImageDataModule,
    log: AnalysisLog,
    joined: JoinedScores | None,
) -> None:
    """The images that own most units, and the driving images of each cluster."""
    place = np.searchsorted(scored.ids, chosen)
    driving = scored.top_units[place] > 0
    shown = {"owners": (place[driving], "Images that own most units of the top 10 %")}
    for cluster, drivers, controls in zip(*(groups[n] for n in ("cluster", "drivers", "controls")), strict=True):
        title = f"Cluster {cluster}: {drivers} driving images, {controls} others"
        shown[f"cluster_{cluster}"] = (place[driving & (labels == cluster)], title)
    for name, (members, title) in shown.items():
        first = members[np.argsort(-scored.top_units[members], kind="stable")[:PICTURES]]
        if len(first):
            ids = scored.ids[first]
            others = [""] * len(ids) if joined is None else joined.captions(ids)
            owns = [f"owns {units}" for units in scored.top_units[first].tolist()]
            captions = data.names.captions(ids, map(str, ids.tolist()), owns, others)
            caption = f"{title}: {data.names.under_pictures}, and units of the top 10 % owned"
            if joined is not None:
                caption += f", {joined.names[0]} of {joined.file}, and the darker a bar, the higher that is among all"
            shades = None if joined is None else joined.shades(ids, scored.ids)
            figure = image_grid(channels_last(data.images_of(ids)), captions, title=title, shades=shades)
            log.figure(name, figure, f"{caption}; those that own most come first.")


class Clusters(NamedTuple):
    """A partition of images.

    Attributes:
        labels: ``(N,)`` cluster of each image, from 0, the largest first.
        numbers: ``(K,)`` numbers of clusters that were tried.
        silhouettes: ``(K,)`` mean silhouette of each; the highest was taken.
    """

    labels: NDArray[np.int64]
    numbers: NDArray[np.int64]
    silhouettes: NDArray[np.float64]


def cluster_images(features_ND: ArrayLike, *, seed: int = 0, most: int = MOST_CLUSTERS) -> Clusters:
    """Partition images by the directions of their features: k-means, k by the mean silhouette (Rousseeuw 1987).

    Features are scaled to length 1. One thread does all, so that sums are always added up in the same order.

    Args:
        features_ND: outputs of an encoder.
        seed: of the starting points, ten for each k.
        most: largest k tried; the smallest is 2. Fewer than 3 different images are one cluster.
    """
    features = np.asarray(features_ND, dtype=np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    directions = np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)
    different = len(np.unique(directions.round(9), axis=0))
    numbers = np.arange(2, min(most, different - 1) + 1)
    if not len(numbers):
        return Clusters(np.zeros(len(features), dtype=np.int64), numbers, np.empty(0))
    with threadpool_limits(1):
        partitions = [KMeans(int(k), n_init=10, random_state=seed).fit(directions).labels_ for k in numbers]
        silhouettes = np.array([silhouette_score(directions, labels) for labels in partitions])
    labels = partitions[int(silhouettes.argmax())]
    by_size = np.argsort(-np.bincount(labels), kind="stable")
    return Clusters(np.argsort(by_size)[labels].astype(np.int64), numbers, silhouettes)
