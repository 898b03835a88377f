"""UnitMem: how far each unit's strongest image stands above all others ([P] eq 5-8), in one streaming pass."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from memlight.batch import ImageBatch, ViewMaker
from memlight.errors import UserError
from memlight.features.hooks import Activation, Tokens
from memlight.features.passes import Precision, device_of, one_pass
from memlight.metrics.functional import Reference, max_and_rest, unitmem_from_extremes
from memlight.metrics.ids import ImageMetric
from memlight.metrics.null import TAIL

Result = TypeVar("Result")


class UnitMemResult:
    """UnitMem of the units of one layer. A unit's mu is its activation on an image, averaged over the views.

    It is no dataclass, because torchmetrics would squeeze the tensors of one that has a single unit.

    Attributes:
        n: number of images.
        ids: ``(N,)`` image ids, ascending.
        reference: which form was asked for, ``mean`` or ``median``.
        mu_max: ``(U,)`` largest mu over images, float64.
        mu_rest: ``(U,)`` the other images' mu, in the form asked for: ``mu_rest_mean`` or ``mu_rest_median``.
        unitmem: ``(U,)`` score in the form asked for, ``unitmem_mean`` or ``unitmem_median``; 0 for dead units.
        mu_rest_mean: ``(U,)`` mean mu over the other images, float64; there whatever was asked for.
        unitmem_mean: ``(U,)`` score against the mean; there whatever was asked for.
        max_id: ``(U,)`` id of the image of the largest mu, the lowest among ties.
        dead: ``(U,)`` units that never fired.
        topk_ids: ``(K, U)`` ids of the K largest mu, ties by lowest id; K is smaller when there are fewer images.
        topk_mu: ``(K, U)`` their mu, descending.
        tail_mu: ``(T, U)`` mu of the `TAIL` strongest images, descending, for the null; fewer when there are fewer.
        mu: ``(N, U)`` float32 mu of each image in the order of ``ids``; None unless the table was kept.
        mu_rest_median: ``(U,)`` median over the other images; None unless asked for.
        unitmem_median: ``(U,)`` score against the median; None unless asked for.
        halves: ``(2, U)`` scores against the mean from the first and from the second half of the views; None where the
            caller made the averages, or had a single view.
    """

    def __init__(
        self, top: Tensor, total: Tensor, ids: Tensor, mu: Tensor | None = None, *, topk: int, median: bool = False
    ) -> None:
        self.n = ids.numel()
        self.ids = ids.sort().values
        self.tail_mu = top[0, : min(self.n, TAIL)]
        self.topk_mu, self.topk_ids = top[0, : min(self.n, topk)], top[1, : min(self.n, topk)].long()
        self.mu_max, self.max_id = self.topk_mu[0], self.topk_ids[0]
        self.mu_rest_mean = (total - self.mu_max) / (self.n - 1)
        self.unitmem_mean = unitmem_from_extremes(self.mu_max, self.mu_rest_mean)
        self.dead = self.mu_max + self.mu_rest_mean == 0
        self.mu = None if mu is None else mu[ids.argsort()]
        self.halves: Tensor | None = None
        self.reference: Reference = "mean"
        self.mu_rest_median: Tensor | None = None
        self.unitmem_median: Tensor | None = None
        if median and self.mu is not None:
            self.set_median(max_and_rest(self.mu, "median")[1])

    def set_median(self, mu_rest_U: Tensor) -> None:
        """Make the median form that which was asked for; ``mu_rest_U`` is the median over the other images."""
        self.reference = "median"
        self.mu_rest_median, self.unitmem_median = mu_rest_U, unitmem_from_extremes(self.mu_max, mu_rest_U)

    @property
    def mu_rest(self) -> Tensor:
        """``(U,)`` the other images' mu, in the form asked for."""
        return self.mu_rest_mean if self.mu_rest_median is None else self.mu_rest_median

    @property
    def unitmem(self) -> Tensor:
        """``(U,)`` score in the form asked for; 0 for dead units."""
        return self.unitmem_mean if self.unitmem_median is None else self.unitmem_median

    def units(self, which: slice) -> "UnitMemResult":
        """The result of some of the units."""
        return of_units(self, which)


def of_units(result: Result, which: slice) -> Result:
    """A copy of a result whose tensors, ``ids`` aside, hold some of the units, which are the last axis."""
    part = copy(result)
    for name, value in vars(result).items():
        if isinstance(value, Tensor) and name != "ids":
            setattr(part, name, value[..., which])
    return part


class UnitMem(ImageMetric):
    """Largest mu of every unit, its image, and the mean of the other images, kept in O(units) memory.

    Each image is counted once, however often this process sees it. Processes must see disjoint images; which
    process sees which does not matter, ties included.

    Args:
        num_units: U.
        reference: the form of ``unitmem`` and ``mu_rest``. ``mean`` streams; ``median`` also keeps the ``(N, U)``
            table, and the mean form stands beside it as ``unitmem_mean``.
        topk: how many of the strongest images to keep for each unit.
        keep_table: keep the ``(N, U)`` table of mu for its own sake.
    """

    top: Tensor
    total: Tensor
    table: list[Tensor]

    def __init__(self, num_units: int, reference: Reference = "mean", topk: int = 10, keep_table: bool = False) -> None:
        super().__init__()
        if topk < 1:
            raise UserError("topk", topk, "at least the strongest image is kept", "use 1 or more")
        if reference not in ("mean", "median"):
            raise UserError("reference", reference, "use mean or median")
        self.num_units = num_units
        self.reference = reference
        self.topk = topk
        self.keep_table = keep_table or reference == "median"
        kept = max(topk, TAIL)
        nothing = torch.stack([torch.full((kept, num_units), -torch.inf), torch.full((kept, num_units), -1.0)])
        self.add_state("top", default=nothing.double(), dist_reduce_fx=merge_top)
        self.add_state("total", default=torch.zeros(num_units, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_rows("table", torch.float32, num_units)

    def update(self, mu_BU: Tensor, ids_B: Tensor) -> None:
        """Add the mu ``(B, U)`` of images ``ids_B``; ids seen before are left out.

        Raises:
            UserError: when an activation is NaN or infinite.
        """
        if mu_BU.shape != (ids_B.numel(), self.num_units):
            raise ValueError(f"mu is {tuple(mu_BU.shape)}, not ({ids_B.numel()}, {self.num_units})")
        new = self.unseen(ids_B)
        mu_BU, ids_B = mu_BU[new], ids_B[new]
        if not mu_BU.isfinite().all():
            raise UserError("mu_BU", None, "activations are NaN or infinite", "use an earlier checkpoint")
        mu = mu_BU.double()
        rows = torch.stack([mu, ids_B.double()[:, None].expand_as(mu)])
        self.top = _strongest(torch.cat([self.top, rows], dim=1), self.top.shape[1])
        self.total = self.total + mu.sum(0)
        self.ids.append(ids_B)
        if self.keep_table:
            self.table.append(mu_BU.float())

    def restore(self, top: Tensor, total: Tensor, ids: Tensor) -> None:
        """Go on where another metric of the same kind was: its ``top``, ``total`` and rows of ``ids``; no table."""
        self.update(top.new_empty(0, self.num_units), ids[:0])
        self.top, self.total, self.ids = top, total, [ids]

    def compute(self) -> UnitMemResult:
        """Score every unit on the images seen so far.

        Raises:
            UserError: with fewer than two images, or when the other images' mean is negative.
            ValueError: when two processes saw the same image.
        """
        self.require_disjoint()
        ids = self.rows("ids")
        if ids.numel() < 2:
            raise UserError(f"UnitMem compares images, and {ids.numel()} was given; give two or more")
        mu = self.rows("table") if self.keep_table else None
        result = UnitMemResult(self.top, self.total, ids, mu, topk=self.topk, median=self.reference == "median")
        require_not_negative(result.mu_rest_mean)
        return result


def require_not_negative(mu_rest_U: Tensor) -> None:
    """Refuse units whose other images (or classes) have a negative mean, for which the scores mean nothing.

    Raises:
        UserError: there is such a unit.
    """
    if bool((mu_rest_U < 0).any()):
        raise UserError("activation", "identity", "a unit's mean activation is negative", "use `activation='abs'`")


def merge_top(tops: Tensor) -> Tensor:
    """The strongest K of several processes' K strongest: ``(P, 2, K, U)`` of mu and id -> ``(2, K, U)``."""
    processes, _, k, units = tops.shape
    return _strongest(tops.transpose(0, 1).reshape(2, processes * k, units), k)


def _strongest(rows: Tensor, k: int) -> Tensor:
    by_id = rows[1].argsort(dim=0, stable=True)
    mu, ids = rows[0].gather(0, by_id), rows[1].gather(0, by_id)
    by_mu = mu.argsort(dim=0, descending=True, stable=True)[:k]
    return torch.stack([mu.gather(0, by_mu), ids.gather(0, by_mu)])


class UnitMemPass:
    """UnitMem of the units of all layers while images go by: of all views, and of each half of them.

    Args:
        units: layer -> number of its units, in execution order.
        num_views: V, views of each image.
        reference: ``mean`` or ``median`` of the other images, see `UnitMem`.
        topk: how many of the strongest images to keep for each unit.
        keep_table: keep the ``(N, U)`` table of mu.

    Attributes:
        units: layer -> number of its units, in execution order.
        num_views: V, views of each image.
        topk: how many of the strongest images are kept for each unit.
        metrics: of the mean over all views, then of the first and of the second half; the first alone of one view.
    """

    def __init__(
        self,
        units: Mapping[str, int],
        num_views: int,
        reference: Reference = "mean",
        topk: int = 10,
        keep_table: bool = False,
    ) -> None:
        self.units, self.num_views, self.topk = dict(units), num_views, topk
        self._half = num_views // 2
        width = sum(units.values())
        halves = [UnitMem(width, topk=1) for _ in range(2 if self._half else 0)]
        self.metrics = [UnitMem(width, reference, topk, keep_table), *halves]

    def to(self, device: torch.device) -> "UnitMemPass":
        """Itself, its sums on that device."""
        self.metrics = [metric.to(device) for metric in self.metrics]
        return self

    def update(self, mu_VBU: Tensor, ids_B: Tensor) -> Tensor:
        """Add the activations of views ``(V, B, U)``; returns their mean over views, ``(B, U)``."""
        means = [mu_VBU.mean(0)]
        if self._half:
            means += [mu_VBU[: self._half].mean(0), mu_VBU[self._half :].mean(0)]
        for metric, mu_BU in zip(self.metrics, means, strict=True):
            metric.update(mu_BU, ids_B)
        return means[0]

    def compute(self) -> dict[str, UnitMemResult]:
        """The result of every layer, over the images of all processes."""
        result, *halves = [metric.compute() for metric in self.metrics]
        result.halves = torch.stack([part.unitmem for part in halves]) if halves else None
        ends = torch.tensor(list(self.units.values())).cumsum(0).tolist()
        return {
            layer: result.units(slice(end - width, end))
            for (layer, width), end in zip(self.units.items(), ends, strict=True)
        }


class PassKeeper(Protocol):
    """Keeps what a pass has done where a later call finds it; see `memlight.analyses.unitmem.resume`."""

    def load(self) -> UnitMemPass | None:
        """What an earlier call has done of this process's images, on the CPU; None where there is nothing."""

    def add(self, running: UnitMemPass, mu_BU: Tensor) -> None:
        """Take note of the images that ``running`` was just given, with their mu."""

    def finish(self, running: UnitMemPass) -> None:
        """Take note that this process has seen all its images."""


def measure_unitmem(
    encoder: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    layers: Sequence[str],
    *,
    num_views: int = 10,
    reference: Reference = "mean",
    activation: Activation = "abs",
    tokens: Tokens = "mean",
    topk: int = 10,
    keep_table: bool = False,
    max_forward: int = 512,
    precision: Precision = "fp32",
    device: torch.device | str | None = None,
    keeper: PassKeeper | None = None,
    progress: bool = True,
    title: str = "UnitMem",
) -> dict[str, UnitMemResult]:
    """Score every unit of every layer in one pass.

    The encoder, its buffers, its mode and the random generators are left as they were; with a process group up,
    every process gets the whole result.

    Args:
        encoder: any encoder that `memlight.features.hooks.capture` can read.
        batches: images of one split (this process's share of them).
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        layers: module paths.
        num_views: V, views whose activations are averaged into mu.
        reference: ``mean`` or ``median`` of the other images, see `UnitMem`.
        activation: of which value the mean is taken; see `memlight.features.hooks.capture`.
        tokens: over which tokens the mean is taken; see `memlight.features.hooks.capture`.
        topk: how many of the strongest images to keep for each unit.
        keep_table: keep the ``(N, U)`` table of mu.
        max_forward: most views in one forward.
        precision: see `memlight.features.passes.precise`.
        device: where the encoder is; None asks it.
        keeper: knows what an earlier call has done, and keeps what this one does; ``batches`` are the rest.
        progress: show a bar.
        title: the bar's text.

    Returns:
        A result for each layer, in the order of ``layers``.

    Raises:
        UserError: no or one image, an unknown layer, activations that are not finite or negative on average.
    """
    device = torch.device(device) if device is not None else device_of(encoder)
    running = keeper.load() if keeper is not None else None
    if running is not None:
        running.to(device)
    with one_pass(
        [encoder],
        [layers],
        batches,
        make_views,
        num_views=num_views,
        activation=activation,
        tokens=tokens,
        max_forward=max_forward,
        precision=precision,
        device=device,
        progress=progress,
        title=title,
        begun=running is not None,
    ) as parts:
        for batch, (captured,), _ in parts:
            if running is None:
                units = {layer: captured[layer].shape[1] for layer in layers}
                running = UnitMemPass(units, num_views, reference, topk, keep_table).to(device)
            mu = torch.cat([captured[layer] for layer in layers], dim=1)
            mu_BU = running.update(mu.view(num_views, len(batch.ids), -1), batch.ids)
            if keeper is not None:
                keeper.add(running, mu_BU)
    assert running is not None
    if keeper is not None:
        keeper.finish(running)
    return running.compute()
