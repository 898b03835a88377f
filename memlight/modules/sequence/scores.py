"""Right or wrong, and how surprised: a sequence network's answer at every position."""

from collections.abc import Sequence

import torch
from torch import Tensor

from memlight.models.sequence_model import SequenceModel

ROWS_OF_LOGITS = 2**16
"""How many sequences times members times bits are read at once; a memory holds hundreds of scores for each."""


@torch.no_grad()
def right_and_loss(network: SequenceModel, bits_EKN: Tensor) -> tuple[Tensor, Tensor]:
    """Read sequences without remembering them.

    Args:
        network: E members.
        bits_EKN: ``(E, K, N)`` as the network takes them.

    Returns:
        ``bool (E, K, N)`` whether each bit is predicted (an even chance counts as 0), ``float32 (E, K, N)`` its loss in
        nats.
    """
    answers = [(network.logits(bits), bits > 0) for bits in in_chunks(bits_EKN)]
    right = [(logits > 0) == one for logits, one in answers]
    loss = [torch.nn.functional.softplus(torch.where(one, -logits, logits).float()) for logits, one in answers]
    return torch.cat(right, 1), torch.cat(loss, 1)


def in_chunks(bits_EKN: Tensor) -> tuple[Tensor, ...]:
    """Sequences in groups small enough to be read at once."""
    members, _, bits = bits_EKN.shape
    return torch.split(bits_EKN, max(1, ROWS_OF_LOGITS // (members * bits)), dim=1)


@torch.no_grad()
def measure(network: SequenceModel, sets: Sequence[Tensor], p_K: Tensor, ranks_R: Tensor) -> dict[str, Tensor]:
    """Accuracy and loss of the members on every sequence of S sets.

    Args:
        network: E members; its memory and weights stay.
        sets: ``(E, K, N)`` each.
        p_K: ``float64 (K,)`` how often each rank is drawn.
        ranks_R: ``int64 (R,)`` the test ranks.

    Returns:
        On the CPU: ``accuracy`` and ``loss`` ``(E, S)`` weighted as sequences are drawn; ``position_accuracy``
        ``(E, S, N)``, the same by position; ``test_accuracy`` and ``test_loss`` ``(E, S, R)``; ``retrieval``
        ``(E, S)`` of networks that have it.
    """
    counted_N = network.counted.to(p_K.device)
    retrieval_top1 = getattr(network, "retrieval_top1", None)
    columns: dict[str, list[Tensor]] = {}
    for bits_EKN in sets:
        right_EKN, loss_EKN = right_and_loss(network, bits_EKN)
        right_EK = right_EKN[..., counted_N].double().mean(-1)
        loss_EK = loss_EKN[..., counted_N].double().mean(-1)
        measured = {
            "accuracy": right_EK @ p_K,
            "loss": loss_EK @ p_K,
            "position_accuracy": torch.einsum("ekn,k->en", right_EKN.double(), p_K),
            "test_accuracy": right_EK[:, ranks_R],
            "test_loss": loss_EK[:, ranks_R],
        }
        if retrieval_top1 is not None:
            measured["retrieval"] = retrieval_top1(bits_EKN)
        for name, value in measured.items():
            columns.setdefault(name, []).append(value.cpu())
    return {name: torch.stack(values, 1) for name, values in columns.items()}
