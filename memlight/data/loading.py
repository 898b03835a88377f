"""Batches of numbered images: an epoch of training in its order, or given ids in theirs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from memlight.batch import ImageBatch
from memlight.data.sources import ImageSource
from memlight.data.splits import Ids
from memlight.errors import UserError
from memlight.random import ANALYSIS, permutation


class Draw(NamedTuple):
    """Which images make a batch, and which views of them.

    Attributes:
        ids: ``int64 (B,)`` data set ids.
        epochs: ``int64 (B,)`` the epoch that each image's views are drawn for.
    """

    ids: Ids
    epochs: Ids


class DrawnBatch(NamedTuple):
    """Images on their way to the device, where their views are made.

    Attributes:
        images: ``uint8 (B, 3, H, W)``.
        labels: ``int64 (B,)``; -1 where there is no label.
        ids: ``int64 (B,)`` data set ids.
        epochs: ``int64 (B,)`` the epoch that each image's views are drawn for.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    epochs: Tensor


class DrawnImages(Dataset[DrawnBatch | UserError]):
    """Fetches a whole batch at once.

    A `UserError` is returned rather than raised, because a DataLoader's process would wrap it in a traceback;
    `opened` raises it where the batch arrives.

    Args:
        source: every image of the data set, numbered by id.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.labels = source.labels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> DrawnBatch | UserError:
        try:
            images = self.source.read(draw.ids)
        except UserError as error:
            return error
        ids = torch.from_numpy(draw.ids)
        return DrawnBatch(images, self.labels[ids], ids, torch.from_numpy(draw.epochs))


def opened(batch: DrawnBatch | UserError) -> DrawnBatch:
    """The batch that a DataLoader over `DrawnImages` delivered.

    Raises:
        UserError: it could not be read.
    """
    if isinstance(batch, UserError):
        raise batch
    return batch


class Order(Protocol):
    """Global batches: what all processes together do at each step."""

    def __len__(self) -> int:
        """Number of batches in an epoch."""

    def draws(self, epoch: int) -> Iterator[Draw]:
        """The batches of one epoch."""


@dataclass(frozen=True, eq=False)
class TrainingOrder:
    """Every image once an epoch, a member's own ones ``repeat`` times, in an order of the epoch.

    The order is a function of seed and epoch. An incomplete last batch is dropped. Every copy of an image has views
    of its own: copy r in epoch e is drawn as epoch ``e * repeat + r``.

    Attributes:
        shared: ``int64 (S,)`` ids shown once an epoch.
        own: ``int64 (O,)`` ids shown ``repeat`` times an epoch.
        repeat: at least 1.
        batch_size: images in a global batch.
        seed: of the order.
    """

    shared: Ids
    own: Ids
    repeat: int
    batch_size: int
    seed: int

    @property
    def images_per_epoch(self) -> int:
        """Images in an epoch, copies counted, before the incomplete batch is dropped."""
        return len(self.shared) + self.repeat * len(self.own)

    def __len__(self) -> int:
        return self.images_per_epoch // self.batch_size

    def draws(self, epoch: int) -> Iterator[Draw]:
        """The global batches of one epoch."""
        ids = np.concatenate([self.shared, np.tile(self.own, self.repeat)])
        copies = np.concatenate([np.zeros_like(self.shared), np.arange(self.repeat).repeat(len(self.own))])
        order = permutation(self.seed, epoch, len(ids)).numpy()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield Draw(ids[chosen], epoch * self.repeat + copies[chosen])


@dataclass(frozen=True, eq=False)
class FixedOrder:
    """The same ids in the same order, with the views of an analysis.

    Attributes:
        ids: ``int64 (N,)``.
        batch_size: images in a global batch; the last one may be smaller.
    """

    ids: Ids
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def draws(self, epoch: int) -> Iterator[Draw]:
        """The global batches, whatever the epoch."""
        for start in range(0, len(self.ids), self.batch_size):
            ids = self.ids[start : start + self.batch_size]
            yield Draw(ids, np.full_like(ids, ANALYSIS))


class RankSampler(DistributedSampler[Draw]):
    """One process's contiguous part of every global batch, so that the global batch does not depend on their number.

    Being a DistributedSampler, it is told the epoch by Lightning and not replaced by another.

    Args:
        order: the global batches; their sizes are multiples of ``world_size``.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, order: Order, rank: int, world_size: int) -> None:
        super().__init__(cast("Dataset[Any]", order), world_size, rank, shuffle=False)
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Draw]:
        for draw in self.order.draws(self.epoch):
            local = len(draw.ids) // self.num_replicas
            mine = slice(self.rank * local, (self.rank + 1) * local)
            yield Draw(draw.ids[mine], draw.epochs[mine])


def data_loader(
    source: ImageSource, order: Order, rank: int, world_size: int, *, num_workers: int = 0, pin_memory: bool = False
) -> DataLoader[DrawnBatch | UserError]:
    """A loader of one process's part of every global batch, decoded whole; it leaves the global random state alone.

    Args:
        source: every image of the data set, numbered by id.
        order: the global batches.
        rank: of this process.
        world_size: number of processes.
        num_workers: processes that decode ahead; they live as long as the loader.
        pin_memory: whether batches wait in page-locked memory.
    """
    return DataLoader(
        DrawnImages(source),
        batch_size=None,
        sampler=RankSampler(order, rank, world_size),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )


@dataclass(frozen=True, eq=False)
class Batches:
    """Given images, each exactly once over all processes, in the order of ``ids``; may be walked more than once.

    Attributes:
        source: every image, numbered by id.
        ids: ``int64 (N,)``.
        batch_size: images in a batch of this process.
        rank: this process takes ids ``rank, rank + world_size, ...``.
        world_size: number of processes.
        num_workers: processes that decode ahead.
    """

    source: ImageSource
    ids: Ids
    batch_size: int = 256
    rank: int = 0
    world_size: int = 1
    num_workers: int = 0

    def __len__(self) -> int:
        """Number of batches of this process."""
        return len(self._order)

    def __iter__(self) -> Iterator[ImageBatch]:
        loader = data_loader(self.source, self._order, 0, 1, num_workers=self.num_workers)
        for batch in loader:
            images, labels, ids, _ = opened(batch)
            yield ImageBatch(images, labels, ids)

    @property
    def _order(self) -> FixedOrder:
        return FixedOrder(self.ids[self.rank :: self.world_size], self.batch_size)
