"""Deja Vu without labels: from one corner of an image, which other corner belongs to it?

Meehan, Bordes, Vincent, Chaudhuri, Guo, "Do SSL Models Have Déjà Vu? A Case of Unintended Memorization in
Self-supervised Learning", NeurIPS 2023 (arXiv 2304.13850), ask whether an encoder knows from the background of an image
what stands before it, better than an encoder that never saw the image. They need labels and boxes. Here the answer is
the image's other corner, so that images alone are enough.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from memlight.batch import ImageBatch, ViewMaker
from memlight.features.passes import one_pass
from memlight.metrics.ids import ImageMetric, distinct

CORNERS = 2
"""Crops of an image: the upper left and the lower right quarter, which have no pixel in common."""

TIE = 1e-7
"""Cosines that differ by less are equal: features in float32 do not tell them apart."""

_ENTRIES = 1 << 22
"""Similarities that are held at once."""


def corner_crop(images_BCHW: Tensor, corner: int) -> Tensor:
    """One quarter of every image: half of its height and half of its width, without the middle row of odd ones.

    Args:
        images_BCHW: ``(B, C, H, W)``, at least 2 pixels on each side.
        corner: 0 for the upper left, 1 for the lower right.

    Returns:
        ``(B, C, H // 2, W // 2)``.
    """
    height, width = (side // 2 for side in images_BCHW.shape[2:])
    if corner == 0:
        return images_BCHW[:, :, :height, :width]
    return images_BCHW[:, :, -height:, -width:]


def corner_ranks(first_ND: Tensor, second_ND: Tensor) -> Tensor:
    """At which place the other crop of the same image comes, among the other crops of all images, by cosine similarity.

    rank = 1 + number of crops that are more similar + half the number of others that are as similar (`TIE`). A crop
    whose features are all 0 is equally unlike everything.

    Args:
        first_ND: ``(N, D)`` features of the first crop of N images.
        second_ND: ``(N, D)`` features of the second crop of the same images.

    Returns:
        ``(2, N)`` float64: the rank of the second crop, given the first, and the other way round.
    """
    a, b = (torch.nn.functional.normalize(z.double(), dim=1) for z in (first_ND, second_ND))
    own_N = (a * b).sum(1)
    images = len(own_N)
    places = own_N.new_full((2, images), 0.5)  # each crop ties with itself, which adds the other half
    step = max(1, _ENTRIES // max(1, images))
    for start in range(0, images, step):
        rows = slice(start, start + step)
        similarity = a[rows] @ b.T
        places[0, rows] += _above(similarity - own_N[rows, None]).sum(1)
        places[1] += _above(similarity - own_N).sum(0)
    return places


def _above(difference: Tensor) -> Tensor:
    """1 above 0, a half at 0, nothing below."""
    return ((difference > TIE).double() + (difference >= -TIE).double()) / 2


class CornerResult:
    """How well one layer finds the other corner of each image.

    Attributes:
        ids: ``(N,)`` int64, ascending and distinct.
        reciprocal_rank: ``(N,)`` float64, mean over both directions of 1 / rank; 1 where the corner comes first.
        top1: ``(N,)`` float64, share of both directions in which it comes first, and alone.
    """

    def __init__(self, first_ND: Tensor, second_ND: Tensor, ids: Tensor) -> None:
        ranks = corner_ranks(first_ND, second_ND)
        self.ids = ids
        self.reciprocal_rank = ranks.reciprocal().mean(0)
        self.top1 = (ranks == 1).double().mean(0)


class CornerRetrieval(ImageMetric):
    """Retrieval among all images seen, each counted once however often it is seen, on one process or several.

    Args:
        width: D, features of a crop.
    """

    first: list[Tensor]
    second: list[Tensor]

    def __init__(self, width: int) -> None:
        super().__init__()
        self.add_rows("first", torch.float32, width)
        self.add_rows("second", torch.float32, width)

    def update(self, first_BD: Tensor, second_BD: Tensor, ids_B: Tensor) -> None:
        """Add the features ``(B, D)`` of both crops of images ``ids_B``."""
        if first_BD.shape != second_BD.shape or len(first_BD) != len(ids_B):
            raise ValueError(f"shapes {first_BD.shape}, {second_BD.shape} and {ids_B.shape} do not belong together")
        self.first.append(first_BD.float())
        self.second.append(second_BD.float())
        self.ids.append(ids_B)

    def compute(self) -> CornerResult:
        """Rank the crops of every image seen so far among those of all."""
        ids = self.rows("ids")
        once = distinct(ids)
        return CornerResult(self.rows("first")[once], self.rows("second")[once], ids[once])


def measure_retrieval(
    encoders: Sequence[nn.Module],
    batches: Iterable[ImageBatch],
    make_crops: ViewMaker,
    widths: dict[str, int],
    *,
    max_forward: int = 512,
    progress: bool = True,
    title: str = "corners",
) -> list[dict[str, CornerResult]]:
    """Retrieve the other corner of every image by every layer of several encoders, in one pass over the images.

    A layer's features are the means of its units over positions, without an absolute value: two corners have no
    position in common. Encoders, buffers, modes and random generators are left as they were; with a process group up,
    every process gets the whole result.

    Args:
        encoders: of one architecture, on one device.
        batches: the images among which is searched (this process's share of them).
        make_crops: ``(batch, corner) -> (B, 3, h, w)``, corners 0 and 1; see `corner_crop`.
        widths: units of each layer that is measured, by its name.
        max_forward: most crops in one forward.
        progress: show a bar.
        title: the bar's text.

    Returns:
        For each encoder a result for each layer, in the order of ``widths``.

    Raises:
        UserError: no image, an unknown layer, or activations that are not finite.
    """
    layers = list(widths)
    device = next(encoders[0].parameters()).device
    metrics = [{layer: CornerRetrieval(width).to(device) for layer, width in widths.items()} for _ in encoders]
    with one_pass(
        encoders,
        [layers] * len(encoders),
        batches,
        make_crops,
        num_views=CORNERS,
        activation="identity",
        max_forward=max_forward,
        progress=progress,
        title=title,
    ) as parts:
        for batch, captured, _ in parts:
            for of_encoder, metric in zip(captured, metrics, strict=True):
                for layer in layers:
                    first, second = of_encoder[layer].chunk(CORNERS)
                    metric[layer].update(first, second, batch.ids)
    return [{layer: metric.compute() for layer, metric in of_encoder.items()} for of_encoder in metrics]
