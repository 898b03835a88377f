"""An encoder and images opened for analysis without a training run: somebody else's weights, one's own images."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from memlight import dist
from memlight.data.files import few_words
from memlight.data.recipes import VIEW_SETS
from memlight.data.splits import PairSplit
from memlight.errors import UserError, named
from memlight.models.encoders import build_encoder, build_from_metadata, encoder_spec
from memlight.models.foreign import load_weights
from memlight.models.hub import find_weights
from memlight.models.trust import Untrusted, trusting
from memlight.models.weight_files import read_record
from memlight.runs.analysis import Analysis
from memlight.runs.checkpoints import METADATA_KEY, file_sha256
from memlight.runs.device import process_group
from memlight.runs.flags import EncoderFlags, Place, Trained
from memlight.runs.given_images import GivenImages
from memlight.runs.log import AnalysisLog, LoggerKind
from memlight.runs.opened import OpenedRun, open_run
from memlight.storage.documents import WrongField, checked
from memlight.storage.records import difference
from memlight.storage.run_files import EncoderMetadata, ReleasedFile
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, write_json

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of torchvision's models, and of nearly all that were trained on ImageNet."""

SEED = 0
"""Of random weights."""

Channels = tuple[float, float, float]


@dataclass(kw_only=True)
class ReleasedRun(OpenedRun):
    """An encoder that was not trained here, with the interface of a run that was.

    Attributes:
        data: the images that were given.
        loaded: the encoder with its weights.
        record: what ``encoder.json`` says of it.
    """

    data: "GivenImages"
    loaded: nn.Module
    record: dict[str, Any]

    @property
    def probe_split(self) -> str:
        """The images that were given."""
        return "candidate"

    def members(self) -> list[str]:
        """The encoder, and beside one with weights the same with random ones."""
        return ["encoder", "random"] if self.record["weights"] else ["encoder"]

    def encoder(self, member: str, checkpoint: str | None = None) -> nn.Module:
        """The encoder, or the same with random weights, in eval mode on the device.

        Args:
            member: ``encoder`` (or ``candidate``, as commands call it by default) or ``random``.
            checkpoint: None; there are none.

        Raises:
            UserError: another member, or a checkpoint.
        """
        if checkpoint is not None:
            raise UserError("checkpoint", checkpoint, "belongs to a run", "give the file with `weights`")
        if member == "random":
            with named(path="encoder"):
                encoder = build_from_metadata(self.record, seed=SEED).eval()
            self.hashes["random"] = _RANDOM
        elif member in ("encoder", "candidate"):
            encoder = self.loaded
            self.hashes["encoder"] = self.record["weights"]["sha256"] if self.record["weights"] else _RANDOM
        else:
            raise UserError("member", member, "belongs to a run", "of an encoder there is itself and random")
        return self._ready(encoder)

    def _wrong_size(self, why: str) -> UserError:
        return UserError("image_size", self.data.view_size, why, "choose another one")

    def at_once(self, max_forward: int) -> int:
        """Most views in one forward: what was asked for, or fewer where the encoder's maps are large."""
        return min(max_forward, getattr(self.loaded, "max_forward", max_forward))

    def pair(self, checkpoint: str | None = None) -> tuple[nn.Module, nn.Module]:
        """There is none.

        Raises:
            UserError: always.
        """
        raise UserError("encoder", None, "one encoder is no pair", "`train.py pair` trains one")

    def partner(self, member: str, checkpoint: str | None = None) -> nn.Module | None:
        """None."""
        return None

    def require_images(self, *splits: str, at_least: int = 2, argument: str = "run") -> None:
        """Refuse images that are too few to be measured.

        Raises:
            UserError: names the flag they were given by.
        """
        for split, given in (("candidate", "images"), ("external", "held_out")):
            count = len(self.split.ids(split))
            if argument == "run" and split in splits and count < at_least:
                raise UserError(given, None, f"{count} images", f"at least {at_least} are needed")
        super().require_images(*splits, at_least=at_least, argument=argument)

    def read_images(self, *, labelled: bool = False) -> None:
        """Read the images; last of all, as it can take longest.

        Args:
            labelled: refuse images without classes, and held-out ones of other classes.

        Raises:
            UserError: they cannot be read.
        """
        self.data.setup()
        self._leave_out_broken()
        if labelled and (error := self.lacking_labels()) is not None:
            raise error

    def lacking_labels(self) -> UserError | None:
        """As of a run; and also where held-out images are of classes that the measured ones have not."""
        if self.data.strange_classes:
            why = f"has images of classes (folders) that `images` has not ({few_words(self.data.strange_classes)})"
            return UserError("held_out", self.data.held_out, why, ["leave those images out", "give `labels=FILE`"])
        if not self.data.classes:
            why = "images with classes (one folder each) are needed"
            return UserError("images", self.data.root, why, "give them with `labels=FILE`")
        return super().lacking_labels()

    def _place_of(self, split: str) -> tuple[str, object]:
        held_out = self.data.held_out if split == "external" else None
        return ("images", self.data.root) if held_out is None else ("held_out", held_out)

    def _called(self, split: str) -> str:
        return {"candidate": "measured", "external": "held-out"}.get(split, split)

    @contextmanager
    def log(self, analysis: Analysis, tag: str | None, logger: LoggerKind, seed: int | None) -> Iterator[AnalysisLog]:
        """Where the results of one command go, with what was measured beside them."""
        if dist.rank() == 0:
            write_json(self.run.released, self.record)
            self.split.save(self.run.splits)
        with super().log(analysis, tag, logger, seed) as log:
            yield log


_RANDOM = f"random weights, seed {SEED}"


@contextmanager
def open_chosen(run: str | None, released: EncoderFlags, trained: Trained, place: Place) -> Iterator[OpenedRun]:
    """Open a run, or an encoder and images where those are named.

    Raises:
        UserError: neither or flags of the other are given, or as for `open_run` and `open_released`.
    """
    if released.given:
        of_runs = {
            "root": place.root,
            "external": place.external,
            "network": trained.network,
            "checkpoint": trained.checkpoint,
        }
        for argument, value in of_runs.items():
            if value is not None:
                instead = "with `encoder` use `images`, `weights`, `prefix`"
                raise UserError(argument, value, "belongs to a run", instead)
        with trusting(place.trust), open_released(released, run=run, place=place) as opened:
            yield opened
        return
    if run is None:
        raise UserError("run", None, "name a run directory, or an encoder with `encoder` and images with `images`")
    if RunDir(Path(run)).released.is_file():
        name = read_json(RunDir(Path(run)).released, ReleasedFile)["encoder"]
        raise UserError("run", run, "of an encoder that was not trained here", f"give `encoder={name}` `images` again")
    with open_run(run, place, network=trained.network) as opened:
        yield opened


@contextmanager
def open_released(
    flags: EncoderFlags,
    *,
    run: str | None = None,
    place: Place = Place(),  # noqa: B008 - frozen
) -> Iterator[ReleasedRun]:
    """Open an encoder and images, alone or as one of torchrun's processes.

    Args:
        flags: which encoder and which images.
        run: where the results go; None is ``runs/<encoder>``.
        place: where to run, classes of the images, and what becomes of broken ones.

    Raises:
        UserError: the encoder cannot be built, the file does not fit it, there are no images, or the run directory
            holds results of another encoder or on other images.
    """
    found = None if flags.weights is None else find_weights(flags.weights, flags.encoder)
    own = own_record(str(found.path)) if found is not None else {}
    encoder = build_named(flags, own)
    spec = encoder_spec(encoder)
    weights = None
    if found is not None:
        with named(path="weights"):
            loaded = load_weights(encoder, found.path, prefix=flags.prefix, resample=flags.image_size is not None)
        weights = {
            "file": found.name,
            "sha256": file_sha256(found.path),
            "prefix": loaded.prefix,
            "words": loaded.words,
            "trained_on": own.get("trained_on") if own else getattr(encoder, "published_data", None),
        }
    recorded: Mapping[str, Any] = own.get(
        "views", {"name": getattr(encoder, "view_set", "simclr"), "size": spec.input_size}
    )
    if recorded["name"] not in VIEW_SETS:
        raise UserError("weights", flags.weights, f"its metadata name views that there are not ({recorded['name']})")
    mean, std = normalisation_of(flags, recorded, encoder)
    data = GivenImages(
        str(flags.images),
        flags.held_out,
        limit=flags.limit,
        labels=place.labels,
        on_error=place.on_error,
        views=recorded["name"],
        view_size=flags.image_size or recorded["size"],
        mean=mean,
        std=std,
    )
    if len(data.split.candidate) < 2:
        raise UserError("images", flags.images, "UnitMem compares images, and there is one", "give two or more")
    record = {
        "encoder": spec.name,
        "architecture": spec.record(),
        "weights": weights,
        "warning": None if own else _foreign_images(encoder, flags),
        "init_seed": SEED,
        "views": data.views.spec(),
        "images": Path(str(flags.images)).name,
        "held_out": None if flags.held_out is None else Path(flags.held_out).name,
    }
    directory = RunDir(Path(run) if run else Path("runs") / re.sub(r"[^\w.-]+", "-", spec.name))
    directory.require_writable()
    _require_same(directory, record, data.split)
    with process_group(place.device) as here, named(batches="images"):
        if dist.rank() == 0:
            print("\n".join([*released_words(record, data.split), *data.listed_facts]))
        yield ReleasedRun(
            directory, data.split, data=data, metadata={}, device=here, loaded=encoder.eval(), record=record
        )


def released_words(record: dict[str, Any], split: PairSplit) -> list[str]:
    """What is measured, in a line each for encoder, images and views."""
    weights = record["weights"]
    origin = f"{weights['file']}: {weights['words']}" if weights else f"{_RANDOM}: nothing was learned"
    views = record["views"]
    mean, std = (", ".join(f"{value:g}" for value in views[name]) for name in ("mean", "std"))
    held_out = f"{len(split.external)} held out" if len(split.external) else "none held out"
    trained_on = [f"trained on: {weights['trained_on']}"] if weights and weights["trained_on"] else []
    warning = [f"warning: {record['warning']}"] if record["warning"] else []
    return [
        f"encoder: {record['encoder']}, {origin}",
        *trained_on,
        f"images: {len(split.candidate)} of {record['images']}, {held_out}",
        f"views: {views['name']} unless --view-set names others, {views['size']} pixels, mean ({mean}), std ({std})",
        *warning,
    ]


def _foreign_images(encoder: nn.Module, flags: EncoderFlags) -> str | None:
    """A warning where published weights meet images that are, by their name, not those they were trained on."""
    published = getattr(encoder, "published_data", None)
    images = Path(str(flags.images)).name
    letters = re.sub(r"[^a-z]", "", images.lower())
    if published is None or flags.weights is None or published.lower() in letters:
        return None
    return (
        f"the published weights of {encoder_spec(encoder).name} were trained on {published}; if {images} holds other "
        "images, none of them was memorised, and a high score only says that an image is striking"
    )


@named(path="weights")
def own_record(weights: str) -> dict[str, Any]:
    """What memlight's training recorded with weights; empty for files of other programs.

    Raises:
        UserError: the file cannot be read, or its record is damaged.
    """
    own = read_record(Path(weights), METADATA_KEY)
    try:
        checked(own, EncoderMetadata)
    except WrongField as error:
        raise UserError("weights", weights, f"its metadata: {error}", "copy it again") from error
    return own


@named(path="weights", name="encoder")
def build_named(flags: EncoderFlags, own: dict[str, Any]) -> nn.Module:
    """The architecture that was named, or else what the weights file says of itself.

    Of a class of one's own the file also says what it was called with, where the flags say nothing else.
    """
    said = own.get("architecture", {})
    if flags.encoder is not None:
        arguments, size = flags.arguments, flags.image_size
        if arguments is None and said.get("name") == flags.encoder:
            arguments, size = said.get("args"), size or said.get("input_size")
        return build_encoder(flags.encoder, stem=flags.stem, seed=SEED, image_size=size, encoder_args=arguments)
    if not said:
        raise UserError("weights", flags.weights, "does not say which architecture it is of", "name it with `encoder`")
    try:
        return build_from_metadata(own, seed=SEED, path=flags.weights)
    except Untrusted as error:
        error.way_out[1:] = [f"name it here with `encoder={said['name']}`"]
        raise


def normalisation_of(flags: EncoderFlags, recorded: Mapping[str, Any], encoder: nn.Module) -> tuple[Channels, Channels]:
    """What was asked for, else what the encoder was trained with as far as that is known."""
    config = getattr(encoder, "pretrained_cfg", None) or {}
    of_views = VIEW_SETS[recorded["name"]]
    mean = flags.mean or recorded.get("mean") or config.get("mean") or of_views.mean or IMAGENET_MEAN
    std = flags.std or recorded.get("std") or config.get("std") or of_views.std or IMAGENET_STD
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _require_same(run: RunDir, record: dict[str, Any], split: PairSplit) -> None:
    """Refuse a run directory that is another encoder's, or has results on other images."""
    if not run.released.is_file():
        if run.splits.is_file():
            raise UserError("run", run.root, "holds a training of ours", "choose another `run` for `encoder`")
        return
    saved, now = _decisive(read_json(run.released, ReleasedFile)), _decisive(record)
    if saved != now:
        what = difference("encoder", saved, now)
        raise UserError("run", run.root, f"holds results of another encoder ({what})", "choose another `run`")
    before = PairSplit.load(run.splits)
    if before.sha256 != split.sha256:
        counts = [f"{len(part.candidate)} and {len(part.external)} held out" for part in (before, split)]
        what = f"{counts[0]}, now {counts[1]}" if counts[0] != counts[1] else "as many others"
        raise UserError("run", run.root, f"holds results on other images ({what})", "choose another `run`")


def _decisive(record: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two encoders two."""
    weights = {name: record["weights"][name] for name in ("sha256", "prefix")} if record["weights"] else _RANDOM
    return {"architecture": record["architecture"], "weights": weights, "views": record["views"]}
