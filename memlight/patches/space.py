"""Where two patches are near: the three metrics as one Euclidean distance, and how far a fast product may be off."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from memlight.errors import UserError

Metric = Literal["l2", "cosine", "l2_normalized"]

_UNIT = 2.0**-24
"""Largest relative error of one float32 rounding."""

_IN_CACHE, _ON_DEVICE = 1 << 17, 1 << 24
"""Numbers in use at once while pairs of vectors are compared; a CPU keeps them in its cache."""


@dataclass(frozen=True, eq=False)
class Space:
    """Vectors divided by their norm where the metric asks for it, then centred, which leaves distances as they are.

    ``l2`` is the distance ``|q - x|``, not its square; ``l2_normalized`` the same of unit vectors; ``cosine`` is
    ``1 - cos(q, x) = |q - x|^2 / 2`` of unit vectors. All three are increasing in one squared Euclidean distance.

    Attributes:
        metric: ``l2``, ``l2_normalized`` or ``cosine``.
        centre_D: the vector that is subtracted.
    """

    metric: Metric
    centre_D: Tensor

    @classmethod
    def around(cls, metric: Metric, queries_QD: Tensor) -> "Space":
        """The space whose centre is the mean of the queries, float32."""
        space = cls(metric, queries_QD.new_zeros(queries_QD.shape[1]))
        units = space._unit(queries_QD)
        return replace(space, centre_D=units.double().mean(0).float()) if len(units) else space

    def to(self, device: torch.device) -> "Space":
        """The same space with its centre on another device."""
        return replace(self, centre_D=self.centre_D.to(device))

    @property
    def normalizes(self) -> bool:
        """Whether vectors are divided by their norm."""
        return self.metric != "l2"

    def embed(self, rows_ND: Tensor, what: str, first: int = 0) -> Tensor:
        """Rows in this space, float32.

        Args:
            rows_ND: float32.
            what: argument that an error names.
            first: number of the first row, for an error.

        Raises:
            UserError: a row is not finite, or is zero and the metric needs a direction.
        """
        norms = torch.linalg.vector_norm(rows_ND, dim=1)
        bad = ~norms.isfinite() | (norms == 0) if self.normalizes else ~norms.isfinite()
        if bad.any():
            row = int(bad.nonzero()[0, 0])
            if norms[row] == 0:
                why = f"row {first + row} is zero and has no direction"
                raise UserError(what, None, why, "use `metric='l2'`")
            raise UserError(what, None, f"row {first + row} holds NaN or infinity", "extract with another `extractor`")
        return self._unit(rows_ND) - self.centre_D

    def _unit(self, rows_ND: Tensor) -> Tensor:
        if not self.normalizes:
            return rows_ND
        norms: Tensor = torch.linalg.vector_norm(rows_ND, dim=1, keepdim=True, dtype=torch.float64)
        return rows_ND / norms.float()

    def squared(self, queries_QD: Tensor, rows_ND: Tensor, query_P: Tensor, row_P: Tensor) -> Tensor:
        """Squared distances of pairs ``(P,)`` float64, from direct differences of the vectors as they are stored.

        Args:
            queries_QD: float32, not embedded.
            rows_ND: float32, not embedded.
            query_P: position of each pair's query.
            row_P: position of its row.
        """
        out = torch.empty(len(query_P), dtype=torch.float64, device=queries_QD.device)
        numbers = _IN_CACHE if queries_QD.device.type == "cpu" else _ON_DEVICE
        at_once = max(1, numbers // max(1, queries_QD.shape[1]))
        for start in range(0, len(query_P), at_once):
            part = slice(start, start + at_once)
            q, x = queries_QD[query_P[part]].double(), rows_ND[row_P[part]].double()
            if self.normalizes:
                q = q / torch.linalg.vector_norm(q, dim=1, keepdim=True)
                x = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
            out[part] = (q - x).square_().sum(1)
        return out

    def distance(self, squared: Tensor) -> Tensor:
        """The metric, float32, from squared distances in float64."""
        return (squared / 2 if self.metric == "cosine" else squared.sqrt()).float()

    def largest_squared(self, distance: Tensor) -> Tensor:
        """An upper bound, float64, of the squared distances that are rounded to a distance or less."""
        above = distance.double() * (1 + 2.0**-23) + 1e-45
        return 2 * above if self.metric == "cosine" else above.square()

    def error(self, query_norms: Tensor, row_norm: Tensor) -> Tensor:
        """Bound of the error of the score ``q.x - |x|^2 / 2`` of embedded vectors, computed in float32.

        Any order of summation is off by at most ``D u |q| |x|`` (Higham 2002, equation 3.5); rounding the embedded
        vectors themselves adds a few u.

        Args:
            query_norms: ``(Q,)`` of the embedded queries.
            row_norm: the largest of the embedded rows, a scalar.
        """
        reach = query_norms.double() + row_norm.double()
        scale = 1.0 if self.normalizes else 0.0
        return _UNIT * ((len(self.centre_D) + 16) * reach.square() + 16 * scale * reach)
