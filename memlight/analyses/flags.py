"""Flags that several commands share, and the checks of their values."""

from dataclasses import dataclass
from typing import Literal

from memlight.errors import UserError

Logger = Literal["wandb", "wandb-online", "csv"]
Member = Literal["candidate", "independent", "all", "random"]
Split = Literal["candidate", "independent", "external", "shared"]


@dataclass(frozen=True)
class Where:
    """Where an analysis runs, and where its results go.

    Attributes:
        root: where the images are now; where they were at training if unset.
        device: auto, cpu, cuda, cuda:1.
        max_forward: most views (or images) in one forward; lower it when memory runs out.
        logger: wandb (offline), wandb-online, or csv for files alone.
        tag: keeps this result beside others, as analysis/COMMAND-TAG.
    """

    root: str | None = None
    device: str = "auto"
    max_forward: int = 1024
    logger: Logger = "wandb"
    tag: str | None = None

    def __post_init__(self) -> None:
        at_least(1, max_forward=self.max_forward)
        require_name("--tag", self.tag)


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


def at_least(minimum: int, **values: float) -> None:
    """Refuse numbers that are too small, by the names of their flags.

    Raises:
        UserError: names the first.
    """
    for name, value in values.items():
        if not value >= minimum:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be {minimum} or more.")


def require_name(flag: str, name: str | None) -> None:
    """Refuse what cannot be part of a directory's name.

    Raises:
        UserError: it is empty, or holds a slash.
    """
    if name is not None and (not name or "/" in name or "\\" in name):
        raise UserError(f"{flag} {name!r}: becomes part of a directory's name; use a word such as more-views.")
