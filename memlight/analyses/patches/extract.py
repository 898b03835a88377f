"""An extractor, its images and a place for their patches, opened and checked for `analyze.py patches extract`."""

import os
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memlight import dist
from memlight.errors import named
from memlight.models.encoders import encoder_spec
from memlight.models.foreign import load_weights
from memlight.models.weight_files import read_record, weights_sha256
from memlight.patches.embed import EmbedOptions, Mode, Precision, embedding, require_fitting
from memlight.patches.extract import ExtractOptions, extract_patches
from memlight.patches.listing import ListedImages, open_images
from memlight.patches.store import INDEX, Dtype, PatchStore
from memlight.patches.writer import StoreWriter, require_place
from memlight.runs.checkpoints import METADATA_KEY
from memlight.runs.device import process_group
from memlight.runs.flags import EncoderFlags
from memlight.runs.released import SEED, build_named, normalisation_of

_MOST_WORKERS = 8
_SOFTWARE = ("torch", "torchvision", "timm", "pillow")


@dataclass(frozen=True)
class ExtractFlags:
    """Flags of the command but for those of the extractor.

    Attributes:
        out: directory of the store.
        mode: crop or token.
        grid: patches on a side.
        picture_size: side that images are brought to before they are cut; None is what they share.
        limit: most images; None for all.
        skip_broken: leave broken images out.
        dtype: of the numbers on the disk.
        precision: of the extractor's arithmetic.
        shard_size: images in a file.
        max_forward: most images or patches in one forward.
        workers: processes that decode; None is as many as help.
        device: ``auto`` or a torch device.
    """

    out: Path
    mode: Mode
    grid: int
    picture_size: int | None
    limit: int | None
    skip_broken: bool
    dtype: Dtype
    precision: Precision
    shard_size: int
    max_forward: int
    workers: int | None
    device: str


def run_extraction(extractor: EncoderFlags, flags: ExtractFlags) -> PatchStore:
    """Embed the patches of all images, alone or as one of torchrun's processes.

    Raises:
        UserError: the extractor cannot be built, its weights do not fit, there are no images, or the store cannot be
            written.
    """
    require_place(flags.out)
    encoder, record, weights = open_extractor(extractor)
    images = open_images(str(extractor.images), limit=flags.limit, kept_index=flags.out / INDEX)
    input_size = extractor.image_size or encoder_spec(encoder).input_size
    if flags.mode == "token":
        picture = (input_size, input_size)
    elif flags.picture_size is not None:
        picture = (flags.picture_size, flags.picture_size)
    else:
        picture = images.common_size()
    options = EmbedOptions(
        flags.mode, flags.grid, input_size, tuple(record["mean"]), tuple(record["std"]), flags.precision
    )
    require_fitting(options, *picture)
    with process_group(flags.device) as device:
        encoder = encoder.to(device).to(memory_format=torch.channels_last)
        with embedding(encoder, options) as embedder:
            writer = StoreWriter(
                flags.out,
                {**record, **asdict(options), "layer": embedder.layer, "picture_size": list(picture)},
                images.identity(),
                {"weights": weights, "device": device.type, **{name: version(name) for name in _SOFTWARE}},
                images=images.root,
                names=images.names,
                grid=flags.grid,
                dim=embedder.dim,
                dtype=flags.dtype,
                shard_size=flags.shard_size,
            )
            if dist.rank() == 0:
                extractor_words = f"{record['extractor']}, {weights}"
                print("\n".join(_words(extractor_words, images, embedder.layer, options, picture)), flush=True)
            most = min(flags.max_forward, getattr(encoder, "max_forward", flags.max_forward))
            batch_size = most if flags.mode == "token" else max(1, most // flags.grid**2)
            store = extract_patches(
                embedder,
                images,
                writer,
                ExtractOptions(picture, batch_size, flags.skip_broken, _workers(flags.workers)),
            )
    if dist.rank() == 0:
        print(f"{flags.out}: {store.num_rows} patches of {store.num_images} images")
    return store


def open_extractor(flags: EncoderFlags) -> tuple[nn.Module, dict[str, Any], str]:
    """Build the encoder, with its weights.

    Returns:
        The encoder in eval mode; what it is (architecture, hash of its weights, normalisation of its images); and where
        its weights came from, in words.

    Raises:
        UserError: it cannot be built, or the file does not fit it.
    """
    with named(path="weights", encoder="extractor"):
        own = read_record(Path(flags.weights), METADATA_KEY) if flags.weights is not None else {}
        encoder = build_named(flags, own)
        weights = f"random weights, seed {SEED}"
        if flags.weights is not None:
            weights = load_weights(encoder, Path(flags.weights), prefix=flags.prefix).words
    spec = encoder_spec(encoder)
    mean, std = normalisation_of(flags, own.get("views", {"name": getattr(encoder, "view_set", "simclr")}), encoder)
    record = {
        "extractor": spec.name,
        "architecture": asdict(spec),
        "weights_sha256": weights_sha256(encoder),
        "mean": list(mean),
        "std": list(std),
    }
    return encoder.eval(), record, weights


def _words(
    extractor: str, images: ListedImages, layer: str | None, options: EmbedOptions, picture: tuple[int, int]
) -> list[str]:
    side = options.input_size
    how = (
        f"each patch cut out of {picture[0]} x {picture[1]} pixels, resized to {side} x {side} and embedded alone"
        if layer is None
        else f"the output of {layer} on {side} x {side} pixels, averaged over each patch"
    )
    return [
        f"extractor: {extractor}",
        f"images: {len(images.names)} of {Path(images.root).name}",
        f"patches: {options.grid} x {options.grid}, {how}",
    ]


def _workers(asked: int | None) -> int:
    """As many as there are cores for this process; 0 where there is one, as the forward needs it."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(_MOST_WORKERS, cores) if cores > 1 else 0
