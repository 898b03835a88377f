"""The sequence networks as training methods: one key of the configuration is one argument."""

from typing import Literal

from memlight.errors import at_least
from memlight.models.dam import AttentionDAM
from memlight.models.transformer import GPT, OneLayerAttention
from memlight.modules.sequence.module import OptimizerName, SequenceModule


def member_seeds(init_seed: int | None, replicas: int) -> list[int]:
    """Seeds of the members: ``init_seed`` (None is 0) and those after it.

    Raises:
        UserError: there would be no member.
    """
    at_least(1, replicas=replicas)
    first = init_seed or 0
    return [first + member for member in range(replicas)]


class SequenceDAM(SequenceModule):
    """Attention in front of a dense associative memory; see `memlight.models.dam.AttentionDAM`.

    Args:
        num_bits: N; null takes --data.num_bits.
        num_heads: H.
        capacity: M, sequences in memory, copies included.
        eta: inverse temperature of the memory.
        tied: one row of attention logits for all prefixes.
        score_scale: sum over heads, or their mean.
        include_first_bit: count the first bit in the loss.
        loss_kind: bce of the next bit, or infonce (identify the sequence).
        init_std: of the initial logits; at 0 all heads are and stay the same.
        replicas: E, members trained together; member e equals the solo run with --model.init_seed init_seed + e.
        init_seed: of the first member, for its weights, sequences and draws; null takes --seed_everything.
        learning_rate: constant.
        optimizer: adam, adamw, or sgd with `momentum`.
        weight_decay: on every weight; of adam as an L2 penalty, of adamw decoupled.
        momentum: of sgd.
        block_steps: the most gradient steps of one block; moves no number.
    """

    def __init__(
        self,
        num_bits: int | None = None,
        num_heads: int = 30,
        capacity: int = 3000,
        eta: float = 10.0,
        tied: bool = False,
        score_scale: Literal["sum", "mean"] = "sum",
        include_first_bit: bool = False,
        loss_kind: Literal["bce", "infonce"] = "bce",
        init_std: float = 1.0,
        replicas: int = 1,
        init_seed: int | None = None,
        learning_rate: float = 1e-2,
        optimizer: OptimizerName = "adam",
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        block_steps: int = 100,
    ) -> None:
        network = AttentionDAM(
            num_bits or 50,
            num_heads,
            capacity,
            eta,
            tied=tied,
            score_scale=score_scale,
            include_first_bit=include_first_bit,
            loss_kind=loss_kind,
            init_std=init_std,
            replicas=replicas,
            seeds=member_seeds(init_seed, replicas),
        )
        super().__init__(network, learning_rate, optimizer, weight_decay, momentum, block_steps)


class SequenceAttention(SequenceModule):
    """One attention layer and an MLP; see `memlight.models.transformer.OneLayerAttention`.

    Args:
        num_bits: N; null takes --data.num_bits.
        heads: attention heads.
        features: of each head; the width D is heads times features.
        mlp_layers: L.
        mlp_width: of the MLP; null for D.
        attention: learned, or a control: zero or random weights, frozen.
        replicas: E, members trained together; member e equals the solo run with --model.init_seed init_seed + e.
        init_seed: of the first member, for its weights, sequences and draws; null takes --seed_everything.
        learning_rate: constant.
        optimizer: adam, adamw, or sgd with `momentum`.
        weight_decay: on every weight; of adam as an L2 penalty, of adamw decoupled.
        momentum: of sgd.
        block_steps: the most gradient steps of one block; moves no number.
    """

    def __init__(
        self,
        num_bits: int | None = None,
        heads: int = 1,
        features: int = 16,
        mlp_layers: int = 3,
        mlp_width: int | None = None,
        attention: Literal["learned", "zero", "random"] = "learned",
        replicas: int = 1,
        init_seed: int | None = None,
        learning_rate: float = 1e-3,
        optimizer: OptimizerName = "adam",
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        block_steps: int = 100,
    ) -> None:
        network = OneLayerAttention(
            num_bits or 100,
            heads=heads,
            features=features,
            mlp_layers=mlp_layers,
            mlp_width=mlp_width,
            attention=attention,
            replicas=replicas,
            seeds=member_seeds(init_seed, replicas),
        )
        super().__init__(network, learning_rate, optimizer, weight_decay, momentum, block_steps)


class SequenceGPT(SequenceModule):
    """The usual decoder; see `memlight.models.transformer.GPT`.

    Args:
        num_bits: N; null takes --data.num_bits.
        layers: L.
        heads: attention heads of each.
        width: D.
        replicas: E, members trained together; member e equals the solo run with --model.init_seed init_seed + e.
        init_seed: of the first member, for its weights, sequences and draws; null takes --seed_everything.
        learning_rate: constant.
        optimizer: adam, adamw, or sgd with `momentum`.
        weight_decay: on every weight; of adam as an L2 penalty, of adamw decoupled.
        momentum: of sgd.
        block_steps: the most gradient steps of one block; moves no number.
    """

    def __init__(
        self,
        num_bits: int | None = None,
        layers: int = 2,
        heads: int = 2,
        width: int = 64,
        replicas: int = 1,
        init_seed: int | None = None,
        learning_rate: float = 1e-3,
        optimizer: OptimizerName = "adam",
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        block_steps: int = 100,
    ) -> None:
        network = GPT(
            num_bits or 100,
            layers=layers,
            heads=heads,
            width=width,
            replicas=replicas,
            seeds=member_seeds(init_seed, replicas),
        )
        super().__init__(network, learning_rate, optimizer, weight_decay, momentum, block_steps)
