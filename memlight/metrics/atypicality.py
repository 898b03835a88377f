"""How unlike the rest of its class an image is, in the features of an encoder: two measures, as pure functions.

Both compare with reference images that are the same for every group of images. Where an image is itself among them, it
is left out of its own comparison.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_ENTRIES = 1 << 24
"""Similarities that are held at once."""


def class_distance(
    z_ND: Tensor, labels_N: Tensor, reference_RD: Tensor, reference_labels_R: Tensor, place_N: Tensor
) -> Tensor:
    """Cosine distance of each image to the centroid of its class.

    The centroid is the mean of the class's reference features, each scaled to length 1.

    Args:
        z_ND: ``(N, D)`` features.
        labels_N: ``(N,)`` classes, from 0.
        reference_RD: ``(R, D)`` features of the reference images.
        reference_labels_R: ``(R,)`` their classes, from 0.
        place_N: ``(N,)`` where each image is among the reference images; -1 where it is not.

    Returns:
        ``(N,)`` float64, from 0 to 2; NaN where the class has no other reference image.
    """
    z, reference = (F.normalize(features.double(), dim=1) for features in (z_ND, reference_RD))
    classes = int(torch.cat([labels_N, reference_labels_R]).max()) + 1
    sums = reference.new_zeros(classes, reference.shape[1]).index_add_(0, reference_labels_R, reference)
    counts = torch.bincount(reference_labels_R, minlength=classes)
    inside = place_N >= 0
    itself = torch.where(inside[:, None], reference[place_N.clamp(min=0)], 0)
    distance = 1 - F.cosine_similarity(z, sums[labels_N] - itself, dim=1)
    return distance.where(counts[labels_N] > inside, torch.nan)


def neighbour_disagreement(
    z_ND: Tensor,
    labels_N: Tensor,
    reference_RD: Tensor,
    reference_labels_R: Tensor,
    place_N: Tensor,
    k: int = 20,
) -> Tensor:
    """Share of each image's k nearest reference images, by cosine, that are of another class.

    Args:
        z_ND: ``(N, D)`` features.
        labels_N: ``(N,)`` classes.
        reference_RD: ``(R, D)`` features of the reference images, at least two.
        reference_labels_R: ``(R,)`` their classes.
        place_N: ``(N,)`` where each image is among the reference images; -1 where it is not.
        k: neighbours; all of them when there are fewer.

    Returns:
        ``(N,)`` float64, from 0 to 1.
    """
    z, reference = (F.normalize(features.float(), dim=1) for features in (z_ND, reference_RD))
    neighbours = min(k, len(reference) - 1)
    shares = []
    step = max(1, _ENTRIES // len(reference))
    for start in range(0, len(z), step):
        rows = slice(start, start + step)
        similarity = z[rows] @ reference.T
        image = (place_N[rows] >= 0).nonzero().squeeze(1)
        similarity[image, place_N[rows][image]] = -torch.inf
        nearest = similarity.topk(neighbours, dim=1).indices
        shares.append((reference_labels_R[nearest] != labels_N[rows, None]).double().mean(1))
    return torch.cat(shares)
