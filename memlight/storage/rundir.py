"""Where everything of one run lies: the only place that knows the names of files inside a run directory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memlight.errors import UserError

MEMBERS = ("candidate", "independent", "all")
"""Roles a trained encoder can have, and the directory names of their results."""

_MAKE = "`train.py pair` makes one"

SEQUENCE = "sequence"
"""What a sequence experiment is in the place of a role; its files are the run directory's own."""


def member_tag(member: str, *others: str | None) -> str | None:
    """What tells a result apart from that of the finished candidate encoder; None for that one.

    Args:
        member: whose encoder.
        others: what else is not usual, such as the name of a checkpoint.
    """
    return "-".join(filter(None, (None if member == "candidate" else member, *others))) or None


def require_writable(argument: str, place: Path) -> None:
    """Refuse a directory, which need not exist, where nothing can be written.

    Args:
        argument: that names it.
        place: the directory.

    Raises:
        UserError: a part of the path is a file, or there is no permission.
    """
    nearest = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    other = f"choose another `{argument}`"
    if not nearest.is_dir():
        raise UserError(argument, place, f"{nearest} is a file, not a directory", other)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(argument, place, f"no permission to write in {nearest}", other)


@dataclass(frozen=True)
class MemberDir:
    """The results of training one encoder.

    Attributes:
        dir: ``<run>/<role>``.
        role: one of ``MEMBERS``.
    """

    dir: Path
    role: str

    @property
    def checkpoints(self) -> Path:
        """The directory of Lightning checkpoints (``last.ckpt``, ``epoch=….ckpt``)."""
        return self.dir / "checkpoints"

    @property
    def lock(self) -> Path:
        """Held by the process that trains it."""
        return self.dir / ".lock"

    @property
    def encoder(self) -> Path:
        """The finished encoder; of a method with several networks, the one that is analysed by default."""
        return self.dir / "encoder.safetensors"

    def network(self, name: str | None) -> Path:
        """Another network of the method, such as the student of a teacher; None is `encoder`."""
        return self.encoder if name is None else self.dir / f"encoder-{name}.safetensors"

    def networks(self) -> list[str]:
        """Names of the other networks that were kept."""
        return sorted(path.stem.removeprefix("encoder-") for path in self.dir.glob("encoder-*.safetensors"))

    @property
    def metrics(self) -> Path:
        """What was logged while it was trained."""
        return self.dir / "metrics.csv"

    @property
    def wandb_id(self) -> Path:
        """The W&B id, so that a resumed training goes on in the same W&B run."""
        return self.dir / "wandb_id.txt"


@dataclass(frozen=True)
class AnalysisDir:
    """The results of one command of ``analyze.py``.

    Attributes:
        dir: ``<run>/analysis/<command>[-<tag>]``.
        command: the command.
        tag: what tells several results of one command apart; None for the plain one.
    """

    dir: Path
    command: str
    tag: str | None = None

    def table(self, name: str = "table") -> Path:
        """The CSV file of one table."""
        return self.dir / f"{name}.csv"

    @property
    def summary(self) -> Path:
        """Headline numbers and how they were made."""
        return self.dir / "summary.json"

    @property
    def figures(self) -> Path:
        """The directory of PNG files."""
        return self.dir / "figures"

    @property
    def progress(self) -> Path:
        """Where a command that takes long keeps what is done of it until it is finished."""
        return self.dir.with_name(f".{self.dir.name}.progress")

    @property
    def thumbnails(self) -> Path:
        """Small pictures of the images that its tables name, where it has any."""
        return self.dir / "thumbnails.npz"

    @property
    def neighbours(self) -> Path:
        """Of a search of patches: distances and rows of the nearest."""
        return self.dir / "neighbours.npz"

    @property
    def search(self) -> Path:
        """Of a search of patches: what was searched, where and how."""
        return self.dir / "search.json"


@dataclass(frozen=True)
class RemovalDir:
    """The arms of a removal study: the candidate member trained again, each time without other candidates.

    Attributes:
        dir: ``<run>/removal-<tag>``.
        tag: ``<number of images removed>[-by-<layer>]``; also of its analysis.
    """

    dir: Path
    tag: str

    def arm(self, name: str) -> "RunDir":
        """The run directory of one arm (top, low, random-1, ...), whose one member is the candidate."""
        return RunDir(self.dir / name)

    def arms(self) -> list[str]:
        """Names of the arms whose encoders are finished: top, low, then the random ones by number."""
        named = [name for name in ("top", "low") if self.arm(name).member("candidate").encoder.is_file()]
        drawn = [path.parent.parent.name for path in self.dir.glob("random-*/candidate/encoder.safetensors")]
        return named + sorted(drawn, key=lambda name: int(name.removeprefix("random-")))


@dataclass(frozen=True)
class RunDir:
    """A run directory, which may not exist yet.

    Attributes:
        root: ``runs/<name>``.
    """

    root: Path

    @classmethod
    def open(cls, root: str | Path) -> "RunDir":
        """The run at ``root``, which must have been trained before.

        Raises:
            UserError: it is not a run directory.
        """
        run = cls(Path(root))
        if not run.root.is_dir():
            raise UserError("run", root, "no such directory", _MAKE)
        if run.results.is_file():
            raise UserError("run", root, "an experiment on sequences", "`analyze.py sequence` measures it")
        if not run.splits.is_file():
            raise UserError("run", root, "not a run directory (no splits.json)", _MAKE)
        return run

    def require_writable(self) -> None:
        """Refuse a place where nothing can be written, before there is something to write.

        Raises:
            UserError: a part of the path is a file, or there is no permission.
        """
        require_writable("run", self.root)

    @property
    def name(self) -> str:
        """The run's name: the last part of its path; that of an arm begins with its run's and its study's."""
        return "/".join(self._place)

    @property
    def group(self) -> str:
        """The name of the run that it belongs to: its own, or for an arm of a removal study that of the study's run."""
        return self._place[0]

    @property
    def _place(self) -> tuple[str, ...]:
        parts = self.root.resolve().parts
        return parts[-3:] if len(parts) > 3 and parts[-2].startswith("removal-") else parts[-1:]

    @property
    def config(self) -> Path:
        """The configuration it was trained with."""
        return self.root / "config.yaml"

    @property
    def splits(self) -> Path:
        """The ids of every split."""
        return self.root / "splits.json"

    @property
    def images(self) -> Path:
        """Path, label and split of every image, by id."""
        return self.root / "images.csv"

    @property
    def released(self) -> Path:
        """Which encoder was analysed, where it is not one that was trained here."""
        return self.root / "encoder.json"

    @property
    def adopted(self) -> Path:
        """Whose encoders these are and what is known of them, where somebody else trained them."""
        return self.root / "adopted.json"

    @property
    def results(self) -> Path:
        """What was measured while sequences were learned; of sequence experiments alone."""
        return self.root / "results.npz"

    @property
    def without(self) -> Path:
        """Of an arm of a removal study: the candidates that were left out."""
        return self.root / "without.csv"

    def removal(self, count: int, layer: str | None = None) -> RemovalDir:
        """The study that removes so many candidates, whether or not it exists.

        Args:
            count: number of images removed.
            layer: by whose score they are ranked; None for the last one.
        """
        tag = str(count) if layer is None else f"{count}-by-{layer}"
        return RemovalDir(self.root / f"removal-{tag}", tag)

    def removals(self) -> list[RemovalDir]:
        """The removal studies that were begun, by name."""
        return [RemovalDir(path, path.name.removeprefix("removal-")) for path in sorted(self.root.glob("removal-*"))]

    @property
    def report(self) -> Path:
        """The page that ``analyze.py report`` writes."""
        return self.root / "report.html"

    def member(self, role: str) -> MemberDir:
        """The directory of one member, whether or not it exists.

        Raises:
            ValueError: ``role`` is not one of ``MEMBERS``.
        """
        if role == SEQUENCE:
            return MemberDir(self.root, role)
        if role not in MEMBERS:
            raise ValueError(f"role must be one of {MEMBERS}, got {role!r}")
        return MemberDir(self.root / role, role)

    def members(self) -> list[MemberDir]:
        """The members that have been trained, or are being trained."""
        return [member for role in MEMBERS if (member := self.member(role)).dir.is_dir()]

    def analysis(self, command: str, tag: str | None = None) -> AnalysisDir:
        """The directory of one analysis, whether or not it exists."""
        return AnalysisDir(self.root / "analysis" / (f"{command}-{tag}" if tag else command), command, tag)

    def analyses(self, command: str) -> Iterator[AnalysisDir]:
        """The finished analyses of one command: the plain one first, then those with a tag, by name."""
        if self.analysis(command).summary.is_file():
            yield self.analysis(command)
        for summary in sorted(self.root.glob(f"analysis/{command}-*/summary.json")):
            yield self.analysis(command, summary.parent.name.removeprefix(f"{command}-"))

    def summaries(self) -> dict[str, Path]:
        """``summary.json`` of every finished analysis of any command, by the name of its directory."""
        paths = sorted(self.root.glob("analysis/*/summary.json"))
        return {path.parent.name: path for path in paths if not path.parent.name.startswith(".")}
