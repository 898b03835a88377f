"""LayerMem, contrast and membership of any two networks, from arrays to arrays: nothing is read or written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memlight.analyses.layermem.command import LayerMemOptions
from memlight.analyses.layermem.design import design_of
from memlight.analyses.layermem.membership import membership_table, placebo_table, probe_aucs, scores_of
from memlight.analyses.layermem.study import measure_splits
from memlight.analyses.layermem.tables import layermem_samples, layermem_table
from memlight.data.images import ImageDataModule
from memlight.data.sources import JoinedSource, MemorySource
from memlight.data.splits import SPLITS, Ids, PairSplit
from memlight.errors import UserError
from memlight.features.discovery import chosen_layers
from memlight.features.layers import check_layers
from memlight.features.passes import device_of
from memlight.metrics.functional import Distance, Pairs, Scale
from memlight.metrics.layermem import in_one_unit
from memlight.storage.tables import Table

Split = PairSplit | Mapping[str, Sequence[int] | NDArray[Any] | Tensor] | Sequence[str] | NDArray[Any]


@dataclass(frozen=True)
class PairResult:
    """What `measure_pair` found; the columns are those of the files of `analyze.py layermem`.

    Attributes:
        table: a row for each layer: LayerMem, its controls, contrast with both intervals and adjusted p.
        membership: a row for each layer: AUC of the pair and of the attack, TPR at low FPR, other numbers.
        samples: a row for each image and layer: alignment under both encoders, and the score.
        placebos: a row for each layer and control group: contrast and AUC of its halves.
    """

    table: Table
    membership: Table
    samples: Table
    placebos: Table


def measure_pair(
    f: nn.Module,
    g: nn.Module,
    images_u8: Tensor | NDArray[np.uint8],
    split: Split,
    layers: Sequence[str] | None = None,
    views: int = 10,
    view_set: str = "simclr",
    *,
    mean: tuple[float, float, float] | None = (0.5, 0.5, 0.5),
    std: tuple[float, float, float] | None = (0.5, 0.5, 0.5),
    view_size: int | None = None,
    labels: Sequence[int] | NDArray[Any] | Tensor | None = None,
    seed: int = 0,
    distance: Distance = "l2",
    pairs: Pairs = "all",
    scale: Scale = "ratio",
    max_forward: int = 1024,
    progress: bool = True,
) -> PairResult:
    """Where a pair memorises, layer by layer, for any two networks that map images to features.

    The numbers are those of `analyze.py layermem` on the same images, splits and views. Both networks are left
    bit-identical: weights, buffers, modes and random generators.

    Args:
        f: the network that saw the candidates.
        g: the network that saw the independent images, or neither group (half a pair: give no independent images).
        images_u8: ``uint8 (N, 3, H, W)``; image i has id i.
        split: which images are ``candidate``, ``independent``, ``external`` and ``shared``: ids of each, or a word for
            each image (any other word: in none of them).
        layers: module paths that both networks have, and patterns as ``layer4.*``; None for all that are found.
        views: views of each image, at least 2.
        view_set: augmentation set; see `memlight.data.recipes`.
        mean: subtracted from each channel of a view in [0, 1]; None for none.
        std: each channel is divided by it after that; None for none.
        view_size: side of the views in pixels; None for the images' shorter side.
        labels: ``(N,)`` class of each image, for the samples; -1 or None where there is none.
        seed: of the views.
        distance: ``l2``, ``l1``, ``cosine`` or ``angular``.
        pairs: ``all`` pairs of views, or each view against the untouched image (``clean``).
        scale: ``ratio`` (Wang et al. 2024, eq 2), ``range`` (their code) or ``none`` (eq 1).
        max_forward: most views in one forward.
        progress: show bars.

    Raises:
        UserError: images of another shape or type, ids that there are not, too few images to compare, or a layer that a
            network does not have.
    """
    images = torch.as_tensor(images_u8)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        why = f"{images.dtype} of shape {tuple(images.shape)} where uint8 (N, 3, H, W) belongs"
        raise UserError("images_u8", None, why, "grey images: repeat the channel; (N, H, W, 3): permute the axes")
    groups = _groups(split, len(images))
    design = design_of([name for name in groups if len(groups[name])])
    for name in ("candidate", design.control):
        if len(groups.get(name, ())) < 2:
            raise UserError("split", None, f"{len(groups.get(name, ()))} {name} images", "at least 2 are needed")
    size = min(images.shape[2:]) if view_size is None else view_size
    data = _Arrays(images, groups, labels, views=view_set, view_size=size, mean=mean, std=std, seed=seed)
    names = chosen_layers(f, layers, image_size=size)
    for network in (f, g):
        check_layers(network, names)
    options = LayerMemOptions(views=views, distance=distance, pairs=pairs, scale=scale)
    measured = measure_splits(f, g, data, names, options, max_forward=max_forward, progress=progress)
    results = in_one_unit(measured, scale)
    scores = scores_of(results, device_of(f))
    return PairResult(
        layermem_table(results),
        membership_table(names, scores, probe_aucs(results)),
        layermem_samples(results, scores, data.labels_of),
        placebo_table(names, scores),
    )


class _Arrays(ImageDataModule):
    """Images in memory, under given splits."""

    def __init__(self, images: Tensor, groups: Mapping[str, Ids], labels: Any, **options: Any) -> None:
        super().__init__("auto", **options)
        of_images = torch.full((len(images),), -1) if labels is None else torch.as_tensor(np.asarray(labels)).long()
        if len(of_images) != len(images):
            raise UserError("labels", None, f"{len(of_images)} labels of {len(images)} images")
        train = MemorySource("images", images, of_images, [], "")
        self._source = JoinedSource(train, MemorySource("images", images[:0], of_images[:0], [], ""))
        self._split = PairSplit.given(len(images), 0, groups)


def _groups(split: Split, count: int) -> dict[str, Ids]:
    """Ascending ids of every split, checked.

    Raises:
        UserError: an id that there is not, or an image in two splits.
    """
    if isinstance(split, PairSplit):
        groups = {name: split.ids(name) for name in SPLITS}
    elif isinstance(split, Mapping):
        if unknown := [name for name in split if name not in SPLITS]:
            raise UserError("split", unknown[0], "no such split", f"splits are {', '.join(SPLITS)}")
        groups = {name: np.sort(np.asarray(ids, dtype=np.int64).ravel()) for name, ids in split.items()}
    else:
        words = np.asarray(split)
        if words.shape != (count,):
            raise UserError("split", None, f"{words.size} words for {count} images", "give ids of each split")
        groups = {name: np.flatnonzero(words == name).astype(np.int64) for name in SPLITS}
    every = np.concatenate([*groups.values(), np.empty(0, np.int64)])
    if len(every) and not 0 <= every.min() <= every.max() < count:
        raise UserError("split", None, f"ids {every.min()} to {every.max()} of {count} images", "ids begin at 0")
    if len(np.unique(every)) < len(every):
        twice = np.bincount(every).argmax()
        raise UserError("split", None, f"image {twice} is in it twice", "an image belongs to one split")
    return groups
