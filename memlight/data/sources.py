"""Numbered images: in memory as one tensor, or in files that are decoded when asked for."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

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
        skipped: names of broken files that were left out, or are read as black.
        broken: those that are read as black, by number: where each file is.
        facts: what somebody should know of how the images were found, a line each.
    """

    name: str
    size: Size
    labels: Tensor
    classes: list[str]
    names: list[str]
    skipped: list[str]
    broken: dict[int, str]
    facts: tuple[str, ...] = ()

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
        broken: images that are black as their files are broken: number and place.
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
        broken: Mapping[int, str] | None = None,
    ) -> None:
        self.name, self.images, self.labels, self.classes, self.identity = name, images, labels, classes, identity
        self.skipped, self.names, self.broken = list(skipped), list(names), dict(broken or {})
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
        broken: images that are read as black as their files are broken: number and place.
    """

    def __init__(
        self,
        name: str,
        files: Files,
        listing: Listing,
        size: Size,
        skipped: Sequence[str] = (),
        broken: Mapping[int, str] | None = None,
    ) -> None:
        self.name, self.files, self.listing, self.size, self.skipped = name, files, listing, size, list(skipped)
        self.names, self.classes, self.facts = listing.names, listing.classes, listing.facts
        self.broken = dict(broken or {})
        self.labels = torch.tensor(listing.labels, dtype=torch.int64)

    def read(self, indices: Indices) -> Tensor:
        """Decode images: ``uint8 (B, 3, H, W)``, in the order asked for.

        Raises:
            UserError: a file cannot be decoded.
        """
        _, images, broken = decode_chunk(self.files, [self.names[index] for index in indices], self.size)
        known = {self.names[number] for number in self.broken} if broken else set()
        require_whole(self.files, {name: why for name, why in broken.items() if name not in known})
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
        self.broken = train.broken | {len(train) + number: place for number, place in test.broken.items()}
        self.facts = tuple(dict.fromkeys((*train.facts, *test.facts)))
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

    def relabel(self, classes: list[str], labels: NDArray[np.int64]) -> None:
        """Take other classes than those that came with the images; the images stay what they are, by `fingerprint` too.

        Args:
            classes: their names.
            labels: ``(N,)`` of every image; -1 for none.
        """
        self.classes, self.labels = classes, torch.from_numpy(labels)

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
