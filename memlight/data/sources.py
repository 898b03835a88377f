"""Numbered images: in memory as one tensor, or in files that are decoded when asked for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memlight.data.decode import Size
from memlight.data.files import Files, Listing
from memlight.data.pool import decode_chunk
from memlight.errors import UserError

Indices = Sequence[int] | NDArray[np.int64]


class ImageSource(Protocol):
    """Images by number: image i of a source is the i-th, forever."""

    @property
    def name(self) -> str:
        """What the images are, for people."""

    @property
    def size(self) -> Size:
        """(height, width) of every image."""

    @property
    def labels(self) -> Tensor:
        """``int64 (N,)``; -1 where there is no label."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes; empty where there are none."""

    @property
    def names(self) -> list[str]:
        """Names of the files; empty where the images are in none of their own."""

    @property
    def skipped(self) -> list[str]:
        """Names of broken files that were left out."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, indices: Indices) -> Tensor:
        """Decode images: ``uint8 (B, 3, H, W)``, in the order asked for."""

    def fingerprint(self) -> str:
        """Hash of which images these are, in which order; the same wherever they are stored."""


@dataclass(frozen=True, eq=False)
class MemorySource:
    """Images held as one tensor.

    Attributes:
        name: what the images are, for people.
        images: ``uint8 (N, 3, H, W)``.
        labels: ``int64 (N,)``; -1 where there is no label.
        classes: names of the classes; empty where there are none.
        identity: what `fingerprint` returns.
        skipped: names of broken files that were left out.
        names: names of the files; empty where the images are in none of their own.
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: list[str]
    identity: str
    skipped: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def size(self) -> Size:
        """(height, width) of every image."""
        return self.images.shape[2], self.images.shape[3]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Indices) -> Tensor:
        """Gather images: ``uint8 (B, 3, H, W)``, in the order asked for."""
        return self.images.index_select(0, torch.as_tensor(indices, dtype=torch.int64))

    def fingerprint(self) -> str:
        """Hash of which images these are, in which order."""
        return self.identity


@dataclass(frozen=True, eq=False)
class FileSource:
    """Images that are decoded when they are asked for.

    Attributes:
        name: what the images are, for people.
        files: where they are.
        listing: names and labels, in order.
        size: (height, width) of every image.
        skipped: names of broken files that were left out.
    """

    name: str
    files: Files
    listing: Listing
    size: Size
    skipped: list[str] = field(default_factory=list)

    @cached_property
    def labels(self) -> Tensor:
        """``int64 (N,)``; -1 where there is no label."""
        return torch.tensor(self.listing.labels, dtype=torch.int64)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; empty where there are none."""
        return self.listing.classes

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return self.listing.names

    def __len__(self) -> int:
        return len(self.listing.names)

    def read(self, indices: Indices) -> Tensor:
        """Decode images: ``uint8 (B, 3, H, W)``, in the order asked for.

        Raises:
            UserError: a file cannot be decoded.
        """
        _, images, broken = decode_chunk(self.files, [self.listing.names[index] for index in indices], self.size)
        require_whole(self.files, broken)
        return torch.from_numpy(images)

    def fingerprint(self) -> str:
        """Hash of which images these are, in which order."""
        return self.listing.fingerprint()


class JoinedSource:
    """Training and test images under the ids of the whole data set: test image j is number ``len(train) + j``.

    Args:
        train: the training images.
        test: the test images, of the same size.
    """

    def __init__(self, train: ImageSource, test: ImageSource) -> None:
        if train.size != test.size:
            raise ValueError(f"sizes differ: {train.size} and {test.size}")
        self.train, self.test = train, test
        self.name, self.size, self.classes = train.name, train.size, train.classes
        self.labels = torch.cat([train.labels, test.labels])
        self.skipped = train.skipped + test.skipped

    @property
    def names(self) -> list[str]:
        """Names of the files, by id; empty where the images are in none of their own."""
        names = self.train.names + self.test.names
        return names if len(names) == len(self) else []

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Indices) -> Tensor:
        """Decode images: ``uint8 (B, 3, H, W)``, in the order asked for."""
        numbers = np.asarray(indices, dtype=np.int64)
        in_test = numbers >= len(self.train)
        if not in_test.any():
            return self.train.read(numbers)
        images = torch.empty((len(numbers), 3, *self.size), dtype=torch.uint8)
        images[torch.from_numpy(~in_test)] = self.train.read(numbers[~in_test])
        images[torch.from_numpy(in_test)] = self.test.read(numbers[in_test] - len(self.train))
        return images

    def fingerprint(self) -> str:
        """Hash of which images these are, in which order."""
        both = f"{self.train.fingerprint()} {self.test.fingerprint()}"
        return hashlib.sha256(both.encode()).hexdigest()


def require_whole(files: Files, broken: dict[str, str]) -> None:
    """Refuse broken files.

    Args:
        files: where they are.
        broken: name -> what is wrong.

    Raises:
        UserError: there is one; the first is named.
    """
    for name, why in broken.items():
        others = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise UserError(
            f"--data.root: {files.where(name)} cannot be decoded: {why}{others}. Replace or delete it, "
            "or leave such files out with --data.on_error skip."
        )
