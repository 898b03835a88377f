"""What UnitMem finds of the units of one layer."""

from torch import Tensor

from memlight.metrics.functional import max_and_rest, unitmem_from_extremes
from memlight.metrics.null import TAIL


class UnitMemResult:
    """UnitMem of the units of one layer. A unit's mu is its activation on an image, averaged over the views.

    Attributes:
        n: number of images.
        mu_max: ``(U,)`` largest mu over images, float64.
        mu_rest: ``(U,)`` mean mu over the other images.
        unitmem: ``(U,)`` score against the mean; 0 for dead units.
        max_id: ``(U,)`` id of the image of the largest mu, the lowest among ties.
        dead: ``(U,)`` units that never fired.
        topk_ids: ``(K, U)`` ids of the K largest mu, ties by lowest id; K is smaller when there are fewer images.
        topk_mu: ``(K, U)`` their mu, descending.
        tail_mu: ``(T, U)`` mu of the `TAIL` strongest images, descending, for the null; fewer when there are fewer.
        mu_rest_median: ``(U,)`` median over the other images; None unless asked for.
        unitmem_median: ``(U,)`` score against the median; None unless asked for.
        halves: ``(2, U)`` scores from the first and from the second half of the views; None where the caller made
            the averages, or had a single view.
        ids: ``(N,)`` image ids, ascending.
        mu: ``(N, U)`` float32 mu of each image in the order of ``ids``; None unless the table was kept.
    """

    def __init__(
        self,
        top: Tensor,
        total: Tensor,
        ids: Tensor,
        mu: Tensor | None = None,
        *,
        topk: int,
        median: bool = False,
    ) -> None:
        self.n = ids.numel()
        self.ids = ids.sort().values
        self.tail_mu = top[0, : min(self.n, TAIL)]
        self.topk_mu, self.topk_ids = top[0, : min(self.n, topk)], top[1, : min(self.n, topk)].long()
        self.mu_max, self.max_id = self.topk_mu[0], self.topk_ids[0]
        self.mu_rest = (total - self.mu_max) / (self.n - 1)
        self.unitmem = unitmem_from_extremes(self.mu_max, self.mu_rest)
        self.dead = self.mu_max + self.mu_rest == 0
        self.mu = None if mu is None else mu[ids.argsort()]
        self.halves: Tensor | None = None
        self.mu_rest_median: Tensor | None = None
        self.unitmem_median: Tensor | None = None
        if median and self.mu is not None:
            self.mu_rest_median = max_and_rest(self.mu, "median")[1]
            self.unitmem_median = unitmem_from_extremes(self.mu_max, self.mu_rest_median)

    def units(self, which: slice) -> "UnitMemResult":
        """The result of some of the units."""
        part = object.__new__(UnitMemResult)
        for name, value in vars(self).items():
            per_unit = isinstance(value, Tensor) and name != "ids"
            setattr(part, name, value[..., which] if per_unit else value)
        return part
