"""Decoding ahead: the images of some shards, batch by batch, in their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from memlight.data.decode import Size, decode_chunk
from memlight.data.files import Files


class Decoded(NamedTuple):
    """A batch of one shard.

    Attributes:
        shard: which.
        images: those that are whole, ``uint8 (b, 3, H, W)``.
        broken: name -> what is wrong, of the others.
    """

    shard: int
    images: Tensor
    broken: dict[str, str]


class Part(NamedTuple):
    """Which images make a batch.

    Attributes:
        shard: that they belong to.
        images: their positions in the list of names.
    """

    shard: int
    images: range


@dataclass(frozen=True, eq=False)
class _Parts(Dataset[Decoded]):
    files: Files
    names: Sequence[str]
    size: Size

    def __getitem__(self, part: Part) -> Decoded:
        names, images, broken = decode_chunk(self.files, [self.names[i] for i in part.images], self.size)
        if broken:
            images = images[[name not in broken for name in names]]
        return Decoded(part.shard, torch.from_numpy(images), broken)


def decode_ahead(
    files: Files, names: Sequence[str], parts: Sequence[Part], size: Size, *, workers: int = 0, pin_memory: bool = False
) -> Iterator[Decoded]:
    """Decode batches in order, a few ahead of the one that is asked for.

    Args:
        files: where the images are.
        names: of the images.
        parts: the batches.
        size: (height, width) of every picture.
        workers: processes that decode; 0 decodes in this one.
        pin_memory: whether batches wait in page-locked memory.
    """
    return iter(
        DataLoader(
            _Parts(files, names, size),
            batch_size=None,
            sampler=parts,
            num_workers=workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),
        )
    )
