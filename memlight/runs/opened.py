"""A run opened for analysis: its data, splits and encoders, checked against one another before anything is measured."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memlight import dist
from memlight.data.augment import Views
from memlight.data.files import few_words
from memlight.data.images import ImageDataModule
from memlight.data.names import write_images
from memlight.data.places import exists
from memlight.data.splits import PARTNERS, PairSplit
from memlight.errors import UserError, named
from memlight.features.discovery import chosen_layers
from memlight.features.passes import require_encoder_takes
from memlight.models.encoders import load_encoder, read_metadata
from memlight.models.trust import trusting
from memlight.runs.analysis import Analysis
from memlight.runs.checkpoints import (
    checkpoint_metadata,
    encoder_from_checkpoint,
    file_sha256,
    initial_encoder,
    load_pair,
    require_network,
)
from memlight.runs.device import process_group
from memlight.runs.flags import Place
from memlight.runs.log import AnalysisLog, LoggerKind
from memlight.storage.documents import WrongField, arguments_of, checked
from memlight.storage.rundir import RunDir


@dataclass
class OpenedRun:
    """The parts an analysis needs.

    Attributes:
        run: the run directory.
        split: the ids of its splits.
        data: its images, once `read_images` was called.
        metadata: of the members that were trained, by role.
        device: where encoders are put.
        network: which network of methods that have several (DINO: teacher, student); None is the default one.
        external: how many test images to measure on; None for those of the splits.
        hashes: SHA-256 of every encoder file that was loaded, by role.
    """

    run: RunDir
    split: PairSplit
    data: ImageDataModule
    metadata: dict[str, dict[str, Any]]
    device: torch.device
    network: str | None = None
    external: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def probe_split(self) -> str:
        """The images that a probe is trained on; those that both members of a pair were trained on."""
        return "shared"

    def members(self) -> list[str]:
        """Trained members, then ``random``: their architecture with the run's initial weights."""
        return [*self.metadata, "random"]

    @named(path="run")
    def encoder(self, member: str, checkpoint: str | None = None) -> nn.Module:
        """One member's encoder in eval mode on the device.

        Raises:
            UserError: it was not trained, has no such checkpoint, or has diverged.
        """
        if member == "random":
            return self._ready(initial_encoder(next(iter(self.metadata.values()))))
        directory = self.run.member(member)
        if member not in self.metadata:
            raise UserError("run", self.run.root, f"no {member}/{directory.encoder.name}", "train it with `train.py`")
        finished = require_network(directory, self.network)
        if checkpoint is None:
            argument, path = "run", finished
            encoder = load_encoder(path)
        else:
            argument, path = "checkpoint", directory.checkpoints / f"{checkpoint}.ckpt"
            if path.parent != directory.checkpoints or not path.is_file():
                kept = ", ".join(sorted(file.stem for file in directory.checkpoints.glob("*.ckpt"))) or "none"
                raise UserError("checkpoint", checkpoint, f"{member}/ has no such checkpoint", f"it has {kept}")
            if checkpoint_metadata(path, argument=argument).get("split_sha256") != self.split.sha256:
                raise UserError("checkpoint", checkpoint, f"{path} was trained with other splits than this run's")
            like = load_encoder(finished)
            encoder = encoder_from_checkpoint(path, like=like, network=self.network, argument=argument)
        for name, weights in encoder.state_dict().items():
            if not weights.isfinite().all():
                why = f"{name} holds NaN or infinity, the training has diverged"
                ways = ["use an earlier `checkpoint`", "train again with a lower learning rate"]
                raise UserError(argument, path, why, ways)
        self.hashes[" ".join(filter(None, (member, self.network)))] = file_sha256(path)
        return self._ready(encoder)

    def _ready(self, encoder: nn.Module) -> nn.Module:
        """On the device, in the memory format in which convolutions are quickest (on CPUs by half).

        Raises:
            UserError: it cannot take the views that it is to be shown.
        """
        require_encoder_takes(encoder, self.data.view_size, self._wrong_size)
        return encoder.to(self.device).to(memory_format=torch.channels_last)

    def _wrong_size(self, why: str) -> UserError:
        return UserError("run", self.run.root, f"has views of {self.data.view_size} pixels: {why}", "train it again")

    def pair(self, checkpoint: str | None = None) -> tuple[nn.Module, nn.Module]:
        """The candidate and the independent encoder, checked to belong together."""
        load_pair(self.run.root, network=self.network)
        return self.encoder("candidate", checkpoint), self.encoder("independent", checkpoint)

    def partner(self, member: str, checkpoint: str | None = None) -> nn.Module | None:
        """The other member of the pair, checked to belong to it; None where it was not trained, and in half a pair."""
        if (other := PARTNERS[member]) not in self.metadata or self.split.half:
            return None
        load_pair(self.run.root, network=self.network)
        try:
            return self.encoder(other, checkpoint)
        except UserError as error:
            error.way_out.append(f"measure the {member} alone with `pair=False`")
            raise

    def views(self, name: str | None) -> Views | None:
        """An augmentation set by name; None is the one that was trained with."""
        with named(name="view_set"):
            return None if name is None else self.data.make_views(name)

    def at_once(self, max_forward: int) -> int:
        """Most views in one forward: what was asked for."""
        return max_forward

    def layers(self, encoder: nn.Module, chosen: Sequence[str] | None) -> list[str]:
        """The chosen layers in the order given, or all of them in execution order.

        Args:
            encoder: the encoder.
            chosen: names, and patterns such as ``layer4.*``, see `memlight.features.layers.choose_layers`.

        Raises:
            UserError: the encoder has no such layer; lists the nearest.
        """
        return chosen_layers(encoder, chosen)

    @property
    def adopted(self) -> bool:
        """Whether somebody else trained the encoders."""
        return any("adopted" in record for record in self.metadata.values())

    def require_groups(self, at_least: int = 2) -> None:
        """Refuse groups of a pair, or of half a pair, that are too small to be compared.

        Raises:
            UserError: names the first.
        """
        self.require_images("candidate", "external" if self.split.half else "independent", at_least=at_least)

    def require_images(self, *splits: str, at_least: int = 2, argument: str = "run") -> None:
        """Refuse splits that are too small to be measured.

        Raises:
            UserError: names the first.
        """
        for split in splits:
            if split == "independent" and self.split.half and "independent" in self.metadata:
                why = "is half a pair: no image was seen by the independent encoder alone"
                raise UserError("run", self.run.root, why, "`analyze.py layermem` measures half a pair")
            count = self.external if split == "external" and self.external is not None else len(self.split.ids(split))
            if count < at_least:
                value = self.run.root if argument == "run" else split
                few = f"the {split} split has {count} images"
                raise UserError(argument, value, few, f"at least {at_least} are needed")

    def read_images(self, *, labelled: bool = False) -> None:
        """Read the images; last of all, as it can take longest.

        Args:
            labelled: refuse images without classes, and test images of other classes than those to train on.

        Raises:
            UserError: they cannot be read, or are not those that the run was trained on.
        """
        argument, value = ("run", self.run.root) if self.data.root is None else ("root", Path(self.data.root))
        self.data.setup()
        found = self.data.split
        if found.sha256 != self.split.sha256:
            counts = [f"{split.num_train} and {split.num_test}" for split in (found, self.split)]
            same = "as many, but other or otherwise sorted ones" if counts[0] == counts[1] else counts[1]
            why = f"{counts[0]} training and test images; the run was trained on {same}"
            with self.data.naming_skipped():
                raise UserError(argument, value, why, "say with `root` where those are")
        if self.external is not None:
            self.data.set_external(self.external)
        self._leave_out_broken()
        self.split = self.data.split
        if labelled and (error := self.lacking_labels()) is not None:
            raise error

    def _leave_out_broken(self) -> None:
        """Say which images those are, and which file gave classes."""
        lines = [*self.data.leave_out_broken(), *self.data.label_facts]
        if dist.rank() == 0 and lines:
            print("\n".join(lines))

    def lacking_labels(self) -> UserError | None:
        """Why no probe can be trained and tested on these images; None where one can, on those that have a class.

        Once the images are read. A line says how many test images have no class and are left out.
        """
        file = "give them with `labels=FILE`"
        if not self.data.classes:
            why = "a probe needs images with classes (train/<class>/, test/<class>/)"
            return UserError(*self._place_of(self.probe_split), why, file)
        train, test = (self.data.labels_of(self.split.ids(split)) for split in (self.probe_split, "external"))
        for split, labels in ((self.probe_split, train), ("external", test)):
            if len(labels) and (labels < 0).all():
                why = f"none of the {len(labels)} {self._called(split)} images has a class"
                return UserError(*self._place_of(split), why, file)
        if strange := sorted(set(test[test >= 0].tolist()) - set(train[train >= 0].tolist())):
            names = few_words(self.data.classes[number] for number in strange)
            why = f"{self._called('external')} images of classes that no {self._called(self.probe_split)} image has"
            return UserError(*self._place_of("external"), f"{why} ({names})", ["leave those images out", file])
        if (count := int((test < 0).sum())) and dist.rank() == 0:
            print(f"probe: {count} of {len(test)} {self._called('external')} images have no class and are left out")
        return None

    def _place_of(self, split: str) -> tuple[str, object]:
        """The argument that says where the images of a split are, and its value."""
        return ("run", self.run.root) if self.data.root is None else ("root", Path(self.data.root))

    def _called(self, split: str) -> str:
        return split

    @contextmanager
    def log(self, analysis: Analysis, tag: str | None, logger: LoggerKind, seed: int | None) -> Iterator[AnalysisLog]:
        """Where the results of one analysis go; says so at the end.

        A run that lists its images nowhere, as one of an older release, gets its images.csv.
        """
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        with AnalysisLog(
            self.run,
            analysis,
            tag=tag,
            logger=logger,
            seed=self.data.seed if seed is None else seed,
            split_sha256=self.split.sha256,
            checkpoints=self.hashes,
            device=name if dist.world_size() == 1 else f"{dist.world_size()} x {name}",
            names=self.data.names if self.data.is_open else None,
        ) as log:
            if self.data.is_open:
                dist.on_first(self._list_images, UserError)
            yield log
        if dist.rank() == 0:
            print(f"{log.final.dir}: tables, figures, summary.json")

    def _list_images(self) -> None:
        if not self.run.images.exists():
            write_images(self.run, self.data.source, PairSplit.load(self.run.splits))


@contextmanager
def open_run(run: str, place: Place, *, network: str | None = None) -> Iterator[OpenedRun]:
    """Open a run, alone or as one of the processes of torchrun or srun.

    Args:
        run: run directory.
        place: where its images are, and where to run.
        network: which network of methods that have several; None is the default one.

    Raises:
        UserError: not a run, nothing trained, other splits than it was trained with, no images where they should be,
            or no such device.
    """
    RunDir.open(run).require_writable()
    opened = read_run(
        run,
        root=place.root,
        labels=place.labels,
        on_error=place.on_error,
        network=network,
        external=place.external,
    )
    with (
        process_group(place.device) as opened.device,
        named(encoder="run", batches="split"),
        trusting(place.trust),
    ):
        yield opened


def read_run(
    run: str,
    *,
    root: str | None = None,
    labels: str | None = None,
    on_error: str = "raise",
    network: str | None = None,
    external: int | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
) -> OpenedRun:
    """Read a run as it is: nothing is written to it, and no process group is made.

    Args:
        run: run directory.
        root: where the images are now; None is where they were at training.
        labels: file of classes; None for those that the run was trained with.
        on_error: raise or skip, for files that cannot be decoded.
        network: which network of methods that have several; None is the default one.
        external: how many test images to measure on; None for those of the splits.
        device: where encoders are put.

    Raises:
        UserError: not a run, nothing trained, other splits than it was trained with, or no images where they should be.
    """
    directory = RunDir.open(run)
    with named(path="run"):
        metadata = {m.role: read_metadata(m.encoder) for m in directory.members() if m.encoder.is_file()}
    if not metadata:
        raise UserError("run", run, "no encoder.safetensors in it", "finish the training with `train.py pair`")
    split = PairSplit.load(directory.splits)
    for role, record in metadata.items():
        if record.get("split_sha256") != split.sha256:
            raise UserError(
                "run", run, f"{role}/ was trained with other splits than splits.json holds", "train it again"
            )
    if network == next(iter(metadata.values())).get("network"):
        network = None
    data = _data(run, next(iter(metadata.values())), {"root": root, "labels": labels})
    if on_error == "skip":
        data.keep_broken()
    if split.order == "file":
        data.use_split(split)
    return OpenedRun(directory, split, data, metadata, device, network, external)


def _data(run: str, record: dict[str, Any], now: Mapping[str, Any]) -> ImageDataModule:
    """The images that an encoder's metadata name, not read yet; some things of them may be elsewhere now."""
    try:
        options = checked(record["data"], arguments_of(ImageDataModule))
        options |= {name: value for name, value in now.items() if value is not None}
        file = options.get("labels")
        if file is not None and now["labels"] is None and not Path(file).expanduser().is_file():
            raise UserError("labels", file, "the classes are not there", "say with `labels` where they are")
        data = ImageDataModule(**options)
    except WrongField as error:
        raise UserError("run", run, f"its encoders' metadata: data: {error}", "train it again") from error
    except (KeyError, TypeError) as error:
        raise UserError("run", run, f"trained by another version of memlight ({error})", "train it again") from error
    if data.root is not None and not exists(data.root):
        raise UserError("root", data.root, "the images are not there", "say with `root` where they are")
    return data
