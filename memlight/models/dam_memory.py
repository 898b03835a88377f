"""The dense associative memory: a queue of the last M sequences, and how it is read.

It is read as distinct rows with their counts, by a softmax over them at every position, in tiles that fit a cache.
Queries go position by position: ``q_EPBF`` holds that of position p and sequence b. All three products of a training
step, the scores and both gradients, are made while the softmax of a tile is at hand: it is computed once, never kept.
Powers of 2 take a third of the time of powers of e, and votes for and against a bit need no common denominator.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from memlight.errors import UserError

_TILE_ENTRIES = {"cpu": 1 << 19}
"""Entries (position, sequence, memory) of one tile: 2 MB in a CPU's cache; on a GPU 1 GB, few and large kernels."""

_LOG2_E = 1 / math.log(2)

SAFE_EXPONENT = 64.0
"""Scores of at most this size, either way, are exponentiated as they are: float32 holds ``exp`` of 87."""


@dataclass(frozen=True)
class Memories:
    """What a memory holds, ready to be read.

    Attributes:
        keys: ``(E or 1, D, N)`` distinct sequences of -1 and +1.
        signs: ``(E or 1, N, 2, D)``, 1 where a key has +1 (first) and where it has -1.
        log_counts: ``(E, D)``; -inf for rows that are not held; 0 in an empty memory, which must not be believed.
        alive: scalar, 1, or 0 for an empty memory.
    """

    keys: Tensor
    signs: Tensor
    log_counts: Tensor
    alive: Tensor

    @classmethod
    def of(cls, memory: "SequenceMemory", dtype: torch.dtype) -> "Memories":
        """What ``memory`` holds now."""
        keys, signs, counts = memory.distinct()
        alive = memory.pushed > 0
        log_counts = torch.where(alive, counts.to(dtype).log(), 0.0)
        return cls(keys.to(dtype), signs.to(dtype), log_counts, alive.to(dtype))

    @property
    def width(self) -> int:
        """D."""
        return self.keys.shape[1]

    def own(self, zeta_EBN: Tensor) -> tuple[Tensor, Tensor]:
        """Which memory each sequence is, int64, and 1 or 0 for whether it is any; both ``(E, B)``."""
        agreement_EBD = torch.matmul(zeta_EBN, self.keys.transpose(1, 2))
        same_EBD = (agreement_EBD == zeta_EBN.shape[2]) & (self.log_counts[:, None] > -torch.inf)
        own_EB = same_EBD.to(torch.uint8).argmax(-1)
        return own_EB, same_EBD.any(-1).to(zeta_EBN.dtype) * self.alive


class SequenceMemory(nn.Module):
    """First in, first out, for E members that are pushed to together.

    Identical sequences share a score, so a reader needs only the distinct rows and how often each is queued. The ring
    itself holds bits and checkpoints with the model. Where the sequences are the rows of one known table
    (`set_sequences`) and are pushed by their row numbers, counts follow every push and the table serves as it is;
    else equal rows are found by sorting.

    Args:
        num_bits: N.
        capacity: M, sequences held by each member, copies included.
        members: E.
    """

    bits: Tensor
    ids: Tensor
    pushed: Tensor
    table: Tensor | None
    counts: Tensor | None
    keys: Tensor | None
    signs: Tensor | None
    same: Tensor | None

    def __init__(self, num_bits: int, capacity: int, members: int) -> None:
        super().__init__()
        if capacity < 1:
            raise UserError("capacity", capacity, "a memory holds at least 1 sequence")
        self.num_bits = num_bits
        self.capacity = capacity
        self.register_buffer("bits", torch.zeros(members, capacity, num_bits, dtype=torch.uint8))
        self.register_buffer("ids", torch.full((members, capacity), -1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        for name in ("counts", "keys", "signs", "same", "table"):
            self.register_buffer(name, None, persistent=False)
        self._unknown = 0  # pushes by number that it takes until every row held is one of the table's
        self.register_load_state_dict_post_hook(_recognise)  # type: ignore[no-untyped-call]

    @property
    def members(self) -> int:
        """E."""
        return len(self.bits)

    def set_sequences(self, bits: Tensor) -> None:
        """Name the table whose row numbers `push_rows` may be given; what is held stays.

        Args:
            bits: ``uint8 (E, K, N)`` of 0 and 1; ``(1, K, N)`` for all members.
        """
        self.table = bits.to(self.bits.device)
        self.keys = self.signs = self.counts = self.same = None
        if self.table.shape[1] <= self.capacity:
            self.keys, self.signs = _keys_and_signs(self.table)
            self.same = _first_alike(self.table)
            self.counts = torch.zeros(self.members, self.table.shape[1], device=self.bits.device)
        self.recognise()

    def recognise(self) -> None:
        """Forget row numbers that do not fit the table, after a new table or a checkpoint, and count the others."""
        if self.table is None:
            self._unknown = self.capacity
            return
        known = self.ids.clamp(0, self.table.shape[1] - 1)
        fits = (_rows(self.table, known) == self.bits).all(-1) & (self.ids == known)
        self.ids.copy_(torch.where(fits, self.ids, -1))
        if self.counts is not None:
            self.counts.zero_()
        self._count(self.ids, 1)
        slots = torch.arange(self.capacity, device=self.ids.device)
        age = (self.pushed - 1 - slots) % self.capacity
        foreign = (self.ids < 0).any(0) & (slots < self.pushed)
        self._unknown = int(torch.where(foreign, self.capacity - age, 0).max())

    def push(self, bits: Tensor, ids: Tensor | None = None) -> None:
        """Append a batch and drop the oldest beyond M.

        Args:
            bits: ``(E, B, N)``; above 0 means 1.
            ids: ``int64 (E, B)`` their row numbers in the table; None where they may be any sequences.
        """
        with torch.no_grad():
            batch = bits.shape[1]
            left = max(0, batch - self.capacity)
            slots = (self.pushed + torch.arange(left, batch, device=bits.device)) % self.capacity
            if ids is None:
                ids = torch.full(bits.shape[:2], -1, device=bits.device)
                self._unknown = self.capacity
            else:
                self._unknown = max(0, self._unknown - batch)
            self._count(self.ids[:, slots], -1)
            self._count(ids[:, left:], 1)
            self.bits.index_copy_(1, slots, (bits[:, left:] > 0).to(torch.uint8))
            self.ids.index_copy_(1, slots, ids[:, left:])
            self.pushed += batch

    def push_rows(self, ids: Tensor) -> None:
        """Append rows ``int64 (E, B)`` of the table.

        Raises:
            RuntimeError: no table.
        """
        if self.table is None:
            raise RuntimeError("set_sequences has to name the table that row numbers speak of")
        self.push(_rows(self.table, ids), ids)

    def clear(self) -> None:
        """Forget everything."""
        self.bits.zero_()
        self.ids.fill_(-1)
        self.pushed.zero_()
        if self.counts is not None:
            self.counts.zero_()
        self._unknown = 0

    def distinct(self) -> tuple[Tensor, Tensor, Tensor]:
        """The distinct sequences held.

        Returns:
            keys ``(E or 1, D, N)`` of -1 and +1; signs ``(E or 1, N, 2, D)``, 1 where a key has +1 and where it has -1;
            counts ``(E, D)``, 0 for rows that are not held.
        """
        if self._unknown == 0 and self.keys is not None and self.signs is not None and self.counts is not None:
            return self.keys, self.signs, self.counts
        order, kind = _kinds(_packed(self.bits), torch.arange(self.capacity, device=self.bits.device) < self.pushed)
        first = torch.zeros_like(order).scatter_(1, kind, order)
        counts = torch.zeros_like(order).scatter_add_(1, kind, (order < self.pushed).long())
        if counts.device.type == "cpu":  # elsewhere the width stays, so that a step waits for nothing
            width = max(1, int((counts > 0).sum(1).max()))
            first, counts = first[:, :width], counts[:, :width]
        keys, signs = _keys_and_signs(_rows(self.bits, first))
        return keys, signs, counts.to(keys.dtype)

    def _count(self, ids: Tensor, change: int) -> None:
        """Add to the counts of rows, where they are kept; -1 is none."""
        if self.counts is None:
            return
        rows = ids.clamp(min=0)
        if self.same is not None:
            rows = self.same.expand(self.members, -1).gather(1, rows)
        self.counts.scatter_add_(1, rows, (ids >= 0).to(self.counts.dtype) * change)


def _recognise(memory: SequenceMemory, _: object) -> None:
    memory.recognise()


def _keys_and_signs(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``uint8 (E, D, N)``; see `SequenceMemory.distinct`."""
    plus = bits > 0
    dtype = torch.get_default_dtype()
    signs = torch.stack([plus, ~plus], dim=1).permute(0, 3, 1, 2)
    return plus.to(dtype) * 2 - 1, signs.to(dtype).contiguous()


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """``(E, S, N)``: rows ``index (E, S)`` of ``x (E or 1, R, N)``."""
    members = torch.arange(len(index), device=x.device)[:, None] if len(x) > 1 else 0
    return x[members, index]


def _packed(bits: Tensor) -> Tensor:
    """``int64 (E, M, W)``: 62 bits a word, never negative."""
    weights = 2 ** torch.arange(62, device=bits.device)
    parts = [(part.long() * weights[: part.shape[-1]]).sum(-1) for part in torch.split(bits, 62, dim=-1)]
    return torch.stack(parts, dim=-1)


def _kinds(words: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Sort rows so that equal ones are neighbours.

    Args:
        words: ``int64 (E, R, W)``; rows are equal where all words are.
        used: ``bool (R,)``; the other rows come last.

    Returns:
        ``int64 (E, R)`` the order, and the kind of each row in it: 0, 1, 2, ...
    """
    order = torch.arange(words.shape[1], device=words.device).expand(words.shape[:2])
    for word in (*words.unbind(-1), (~used).long().expand_as(order)):
        order = order.gather(1, word.gather(1, order).argsort(dim=1, stable=True))
    ordered = words.gather(1, order[..., None].expand_as(words))
    starts = torch.zeros_like(order)
    starts[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).any(-1) | (used[order[:, 1:]] != used[order[:, :-1]])
    return order, starts.cumsum(1)


def _first_alike(table: Tensor) -> Tensor | None:
    """``int64 (E, K)``: for each row one that all equal rows share; None where no row comes twice."""
    order, kind = _kinds(_packed(table), torch.ones(table.shape[1], dtype=torch.bool, device=table.device))
    if bool((kind[:, -1] == table.shape[1] - 1).all()):
        return None
    chosen = torch.zeros_like(order).scatter_(1, kind, order)
    return torch.zeros_like(order).scatter_(1, order, chosen.gather(1, kind))


def read_votes(q_EPBF: Tensor, keys_EDF: Tensor, log_counts_ED: Tensor, signs_EP2D: Tensor, shift: bool) -> Tensor:
    """Mass of the memories with +1, and of those with -1, at each position.

    Args:
        q_EPBF: queries, the inverse temperature included.
        keys_EDF: one for each distinct memory; E may be 1.
        log_counts_ED: logarithm of how often each is held; -inf where it is not.
        signs_EP2D: 1 where a memory has +1 (first) or -1 at the position; E may be 1.
        shift: scores may exceed `SAFE_EXPONENT`: subtract the highest first.

    Returns:
        ``(E, P, 2, B)``; only the ratio of the two has a meaning.
    """
    parts, tiles = [], _tiles(q_EPBF, log_counts_ED)
    for e, p in tiles:
        q = q_EPBF[e, p]
        masses_RBD = _masses(_scores(q, _of(keys_EDF, e), log_counts_ED[e], _LOG2_E), q, shift)
        parts.append(_votes(masses_RBD, _flat(signs_EP2D, e, p, q)).view(*q.shape[:2], 2, -1))
    return torch.cat([torch.cat(of_member, dim=1) for of_member in _by_member(parts, tiles)])


def scores(q_EPBF: Tensor, keys_EDF: Tensor, log_counts_ED: Tensor) -> Tensor:
    """``(E, P, B, D)``: the score of every memory; see `read_votes`."""
    return _scores(q_EPBF, keys_EDF, log_counts_ED).view(*q_EPBF.shape[:3], -1)


class NextBitLoss(torch.autograd.Function):
    """Binary cross-entropy of the next bit, summed over positions and sequences, ``(E,)``."""

    @staticmethod
    def forward(
        ctx: Any,
        q_EPBF: Tensor,
        keys_EDF: Tensor,
        log_counts_ED: Tensor,
        signs_EP2D: Tensor,
        plus_EPB: Tensor,
        alive: Tensor,
        max_logit: float,
        shift: bool,
    ) -> Tensor:
        """See `read_votes`; log-odds are clamped to ``max_logit``.

        ``plus_EPB`` is 1 where the bit is +1, else 0; ``alive`` a scalar, 1, or 0 for an empty memory, which says 1/2
        everywhere.
        """
        sums, grads, tiles = [], _Gradients(ctx, q_EPBF, keys_EDF), _tiles(q_EPBF, log_counts_ED)
        room = _Room(q_EPBF, log_counts_ED.shape[1], tiles[0])
        for e, p in tiles:
            q, keys, signs_R2D = q_EPBF[e, p], _of(keys_EDF, e), _flat(signs_EP2D, e, p, q_EPBF[e, p])
            masses_RBD = _masses(_scores(q, keys, log_counts_ED[e], _LOG2_E, room), q, shift)
            votes_R2B = _votes(masses_RBD, signs_R2D)
            log_votes_R2B = votes_R2B.log()
            logits_RB = log_votes_R2B[:, 0] - log_votes_R2B[:, 1]
            inside_RB = logits_RB.abs() < max_logit
            logits_RB = logits_RB.clamp(-max_logit, max_logit) * alive
            plus_RB = plus_EPB[e, p].flatten(0, 1)
            losses_RB = torch.nn.functional.softplus(logits_RB) - plus_RB * logits_RB
            sums.append(losses_RB.view(q.shape[0], -1).sum(1))
            if grads.wanted:
                slope_RB = torch.where(inside_RB, torch.sigmoid(logits_RB) - plus_RB, 0.0) * alive
                share_R2B = torch.where(inside_RB[:, None], slope_RB[:, None] / votes_R2B, 0.0)
                share_R2B[:, 1].neg_()
                slopes_RBD = torch.bmm(share_R2B.transpose(1, 2), signs_R2D, out=room.second(masses_RBD))
                grads.add(e, p, q, keys, slopes_RBD.mul_(masses_RBD))
        ctx.made = grads.q, grads.keys
        return torch.cat([torch.stack(of_member).sum(0) for of_member in _by_member(sums, tiles)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_E: Tensor) -> tuple[Tensor | None, ...]:
        """What `forward` has made, times the gradient of each member's sum."""
        return (*_Gradients.scaled(ctx, grad_E), None, None, None, None, None, None)


class IdentityLoss(torch.autograd.Function):
    """Minus log of the softmax mass on the sequence itself, summed over positions and sequences, ``(E,)``."""

    @staticmethod
    def forward(
        ctx: Any, q_EPBF: Tensor, keys_EDF: Tensor, log_counts_ED: Tensor, own_EB: Tensor, held_EB: Tensor
    ) -> Tensor:
        """See `read_votes`; ``own_EB`` and ``held_EB`` are as `Memories.own` gives them.

        A sequence that is not held counts for nothing.
        """
        sums, grads, tiles = [], _Gradients(ctx, q_EPBF, keys_EDF), _tiles(q_EPBF, log_counts_ED)
        for e, p in tiles:
            q, keys = q_EPBF[e, p], _of(keys_EDF, e)
            members, positions, batch, _ = q.shape
            log_pi = _scores(q, keys, log_counts_ED[e]).log_softmax(-1).view(members, positions, batch, -1)
            own = own_EB[e, None, :, None].expand(-1, positions, -1, -1)
            held = held_EB[e, None, :, None].expand(-1, positions, -1, -1)
            sums.append(-torch.where(held > 0, log_pi.gather(-1, own), 0.0).flatten(1).sum(1))
            if grads.wanted:
                slopes = log_pi.exp_().mul_(held).scatter_add_(-1, own, -held)
                grads.add(e, p, q, keys, slopes.flatten(0, 1))
        ctx.made = grads.q, grads.keys
        return torch.cat([torch.stack(of_member).sum(0) for of_member in _by_member(sums, tiles)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_E: Tensor) -> tuple[Tensor | None, ...]:
        """What `forward` has made, times the gradient of each member's sum."""
        return (*_Gradients.scaled(ctx, grad_E), None, None, None)


class _Gradients:
    """Sums the gradients of queries and keys over tiles, from those of the scores."""

    def __init__(self, ctx: Any, q_EPBF: Tensor, keys_EDF: Tensor) -> None:
        self.wanted = any(ctx.needs_input_grad[:2])
        self.q = torch.empty_like(q_EPBF) if ctx.needs_input_grad[0] else None
        self.keys = torch.zeros_like(keys_EDF) if ctx.needs_input_grad[1] else None

    def add(self, e: slice, p: slice, q: Tensor, keys: Tensor, slopes_RBD: Tensor) -> None:
        """Of one tile. The narrow matrix goes first: BLAS is up to seven times as fast this way round."""
        members = len(q)
        slopes = slopes_RBD.view(members, -1, slopes_RBD.shape[-1])
        if self.q is not None:
            towards_q = torch.bmm(keys.expand(members, -1, -1).transpose(1, 2), slopes.transpose(1, 2))
            self.q[e, p] = towards_q.transpose(1, 2).view_as(q)
        if self.keys is not None:
            towards_keys = torch.bmm(q.reshape(members, slopes.shape[1], -1).transpose(1, 2), slopes)
            self.keys[e] += towards_keys.transpose(1, 2)

    @staticmethod
    def scaled(ctx: Any, grad_E: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Those of a sweep, times the gradient of each member's sum."""
        q, keys = ctx.made
        of_q = None if q is None else q * grad_E[:, None, None, None]
        return of_q, None if keys is None else keys * grad_E[:, None, None]


class _Room:
    """Two buffers of a tile's size for a whole sweep: new ones for every tile cost more page faults than arithmetic."""

    def __init__(self, q_EPBF: Tensor, width: int, tile: tuple[slice, slice]) -> None:
        self.buffers = q_EPBF.new_empty(2, math.prod(q_EPBF[tile].shape[:3]) * width)

    def first(self, *shape: int) -> Tensor:
        """The one for scores and masses."""
        return self.buffers[0, : math.prod(shape)].view(shape)

    def second(self, like: Tensor) -> Tensor:
        """The one for their slopes."""
        return self.buffers[1, : like.numel()].view_as(like)


def _scores(
    q_epbF: Tensor, keys_eDF: Tensor, log_counts_eD: Tensor, unit: float = 1.0, room: _Room | None = None
) -> Tensor:
    """``(e, p b, D)``, times ``unit``."""
    members, width = len(q_epbF), q_epbF.shape[-1]
    q_eRF = q_epbF.reshape(members, -1, width)
    keys_eFD = keys_eDF.expand(members, -1, -1).transpose(1, 2)
    out = None if room is None else room.first(members, q_eRF.shape[1], keys_eFD.shape[2])
    counts_e1D = log_counts_eD[:, None] * unit
    return torch.baddbmm(counts_e1D, q_eRF, keys_eFD, alpha=unit, out=out)


def _masses(scores_eRD: Tensor, q_epbF: Tensor, shift: bool) -> Tensor:
    """``(e p, b, D)``: 2 to the power of the scores, in their place."""
    if shift:
        scores_eRD.sub_(scores_eRD.detach().amax(-1, keepdim=True))
    return scores_eRD.exp2_().view(-1, q_epbF.shape[2], scores_eRD.shape[-1])


def _votes(masses_RBD: Tensor, signs_R2D: Tensor) -> Tensor:
    """``(R, 2, B)``."""
    return torch.bmm(signs_R2D, masses_RBD.transpose(1, 2))


def _flat(signs_EP2D: Tensor, e: slice, p: slice, q_epbF: Tensor) -> Tensor:
    """``(e p, 2, D)``: the signs of a tile."""
    return _of(signs_EP2D, e)[:, p].expand(len(q_epbF), -1, -1, -1).flatten(0, 1)


def _of(shared: Tensor, e: slice) -> Tensor:
    """Those of a tile's members; all where all share them."""
    return shared[e] if len(shared) > 1 else shared


def _tiles(q_EPBF: Tensor, log_counts_ED: Tensor) -> list[tuple[slice, slice]]:
    """Members and positions of every tile, all positions of some members before the next ones."""
    members, positions, batch, _ = q_EPBF.shape
    most, entries = _TILE_ENTRIES.get(q_EPBF.device.type, 1 << 28), max(1, batch * log_counts_ED.shape[1])
    wide, long = max(1, most // (positions * entries)), max(1, most // entries)
    starts = [(e, p) for e in range(0, members, wide) for p in range(0, positions, long)]
    return [(slice(e, e + wide), slice(p, p + long)) for e, p in starts]


def _by_member(parts: list[Tensor], tiles: list[tuple[slice, slice]]) -> list[list[Tensor]]:
    """What was made of each tile, in a list for every tile of members."""
    count = sum(e.start == 0 for e, _ in tiles)
    return [parts[i : i + count] for i in range(0, len(parts), count)]
