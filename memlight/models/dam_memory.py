"""The queue of the dense associative memory: the last M sequences, read as distinct rows with their counts."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memlight.errors import UserError


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
            raise UserError(f"--model.capacity {capacity}: a memory holds at least 1 sequence.")
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
