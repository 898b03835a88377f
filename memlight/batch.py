"""The typed batches in which data, modules and metrics meet without importing one another."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class ImageBatch(NamedTuple):
    """Decoded images, before any view is made.

    Attributes:
        images: ``uint8 (B, 3, H, W)``.
        labels: ``int64 (B,)``; -1 where there is no label.
        ids: ``int64 (B,)`` data set ids, never positions in a subset.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


class ViewBatch(NamedTuple):
    """Views of one batch of images, on the device, ready for an encoder.

    Attributes:
        views: one ``float (B, 3, h, w)`` tensor per view; sizes may differ between views.
        labels: ``int64 (B,)``; -1 where there is no label.
        ids: ``int64 (B,)`` data set ids.
        epochs: ``int64 (B,)`` the epoch each image's views were drawn for, which with the id keys what else a method
            draws for an image; None where a training does without.
    """

    views: list[Tensor]
    labels: Tensor
    ids: Tensor
    epochs: Tensor | None = None


class SequenceBlock(NamedTuple):
    """The batches of neighbouring gradient steps, of every member.

    Attributes:
        start: gradient steps done before the first of them.
        stop: gradient steps done after the last.
        set_index: which sequence set they are drawn from, 0 before the first switch.
        ids: ``int64 (E, stop - start, B)`` rows of the set, by member, step and place in the batch.
    """

    start: int
    stop: int
    set_index: int
    ids: Tensor


ViewMaker = Callable[[ImageBatch, int], Tensor]
"""``(batch, view index) -> float (B, 3, h, w)``: how an analysis asks for a view without knowing the data set."""
