"""The scores as pure functions of tensors, with the equations they come from.

[P] is Wang, Dziedzic, Backes, Boenisch, "Localizing Memorization in SSL Vision Encoders", NeurIPS 2024
(arXiv 2409.19069); [C] is the code released with it; [P0] is Wang et al., "Memorization in Self-Supervised
Learning Improves Downstream Generalization", ICLR 2024.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from memlight.errors import UserError
from memlight.metrics.chords import pairwise_l1, pairwise_squared

Distance = Literal["l2", "l1", "cosine", "angular"]
Pairs = Literal["all", "clean"]
Scale = Literal["ratio", "range", "none"]
Reference = Literal["mean", "median"]


def alignment(z_VBD: Tensor, distance: Distance = "l2", normalize: bool = True, pairs: Pairs = "all") -> Tensor:
    """Mean distance between the representations of an image's views ([P] eq 1).

    A small alignment means that the encoder maps the views to the same place. The representation of a view is
    its whole feature map, flattened in a fixed order; a zero representation stays zero. Distances are exact to
    about 1e-6 relative even for views that differ by 1e-4 among others far apart, under autocast and with TF32.

    Args:
        z_VBD: ``(V, B, ...)`` representations of V >= 2 views of B images, any float dtype.
        distance: ``l2`` and ``l1`` norms of the difference; ``cosine`` is 1 - cos and ``angular`` is the angle
            over pi, both computed from the chord of the normalised vectors whatever ``normalize`` says.
        normalize: divide every representation by its l2 norm first, as [C] does.
        pairs: ``all`` V (V - 1) / 2 pairs, or ``clean``: view 0 against the others. In [C] view 0 is the untouched
            image, which the caller provides.

    Returns:
        ``(B,)`` in float32, float64 for float64 input; without gradient.

    Raises:
        ValueError: with fewer than two views, or an unknown word.
    """
    if z_VBD.shape[0] < 2:
        raise ValueError(f"alignment compares views: {z_VBD.shape[0]} view(s) given, at least 2 needed")
    if distance not in ("l2", "l1", "cosine", "angular"):
        raise ValueError(f"unknown distance {distance!r}: l2, l1, cosine or angular")
    if pairs not in ("all", "clean"):
        raise ValueError(f"unknown pairs {pairs!r}: all or clean")
    z = z_VBD.flatten(2) if z_VBD.ndim > 3 else z_VBD
    views = z.shape[0]
    first, second = torch.triu_indices(views, views, offset=1, device=z.device)
    if pairs == "clean":
        first, second = first[: views - 1], second[: views - 1]
    if distance == "l1":
        distances_PB = pairwise_l1(z, first, second, normalize)
    else:
        squared_PB = pairwise_squared(z, first, second, normalize or distance != "l2")
        if distance == "cosine":
            distances_PB = squared_PB / 2
        elif distance == "angular":
            distances_PB = 2 / torch.pi * torch.asin((squared_PB.sqrt() / 2).clamp(max=1))
        else:
            distances_PB = squared_PB.sqrt()
    return distances_PB.mean(0).to(torch.float64 if z.dtype == torch.float64 else torch.float32)


def sslmem(align_f: Tensor, align_g: Tensor, scale: Scale = "ratio") -> Tensor:
    """How much better the encoder that saw an image aligns its views than one that did not.

    Negative scores are scores; nothing is clipped.

    Args:
        align_f: ``(B,)`` alignment under the candidate encoder f.
        align_g: ``(B,)`` alignment under the independent encoder g.
        scale: ``none`` is ``g - f`` ([P] eq 1); ``ratio`` divides by ``g + f`` ([P] eq 2), in [-1, 1] and 0
            where both are 0; ``range`` divides by the largest minus the smallest difference of this very set
            ([P0], [C]), so a score then depends on which images it is computed with. Scores of several sets compare
            only in one range: see `sslmem_of_sets`.

    Returns:
        ``(B,)``.
    """
    difference = align_g - align_f
    if scale == "none":
        return difference
    if scale == "ratio":
        return _ratio(difference, align_g + align_f)
    if scale == "range":
        return _ratio(difference, difference.max() - difference.min())
    raise ValueError(f"unknown scale {scale!r}: ratio, range or none")


def sslmem_of_sets(sets: Sequence[tuple[Tensor, Tensor]], scale: Scale = "ratio") -> list[Tensor]:
    """`sslmem` of several sets of images in one unit, so that their scores can be compared and subtracted.

    With ``range`` all are divided by the largest minus the smallest difference of all sets together. Divided by its own
    range each, one image that lies far out makes the scores of its set small, and the difference between sets is none
    of memorisation. The other scales are of each image by itself, and give what `sslmem` gives.

    Args:
        sets: alignments under f and under g, ``(B,)`` each, of every set.
        scale: as `sslmem`.

    Returns:
        ``(B,)`` of each set.
    """
    align_f, align_g = (torch.cat(parts) for parts in zip(*sets, strict=True))
    return list(torch.split(sslmem(align_f, align_g, scale), [len(of_f) for of_f, _ in sets]))


def delta(layermem_L: Tensor, references: Sequence[int | None] | None = None) -> Tensor:
    """LayerMem of every layer minus that of the layer it is compared with ([P] eq 4).

    Args:
        layermem_L: ``(L,)``, in execution order.
        references: row of the other layer for each layer, None for none; see
            `memlight.features.layers.delta_references`. Without it every layer is compared with the one before it.

    Returns:
        ``(L,)``, NaN where there is nothing to compare with.
    """
    if references is None:
        references = [None, *range(len(layermem_L) - 1)]
    padded = torch.cat([layermem_L, layermem_L.new_full((1,), torch.nan)])
    return layermem_L - padded[[len(layermem_L) if row is None else row for row in references]]


def contrast(score_candidate: Tensor, score_independent: Tensor) -> tuple[Tensor, Tensor]:
    """Memorisation without the offset between two trainings: half the gap between the two members' own images.

    The candidate images are new to g and the independent images are new to f, so whatever makes one encoder
    smoother than the other moves both means alike and cancels.

    Args:
        score_candidate: ``(n_c,)`` scores of candidate images.
        score_independent: ``(n_i,)`` scores of independent images.

    Returns:
        The contrast and its standard error, both 0-d float64.
    """
    c, i = score_candidate.double(), score_independent.double()
    error = (c.var() / c.numel() + i.var() / i.numel()).sqrt() / 2
    return (c.mean() - i.mean()) / 2, error


def unitmem_from_extremes(mu_max: Tensor, mu_rest: Tensor) -> Tensor:
    """``(mu_max - mu_rest) / (mu_max + mu_rest)`` ([P] eq 8); dead units, whose sum is 0, give 0."""
    return _ratio(mu_max - mu_rest, mu_max + mu_rest)


def unitmem(mu_NU: Tensor, reference: Reference = "mean") -> Tensor:
    """How far a unit's strongest image stands above the others ([P] eq 5-8).

    Args:
        mu_NU: ``(N, U)`` activation of every unit on every image, averaged over its views; N >= 2.
        reference: the other images' ``mean`` ([P] eq 7) or ``median`` ([C]; the middle two averaged).

    Returns:
        ``(U,)`` float64, in [0, 1] for activations that are not negative.
    """
    mu_max, mu_rest, _ = max_and_rest(mu_NU, reference)
    return unitmem_from_extremes(mu_max, mu_rest)


def max_and_rest(mu_NU: Tensor, reference: Reference = "mean") -> tuple[Tensor, Tensor, Tensor]:
    """Maximum over rows, mean or median of the other rows, and the row of the maximum (the first among ties).

    Returns:
        ``mu_max``, ``mu_rest`` (float64) and ``row`` (int64), each ``(U,)``.
    """
    rows = mu_NU.shape[0]
    if rows < 2:
        raise ValueError(f"a unit's maximum is compared with the other images: {rows} image(s) given, 2 needed")
    if reference not in ("mean", "median"):
        raise ValueError(f"unknown reference {reference!r}: mean or median")
    step = max(1, BLOCK_ENTRIES // rows)
    blocks = [mu_NU[:, start : start + step] for start in range(0, mu_NU.shape[1], step)] or [mu_NU]
    mu_max, mu_rest, row = zip(*(_max_and_rest(block, reference) for block in blocks), strict=True)
    return torch.cat(mu_max), torch.cat(mu_rest), torch.cat(row)


BLOCK_ENTRIES = 1 << 22
"""Entries of a table of mu that are worked on at a time: what is needed besides the table does not grow with it."""


def _max_and_rest(mu_NU: Tensor, reference: Reference) -> tuple[Tensor, Tensor, Tensor]:
    rows, highest = mu_NU.shape[0], mu_NU.amax(0)
    mu_max, row = highest.double(), (mu_NU == highest).view(torch.uint8).argmax(0)
    if reference == "mean":
        return mu_max, (mu_NU.sum(0, dtype=torch.float64) - mu_max) / (rows - 1), row
    # The maximum is the last in order, so the middle of the others is at these places of the whole, counted from 1.
    low, high = (mu_NU.kthvalue(place, dim=0).values.double() for place in ((rows - 2) // 2 + 1, (rows - 1) // 2 + 1))
    return mu_max, (low + high) / 2, row


def class_means(mu_NU: Tensor, labels_N: Tensor) -> Tensor:
    """Mean activation of every unit on every class, ``(C, U)`` float64, for labels 0 to C - 1.

    Raises:
        UserError: when an image has no label or a class has no image.
    """
    if labels_N.numel() == 0 or int(labels_N.min()) < 0:
        raise UserError("labels_N", None, "ClassMem needs a label for every image", "use a labelled data set")
    counts = torch.bincount(labels_N)
    require_every_class(counts)
    sums = mu_NU.new_zeros((counts.numel(), mu_NU.shape[1]), dtype=torch.float64)
    return sums.index_add_(0, labels_N, mu_NU.double()) / counts[:, None]


def require_every_class(counts_C: Tensor) -> None:
    """Raise `UserError` when a class has no image: its mean does not exist."""
    empty = (counts_C == 0).nonzero().flatten().tolist()
    if empty:
        raise UserError(f"no image of class {empty[0]}; take a split that holds every class")


def classmem(mu_NU: Tensor, labels_N: Tensor, reference: Reference = "mean") -> Tensor:
    """How far a unit's strongest class stands above the other classes ([P] App. D.2).

    Args:
        mu_NU: ``(N, U)`` activations.
        labels_N: ``(N,)`` classes 0 to C - 1, each with at least one image.
        reference: the other classes' ``mean`` or ``median``.

    Returns:
        ``(U,)`` float64.
    """
    return unitmem(class_means(mu_NU, labels_N), reference)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    safe = torch.where(denominator == 0, torch.ones_like(denominator), denominator)
    return torch.where(denominator == 0, torch.zeros_like(numerator), numerator / safe)
