"""A run opened for analysis: its data, splits and encoders, checked against one another before anything is measured."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from memlight import dist
from memlight.checkpoints import encoder_from_checkpoint, file_sha256, initial_encoder, load_pair
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.features import check_layers, list_layers
from memlight.logs import AnalysisLog, LoggerKind
from memlight.models.encoders import load_encoder, read_metadata
from memlight.rundir import RunDir

PARTNERS = {"candidate": "independent", "independent": "candidate"}


@dataclass
class OpenedRun:
    """The parts an analysis needs.

    Attributes:
        run: the run directory.
        data: its images and splits, set up.
        metadata: of the members that were trained, by role.
        device: where encoders are put.
        hashes: SHA-256 of every encoder file that was loaded, by role.
    """

    run: RunDir
    data: ImageDataModule
    metadata: dict[str, dict[str, Any]]
    device: torch.device
    hashes: dict[str, str] = field(default_factory=dict)

    def members(self) -> list[str]:
        """Trained members, then ``random``: their architecture with the run's initial weights."""
        return [*self.metadata, "random"]

    def encoder(self, member: str, checkpoint: str | None = None) -> nn.Module:
        """One member's encoder in eval mode on the device.

        Raises:
            UserError: it was not trained, or has no such checkpoint.
        """
        if member == "random":
            return initial_encoder(next(iter(self.metadata.values()))).to(self.device)
        directory = self.run.member(member)
        if member not in self.metadata:
            raise UserError(f"--run {self.run.root}: no {member}/{directory.encoder.name}; train it with `train.py`.")
        if checkpoint is None:
            path = directory.encoder
            encoder = load_encoder(path, flag="--run")
        else:
            path = directory.checkpoints / f"{checkpoint}.ckpt"
            kept = ", ".join(sorted(file.stem for file in directory.checkpoints.glob("*.ckpt"))) or "none"
            if not path.is_file():
                raise UserError(f"--checkpoint {checkpoint}: {member}/ has no such checkpoint; it has {kept}.")
            encoder = encoder_from_checkpoint(path, flag="--checkpoint")
        self.hashes[member] = file_sha256(path)
        return encoder.to(self.device)

    def pair(self, checkpoint: str | None = None) -> tuple[nn.Module, nn.Module]:
        """The candidate and the independent encoder, checked to belong together."""
        load_pair(self.run.root)
        return self.encoder("candidate", checkpoint), self.encoder("independent", checkpoint)

    def partner(self, member: str, checkpoint: str | None = None) -> nn.Module | None:
        """The other member of the pair; None where it was not trained."""
        other = PARTNERS[member]
        return self.encoder(other, checkpoint) if other in self.metadata else None

    def views(self, name: str | None) -> Views | None:
        """An augmentation set by name; None is the one that was trained with."""
        return None if name is None else self.data.make_views(name)

    def layers(self, encoder: nn.Module, chosen: Sequence[str] | None) -> list[str]:
        """The chosen layers in the order given, or all of them in execution order.

        Raises:
            UserError: the encoder has no such layer; lists the nearest.
        """
        if chosen is None:
            return list_layers(encoder)
        check_layers(encoder, chosen)
        return list(chosen)

    def log(self, command: str, tag: str | None, logger: LoggerKind, seed: int | None) -> AnalysisLog:
        """Where the results of one command go."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return AnalysisLog(
            self.run,
            command,
            tag=tag,
            logger=logger,
            seed=self.data.seed if seed is None else seed,
            split_sha256=self.data.split.sha256,
            checkpoints=self.hashes,
            device=name if dist.world_size() == 1 else f"{dist.world_size()} x {name}",
        )

    def say(self, log: AnalysisLog) -> None:
        """Tell the user where the results are."""
        if dist.rank() == 0:
            print(f"{log.final.dir}: tables, figures, summary.json")


@contextmanager
def open_run(run: str, *, root: str | None = None, device: str = "auto") -> Iterator[OpenedRun]:
    """Open a run, alone or as one of torchrun's processes.

    Args:
        run: run directory.
        root: where the images are now; None is where they were at training.
        device: ``auto`` or a torch device.

    Raises:
        UserError: not a run, nothing trained, the images or splits are not those it was trained with, or there is no
            such device.
    """
    directory = RunDir.open(run)
    metadata = {
        member.role: read_metadata(member.encoder, flag="--run")
        for member in directory.members()
        if member.encoder.is_file()
    }
    if not metadata:
        raise UserError(f"--run {run}: no encoder.safetensors in it; finish the training with `train.py pair`.")
    with process_group(device) as here:
        first = next(iter(metadata.values()))
        options = {**first["data"], "run": run, **({"root": root} if root is not None else {})}
        data = ImageDataModule(**options)
        data.setup()
        for role, record in metadata.items():
            if record["split_sha256"] != data.split.sha256:
                raise UserError(
                    f"--run {run}: {role}/ was trained with other splits than splits.json holds; train it again."
                )
        yield OpenedRun(directory, data, metadata, here)


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """This process's device, with a process group around it when torchrun started several.

    Raises:
        UserError: there is no such device.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if processes > 1 else None)
    if processes == 1 or distributed.is_initialized():
        yield chosen
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield chosen
    finally:
        distributed.destroy_process_group()


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: not a device; use auto, cpu, cuda or cuda:1.") from error
    if device.type == "cuda" and local_rank is not None:
        device = torch.device("cuda", local_rank)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} GPU(s).")
    return device
