"""`analyze.py patches extract`."""

from pathlib import Path
from typing import Literal

from memlight.analyses.patches.command_report import report
from memlight.analyses.patches.command_search import search
from memlight.commands import CommandGroup
from memlight.errors import UserError
from memlight.runs.flags import EncoderFlags, at_least


def extract(
    images: str,
    extractor: str,
    out: str,
    mode: Literal["crop", "token"] = "token",
    grid: int = 4,
    weights: str | None = None,
    prefix: str | None = None,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    image_size: int | None = None,
    picture_size: int | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    limit: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    dtype: Literal["float16", "float32"] = "float16",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    shard_size: int = 4096,
    max_forward: int = 256,
    workers: int | None = None,
    device: str = "auto",
) -> None:
    """Embed every patch of every image, and write the vectors to disk.

    Called again after an interruption, it makes what is missing.

    Args:
        images: folder, zip or tar of images; of one with train/ and val/ (or test/) those in train/.
        extractor: timm:NAME, torchvision:NAME, resnet18 and the like, or an encoder of ours: a member of a run such as
            runs/cifar10/candidate, or its encoder.safetensors.
        out: directory of the store.
        mode: crop cuts every patch out and embeds it alone; token embeds the image once and averages its tokens, or
            the deepest map that is fine enough, over each patch.
        grid: patches on a side of an image.
        weights: weights of the extractor (.safetensors, .pth, .pt, .ckpt, .tar); random weights if unset.
        prefix: which part of the file is the encoder, such as teacher.backbone; the only part that fits if unset.
        stem: first layers of resnet18, resnet34 and resnet50; cifar is a 3x3 convolution without max-pooling.
        image_size: side in pixels of what the extractor is given, an image (token) or a patch (crop); its own if unset.
        picture_size: side that images are brought to before they are cut (crop); what they share if unset.
        mean: of the three channels, in [0, 1]; what belongs to the extractor (timm's own, else ImageNet's) if unset.
        std: likewise.
        limit: at most so many images, evenly spaced; all if unset.
        on_error: stop at a broken image, or skip it and count.
        dtype: of the numbers on the disk.
        precision: of the extractor's arithmetic.
        shard_size: images in a file.
        max_forward: most images (token) or patches (crop) in one forward; lower it when memory runs out.
        workers: processes that decode images; as many as there are cores, 8 at most, if unset.
        device: auto, cpu, cuda, cuda:1.
    """
    at_least(1, grid=grid, shard_size=shard_size, max_forward=max_forward)
    at_least(0, workers=0 if workers is None else workers)
    for name, value in (("limit", limit), ("image_size", image_size), ("picture_size", picture_size)):
        at_least(1, **({} if value is None else {name: value}))
    if picture_size is not None and mode == "token":
        raise UserError(f"--picture-size {picture_size}: belongs to --mode crop; give --image-size.")
    own = own_weights(extractor)
    if own is not None and weights is not None:
        raise UserError(f"--weights {weights}: {extractor} has its own; leave it out.")
    flags = EncoderFlags(
        encoder=None if own is not None else extractor,
        weights=weights if own is None else str(own),
        prefix=prefix,
        stem=stem,
        image_size=image_size,
        images=images,
        mean=mean,
        std=std,
    )
    from memlight.analyses.patches.extract import ExtractFlags, run_extraction

    run_extraction(
        flags,
        ExtractFlags(
            out=Path(out),
            mode=mode,
            grid=grid,
            picture_size=picture_size,
            limit=limit,
            skip_broken=on_error == "skip",
            dtype=dtype,
            precision=precision,
            shard_size=shard_size,
            max_forward=max_forward,
            workers=workers,
            device=device,
        ),
    )


def own_weights(extractor: str) -> Path | None:
    """The file of an encoder of ours; None where a name was given.

    Raises:
        UserError: there is such a directory, and no encoder in it.
    """
    path = Path(extractor)
    if path.is_dir():
        path = path / "encoder.safetensors"
        if not path.is_file():
            raise UserError(f"--extractor {extractor}: no encoder.safetensors in it; name a member, as RUN/candidate.")
    return path if path.is_file() else None


PATCHES = CommandGroup(
    "Which patches of training images a generated image is made of.",
    {"extract": extract, "search": search, "report": report},
)
