"""Where everything of one run lies: the only place that knows the names of files inside a run directory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memlight.errors import UserError

MEMBERS = ("candidate", "independent", "all")
"""Roles a trained encoder can have, and the directory names of their results."""


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
            raise UserError(f"--run {root}: no such directory; `train.py pair` makes one")
        if not run.splits.is_file():
            raise UserError(f"--run {root}: not a run directory (no splits.json); `train.py pair` makes one")
        return run

    def require_writable(self) -> None:
        """Refuse a place where nothing can be written, before there is something to write.

        Raises:
            UserError: a part of the path is a file, or there is no permission.
        """
        here = self.root.absolute()
        nearest = next(path for path in (here, *here.parents) if path.exists())
        if not nearest.is_dir():
            raise UserError(f"--run {self.root}: {nearest} is a file, not a directory; choose another --run")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UserError(f"--run {self.root}: no permission to write in {nearest}; choose another --run")

    @property
    def name(self) -> str:
        """The run's name: the last part of its path."""
        return self.root.resolve().name

    @property
    def config(self) -> Path:
        """The configuration it was trained with."""
        return self.root / "config.yaml"

    @property
    def splits(self) -> Path:
        """The ids of every split."""
        return self.root / "splits.json"

    @property
    def released(self) -> Path:
        """Which encoder was analysed, where it is not one that was trained here."""
        return self.root / "encoder.json"

    @property
    def report(self) -> Path:
        """The page that ``analyze.py report`` writes."""
        return self.root / "report.html"

    def member(self, role: str) -> MemberDir:
        """The directory of one member, whether or not it exists.

        Raises:
            ValueError: ``role`` is not one of ``MEMBERS``.
        """
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
