"""An extractor, its images and a place for their patches, opened and checked for `analyze.py patches extract`."""

import os
import sys
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memlight import dist
from memlight.analyses.patches.command import ExtractorFlags, PatchFlags, WorkFlags
from memlight.errors import UserError, named
from memlight.features.passes import require_encoder_takes
from memlight.models.encoders import encoder_spec
from memlight.models.foreign import load_weights
from memlight.models.hub import find_weights
from memlight.models.trust import trusting
from memlight.models.weight_files import read_record, weights_sha256
from memlight.patches.embed import Channels, embedding, require_fitting
from memlight.patches.extract import extract_patches, open_images
from memlight.patches.store import INDEX, PATCHES, PatchStore, PatchWriter
from memlight.runs.checkpoints import METADATA_KEY
from memlight.runs.device import process_group
from memlight.runs.released import SEED, build_named, normalisation_of

_MOST_WORKERS = 8
_SOFTWARE = ("torch", "torchvision", "timm", "pillow")


def run_extraction(out: Path, extractor: ExtractorFlags, patches: PatchFlags, work: WorkFlags) -> PatchStore:
    """Embed the patches of all images, alone or as one of torchrun's processes.

    Args:
        out: directory of the store.
        extractor: what embeds which images.
        patches: how its patches are embedded.
        work: what is written, and by which device.

    Returns:
        The store.

    Raises:
        UserError: the extractor cannot be built, its weights do not fit, there are no images, or the store cannot be
            written.
    """
    PATCHES.require_place(out)
    encoder, weights, mean, std = open_extractor(extractor)
    images = open_images(extractor.images, limit=patches.limit, kept_index=out / INDEX)
    spec, mode, grid = encoder_spec(encoder), patches.mode, patches.grid
    input_size = extractor.image_size or spec.input_size
    side = input_size if mode == "token" else patches.picture_size
    picture_size = images.common_size() if side is None else (side, side)
    require_fitting(grid, *picture_size)
    require_encoder_takes(encoder, input_size, partial(UserError, "image_size", input_size))
    extraction = {
        "extractor": spec.name,
        "architecture": spec.record(),
        "weights_sha256": weights_sha256(encoder),
        **{"mean": mean, "std": std, "mode": mode, "grid": grid, "input_size": input_size},
        "precision": patches.precision,
    }
    with ExitStack() as stack:
        device = stack.enter_context(process_group(work.device))
        encoder = encoder.to(device).to(memory_format=torch.channels_last)
        how = embedding(encoder, mode, grid, input_size=input_size, mean=mean, std=std, precision=patches.precision)
        embedder = stack.enter_context(how)
        writer = PatchWriter(
            out,
            {**extraction, "layer": embedder.layer, "picture_size": picture_size},
            images.identity(),
            {"weights": weights, "device": device.type, **{name: version(name) for name in _SOFTWARE}},
            images=images.root,
            names=images.names,
            grid=grid,
            dim=embedder.dim,
            dtype=work.dtype,
            shard_size=work.shard_size,
        )
        if dist.rank() == 0:
            print(f"extractor: {spec.name}, {weights}")
            print(f"images: {len(images.names)} of {Path(images.root).name}")
            print(f"patches: {grid} x {grid}, {_words(embedder.layer, input_size, picture_size)}", flush=True)
        most = min(work.max_forward, getattr(encoder, "max_forward", work.max_forward))
        store = extract_patches(
            embedder,
            images,
            writer,
            picture_size=picture_size,
            batch_size=most if mode == "token" else max(1, most // grid**2),
            skip_broken=patches.on_error == "skip",
            workers=_cores() if work.workers is None else work.workers,
        )
    if dist.rank() == 0:
        print(f"{out}: {store.num_rows} patches of {store.num_images} images")
    return store


def open_extractor(extractor: ExtractorFlags) -> tuple[nn.Module, str, Channels, Channels]:
    """Build the encoder, with its weights.

    Returns:
        The encoder in eval mode; where its weights came from, in words; mean and standard deviation of the channels
        of its images.

    Raises:
        UserError: it cannot be built, or the file does not fit it.
    """
    flags = extractor.encoder
    weights = f"random weights, seed {SEED}"
    with named(path="weights", encoder="extractor"), trusting(extractor.trust):
        place = None if flags.weights is None else find_weights(flags.weights, flags.encoder)
        recorded: dict[str, Any] = {} if place is None else read_record(place.path, METADATA_KEY)
        encoder = build_named(flags, recorded)
        if place is not None:
            resample = flags.image_size is not None
            weights = load_weights(encoder, place.path, prefix=flags.prefix, resample=resample).words
    views = recorded.get("views", {"name": getattr(encoder, "view_set", "simclr")})
    return encoder.eval(), weights, *normalisation_of(flags, views, encoder)


def _words(layer: str | None, side: int, picture_size: tuple[int, int]) -> str:
    if layer is not None:
        return f"the output of {layer} on {side} x {side} pixels, averaged over each patch"
    height, width = picture_size
    return f"each patch cut out of {height} x {width} pixels, resized to {side} x {side} and embedded alone"


def _cores() -> int:
    """Processes that decode: as many as there are cores for this process; 0 for one core, which the forward needs."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(_MOST_WORKERS, cores) if cores > 1 else 0
