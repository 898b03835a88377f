"""Linear probe: multinomial logistic regression on cached features of a frozen encoder."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from memlight.metrics.knn import require_labels


class ProbeResult(NamedTuple):
    """Accuracy of a linear probe on test images, as shares.

    Attributes:
        top1: the share whose class is named first.
        top5: the share whose class is among the first five.
        n_train: images it was fitted to.
        n_test: images it was tested on.
        right: ``(M,)`` bool, which test images are in ``top1``, for comparing probes image by image.
    """

    top1: float
    top5: float
    n_train: int
    n_test: int
    right: Tensor


def linear_probe(
    train_z: Tensor,
    train_y: Tensor,
    test_z: Tensor,
    test_y: Tensor,
    *,
    num_classes: int | None = None,
    l2: float = 1e-3,
    max_steps: int = 500,
) -> ProbeResult:
    """Fit a linear classifier after the fact and test it once.

    Features are standardised with the training set's mean and deviation, then mean cross-entropy plus
    ``l2 / 2 * |W|^2`` is minimised with L-BFGS from zero. The problem is convex, so the answer depends on neither
    a seed, a learning rate nor the order of the images.

    Args:
        train_z: ``(N, D)`` features of a frozen encoder in eval mode.
        train_y: ``(N,)`` classes, from 0.
        test_z: ``(M, D)`` features.
        test_y: ``(M,)`` classes.
        num_classes: None takes the largest class + 1.
        l2: strength of the penalty on the weights (not on the bias).
        max_steps: most L-BFGS iterations.

    Raises:
        UserError: without labels, or without images.
    """
    require_labels(train_y, test_y)
    classes = num_classes or int(torch.maximum(train_y.max(), test_y.max())) + 1
    mean, deviation = train_z.float().mean(0), train_z.float().std(0, correction=0)
    scale = torch.where(deviation > 0, 1 / deviation.where(deviation > 0, 1), 0)
    x = (train_z.float() - mean) * scale
    weight = x.new_zeros((x.shape[1], classes)).requires_grad_()
    bias = x.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=max_steps, tolerance_grad=1e-5, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(torch.addmm(bias, x, weight), train_y) + l2 / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    logits = torch.addmm(bias, (test_z.float() - mean) * scale, weight).detach()
    ranked = logits.topk(min(5, classes), dim=1).indices == test_y[:, None]
    right = ranked[:, 0]
    return ProbeResult(
        float(right.float().mean()), float(ranked.any(1).float().mean()), len(train_y), len(test_y), right
    )
