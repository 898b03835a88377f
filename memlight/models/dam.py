"""Attention in front of a dense associative memory ([A]; METHODS section 6)."""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ClassVar, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from memlight.errors import UserError
from memlight.models.dam_memory import (
    SAFE_EXPONENT,
    IdentityLoss,
    Memories,
    NextBitLoss,
    SequenceMemory,
    read_votes,
    scores,
)
from memlight.models.sequence_model import SequenceModel

MAX_LOGIT = math.log((1 - 1e-6) / 1e-6)
"""Log-odds are clamped to this on both sides, so that no sequence is impossible."""

_MOST_ENTRIES = 1 << 24
"""Entries of the largest tensor that an evaluation makes at once: 64 MB."""


Method = TypeVar("Method", bound=Callable[..., Any])


def in_full_precision(method: Method) -> Method:
    """Under mixed precision too: 8 bits of a score of some hundreds would leave nothing of its softmax."""

    @wraps(method)
    def exact(self: nn.Module, *arguments: Any) -> Any:
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return method(self, *arguments)

    return cast(Method, exact)


class AttentionDAM(SequenceModel):
    """H attention heads summarise a prefix; sequences in memory with like summaries vote on the next bit.

        A(n)_h,i = softmax over i <= n of a[n,h,i]        phihat(n) = A(n) zeta_1..n
        B_h,j    = softmax over j of b[h,j]               phi_mu    = B chi_mu
        s_mu = eta phihat . phi_mu + log c_mu             P(+1 at n+1) = softmax mass of memories with +1 there

    A step of training: ``loss`` of the batch from the old memory, its gradient, the optimizer's step, ``push``.

        dam = AttentionDAM(num_bits=3, num_heads=1, capacity=10, eta=1.0)
        dam.push(torch.tensor([[1, 1, 1], [1, -1, -1]]))
        dam(torch.tensor([[1, 1, 1]]))                    # 1, .7914, .7914

    Args:
        num_bits: N.
        num_heads: H.
        capacity: M, sequences in memory, copies included; the oldest leave.
        eta: inverse temperature of the memory.
        tied: one a[h,i] for all prefixes, instead of one for each.
        score_scale: sum over heads, or their mean.
        include_first_bit: count the first bit, which no prefix foretells, in the loss.
        loss_kind: bce (of the next bit) or infonce (minus log of the mass on the sequence itself; nothing for
            sequences that are not in memory).
        init_std: of the normal law of all initial logits; at 0 all heads are and stay the same.
        replicas: E; None for one network.
        seeds: one for each member, of its initial logits.

    Attributes:
        A_logits: ``([E,] N, H, N)``; ``[n]`` weighs prefixes of n bits, of which it uses the first n entries;
            ``([E,] H, N)`` where tied.
        B_logits: ``([E,] H, N)``.
    """

    signed: ClassVar[bool] = True

    A_logits: Tensor
    B_logits: Tensor
    _before: Tensor

    def __init__(
        self,
        num_bits: int,
        num_heads: int,
        capacity: int,
        eta: float,
        tied: bool = False,
        score_scale: Literal["sum", "mean"] = "sum",
        include_first_bit: bool = False,
        loss_kind: Literal["bce", "infonce"] = "bce",
        init_std: float = 0.0,
        replicas: int | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        super().__init__(num_bits, replicas, seeds)
        if num_heads < 1:
            raise UserError("num_heads", num_heads, "at least 1 is needed")
        if not (math.isfinite(eta) and eta >= 0):
            raise UserError("eta", eta, "a finite number of at least 0 is needed")
        if score_scale not in ("sum", "mean"):
            raise UserError("score_scale", score_scale, "choose sum or mean")
        if loss_kind not in ("bce", "infonce"):
            raise UserError("loss_kind", loss_kind, "choose bce or infonce")
        if num_bits < 2:
            raise UserError("num_bits", num_bits, "attention over a prefix needs at least 2")
        self.num_heads = num_heads
        self.eta = eta
        self.tied = tied
        self.score_scale = score_scale
        self.include_first_bit = include_first_bit
        self.loss_kind = loss_kind
        self.add_weight("A_logits", (num_heads, num_bits) if tied else (num_bits, num_heads, num_bits), init_std)
        self.add_weight("B_logits", (num_heads, num_bits), init_std)
        self.memory = SequenceMemory(num_bits, capacity, self.members)
        self._scale = eta / num_heads if score_scale == "mean" else eta
        self._shift = self._scale * num_heads + math.log(capacity) > SAFE_EXPONENT
        self.register_buffer("_before", torch.ones(num_bits, num_bits, dtype=torch.bool).tril(-1), persistent=False)

    def scopes(self) -> dict[str, tuple[str, ...]]:
        """A, B and AB."""
        return {"A": ("A_logits",), "B": ("B_logits",), "AB": ("A_logits", "B_logits")}

    @property
    def counted(self) -> Tensor:
        """``bool (N,)``: the positions that the loss averages over."""
        return torch.arange(self.num_bits) >= (0 if self.include_first_bit else 1)

    def set_sequences(self, bits: Tensor) -> None:
        """Name the sequences that `push_ids` speaks of; what is in memory stays.

        Args:
            bits: ``([E,] K, N)`` of 0 and 1; ``(1, K, N)`` serves all members.
        """
        self.memory.set_sequences(bits[None] if self.replicas is None else bits)

    def push(self, bits: Tensor) -> None:
        """Append sequences ``([E,] B, N)`` of -1 and +1 to the memory, whatever they are."""
        self.memory.push(self._lift(bits))

    def push_ids(self, ids: Tensor) -> None:
        """Append sequences by their row numbers, ``int64 ([E,] B)``, in the table of `set_sequences`.

        Raises:
            RuntimeError: no table.
        """
        self.memory.push_rows(ids[None] if self.replicas is None else ids)

    def remember(self, bits: Tensor, ids: Tensor | None = None) -> None:
        """Push a batch, by row numbers where they are known."""
        if ids is None:
            self.push(bits)
        else:
            self.push_ids(ids)

    def clear(self) -> None:
        """Forget every sequence."""
        self.memory.clear()

    def attention_weights(self) -> Tensor:
        """A: ``([E,] N, H, N)``; ``[n]`` sums to 1 over the first n entries and is 0 after them; ``[0]`` is 0."""
        return self._dropped(nn.functional.pad(self._attention(), (0, 0, 0, 0, 1, 0)))

    def feature_weights(self) -> Tensor:
        """B: ``([E,] H, N)``, sums to 1 over bits."""
        return self._dropped(self._lifted("B_logits").softmax(-1))

    def forward(self, bits: Tensor) -> Tensor:
        """Probability of +1 at each position given the bits before it, ``([E,] B, N)``; not clamped."""
        votes = self._votes(bits)
        return votes[..., 0] / votes.sum(-1)

    def logits(self, bits: Tensor) -> Tensor:
        """Log-odds of +1, clamped to ``MAX_LOGIT`` on both sides; see `SequenceModel.logits`."""
        votes = self._votes(bits)
        plus, minus = votes.clamp_min(torch.finfo(votes.dtype).tiny).log().unbind(-1)
        return (plus - minus).clamp(-MAX_LOGIT, MAX_LOGIT)

    @in_full_precision
    def losses(self, bits: Tensor) -> Tensor:
        """Loss in nats of every position, ``([E,] B, N)``."""
        if self.loss_kind == "bce":
            return super().losses(bits)
        memories = self._memories()
        losses = []
        for zeta_EBN in self._batches(bits, memories.width):
            own_EB, held_EB = memories.own(zeta_EBN)
            log_pi_EPBD = self._scores(zeta_EBN, memories).log_softmax(-1)
            own_EPB1 = own_EB[:, None, :, None].expand(-1, self.num_bits, -1, -1)
            losses_EBN = -log_pi_EPBD.gather(-1, own_EPB1)[..., 0].transpose(1, 2)
            losses.append(torch.where(held_EB[..., None] > 0, losses_EBN, 0.0))
        return self._dropped(torch.cat(losses, dim=1))

    @in_full_precision
    def loss(self, bits: Tensor) -> Tensor:
        """As `SequenceModel.loss`, its gradient made in the same sweep over the memories."""
        zeta_EBN = self._zeta(bits)
        memories = self._memories()
        first = 0 if self.include_first_bit else 1
        q_EPBF, keys_EDF = self._queries_and_keys(zeta_EBN, memories, first)
        if self.loss_kind == "infonce":
            total_E = IdentityLoss.apply(q_EPBF, keys_EDF, memories.log_counts, *memories.own(zeta_EBN))
        else:
            plus_EPB = (zeta_EBN[..., first:] > 0).to(zeta_EBN.dtype).transpose(1, 2)
            signs_EP2D = memories.signs[:, first:]
            total_E = NextBitLoss.apply(
                q_EPBF, keys_EDF, memories.log_counts, signs_EP2D, plus_EPB, memories.alive, MAX_LOGIT, self._shift
            )
        return self._dropped(total_E / (zeta_EBN.shape[1] * (self.num_bits - first)))

    @torch.no_grad()
    @in_full_precision
    def retrieval_top1(self, bits: Tensor) -> Tensor:
        """Share of counted positions whose best-scoring memory is the sequence itself: a scalar, or ``(E,)``.

        Args:
            bits: as in `logits`; a sequence that is not in memory is never found.
        """
        memories = self._memories()
        found = []
        for zeta_EBN in self._batches(bits, memories.width):
            own_EB, held_EB = memories.own(zeta_EBN)
            best_EPB = self._scores(zeta_EBN, memories).argmax(-1)[:, 0 if self.include_first_bit else 1 :]
            found.append(((best_EPB == own_EB[:, None]) & (held_EB[:, None] > 0)).to(zeta_EBN.dtype).mean(1))
        return self._dropped(torch.cat(found, dim=1).mean(1))

    def _zeta(self, bits: Tensor) -> Tensor:
        """``(E, B, N)``, in the parameters' type."""
        return self._lift(bits).to(self.B_logits.dtype)

    def _batches(self, bits: Tensor, width: int) -> tuple[Tensor, ...]:
        """``(E, b, N)`` parts; as many as bound ``(E, N, b, width)`` where no gradient needs all at once."""
        zeta_EBN = self._zeta(bits)
        entries = self.members * self.num_bits * width
        return (
            (zeta_EBN,) if torch.is_grad_enabled() else torch.split(zeta_EBN, max(1, _MOST_ENTRIES // entries), dim=1)
        )

    def _attention(self) -> Tensor:
        """``(E, N - 1, H, N)``: A of the prefixes of 1 bit and more."""
        a = self._lifted("A_logits")
        a_EPHN = a[:, None].expand(-1, self.num_bits - 1, -1, -1) if self.tied else a[:, 1:]
        return a_EPHN.masked_fill(~self._before[1:, None], -math.inf).softmax(-1)

    def _memories(self) -> Memories:
        return Memories.of(self.memory, self.B_logits.dtype)

    def _queries_and_keys(self, zeta_EBN: Tensor, memories: Memories, first: int) -> tuple[Tensor, Tensor]:
        """Queries of the positions from ``first`` on, ``(E, P, B, F)``, and keys ``(E or 1, D, F)``.

        F is H, heads against heads; or N, ``(phihat B) . chi``, which has one large product less to differentiate and
        is cheaper from about H = 2 N / 3 on.
        """
        members, batch, bits = zeta_EBN.shape
        a_EXN = self._attention().flatten(1, 2)
        phihat_EPBH = torch.bmm(zeta_EBN, a_EXN.transpose(1, 2)).view(members, batch, bits - 1, -1).transpose(1, 2)
        b_EHN = self._lifted("B_logits").softmax(-1) * self._scale
        if 3 * self.num_heads > 2 * bits:
            q_EPBF = torch.bmm(phihat_EPBH.reshape(members, -1, self.num_heads), b_EHN).view(members, -1, batch, bits)
            keys_EDF = memories.keys
        else:
            q_EPBF = phihat_EPBH.contiguous()
            keys_EDF = torch.matmul(memories.keys, b_EHN.transpose(1, 2))
        return (q_EPBF if first else nn.functional.pad(q_EPBF, (0, 0, 0, 0, 1, 0))), keys_EDF

    def _scores(self, zeta_EBN: Tensor, memories: Memories) -> Tensor:
        """``(E, N, B, D)``."""
        return scores(*self._queries_and_keys(zeta_EBN, memories, first=0), memories.log_counts)

    @in_full_precision
    def _votes(self, bits: Tensor) -> Tensor:
        """``([E,] B, N, 2)``: mass of +1 and of -1, up to a factor; 1/2 each from an empty memory."""
        memories = self._memories()
        parts = [
            read_votes(
                *self._queries_and_keys(zeta_EBN, memories, first=0), memories.log_counts, memories.signs, self._shift
            )
            for zeta_EBN in self._batches(bits, max(self.num_heads, self.num_bits))
        ]
        votes_EBN2 = torch.cat(parts, dim=3).permute(0, 3, 1, 2)
        return self._dropped(torch.where(memories.alive > 0, votes_EBN2, 0.5))
