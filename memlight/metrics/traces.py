"""What training may leave of an image in a layer besides the alignment of its views: norm, density, features.

All of it comes from the forwards that LayerMem makes anyway, and is kept by image. A layer's whole output is kept as a
sketch of `SKETCH` numbers, so that memory does not grow with the feature map.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from memlight import dist
from memlight.metrics.ids import distinct

SKETCH = 512
"""Numbers that stand for a layer's flattened output; cosines of longer ones are off by about 1 / sqrt(512) = .04."""

NEIGHBOURS = 20
"""Nearest shared images whose mean cosine distance is the density around an image."""

COMPONENTS = 64
"""Principal components of the sketch that the probe sees beside the units."""

MOST_UNITS = 256
"""Principal components that stand for the units of a wider layer in the probe."""

FOLDS = 5
"""Parts of the images: the probe scores each part after it was fitted to the others."""

_EPSILON = 1e-12
_BLOCK = 1 << 25


class Traces(NamedTuple):
    """What one layer of one encoder leaves of each image, in ascending order of id.

    Attributes:
        log_norm: ``(N,)`` log of the l2 norm of the flattened output, mean over views.
        sketch: ``(N, S)`` float16, a sketch of the normalised output, mean over views; see `sketch`.
        units: ``(N, U)`` float32, mean of the absolute activation of each unit over positions and views.
    """

    log_norm: Tensor
    sketch: Tensor
    units: Tensor


def sketch(z_BD: Tensor, size: int = SKETCH) -> Tensor:
    """Fold vectors into ``size`` numbers whose inner products are those of the vectors, in expectation.

    Every coordinate gets a random sign and is added to bucket ``d mod size`` (a count sketch: Charikar, Chen and
    Farach-Colton 2002; Weinberger et al. 2009, eq 4). Shorter vectors are kept as they are, but for their signs.

    Args:
        z_BD: ``(B, D)``.
        size: S.

    Returns:
        ``(B, S)``, of the same type.
    """
    width = z_BD.shape[1]
    generator = torch.Generator().manual_seed(width)  # the same signs for every batch, encoder and process
    signs = torch.randint(2, (width,), generator=generator, dtype=torch.int8).to(z_BD.device)
    folds = -(-width // size)
    signed = z_BD * (2 * signs - 1).to(z_BD.dtype)
    return torch.nn.functional.pad(signed, (0, folds * size - width)).view(len(z_BD), folds, size).sum(1)


def tracer(align: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What reduces a layer's features ``(V, b, D)`` to ``(b, 2 + S)``: alignment, log norm and sketch of each image.

    Args:
        align: gives the alignment ``(b,)`` of such features.
    """

    def reduce(z_VBD: Tensor) -> Tensor:
        aligned = align(z_VBD)
        z = z_VBD.to(torch.promote_types(z_VBD.dtype, torch.float32))
        norm_VB = torch.linalg.vector_norm(z, dim=2).clamp(min=_EPSILON)
        mean = torch.einsum("vbd,vb->bd", z, 1 / norm_VB) / len(z)
        return torch.cat([aligned[:, None], norm_VB.log().mean(0)[:, None], sketch(mean)], dim=1)

    return reduce


class TracesPass:
    """Traces of all layers of one encoder while images go by, kept in main memory.

    Args:
        layers: in execution order.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        self.layers = list(layers)
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._widths: list[int] = []

    def update(self, traced: Mapping[str, Tensor], units: Mapping[str, Tensor], num_views: int) -> None:
        """Add some images: layer -> what `tracer` gave ``(b, 2 + S)``, and their units ``(V * b, U)``, view-major."""
        means = [units[layer].view(num_views, -1, units[layer].shape[1]).mean(0) for layer in self.layers]
        self._widths = [mean.shape[1] for mean in means]
        numbers = torch.cat([*(traced[layer][:, 1:2] for layer in self.layers), *means], dim=1).float()
        folded = torch.stack([traced[layer][:, 2:] for layer in self.layers]).half()
        self._rows.append((numbers.cpu(), folded.cpu()))

    def compute(self, ids: Tensor) -> dict[str, Traces]:
        """Of every layer, over all processes, each image once, in ascending order of id.

        Args:
            ids: of all images that this process added, in their order, on the device that processes talk through.
        """
        order = distinct(dist.gather_cat(ids)).cpu()
        numbers = torch.cat([rows for rows, _ in self._rows])
        log_norms, *units = torch.split(numbers, [len(self.layers), *self._widths], dim=1)
        found = {}
        for row, layer in enumerate(self.layers):
            own = (log_norms[:, row], torch.cat([folded[row] for _, folded in self._rows]), units[row])
            found[layer] = Traces(*(dist.gather_cat(column.to(ids.device)).cpu()[order] for column in own))
        return found


def nearest_distance(query_NS: Tensor, reference_MS: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Mean cosine distance of each vector to its ``k`` nearest among the references; all of them if there are fewer.

    Args:
        query_NS: ``(N, S)``.
        reference_MS: ``(M, S)``, M at least 1, none of them a query.
        k: neighbours.

    Returns:
        ``(N,)`` float32; a zero vector is at distance 1 from all.
    """
    reference = torch.nn.functional.normalize(reference_MS.float(), dim=1)
    step = max(1, _BLOCK // len(reference))
    distances = [torch.empty(0)]
    for start in range(0, len(query_NS), step):
        query = torch.nn.functional.normalize(query_NS[start : start + step].float(), dim=1)
        nearest = (query @ reference.T).topk(min(k, len(reference)), dim=1).values
        distances.append((1 - nearest).mean(1).cpu())
    return torch.cat(distances)


def membership_probe(traces: Traces, member_N: Tensor, *, l2: float = 1e-2, seed: int = 0) -> Tensor:
    """Cross-fitted log odds that an image was trained on, from what a layer makes of it (a white-box attack).

    Logistic regression with a ridge penalty on the standardised means of the units and the first `COMPONENTS`
    principal components of the sketch, fitted to four fifths of the images and read off the fifth left out, in turn.
    It takes Newton steps with the bound of the Hessian by ``X'X / 4`` (Böhning and Lindsay 1988), so that one
    factorisation serves all steps.

    Args:
        traces: of N images.
        member_N: ``(N,)`` bool.
        l2: penalty of the weights, relative to the mean loss.
        seed: of the folds, which hold the same share of members.

    Returns:
        ``(2, N)``: log odds, and the number of the fold.
    """
    features = torch.cat([_components(traces.units, MOST_UNITS), _components(traces.sketch, COMPONENTS)], dim=1)
    fold_N = _folds(member_N, seed)
    odds = torch.zeros(len(member_N), dtype=torch.float64)
    for fold in range(FOLDS):
        held = fold_N == fold
        odds[held] = _fitted(features[~held], member_N[~held].double(), features[held], l2)
    return torch.stack([odds, fold_N.double()])


def _components(values_NK: Tensor, most: int) -> Tensor:
    """At most so many columns of unit variance: the columns themselves, or principal components of more of them."""
    values = values_NK.double() - values_NK.double().mean(0)
    if values.shape[1] > most:
        _, vectors = torch.linalg.eigh(values.T @ values)
        values = values @ vectors[:, -most:]
    deviation = values.std(0, correction=0)
    return values / torch.where(deviation > 1e-9 * deviation.max().clamp(min=_EPSILON), deviation, torch.inf)


def _folds(member_N: Tensor, seed: int) -> Tensor:
    fold_N = torch.empty(len(member_N), dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    for group in (member_N.nonzero().flatten(), (~member_N).nonzero().flatten()):
        order = torch.randperm(len(group), generator=generator)
        fold_N[group[order]] = torch.arange(len(group)) % FOLDS
    return fold_N


def _fitted(x_ND: Tensor, y_N: Tensor, test_MD: Tensor, l2: float, steps: int = 200) -> Tensor:
    count, width = x_ND.shape
    x = torch.cat([x_ND, x_ND.new_ones(count, 1)], dim=1)
    penalty = torch.cat([x.new_full((width,), l2), x.new_zeros(1)])
    bound = torch.linalg.cholesky(x.T @ x / (4 * count) + torch.diag(penalty + _EPSILON))
    weight = x.new_zeros(width + 1)
    for _ in range(steps):
        gradient = x.T @ (torch.sigmoid(x @ weight) - y_N) / count + penalty * weight
        step = torch.cholesky_solve(gradient[:, None], bound)[:, 0]
        weight = weight - step
        if float(step.abs().max()) < 1e-6:
            break
    return test_MD @ weight[:-1] + weight[-1]
