"""Frozen features in one pass, and the weighted nearest-neighbour accuracy of them."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlight import dist
from memlight.batch import ImageBatch, ViewMaker
from memlight.errors import UserError
from memlight.features.hooks import check_finite
from memlight.features.passes import one_pass
from memlight.metrics.ids import distinct


def embed(
    encoder: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    *,
    max_forward: int = 512,
    device: torch.device | str | None = None,
    progress: bool = True,
    title: str = "embedding",
) -> tuple[Tensor, Tensor, Tensor]:
    """Embed view 0 of every image with a frozen encoder; see `embed_many`.

    Returns:
        Features ``(N, D)`` float32, labels and ids ``(N,)`` int64, by ascending id, on the device.
    """
    (z,), labels, ids = embed_many(
        [encoder], batches, make_views, max_forward=max_forward, device=device, progress=progress, title=title
    )
    return z, labels, ids


def embed_many(
    encoders: Sequence[nn.Module],
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    *,
    max_forward: int = 512,
    device: torch.device | str | None = None,
    progress: bool = True,
    title: str = "embedding",
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Embed view 0 of every image with several frozen encoders, in one pass over the images.

    The encoders and the random generators are left as they were; with a process group up, every process gets all,
    each image once. What an encoder gives does not depend on which others it shares the pass with.

    Args:
        encoders: each maps ``(B, 3, h, w)`` to ``(B, D)``; all are on one device.
        batches: images (this process's share of them).
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        max_forward: most images in one forward.
        device: where the encoders are; None asks the first.
        progress: show a bar.
        title: the bar's text.

    Returns:
        Features ``(N, D)`` float32 of each encoder, labels and ids ``(N,)`` int64, by ascending id, on the device.
    """
    features: list[list[Tensor]] = []
    labels, ids = [], []
    with one_pass(
        encoders, [], batches, make_views, max_forward=max_forward, device=device, progress=progress, title=title
    ) as parts:
        for batch, _, outputs in parts:
            features.append([z.float().flatten(1) for z in outputs])
            check_finite(*({"output": z} for z in features[-1]))
            labels.append(batch.labels)
            ids.append(batch.ids)
    all_ids = dist.gather_cat(torch.cat(ids))
    order = distinct(all_ids)
    gathered = [dist.gather_cat(torch.cat(of_encoder))[order] for of_encoder in zip(*features, strict=True)]
    return gathered, dist.gather_cat(torch.cat(labels))[order], all_ids[order]


def knn_accuracy(
    train_z: Tensor,
    train_y: Tensor,
    test_z: Tensor,
    test_y: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.1,
    num_classes: int | None = None,
    batch_size: int = 1024,
) -> float:
    """Share of test images that their k nearest training images classify correctly.

    Cosine similarity s, each neighbour votes for its class with weight exp(s / temperature) (Wu et al. 2018,
    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination").

    Args:
        train_z: ``(N, D)`` features.
        train_y: ``(N,)`` classes, from 0.
        test_z: ``(M, D)`` features.
        test_y: ``(M,)`` classes.
        k: neighbours; all of them when there are fewer.
        temperature: of the votes.
        num_classes: None takes the largest class + 1.
        batch_size: test images compared at once.

    Raises:
        UserError: without labels, or without test images.
    """
    require_labels(train_y, test_y)
    classes = num_classes or int(train_y.max()) + 1
    bank = F.normalize(train_z.float(), dim=1)
    right = torch.zeros((), dtype=torch.int64, device=test_z.device)
    for start in range(0, len(test_z), batch_size):
        z, y = test_z[start : start + batch_size], test_y[start : start + batch_size]
        similarity, neighbour = (F.normalize(z.float(), dim=1) @ bank.T).topk(min(k, len(bank)), dim=1)
        weight = ((similarity - 1) / temperature).exp()
        votes = weight.new_zeros((len(z), classes)).scatter_add_(1, train_y[neighbour], weight)
        right += (votes.argmax(1) == y).sum()
    return int(right) / len(test_y)


def require_labels(*labels: Tensor) -> None:
    """Raise `UserError` unless there is an image in each set and each has a label."""
    for y in labels:
        if y.numel() == 0 or int(y.min()) < 0:
            raise UserError("probes need labelled training and test images; this data set has none")
