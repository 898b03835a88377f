"""Are atypical images memorised more: the study behind `analyze.py atypical`."""

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from memlight import dist
from memlight.analyses.atypical.chart import atypical_by_depth, atypical_fifths
from memlight.analyses.atypical.columns import FEATURES, LABELLED
from memlight.analyses.atypical.command import FEWEST
from memlight.analyses.atypical.scores import ScoreFile
from memlight.analyses.atypical.tables import Group, atypical_table, fifths_table, groups_table
from memlight.analyses.samples import Scores, SplitScores
from memlight.data.images import ImageDataModule
from memlight.data.splits import Ids
from memlight.display.pictures import channels_last
from memlight.errors import UserError
from memlight.features.passes import device_of
from memlight.metrics.atypicality import class_distance, neighbour_disagreement
from memlight.metrics.ids import distinct
from memlight.metrics.knn import embed_many
from memlight.runs.log import AnalysisLog
from memlight.runs.opened import OpenedRun
from memlight.stats import as_array
from memlight.storage.tables import Table

BATCH = 256
"""Images that are compressed at once."""

Floats = NDArray[np.float64]


def require_scored(opened: OpenedRun, scored: Scores) -> None:
    """Refuse scores of other encoders or of other images than the run has now.

    Raises:
        UserError: they are; says how to make them again.
    """
    root = opened.run.root
    again = f"make it again with `python analyze.py layermem --run {root}` and the same flags"
    if scored.checkpoints and any(scored.checkpoints.get(role) != found for role, found in opened.hashes.items()):
        raise UserError("run", root, "its result of layermem is of other encoders than the run has now", again)
    for split, images in scored.splits.items():
        own = split in ("candidate", "independent")
        expected = opened.split.ids(split) if own else images.ids
        if not np.array_equal(images.ids, expected) or not np.array_equal(
            opened.data.labels_of(images.ids), images.labels
        ):
            raise UserError("run", root, f"its result of layermem is of other {split} images", again)
    if missing := [split for split in ("candidate", "independent") if split not in scored.splits]:
        raise UserError("run", root, f"its result of layermem has no {missing[0]} images", again)
    if not {"external", "shared"} & scored.splits.keys():
        raise UserError("run", root, "its result of layermem has neither external nor shared images", again)


def study_atypical(
    encoders: Mapping[str, nn.Module],
    data: ImageDataModule,
    scored: Scores,
    file: ScoreFile | None,
    log: AnalysisLog,
    *,
    k: int = 20,
    max_forward: int = 1024,
    progress: bool = True,
) -> None:
    """Measure how atypical every scored image is, compare that with its score, and write tables and figures.

    Args:
        encoders: ``f``, the candidate member, ``g``, the independent one, and ``random``, their untrained architecture.
        data: splits and images.
        scored: the scores of layermem.
        file: other people's scores of the images; None for none.
        log: where the results go.
        k: nearest neighbours.
        max_forward: most images in one forward.
        progress: show bars.
    """
    images: dict[str, Table] = {}
    found: dict[str, Table] = {}
    lacking, why = _without_class(data, scored)
    if not why:
        scored = scored.without(lacking)
        found = _in_features(encoders, data, scored, log, k, max_forward, progress)
    for split, of_split in scored.splits.items():
        in_bytes = _compressed(data, of_split.ids, device_of(encoders["f"]), log, split, progress)
        images[split] = {**found.get(split, {}), "bytes": in_bytes}
    if dist.rank() > 0:
        return
    left_out = f"measures that need classes are left out: {why}" if why else _left_out(lacking)
    if left_out:
        print(left_out)
    measures = [*_measured(found), "bytes", *(file.names if file is not None else [])]
    groups = {split: _group(of_split, images[split], file) for split, of_split in scored.splits.items()}
    groups = {split: group for split, group in groups.items() if len(group.ids) > 1}
    table = atypical_table(groups, scored.layers, measures, seed=data.seed)
    fifths = fifths_table(groups, scored.layers, measures)
    log.table("table", table)
    log.table("groups", groups_table(groups, scored.layers, measures))
    log.table("fifths", fifths)
    log.table("images", _images_table(scored, images))
    caption = (
        "Rank correlation of the score with how atypical an image is, minus that of the placebo. Inner band: 95 % "
        "interval of each point by itself; outer band: of all layers and measures at once."
    )
    log.figure("by_depth", atypical_by_depth(table), caption)
    caption = (
        "Mean score of each fifth of the images, from the most typical to the most atypical, in the last layer; the "
        "bars are 95 % intervals of each point by itself."
    )
    log.figure("fifths", atypical_fifths(fifths), caption)
    log.headline({"left_out": left_out})
    log.headline(_numbers(table, scored.layers[-1]))


def _left_out(lacking: Mapping[str, NDArray[np.bool_]]) -> str:
    """How many images are not compared; empty for none."""
    count, total = (sum(map(measure, lacking.values())) for measure in (np.sum, len))
    return f"{count} of {total} images are left out: no other shared image is of their class" if count else ""


def _numbers(table: Table, layer: str) -> dict[str, float]:
    """Both differences of the last layer, against the first placebo, by measure."""
    rows = np.flatnonzero((table["layer"] == layer) & (table["placebo"] == table["placebo"][0]))
    return {
        f"{statistic}/{table['measure'][row]}": float(table[f"{statistic}_difference"][row])
        for statistic in ("rho", "fifths")
        for row in rows
    }


def _without_class(data: ImageDataModule, scored: Scores) -> tuple[dict[str, NDArray[np.bool_]], str]:
    """Scored images that cannot be compared with their class, by split, and why; ``all`` of them where too few can.

    An image needs a class, and another shared image that is of it.
    """
    reference = data.split.shared
    labels = data.labels_of(reference)
    counts = np.bincount(labels[labels >= 0], minlength=data.num_classes + 1)
    lacking = {
        split: (images.labels < 0) | (counts[images.labels] <= np.isin(images.ids, reference))
        for split, images in scored.splits.items()
    }
    if not data.classes:
        return lacking, "the images have no classes"
    left = min((~lacking[split]).sum() for split in ("candidate", "independent"))
    if left < FEWEST or len(labels[labels >= 0]) < 2:
        return lacking, f"only {left} images of a group are of a class that shared images have too"
    return lacking, ""


def _in_features(
    encoders: Mapping[str, nn.Module],
    data: ImageDataModule,
    scored: Scores,
    log: AnalysisLog,
    k: int,
    max_forward: int,
    progress: bool,
) -> dict[str, Table]:
    """What is measured in the features of each encoder: split -> name of measure and encoder -> ``(N,)``.

    Reference images are the shared ones that have a class, untouched as all others: both members were trained on them.
    """
    reference = data.split.shared[data.labels_of(data.split.shared) >= 0]
    ids = np.unique(np.concatenate([reference, *(images.ids for images in scored.splits.values())]))
    batches = replace(data.batches("shared", max_forward, dist.rank(), dist.world_size()), ids=ids)
    clean = data.view_maker(data.make_views("clean"))
    features, labels, _ = embed_many(
        list(encoders.values()), batches, clean, max_forward=max_forward, progress=progress, title="features"
    )
    log.images += len(ids)
    at = torch.from_numpy(np.searchsorted(ids, reference)).to(labels.device)
    found: dict[str, Table] = {}
    for split, images in scored.splits.items():
        rows = torch.from_numpy(np.searchsorted(ids, images.ids)).to(labels.device)
        place = np.searchsorted(reference, images.ids).clip(max=len(reference) - 1)
        itself = torch.from_numpy(np.where(reference[place] == images.ids, place, -1)).to(labels.device)
        found[split] = {}
        for name, z in zip(encoders, features, strict=True):
            arguments = (z[rows], labels[rows], z[at], labels[at], itself)
            found[split][f"centroid_{name}"] = as_array(class_distance(*arguments))
            found[split][f"disagreement_{name}"] = as_array(neighbour_disagreement(*arguments, k))
    return found


def _compressed(
    data: ImageDataModule, ids: Ids, device: torch.device, log: AnalysisLog, split: str, progress: bool
) -> NDArray[np.int64]:
    """Bytes of each image as a PNG file, each process compressing its share."""
    batches = replace(data.batches("shared", BATCH, dist.rank(), dist.world_size()), ids=ids)
    sizes, seen = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    for batch in tqdm(batches, desc=f"compressing {split}", unit="batch", disable=not progress or dist.rank() > 0):
        sizes.append(png_bytes(batch.images))
        seen.append(batch.ids)
    log.images += len(ids)
    order = distinct(all_ids := dist.gather_cat(torch.cat(seen).to(device)))
    found: NDArray[np.int64] = as_array(dist.gather_cat(torch.cat(sizes).to(device))[order])
    assert np.array_equal(as_array(all_ids[order]), ids)
    return found


def png_bytes(images_B3HW: Tensor) -> Tensor:
    """Size of each image as a PNG file, which loses nothing, in bytes: ``int64 (B,)`` on the CPU.

    Args:
        images_B3HW: uint8 ``(B, 3, H, W)``, as the data set has them.
    """
    pixels = channels_last(images_B3HW)

    def size(position: int) -> int:
        file = io.BytesIO()
        Image.fromarray(pixels[position]).save(file, "PNG", compress_level=9)
        return file.tell()

    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        return torch.tensor(list(pool.map(size, range(len(pixels)))), dtype=torch.int64)


def _measured(found: Mapping[str, Table]) -> list[str]:
    """The measures that are made of features, by name."""
    names = [f"{name}{'' if features == 'other' else f'_{features}'}" for features in FEATURES for name in LABELLED]
    return names if found else []


def _group(of_split: SplitScores, images: Table, file: ScoreFile | None) -> Group:
    """Scores and measures of one split: beside a member's score stand features of the other member."""
    columns = []
    for other in ("g", "f"):
        features = [
            images[f"{name}_{used}"] for used in (other, "random") for name in LABELLED if f"{name}_f" in images
        ]
        columns.append(np.column_stack([*features, images["bytes"]]).astype(np.float64))
    if file is not None:
        columns = [np.column_stack([values, file.of(of_split.ids)]) for values in columns]
    return Group(of_split.ids, of_split.scores, *columns)


def _images_table(scored: Scores, images: Mapping[str, Table]) -> Table:
    """Every scored image with all that was measured of it: the columns of ``atypical/images.csv``."""
    names = [f"{name}_{encoder}" for name in LABELLED for encoder in ("f", "g", "random")]
    parts = []
    for split, of_split in scored.splits.items():
        missing = np.full(len(of_split.ids), np.nan)
        measured = {name: images[split].get(name, missing) for name in names}
        places = {"id": of_split.ids, "split": np.full(len(of_split.ids), split), "label": of_split.labels}
        parts.append({**places, **measured, "bytes": images[split]["bytes"]})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
