"""Numbered images: in memory as one tensor, or in files that are decoded when asked for."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memlight.data.decode import Size, decode_chunk
from memlight.data.files import Files, Listing
from memlight.errors import UserError

Indices = Sequence[int] | NDArray[np.int64]


class ImageSource(ABC):
    """Images by number: image i of a source is the i-th, forever.

    Attributes:
        name: what the images are, for people.
        size: (height, width) of every image.
        labels: ``int64 (N,)``; -1 where there is no label.
        classes: names of the classes; empty where there are none.
        names: names of the files; empty where the images are in none of their own.
        skipped: names of broken files that were left out.
    """

    name: str
    size: Size
    labels: Tensor
    classes: list[str]
    names: list[str]
    skipped: list[str]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @abstractmethod
    def read(self, indices: Indices) -> Tensor:
        """Decode images: ``uint8 (B, 3, H, W)``, in the order asked for.

        Raises:
            UserError: a file cannot be decoded.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of which images these are, in which order; the same wherever they are stored."""


class MemorySource(ImageSource):
    """Images held as one tensor.

    Args:
        name: what the images are, for people.
        images: ``uint8 (N, 3, H, W)``.
        labels: ``int64 (N,)``; -1 where there is no label.
        classes: names of the classes; empty where there are none.
        identity: what `fingerprint` returns.
        skipped: names of broken files that were left out.
        names: names of the files; empty where the images are in none of their own.
    """

    def __init__(
        self,
        name: str,
        images: Tensor,
        labels: Tensor,
        classes: list[str],
        identity: str,
        skipped: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> None:
        self.name, self.images, self.labels, self.classes, self.identity = name, images, labels, classes, identity
        self.skipped, self.names = list(skipped), list(names)
        self.size = (images.shape[2], images.shape[3])

    def read(self, indices: Indices) -> Tensor:
        """Gather images: ``uint8 (B, 3, H, W)``, in the order asked for."""
        return self.images.index_select(0, torch.as_tensor(indices, dtype=torch.int64))

    def fingerprint(self) -> str:
        """Hash of which images these are, in which order."""
        return self.identity


class FileSource(ImageSource):
    """Images that are decoded when they are asked for.

    Args:
        name: what the images are, for people.
        files: where they are.
        listing: names and labels, in order.
        size: (height, width) of every image.
        skipped: names of broken files that were left out.
    """

    def __init__(self, name: str, files: Files, listing: Listing, size: Size, skipped: Sequence[str] = ()) -> None:
        self.name, self.files, self.listing, self.size, self.skipped = name, files, listing, size, list(skipped)
        self.names, self.classes = listing.names, listing.classes
        self.labels = torch.tensor(listing.labels, dtype=torch.int64)

    def read(self, indices: Indices) -> Tensor:
        """Decode images: ``uint8 (B, 3, H, W)``, in the order asked for.

        Raises:
            UserError: a file cannot be decoded.
        """
        _, images, broken = decode_chunk(self.files, [self.names[index] for index in indices], self.size)
        require_whole(self.files, broken)
        return torch.from_numpy(images)

    def fingerprint(self) -> str:
        """Hash of which images these are, in which order."""
        return self.listing.fingerprint()


class JoinedSource(ImageSource):
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
        names = train.names + test.names
        self.names = names if len(names) == len(self) else []

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
        ways_out = ["replace or delete it", "leave such files out with `on_error='skip'`"]
        raise UserError("root", None, f"{files.where(name)} cannot be decoded: {why}{others}", ways_out)
