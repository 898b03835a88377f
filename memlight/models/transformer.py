"""Transformers over bits, one network or E members at once ([A]; METHODS section 6)."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from memlight.errors import UserError
from memlight.models.sequence_model import SequenceModel

Attention = Literal["learned", "zero", "random"]

_STD = 0.02
"""Of the normal law that all weights and embeddings begin with; biases begin at 0."""


class BitTransformer(SequenceModel):
    """Embeddings, linear maps, LayerNorm, causal attention and a head for two tokens, with the E axis.

    Args:
        num_bits: N.
        width: D, of the embeddings.
        replicas: E; None for one network.
        seeds: one for each member, of its initial weights.
    """

    def __init__(self, num_bits: int, width: int, replicas: int | None, seeds: Sequence[int] | None) -> None:
        super().__init__(num_bits, replicas, seeds)
        if num_bits < 2:
            raise UserError("num_bits", num_bits, "a transformer predicts from the second bit on")
        self.width = width
        self.add_weight("wte", (2, width), _STD)
        self.add_weight("wpe", (num_bits, width), _STD)

    def logits(self, bits: Tensor) -> Tensor:
        """Log-odds of bit 1, 0 at the first position; see `SequenceModel.logits`."""
        given_EBT = self._lift(bits)[..., :-1] > 0
        out_EBT2 = self._hidden_to_logits(self._embedded(given_EBT))
        log_odds_EBT = out_EBT2[..., 1] - out_EBT2[..., 0]
        return self._dropped(F.pad(log_odds_EBT, (1, 0)))

    def attention_maps(self, bits: Tensor) -> Tensor:
        """Causal attention weights, mean over sequences, ``([E,] L, heads, N - 1, N - 1)``: layer, head, query, key.

        Args:
            bits: as in `logits`.
        """
        maps: list[Tensor] = []
        self._hidden_to_logits(self._embedded(self._lift(bits)[..., :-1] > 0), maps)
        return self._dropped(torch.stack(maps, dim=1))

    @abstractmethod
    def _hidden_to_logits(self, x_EBTD: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Embeddings to ``(E, B, T, 2)``; attention weights of every layer are appended to ``maps``."""

    def _embedded(self, given_EBT: Tensor) -> Tensor:
        """``(E, B, T, D)``."""
        tokens_E2D = self._lifted("wte")
        off_E11D, on_E11D = tokens_E2D[:, None, :1], tokens_E2D[:, None, 1:]
        return torch.where(given_EBT[..., None], on_E11D, off_E11D) + self._lifted("wpe")[:, None, :-1]

    def _add_linear(self, name: str, in_features: int, out_features: int, std: float = _STD) -> None:
        self.add_weight(f"{name}_weight", (out_features, in_features), std)
        self.add_weight(f"{name}_bias", (out_features,), 0.0)

    def _add_norm(self, name: str, width: int) -> None:
        self.add_weight(f"{name}_weight", (width,), 0.0, mean=1.0)
        self.add_weight(f"{name}_bias", (width,), 0.0)

    def _linear(self, name: str, x_EBTD: Tensor) -> Tensor:
        weight_EOD, bias_EO = self._lifted(f"{name}_weight"), self._lifted(f"{name}_bias")
        out_ERO = torch.baddbmm(bias_EO[:, None], x_EBTD.flatten(1, 2), weight_EOD.transpose(1, 2))
        return out_ERO.view(*x_EBTD.shape[:3], -1)

    def _norm(self, name: str, x_EBTD: Tensor) -> Tensor:
        weight_ED, bias_ED = self._lifted(f"{name}_weight"), self._lifted(f"{name}_bias")
        return F.layer_norm(x_EBTD, x_EBTD.shape[-1:]) * weight_ED[:, None, None] + bias_ED[:, None, None]

    def _attend(self, name: str, x_EBTD: Tensor, heads: int, maps: list[Tensor] | None) -> Tensor:
        """Causal attention of scale ``1 / sqrt(features)``, with E folded into the batch; no output projection."""
        members, batch, length, width = x_EBTD.shape
        qkv = self._linear(name, x_EBTD).view(members * batch, length, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if maps is not None:
            causal_TT = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
            weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~causal_TT, -math.inf).softmax(-1)
            maps.append(weights.view(members, batch, heads, length, length).mean(1))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return out.transpose(1, 2).reshape(members, batch, length, width)


class OneLayerAttention(BitTransformer):
    """Embeddings, one causal attention without a residual around it, LayerNorm, an MLP, a head ([A]).

    The MLP is ``relu(W x)``, then ``relu(W x) + x`` in every later layer. The authors' parameter counts hold one more
    LayerNorm, 2 D parameters which their network never uses.

    Args:
        num_bits: N.
        heads: attention heads.
        features: of each head; the width D is heads times features.
        mlp_layers: L.
        mlp_width: of the MLP; null for D.
        attention: learned, or a control: zero or random weights, frozen.
        replicas: E; None for one network.
        seeds: one for each member, of its initial weights.
    """

    def __init__(
        self,
        num_bits: int,
        heads: int = 1,
        features: int = 16,
        mlp_layers: int = 3,
        mlp_width: int | None = None,
        attention: Attention = "learned",
        replicas: int | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        widths = {} if mlp_width is None else {"mlp_width": mlp_width}
        _at_least_one(heads=heads, features=features, mlp_layers=mlp_layers, **widths)
        super().__init__(num_bits, heads * features, replicas, seeds)
        if attention not in ("learned", "zero", "random"):
            raise UserError("attention", attention, "choose learned, zero or random")
        self.heads = heads
        self.mlp_layers = mlp_layers
        mlp_width = mlp_width or self.width
        self._add_linear("c_attn", self.width, 3 * self.width, 0.0 if attention == "zero" else _STD)
        self._add_norm("norm", self.width)
        for layer in range(mlp_layers):
            self._add_linear(f"mlp{layer}", mlp_width if layer else self.width, mlp_width)
        self._add_linear("head", mlp_width, 2)
        if attention != "learned":
            for name in self.names_in("c_attn"):
                self.get_parameter(name).requires_grad_(False)

    def scopes(self) -> dict[str, tuple[str, ...]]:
        """c_attn (or attention), embeddings, norm, mlp, head and all_but_mlp, which holds the head."""
        return _scopes([name for name, _ in self.named_parameters()], ("c_attn",))

    def _hidden_to_logits(self, x_EBTD: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        x_EBTD = self._norm("norm", self._attend("c_attn", x_EBTD, self.heads, maps))
        for layer in range(self.mlp_layers):
            made = self._linear(f"mlp{layer}", x_EBTD).relu()
            x_EBTD = made + x_EBTD if layer else made
        return self._linear("head", x_EBTD)


class GPT(BitTransformer):
    """The usual decoder: L blocks of LayerNorm, attention, residual, LayerNorm, MLP (4 D, GELU), residual.

    Initial weights as in GPT-2: those that write into the residual stream are smaller by ``sqrt(2 L)``.

    Args:
        num_bits: N.
        layers: L.
        heads: attention heads of each layer.
        width: D, a multiple of the heads.
        replicas: E; None for one network.
        seeds: one for each member, of its initial weights.
    """

    def __init__(
        self,
        num_bits: int,
        layers: int = 2,
        heads: int = 2,
        width: int = 64,
        replicas: int | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        _at_least_one(layers=layers, heads=heads, width=width)
        if width % heads:
            raise UserError("width", width, f"not a multiple of the {heads} heads of `heads`")
        super().__init__(num_bits, width, replicas, seeds)
        self.layers = layers
        self.heads = heads
        into_stream = _STD / math.sqrt(2 * layers)
        for layer in range(layers):
            self._add_norm(f"norm{layer}_attention", width)
            self._add_linear(f"c_attn{layer}", width, 3 * width)
            self._add_linear(f"c_proj{layer}", width, width, into_stream)
            self._add_norm(f"norm{layer}_mlp", width)
            self._add_linear(f"mlp{layer}_in", width, 4 * width)
            self._add_linear(f"mlp{layer}_out", 4 * width, width, into_stream)
        self._add_norm("norm", width)
        self._add_linear("head", width, 2)

    def scopes(self) -> dict[str, tuple[str, ...]]:
        """c_attn, attention (c_attn and c_proj), embeddings, norm, mlp, head and all_but_mlp, which holds the head."""
        return _scopes([name for name, _ in self.named_parameters()], ("c_attn", "c_proj"))

    def _hidden_to_logits(self, x_EBTD: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        for layer in range(self.layers):
            mixed = self._attend(f"c_attn{layer}", self._norm(f"norm{layer}_attention", x_EBTD), self.heads, maps)
            x_EBTD = x_EBTD + self._linear(f"c_proj{layer}", mixed)
            made = F.gelu(self._linear(f"mlp{layer}_in", self._norm(f"norm{layer}_mlp", x_EBTD)))
            x_EBTD = x_EBTD + self._linear(f"mlp{layer}_out", made)
        return self._linear("head", self._norm("norm", x_EBTD))


def _scopes(names: Sequence[str], attention: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Scopes by the beginning of the parameters' names."""

    def beginning(*prefixes: str) -> tuple[str, ...]:
        return tuple(name for name in names if name.startswith(prefixes))

    mlp = beginning("mlp")
    return {
        "c_attn": beginning("c_attn"),
        "attention": beginning(*attention),
        "embeddings": beginning("wte", "wpe"),
        "norm": beginning("norm"),
        "mlp": mlp,
        "head": beginning("head"),
        "all_but_mlp": tuple(name for name in names if name not in mlp),
    }


def _at_least_one(**values: int) -> None:
    """Refuse arguments below 1."""
    for name, value in values.items():
        if value < 1:
            raise UserError(name, value, "at least 1 is needed")
