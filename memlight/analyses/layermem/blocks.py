"""LayerMem of a transformer by block, attention and MLP apart ([P] Table 10)."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from memlight.analyses.layermem.columns import LAYERMEM_BLOCKS
from memlight.metrics.functional import contrast
from memlight.metrics.layermem import LayerMemResult
from memlight.stats import Interval, normal_interval
from memlight.storage.tables import Table

PARTS = {
    "attention": r"\.(?:attn|self_attention)",
    "residual_attention": r"\.(?:norm2|ln_2)@in",
    "hidden": r"\.mlp\.\w+(?:@in)?",
    "mlp": r"\.mlp",
    "residual_mlp": r"",
}
"""The layers of a block in their order, and what follows the block's name in theirs; the last one is the block."""

Results = Mapping[str, Mapping[str, LayerMemResult]]


def layers_by_block(layers: Sequence[str]) -> list[dict[str, str]]:
    """The layers of each transformer block, by part (`PARTS`), in execution order.

    Args:
        layers: names in execution order; what belongs to no block that has an attention is left out.
    """
    blocks: dict[str, dict[str, str]] = {}
    for layer in layers:
        for part, pattern in PARTS.items():
            if found := re.fullmatch(rf"(.*\d){pattern}", layer):
                blocks.setdefault(found[1], {})[part] = layer
    return [parts for parts in blocks.values() if "attention" in parts]


def layermem_blocks(table: Table) -> Table:
    """The rows of ``layermem/table.csv`` that belong to transformer blocks, with block (from 1, as [P]) and part.

    Args:
        table: columns ``LAYERMEM_TABLE``.

    Returns:
        Columns ``LAYERMEM_BLOCKS``; no rows for other architectures.
    """
    row = {layer: index for index, layer in enumerate(table["layer"].tolist())}
    named = [
        (number, part, row[layer])
        for number, parts in enumerate(layers_by_block(list(row)), start=1)
        for part, layer in parts.items()
    ]
    number, part, rows = zip(*named, strict=True) if named else ((), (), ())
    chosen = np.array(rows, dtype=np.int64)
    return {"block": np.array(number, dtype=np.int64), "part": np.array(part, dtype=np.str_)} | {
        name: table[name][chosen] for name in [*LAYERMEM_BLOCKS][2:]
    }


def mlp_minus_attention(results: Results) -> Interval | None:
    """Contrast of the difference between MLP and attention, averaged over blocks, with its interval.

    Scores of one image in two layers are dependent, so the difference is taken image by image before anything is
    averaged: ``d(x) = mean over blocks of SSLMem'(x, mlp) - SSLMem'(x, attention)``.

    Args:
        results: split -> layer -> result; candidate and independent images scored on the same layers.

    Returns:
        None where no block has both, or a split is missing.
    """
    pairs = [
        (parts["mlp"], parts["attention"])
        for parts in layers_by_block(list(results["candidate"]))
        if parts.keys() >= {"mlp", "attention"}
    ]
    if not pairs or not results.get("independent"):
        return None
    value, error = contrast(*(_differences(results[split], pairs) for split in ("candidate", "independent")))
    return normal_interval(float(value), float(error))


def _differences(of_split: Mapping[str, LayerMemResult], pairs: Sequence[tuple[str, str]]) -> Tensor:
    """``(n,)`` of every image."""
    return torch.stack([of_split[mlp].scores - of_split[attention].scores for mlp, attention in pairs]).mean(0)
