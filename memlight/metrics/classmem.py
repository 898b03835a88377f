"""ClassMem: how far each unit's strongest class stands above the others ([P] App. D.2)."""

import torch
from torch import Tensor

from memlight.errors import UserError
from memlight.metrics.functional import Reference, max_and_rest, require_every_class, unitmem_from_extremes
from memlight.metrics.ids import ImageMetric


class ClassMemResult:
    """ClassMem of the units of one layer.

    Attributes:
        classmem: ``(U,)`` score, float64; 0 for units that never fired.
        max_class: ``(U,)`` the strongest class, the lowest among ties.
        mu_max: ``(U,)`` its mean activation.
        mu_rest: ``(U,)`` mean or median of the other classes' means.
    """

    def __init__(self, means_CU: Tensor, reference: Reference) -> None:
        self.mu_max, self.mu_rest, self.max_class = max_and_rest(means_CU, reference)
        self.classmem = unitmem_from_extremes(self.mu_max, self.mu_rest)


class ClassMem(ImageMetric):
    """Mean activation of every unit on every class, in O(classes x units) memory.

    Args:
        num_units: U.
        num_classes: C, at least 2.
        reference: the other classes' ``mean`` or ``median``.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, num_units: int, num_classes: int, reference: Reference = "mean") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.reference: Reference = reference
        self.add_state("sums", default=torch.zeros(num_classes, num_units, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", default=torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mu_BU: Tensor, labels_B: Tensor, ids_B: Tensor) -> None:
        """Add activations ``(B, U)`` of labelled images; ids seen before are left out.

        Raises:
            UserError: when an image has no label.
        """
        if bool(((labels_B < 0) | (labels_B >= self.num_classes)).any()):
            raise UserError(f"--split: ClassMem needs a class 0 to {self.num_classes - 1} for every image")
        new = self.unseen(ids_B)
        mu_BU, labels_B, ids_B = mu_BU[new], labels_B[new], ids_B[new]
        self.sums = self.sums.index_add(0, labels_B, mu_BU.double())
        self.counts = self.counts + torch.bincount(labels_B, minlength=self.num_classes)
        self.ids.append(ids_B)

    def compute(self) -> ClassMemResult:
        """Score every unit on the images seen so far.

        Raises:
            UserError: when a class has no image, or activations are negative on average.
            ValueError: when two processes saw the same image.
        """
        require_every_class(self.counts)
        self.require_disjoint()
        result = ClassMemResult(self.sums / self.counts[:, None], self.reference)
        if bool((result.mu_rest < 0).any()):
            raise UserError("--activation identity: a unit's mean activation is negative; use --activation abs")
        return result
