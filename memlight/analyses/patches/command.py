"""`analyze.py patches extract`, `search` and `report`."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from memlight.commands import CommandGroup
from memlight.errors import UserError, at_least, at_most, named
from memlight.runs.flags import EncoderFlags, Results
from memlight.storage.run_files import MOST_SIDE


@dataclass(frozen=True)
class ExtractorFlags:
    """The images, and what embeds their patches.

    Attributes:
        images: folder, zip or tar of images; of one with train/ and val/ (or test/) those in train/.
        extractor: timm:NAME, torchvision:NAME, resnet18 and the like, one's own as package.module:Class, or an encoder
            of ours: a member of a run such as runs/cifar10/candidate, or its encoder.safetensors.
        encoder_args: what a class or function of one's own is called with, as width=64 depth=3, or one JSON object.
        weights: weights of the extractor (.safetensors, .pth, .pt, .ckpt, .tar); random weights if unset.
        prefix: which part of the file is the encoder, such as teacher.backbone; the only part that fits if unset.
        stem: first layers of resnet18, resnet34 and resnet50; cifar is a 3x3 convolution without max-pooling.
        image_size: side in pixels of what the extractor is given, an image (token) or a patch (crop); its own if unset.
        mean: of the three channels, in [0, 1]; what belongs to the extractor (timm's own, else ImageNet's) if unset.
        std: of the three channels, in [0, 1]; what belongs to the extractor if unset.
        trust: code that is not memlight's, as package.module:Class, and that an encoder of ours may name as what it was
            made by: it is imported and run. What was typed on this machine before need not be given.
    """

    images: str
    extractor: str
    encoder_args: list[str] | None = None
    weights: str | None = None
    prefix: str | None = None
    stem: Literal["imagenet", "cifar"] = "imagenet"
    image_size: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    trust: list[str] | None = None

    def __post_init__(self) -> None:
        if self.own_weights is not None and self.weights is not None:
            raise UserError("weights", self.weights, f"{self.extractor} has its own", "leave it out")
        self.encoder  # noqa: B018 - checks the rest

    @cached_property
    def own_weights(self) -> Path | None:
        """The file of an encoder of ours; None where a name was given.

        Raises:
            UserError: there is such a directory, and no encoder in it.
        """
        path = Path(self.extractor)
        if path.is_dir():
            path = path / "encoder.safetensors"
            if not path.is_file():
                why = "no encoder.safetensors in it"
                raise UserError("extractor", self.extractor, why, "name a member, as RUN/candidate")
        return path if path.is_file() else None

    @cached_property
    def encoder(self) -> EncoderFlags:
        """The same as the flags of an encoder that was not trained in a run."""
        own = self.own_weights
        with named(encoder="extractor"):
            return EncoderFlags(
                encoder=None if own else self.extractor,
                encoder_args=self.encoder_args,
                weights=str(own) if own else self.weights,
                prefix=self.prefix,
                stem=self.stem,
                image_size=self.image_size,
                images=self.images,
                mean=self.mean,
                std=self.std,
            )


@dataclass(frozen=True)
class PatchFlags:
    """What is embedded, and how.

    Attributes:
        mode: crop cuts every patch out and embeds it alone; token embeds the image once and averages its tokens, or
            the deepest map that is fine enough, over each patch.
        grid: patches on a side of an image.
        picture_size: side that images are brought to before they are cut (crop); what they share if unset.
        limit: at most so many images, evenly spaced; all if unset.
        on_error: stop at a broken image, or skip it and count.
        precision: of the extractor's arithmetic.
    """

    mode: Literal["crop", "token"] = "token"
    grid: int = 4
    picture_size: int | None = None
    limit: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.picture_size is not None:
            at_most(MOST_SIDE, picture_size=self.picture_size)
        sizes = {"grid": self.grid, "limit": self.limit, "picture_size": self.picture_size}
        at_least(1, **{name: value for name, value in sizes.items() if value is not None})
        if self.picture_size is not None and self.mode == "token":
            raise UserError("picture_size", self.picture_size, "belongs to `mode='crop'`", "give `image_size`")


@dataclass(frozen=True)
class WorkFlags:
    """How the work is done and written.

    Attributes:
        dtype: of the numbers on the disk.
        shard_size: images in a file.
        max_forward: most images (token) or patches (crop) in one forward; lower it when memory runs out.
        workers: processes that decode images; as many as there are cores, 8 at most, if unset.
        device: auto, cpu, cuda, cuda:1.
    """

    dtype: Literal["float16", "float32"] = "float16"
    shard_size: int = 4096
    max_forward: int = 256
    workers: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        at_least(1, shard_size=self.shard_size, max_forward=self.max_forward)
        at_least(0, workers=self.workers or 0)


@dataclass(frozen=True)
class SearchFlags:
    """Two stores, and how one is searched.

    Attributes:
        queries: store of the images in question, made by `analyze.py patches extract`.
        index: store of the training images, made with the same flags.
        metric: cosine is 1 minus the cosine; l2 is a distance, not its square; l2_normalized that of unit vectors.
        k: nearest patches that are kept.
        backend: library that finds the candidates; the result is the same.
        approximate: faiss index in the place of exact search, such as IVF1024,Flat or IVF1024,PQ32; its recall is
            printed.
        nprobe: cells of such an index that are searched.
        verify: full reads both stores and compares their checksums first.
        query_images: where the images of the queries lie now; where they were at extraction if unset.
        index_images: where the images of the index lie now; where they were at extraction if unset.
        device: auto (all GPUs, or the CPU), cpu, cuda, cuda:1.
    """

    queries: str
    index: str
    metric: Literal["cosine", "l2", "l2_normalized"] = "cosine"
    k: int = 10
    backend: Literal["torch", "faiss"] = "torch"
    approximate: str | None = None
    nprobe: int = 16
    verify: Literal["fast", "full"] = "fast"
    query_images: str | None = None
    index_images: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        at_least(1, k=self.k, nprobe=self.nprobe)
        if self.approximate is None and self.nprobe != 16:
            why = "belongs to an approximate search"
            raise UserError("nprobe", self.nprobe, why, "name its index with `approximate`")


def extract(
    out: str,
    extractor: ExtractorFlags,
    patches: PatchFlags = PatchFlags(),
    work: WorkFlags = WorkFlags(),
) -> None:
    """Embed every patch of every image, and write the vectors to disk.

    Called again after an interruption, it makes what is missing.

    Args:
        out: directory of the store.
        extractor: images and extractor
        patches: patches
        work: files and device
    """
    from memlight.analyses.patches.extract import run_extraction

    run_extraction(Path(out), extractor, patches, work)


def search(
    out: str,
    flags: SearchFlags,
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Find the nearest training patches of every patch, exactly, and count the images they come from.

    Called again after an interruption, it goes on after the last file of the index that was searched.

    Args:
        out: run directory for the results.
        flags: stores and search
        results: results
    """
    from memlight.analyses.patches.study import run_search

    run_search(out, flags, results)


def report(
    run: str,
    compare: list[str] | None = None,
    held_out: str | None = None,
    query_images: str | None = None,
    index_images: str | None = None,
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """One page on which pointing at a patch shows where its nearest is from; several searches beside one another.

    Args:
        run: run directory of a search.
        compare: those of searches with other images in the same index.
        held_out: that of real images which no generator has learned from; differences from it are tested.
        query_images: where the images of the run's queries lie now; where they were at extraction if unset.
        index_images: where the images of the index lie now; where they were at extraction if unset.
        results: results of the comparison
    """
    from memlight.analyses.patches.page import run_report

    run_report(run, compare or [], held_out, query_images, index_images, results)


PATCHES = CommandGroup(
    "Which patches of training images a generated image is made of.",
    {"extract": extract, "search": search, "report": report},
)
