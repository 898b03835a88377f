"""What every model of bit sequences has in common: members that train together, losses by position, named scopes."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from memlight.errors import UserError


class SequenceModel(nn.Module, ABC):
    """Predicts every bit of a sequence from those before it, for one network or for E of them at once.

    With ``replicas=None`` there is one network and no tensor has an E. With E replicas, parameters, buffers, inputs and
    outputs lead with E, and member e is the network that ``replicas=None, seeds=[seeds[e]]`` would be.

    Args:
        num_bits: N, bits in a sequence.
        replicas: E; None for one network.
        seeds: one for each member, of its initial weights; None for 0, 1, 2, ...

    Attributes:
        signed: inputs are -1 and +1 instead of 0 and 1.
    """

    signed: ClassVar[bool] = False

    def __init__(self, num_bits: int, replicas: int | None, seeds: Sequence[int] | None) -> None:
        super().__init__()
        if num_bits < 1:
            raise UserError("num_bits", num_bits, "at least 1 is needed")
        if replicas is not None and replicas < 1:
            raise UserError("replicas", replicas, "at least 1 is needed")
        self.num_bits = num_bits
        self.replicas = replicas
        self.members = replicas or 1
        self.seeds = tuple(range(self.members) if seeds is None else seeds)
        if len(self.seeds) != self.members:
            members = "member" if self.members == 1 else "members"
            why = f"{len(self.seeds)} seeds for {self.members} {members}"
            raise UserError("seeds", None, why, "give one for each")
        self._initial: dict[str, tuple[float, float]] = {}

    @abstractmethod
    def logits(self, bits: Tensor) -> Tensor:
        """Log-odds of bit 1 (or +1) at each position, given the bits before it.

        Args:
            bits: ``([E,] B, N)`` of any dtype; -1 and +1 where the model is ``signed``, else 0 and 1. A single member's
                sequences ``(1, B, N)`` serve all members.

        Returns:
            ``([E,] B, N)``; entry n follows from the first n bits alone.
        """

    @abstractmethod
    def scopes(self) -> dict[str, tuple[str, ...]]:
        """Names of the parameters that can be frozen, restored or reset together, by the name of their scope."""

    @property
    def counted(self) -> Tensor:
        """``bool (N,)``: the positions that the loss averages over: all but the first."""
        return torch.arange(self.num_bits) > 0

    def losses(self, bits: Tensor) -> Tensor:
        """Loss in nats of every position, ``([E,] B, N)``, counted or not."""
        logits = self.logits(bits)
        plus = (bits > 0).to(logits.dtype).expand_as(logits)
        return nn.functional.binary_cross_entropy_with_logits(logits, plus, reduction="none")

    def loss(self, bits: Tensor) -> Tensor:
        """Mean over sequences and counted positions, in nats: a scalar, or ``(E,)`` of which the sum is minimised."""
        first = int(self.num_bits - self.counted.sum())
        return self.losses(bits)[..., first:].mean((-2, -1))

    def remember(self, bits: Tensor, ids: Tensor | None = None) -> None:
        """What the model does with a batch after the optimizer's step: nothing, unless it has a memory.

        Args:
            bits: as in `logits`.
            ids: ``int64 ([E,] B)`` ranks of the sequences in their set, where they are known.
        """
        del bits, ids

    def set_sequences(self, bits: Tensor) -> None:
        """Say which sequences row numbers speak of: of use to a memory alone.

        Args:
            bits: ``([E,] K, N)`` of 0 and 1; ``(1, K, N)`` for all members.
        """
        del bits

    def clear(self) -> None:
        """Empty the memory, where there is one."""
        return

    def names_in(self, scope: str) -> tuple[str, ...]:
        """The parameters in a scope, or in several joined by ``+`` as in ``mlp+head``.

        Raises:
            UserError: no such scope; lists those there are.
        """
        scopes = self.scopes()
        unknown = [part for part in scope.split("+") if part not in scopes]
        if unknown:
            why = f"{type(self).__name__} has no {unknown[0]!r}"
            raise UserError("scope", scope, why, f"scopes are {', '.join(scopes)}, and + joins several")
        found = {name for part in scope.split("+") for name in scopes[part]}
        return tuple(name for name, _ in self.named_parameters() if name in found)

    def reset_scope(self, scope: str, std: float | None = None, seed: int = 0) -> None:
        """Draw the parameters of a scope anew.

        Args:
            scope: see `names_in`.
            std: of a normal law around 0; None for the law of the initial weights.
            seed: another one draws other values; with its own seed every member draws its own.
        """
        for name in self.names_in(scope):
            mean, spread = self._initial[name] if std is None else (0.0, std)
            self._fill(name, spread, mean, f"reset {seed}")

    def shuffle_scope(self, scope: str, seed: int = 0) -> None:
        """Permute the entries of each parameter of a scope, every member's among themselves and in its own order.

        Entries that the model masks take part as well.
        """
        for name in self.names_in(scope):
            flat = self._lifted(name).detach().view(self.members, -1)
            for member in range(self.members):
                generator = self._generator(member, name, f"shuffle {seed}")
                order = torch.randperm(flat.shape[1], generator=generator, device=generator.device)
                flat[member] = flat[member, order.to(flat.device)]

    def keep_members(self, share: slice) -> None:
        """Drop all members but some. Everything that is saved leads with the E axis, scalars aside.

        Args:
            share: which of `seeds` stay.
        """
        for value in self.state_dict(keep_vars=True).values():
            if value.dim():
                value.data = value.data[share].clone()
        self.seeds = self.seeds[share]
        self.replicas = self.members = len(self.seeds)

    def add_weight(self, name: str, shape: tuple[int, ...], std: float, mean: float = 0.0) -> None:
        """Register a parameter, drawn for every member from a generator of its own.

        Args:
            name: of the parameter.
            shape: of one member's.
            std: of its normal law; 0 for the constant ``mean``.
            mean: of its normal law.
        """
        full = shape if self.replicas is None else (self.replicas, *shape)
        self.register_parameter(name, nn.Parameter(torch.empty(full)))
        self._initial[name] = (mean, std)
        self._fill(name, std, mean, "initial")

    def _lifted(self, name: str) -> Tensor:
        """A parameter with the E axis, of length 1 for one network."""
        parameter = self.get_parameter(name)
        return parameter[None] if self.replicas is None else parameter

    def _lift(self, bits: Tensor) -> Tensor:
        """``(E, B, N)`` of what a user gives.

        Raises:
            ValueError: another shape.
        """
        lifted = bits[None] if self.replicas is None else bits
        if lifted.dim() != 3 or lifted.shape[2] != self.num_bits or lifted.shape[0] not in (1, self.members):
            wanted = f"(B, {self.num_bits})" if self.replicas is None else f"({self.replicas}, B, {self.num_bits})"
            raise ValueError(f"bits have the shape {tuple(bits.shape)}; {wanted} is needed")
        return lifted.expand(self.members, -1, -1)

    def _dropped(self, x: Tensor) -> Tensor:
        """Without the E axis, for one network."""
        return x[0] if self.replicas is None else x

    def _fill(self, name: str, std: float, mean: float, purpose: str) -> None:
        parameter = self._lifted(name)
        with torch.no_grad():
            for member in range(self.members):
                generator = self._generator(member, name, purpose)
                drawn = torch.randn(parameter.shape[1:], generator=generator, device=generator.device)
                parameter[member].copy_(drawn * std + mean)

    def _generator(self, member: int, name: str, purpose: str) -> torch.Generator:
        """A function of the member's seed, the parameter and the purpose, on the CPU."""
        key = hashlib.sha256(f"{self.seeds[member]}/{name}/{purpose}".encode()).digest()[:8]
        return torch.Generator().manual_seed(int.from_bytes(key) >> 1)
