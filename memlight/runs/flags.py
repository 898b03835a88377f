"""Flags that several commands share, and the checks of their values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any, Literal

from memlight.errors import UserError, at_least

Logger = Literal["wandb", "wandb-online", "csv"]
Member = Literal["candidate", "independent", "all", "random"]
Split = Literal["candidate", "independent", "external", "shared"]


@dataclass(frozen=True)
class Place:
    """Where an analysis finds its images, and where it runs.

    Attributes:
        root: where the images are now; where they were at training if unset.
        labels: file of classes in place of those that came with the images: .csv, .json or .jsonl that names images by
            id or path, and their label.
        on_error: stop at an image that cannot be decoded, or skip it: it is left out, and the others keep their ids.
        external: how many test images stand for those that no encoder was trained on: the run's and more, or fewer; as
            many as its splits name if unset.
        device: auto, cpu, cuda, cuda:1.
        max_forward: most views (or images) in one forward, fewer where an encoder's maps are large (var_vqvae); lower
            it when memory runs out.
        trust: code that is not memlight's, as package.module:Class, and that a run or a file may name as what its
            encoder was made by: it is imported and run. What was typed on this machine before need not be given.
    """

    root: str | None = None
    labels: str | None = None
    on_error: Literal["raise", "skip"] = "raise"
    external: int | None = None
    device: str = "auto"
    max_forward: int = 1024
    trust: list[str] | None = None

    def __post_init__(self) -> None:
        at_least(1, max_forward=self.max_forward)
        if self.external is not None:
            at_least(1, external=self.external)

    def tag(self, *others: str | None, own_classes: bool) -> str | None:
        """What tells results by the classes of a file apart from those by the images' own; None for these.

        Args:
            others: what else tells them apart.
            own_classes: whether the images have any.
        """
        by = None if self.labels is None or not own_classes else f"by-{PurePath(self.labels).stem}"
        return "-".join(filter(None, (*others, by))) or None


@dataclass(frozen=True)
class Results:
    """Where the results of an analysis go.

    Attributes:
        logger: wandb (offline), wandb-online, or csv for files alone.
        tag: keeps this result beside others, as analysis/COMMAND-TAG.
    """

    logger: Logger = "wandb"
    tag: str | None = None

    def __post_init__(self) -> None:
        require_name("tag", self.tag)


@dataclass(frozen=True)
class Trained:
    """Which state of the trained networks is measured.

    Attributes:
        network: teacher or student, of methods that have both (DINO); the teacher if unset.
        checkpoint: name of a checkpoint, such as epoch=49; the finished encoder if unset.
    """

    network: str | None = None
    checkpoint: str | None = None

    @property
    def tag(self) -> str | None:
        """What tells it apart from the finished default network; None for that one."""
        return "-".join(filter(None, (self.network, self.checkpoint))) or None

    def require_for(self, member: Member) -> None:
        """Refuse a checkpoint of what was not trained.

        Raises:
            UserError: it is the random member.
        """
        if member == "random" and self.checkpoint is not None:
            raise UserError("checkpoint", self.checkpoint, "the random member was not trained", "leave it out")


@dataclass(frozen=True)
class EncoderFlags:
    """An encoder that was not trained in a run of ours, and the images that it is measured on.

    Attributes:
        encoder: an encoder that is not a run's: resnet18, vit_small_patch16, var_vqvae, torchvision:NAME, timm:NAME, or
            one's own as package.module:Class (or :function); what the file says if unset and --weights is a file of
            memlight.
        encoder_args: what a class or function of one's own is called with, as width=64 depth=3, or one JSON object.
        weights: its weights: a file (.safetensors, .pth, .pt, .ckpt, .tar), hub for those that timm or torchvision
            publish under the encoder's name, or hf:ORG/NAME[/FILE]; no code in the file is run; random weights if
            unset.
        prefix: which part of the file is the encoder, such as teacher.backbone; the only part that fits if unset.
        stem: first layers of resnet18, resnet34 and resnet50; cifar is a 3x3 convolution without max-pooling.
        image_size: side of the views in pixels; the encoder's own if unset. Position embeddings of another size are
            resampled to one that is given.
        images: folder, zip, tar or Parquet files of the images to measure, or hf:NAME, of Hugging Face; of those with
            train/ and val/ (or test/) those in train/.
        held_out: others that the encoder was not trained on; those in val/ and test/ of --images if unset.
        limit: at most so many images of each, evenly spaced; all if unset.
        mean: of the three channels, in [0, 1]; what belongs to the encoder (timm's own, else ImageNet's) if unset.
        std: of the three channels, which are divided by it once the mean is subtracted; what belongs to the encoder if
            unset.
    """

    encoder: str | None = None
    encoder_args: list[str] | None = None
    weights: str | None = None
    prefix: str | None = None
    stem: Literal["imagenet", "cifar"] = "imagenet"
    image_size: int | None = None
    images: str | None = None
    held_out: str | None = None
    limit: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if given and not self.given:
            raise UserError(given[0], None, "belongs to an encoder", "name it with `encoder`")
        if self.encoder_args is not None and self.encoder is None:
            raise UserError("encoder_args", None, "are for a class of one's own", "name it with `encoder`")
        self.arguments  # noqa: B018 - refuses what is no argument
        if self.given and self.images is None:
            raise UserError("images", None, "name a folder, zip or tar of images that the encoder is measured on")
        if self.prefix is not None and self.weights is None:
            raise UserError("prefix", self.prefix, "is a part of a file", "name the file with `weights`")
        for name, value in (("image_size", self.image_size), ("limit", self.limit)):
            if value is not None:
                at_least(1, **{name: value})
        if (self.mean is None) != (self.std is None):
            raise UserError("mean, std", None, "one is given and the other is not", "give both or neither")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != 3 or len(self.std) != 3:
                raise UserError("mean, std", None, "three numbers each are needed, one for a channel")
            if min(self.std) <= 0:
                raise UserError("std", min(self.std), "must be above 0")

    @property
    def given(self) -> bool:
        """Whether an encoder is named at all."""
        return self.encoder is not None or self.weights is not None

    @property
    def arguments(self) -> dict[str, Any] | None:
        """What ``encoder_args`` says, by name; None if it is unset."""
        return None if self.encoder_args is None else read_arguments(self.encoder_args)


def read_arguments(words: Sequence[str], argument: str = "encoder_args") -> dict[str, Any]:
    """Read ``width=64 norm=batch``, or one JSON object.

    A value is what it is as JSON (a number, true, null, a list ...), and otherwise a word; Python's True, False and
    None are understood too.

    Args:
        words: as they were typed.
        argument: what they are called.

    Raises:
        UserError: a word is neither, or an argument is given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if word.lstrip().startswith("{"):
            given = _json_or(word, None)
            if not isinstance(given, dict):
                raise UserError(argument, word, "is not a JSON object", """write '{"width": 64}', or width=64""")
        elif equals and name.isidentifier():
            given = {name: _WORDS[value] if value in _WORDS else _json_or(value, value)}
        else:
            raise UserError(argument, word, "is not NAME=VALUE", """write width=64, or '{"width": 64}'""")
        if twice := found.keys() & given.keys():
            raise UserError(argument, word, f"{min(twice)} is given twice")
        found |= given
    return found


_WORDS = {"True": True, "False": False, "None": None}


def _json_or(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise


def require_views_for(view_set: str | None, views: int) -> None:
    """Refuse an augmentation set where the untouched image is measured.

    Raises:
        UserError: there is one, and no view is made.
    """
    if view_set is not None and views == 0:
        raise UserError("view_set", view_set, "no views are made", "ask for some with `views=10`")


def require_name(argument: str, name: str | None) -> None:
    """Refuse what cannot be part of a directory's name.

    Args:
        argument: what it is called.
        name: a part of a directory's name; None is none.

    Raises:
        UserError: it is empty, or holds a slash.
    """
    if name is not None and (not name or "/" in name or "\\" in name):
        raise UserError(argument, repr(name), "becomes part of a directory's name", "use a word such as more-views")
