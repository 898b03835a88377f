"""Outputs of layers written to disk: the study behind `analyze.py features`."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memlight.analyses.features.command import FeatureOptions
from memlight.batch import ImageBatch, ViewMaker
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.data.loading import Draw, FixedOrder, data_loader, opened
from memlight.data.sources import ImageSource
from memlight.data.splits import Ids
from memlight.errors import UserError, named
from memlight.features.hooks import capture, check_finite
from memlight.features.passes import device_of, images_at_once, observing, view_batches
from memlight.models.weight_files import weights_sha256
from memlight.storage.shards import FeatureStore, FeatureWriter, writing_behind
from memlight.storage.store import Dtype

CAPTURED_BYTES = 1 << 30
"""Most memory for the features of one forward, as float32: whole outputs of all layers are many times the images."""


@dataclass(frozen=True, eq=False)
class ShardBatches:
    """The images of some shards, one shard after the other; no batch is of two.

    Attributes:
        source: every image, numbered by id.
        shards: ids of each shard.
        batch_size: images in a batch.
        num_workers: processes that decode ahead.
    """

    source: ImageSource
    shards: Sequence[Ids]
    batch_size: int
    num_workers: int = 0

    def __len__(self) -> int:
        return sum(len(FixedOrder(ids, self.batch_size)) for ids in self.shards)

    def draws(self, epoch: int) -> Iterator[Draw]:
        """Their batches, for a loader."""
        for ids in self.shards:
            yield from FixedOrder(ids, self.batch_size).draws(epoch)

    def __iter__(self) -> Iterator[ImageBatch]:
        for batch in data_loader(self.source, self, 0, 1, num_workers=self.num_workers):
            images, labels, ids, _ = opened(batch)
            yield ImageBatch(images, labels, ids)


def study_features(
    encoder: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    options: FeatureOptions,
    out: Path,
    made_from: Mapping[str, Any],
    *,
    max_forward: int = 1024,
    progress: bool = True,
) -> FeatureStore:
    """Write the outputs of all layers for the images of a split, or what is missing of them.

    All layers of an image come from one forward. With a process group up the processes share the shards, on a disk
    that all of them see; the files are those that one process writes.

    Args:
        encoder: any encoder that `memlight.features.hooks.capture` can read; it is left as it was.
        data: splits and images.
        layers: in execution order.
        options: what is stored.
        out: the directory.
        made_from: where the encoder is from, JSON-able; kept with all else that the features depend on.
        max_forward: most views in one forward.
        progress: show a bar.

    Returns:
        What was written.

    Raises:
        UserError: the directory holds something else, the disk is too small, activations are not finite or exceed
            what ``options.dtype`` can hold.
    """
    view_set = options.view_set if options.views else "clean"
    views = data.views if view_set is None else data.make_views(view_set)
    maker = data.view_maker(views, seed=options.seed)
    batches = data.batches(options.split)
    ids = batches.ids
    first = next(iter(ShardBatches(data.source, [ids[:1]], 1)))
    writer = FeatureWriter(
        out,
        {**made_from, **_fingerprint(encoder, data, views, options, ids)},
        feature_shapes(encoder, first, maker, layers, options),
        options.dtype,
        ids,
        data.labels_of(ids),
        options.shard_size,
    )
    with writer.begun_together(f"{len(ids)} images, {len(layers)} layers") as mine:
        of_image = sum(math.prod(shape) for shape in writer.shapes.values()) * 4
        at_once = min(images_at_once(max_forward, options.views), max(1, CAPTURED_BYTES // of_image))
        parts = [ids[writer.layout.images_of(shard)] for shard in mine]
        shares = ShardBatches(data.source, parts, at_once, batches.num_workers)
        bar = progress and bool(mine)
        write_features(encoder, shares, maker, writer, mine, options, max_forward=max_forward, progress=bar)
    with named(root="out"):
        return FeatureStore(out)


def feature_shapes(
    encoder: nn.Module, first: ImageBatch, make_views: ViewMaker, layers: Sequence[str], options: FeatureOptions
) -> dict[str, tuple[int, ...]]:
    """Shape of each layer's features of one image, from a forward of the first one; the encoder is left as it was."""
    image = ImageBatch(*(tensor[:1].to(device_of(encoder)) for tensor in first))
    with observing(encoder), _captured(encoder, layers, options) as captured:
        encoder(make_views(image, 0))
        of_views = (options.views,) if options.views else ()
        return {layer: (*of_views, *captured[layer].shape[1:]) for layer in layers}


def write_features(
    encoder: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    writer: FeatureWriter,
    shards: Sequence[int],
    options: FeatureOptions,
    *,
    max_forward: int = 1024,
    progress: bool = True,
) -> None:
    """Fill shards, all layers from one forward.

    Args:
        encoder: left as it was.
        batches: the images of the shards in their order; no batch is of two shards.
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        writer: of the store that the shards belong to.
        shards: numbers of the shards to fill.
        options: what is stored.
        max_forward: most views in one forward.
        progress: show a bar.

    Raises:
        UserError: as `study_features`.
        ValueError: the batches are not those of the shards.
    """
    layers, views = list(writer.shapes), max(1, options.views)
    expected = writer.ids[[image for shard in shards for image in writer.layout.images_of(shard)]]
    done = 0
    with (
        observing(encoder),
        _captured(encoder, layers, options) as captured,
        writing_behind(writer, shards) as write,
    ):
        for images, batch in view_batches(
            batches,
            make_views,
            num_views=views,
            max_forward=max_forward,
            device=device_of(encoder),
            progress=progress,
            title=f"features {options.split}",
        ):
            count = len(batch.ids)
            if not np.array_equal(batch.ids.cpu().numpy(), expected[done : done + count]):
                raise ValueError(f"image {done} is not that of the shards")
            encoder(images)
            features = {}
            for layer, values in _converted(captured, layers, options.dtype).items():
                by_image = values.view(views, count, *values.shape[1:]).transpose(0, 1)
                features[layer] = (by_image if options.views else by_image[:, 0]).cpu().numpy()
            write(features)
            done += count


def _captured(encoder: nn.Module, layers: Sequence[str], options: FeatureOptions) -> Any:
    return capture(encoder, layers, options.reduce, *options.of_unit)


def _converted(captured: Mapping[str, Tensor], layers: Sequence[str], dtype: Dtype) -> dict[str, Tensor]:
    """What was captured, in the type that is stored.

    Raises:
        UserError: it is not finite, or too large for that type.
    """
    converted = {layer: captured[layer].to(getattr(torch, dtype)) for layer in layers}
    finite = torch.stack([features.isfinite().all() for features in converted.values()]).tolist()
    if not all(finite):
        with named(encoder="run"):
            check_finite(captured)
        layer = layers[finite.index(False)]
        largest = float(captured[layer].abs().max())
        why = f"layer {layer} reaches {largest:.3g}, more than {dtype} holds"
        raise UserError("dtype", dtype, why, "use float32")
    return converted


def _fingerprint(
    encoder: nn.Module, data: ImageDataModule, views: Views, options: FeatureOptions, ids: Ids
) -> dict[str, Any]:
    activation, tokens = options.of_unit
    return {
        "weights_sha256": weights_sha256(encoder),
        "reduce": options.reduce,
        "activation": activation,
        "tokens": tokens,
        "views": options.views,
        "view_set": views.spec(),
        "seed": (data.seed if options.seed is None else options.seed) if options.views else None,
        "split": options.split,
        "split_sha256": data.split.sha256,
        "ids_sha256": hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest(),
        "image_size": list(data.source.size),
        "device": device_of(encoder).type,
        "torch": torch.__version__,
    }
