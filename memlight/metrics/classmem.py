"""ClassMem: how far each unit's strongest class stands above the others ([P] App. D.2), in one streaming pass."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from memlight.batch import ImageBatch, ViewMaker
from memlight.errors import UserError
from memlight.features.hooks import Activation, Tokens
from memlight.features.passes import device_of, one_pass
from memlight.metrics.functional import Reference, max_and_rest, require_every_class, unitmem_from_extremes
from memlight.metrics.ids import ImageMetric
from memlight.metrics.unitmem import UnitMem, UnitMemResult, of_units, require_not_negative
from memlight.random import ANALYSIS, permutation


class ClassMemResult:
    """ClassMem of the units of one layer.

    Attributes:
        classmem: ``(U,)`` score, float64; 0 for units that never fired.
        max_class: ``(U,)`` the strongest class, the lowest among ties.
        mu_max: ``(U,)`` its mean activation.
        mu_rest: ``(U,)`` mean or median of the other classes' means.
        dead: ``(U,)`` units that never fired.
        null: ``(P, U)`` scores of the same units under P relabellings of the images.
        unitmem: UnitMem of the same units from the same activations; None where only the metric was asked.
    """

    def __init__(self, means_RCU: Tensor, reference: Reference) -> None:
        self.mu_max, self.mu_rest, self.max_class = max_and_rest(means_RCU[0], reference)
        scores = [unitmem_from_extremes(*max_and_rest(means_CU, reference)[:2]) for means_CU in means_RCU]
        self.classmem, self.null = scores[0], torch.stack(scores)[1:]
        self.dead = self.mu_max + self.mu_rest == 0
        self.unitmem: UnitMemResult | None = None

    def units(self, which: slice) -> "ClassMemResult":
        """The result of some of the units."""
        part = of_units(self, which)
        part.unitmem = None if self.unitmem is None else self.unitmem.units(which)
        return part


class ClassMem(ImageMetric):
    """Mean activation of every unit on every class, in O(labellings x classes x units) memory.

    Args:
        num_units: U.
        num_classes: C, at least 2.
        reference: the other classes' ``mean`` or ``median``.
        labellings: R: 1, and one for each relabelling of the images that is scored beside the true labels.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, num_units: int, num_classes: int, reference: Reference = "mean", labellings: int = 1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.reference: Reference = reference
        sums = torch.zeros(labellings, num_classes, num_units, dtype=torch.float64)
        self.add_state("sums", default=sums, dist_reduce_fx="sum")
        counts = torch.zeros(labellings, num_classes, dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")

    def update(self, mu_BU: Tensor, labels_B: Tensor, ids_B: Tensor) -> None:
        """Add activations ``(B, U)`` of labelled images; ids seen before are left out.

        Args:
            mu_BU: activations.
            labels_B: ``(B,)`` classes, or ``(B, R)`` with the true ones first.
            ids_B: data set ids.

        Raises:
            UserError: when an image has no label.
        """
        labels_BR = labels_B[:, None] if labels_B.ndim == 1 else labels_B
        if bool(((labels_BR < 0) | (labels_BR >= self.num_classes)).any()):
            raise UserError("labels_B", None, f"ClassMem needs a class 0 to {self.num_classes - 1} for every image")
        new = self.unseen(ids_B)
        mu, labels_BR, ids_B = mu_BU[new].double(), labels_BR[new], ids_B[new]
        for sums_CU, counts_C, labels in zip(self.sums, self.counts, labels_BR.unbind(1), strict=True):
            sums_CU.index_put_((labels,), mu, accumulate=True)  # unlike index_add_ the same bits every time on a GPU
            counts_C += torch.bincount(labels, minlength=self.num_classes)
        self.ids.append(ids_B)

    def compute(self) -> ClassMemResult:
        """Score every unit on the images seen so far.

        Raises:
            UserError: when a class has no image, or activations are negative on average.
            ValueError: when two processes saw the same image.
        """
        for counts_C in self.counts:
            require_every_class(counts_C)
        self.require_disjoint()
        result = ClassMemResult(self.sums / self.counts[..., None], self.reference)
        require_not_negative(result.mu_rest)
        return result


def measure_classmem(
    encoder: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    layers: Sequence[str],
    *,
    ids: Tensor,
    labels: Tensor,
    num_classes: int,
    num_views: int = 1,
    reference: Reference = "mean",
    activation: Activation = "abs",
    tokens: Tokens = "mean",
    permutations: int = 20,
    seed: int = 0,
    max_forward: int = 512,
    device: torch.device | str | None = None,
    progress: bool = True,
    title: str = "ClassMem",
) -> dict[str, ClassMemResult]:
    """Score every unit of every layer in one pass, beside the same units under shuffled labels and their UnitMem.

    The encoder, its buffers, its mode and the random generators are left as they were; with a process group up,
    every process gets the whole result. What is kept on the device grows with ``(1 + permutations) * num_classes``
    times the number of units (8 bytes each) and not with the number of images.

    Args:
        encoder: any encoder that `memlight.features.hooks.capture` can read.
        batches: images (this process's share of them); their own labels are not looked at.
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        layers: module paths.
        ids: ``(N,)`` ids of the images of all processes, ascending.
        labels: ``(N,)`` their classes, 0 to ``num_classes - 1``.
        num_classes: C.
        num_views: V, views whose activations are averaged; 1 where ``make_views`` gives the untouched image.
        reference: the other classes' ``mean`` or ``median``.
        activation: of which value the mean is taken; see `memlight.features.hooks.capture`.
        tokens: over which tokens the mean is taken; see `memlight.features.hooks.capture`.
        permutations: P, how many times the labels are shuffled for the null.
        seed: of the shuffles.
        max_forward: most views in one forward.
        device: where the encoder is; None asks it.
        progress: show a bar.
        title: the bar's text.

    Returns:
        A result for each layer, in the order of ``layers``.

    Raises:
        UserError: fewer than two images, a class without one, an unknown layer, activations that are not finite or
            negative on average.
        ValueError: an image whose id is not among ``ids``.
    """
    device = torch.device(device) if device is not None else device_of(encoder)
    running: ClassMemPass | None = None
    with one_pass(
        [encoder],
        [layers],
        batches,
        make_views,
        num_views=num_views,
        activation=activation,
        tokens=tokens,
        max_forward=max_forward,
        device=device,
        progress=progress,
        title=title,
    ) as parts:
        for batch, (captured,), _ in parts:
            if running is None:
                units = {layer: captured[layer].shape[1] for layer in layers}
                labelled = (ids, labels, num_classes)
                running = ClassMemPass(units, *labelled, reference, permutations, seed, device=device)
            mu = torch.cat([captured[layer] for layer in layers], dim=1)
            running.update(mu.view(num_views, len(batch.ids), -1).mean(0), batch.ids)
    assert running is not None
    return running.compute()


class ClassMemPass:
    """ClassMem of the units of all layers while images go by, beside shuffled labels and UnitMem.

    Args:
        units: layer -> number of its units, in execution order.
        ids: ``(N,)`` ids of the images of all processes, ascending.
        labels: ``(N,)`` their classes, 0 to ``num_classes - 1``.
        num_classes: C.
        reference: the other classes' ``mean`` or ``median``.
        permutations: P, how many times the labels are shuffled for the null.
        seed: of the shuffles.
        device: where sums are kept.
    """

    def __init__(
        self,
        units: Mapping[str, int],
        ids: Tensor,
        labels: Tensor,
        num_classes: int,
        reference: Reference = "mean",
        permutations: int = 20,
        seed: int = 0,
        *,
        device: torch.device,
    ) -> None:
        self.units = dict(units)
        self._ids, self._labels_NR = ids.to(device), shuffled_labels(labels, permutations, seed).to(device)
        width = sum(units.values())
        self._classes = ClassMem(width, num_classes, reference, labellings=1 + permutations).to(device)
        self._unitmem = UnitMem(width, topk=1).to(device)

    def update(self, mu_BU: Tensor, ids_B: Tensor) -> None:
        """Add the activations ``(B, U)`` of the units of all layers on some images."""
        self._classes.update(mu_BU, self._labels_NR[_positions(self._ids, ids_B)], ids_B)
        self._unitmem.update(mu_BU, ids_B)

    def compute(self) -> dict[str, ClassMemResult]:
        """The result of every layer, over the images of all processes."""
        result = self._classes.compute()
        result.unitmem = self._unitmem.compute()
        ends = torch.tensor(list(self.units.values())).cumsum(0).tolist()
        return {
            layer: result.units(slice(end - width, end))
            for (layer, width), end in zip(self.units.items(), ends, strict=True)
        }


def shuffled_labels(labels_N: Tensor, permutations: int, seed: int) -> Tensor:
    """The labels, then the same labels dealt out to the images at random, ``(N, 1 + permutations)``.

    How many images a class has stays; which ones is a function of the seed alone.
    """
    shuffles = [permutation(seed, ANALYSIS - 1 - draw, len(labels_N)) for draw in range(permutations)]
    return torch.stack([labels_N, *(labels_N[order.to(labels_N.device)] for order in shuffles)], dim=1)


def _positions(ids_N: Tensor, ids_B: Tensor) -> Tensor:
    positions = torch.searchsorted(ids_N, ids_B).clamp(max=len(ids_N) - 1)
    if not torch.equal(ids_N[positions], ids_B):
        raise ValueError("an image was measured whose label was not given")
    return positions
