"""Sentences about results, which follow the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memlight.display.page import decimals
from memlight.storage.tables import Table

LONGEST_LIST = 8
"""Names in a sentence; deep networks have many more layers than a reader takes in."""


def contrast_words(table: Table) -> str:
    """The headline in words that follow the numbers.

    Args:
        table: columns ``LAYERMEM_TABLE``.
    """
    layers, low, high = table["layer"].tolist(), table["contrast_low"], table["contrast_high"]
    above = [name for name, bound in zip(layers, low, strict=True) if bound > 0]
    below = [name for name, bound in zip(layers, high, strict=True) if bound < 0]
    if not above:
        text = f"No memorisation is measured in any of {len(layers)} layers: no contrast lies above 0."
    else:
        top = int(np.nanargmax(np.where(low > 0, table["contrast"], np.nan)))
        text = (
            f"Memorisation is measured in {len(above)} of {len(layers)} layers, most in {layers[top]}: contrast "
            f"{decimals(table['contrast'][top])}, 95 % interval {decimals(low[top])} to {decimals(high[top])}."
        )
        silent = [name for name, a, b in zip(layers, low, high, strict=True) if a <= 0 <= b]
        if silent:
            text += f" No memorisation is measured in {joined(silent, 'the others')} (interval includes 0)."
    if below:
        text += f" In {joined(below)} the contrast lies below 0, which memorisation cannot explain."
    return text


def unitmem_words(layers: Table) -> str:
    """What the units show, in words that follow the numbers.

    Args:
        layers: columns ``UNITMEM_LAYERS``.
    """
    last = {name: column[-1] for name, column in layers.items()}
    held_out = f"on held-out images the units of {last['layer']} score {last['held_out_mean']:.3f}, and "
    text = (
        f"Mean UnitMem goes from {layers['mean'][0]:.3f} in {layers['layer'][0]} to {last['mean']:.3f} in "
        f"{last['layer']}; {held_out if np.isfinite(last['held_out_mean']) else ''}exchangeable images would score "
        f"{last['null_mean']:.3f}."
    )
    if "unit_contrast" in layers:
        names = layers["layer"][layers["unit_contrast_low"] > 0].tolist()
        where = f"above 0 in {joined(names)}" if names else "not above 0 in any layer"
        text += f" The unit contrast of the pair, which is free of which images are striking, is {where}."
    return text


def blocks_words(headline: Mapping[str, Any]) -> str:
    """Whether attention or MLP memorises more, in words that follow the numbers; empty for other architectures.

    Args:
        headline: of the summary of ``layermem``.
    """
    if "mlp_minus_attention" not in headline:
        return ""
    value, low, high = (headline[f"mlp_minus_attention{end}"] for end in ("", "_low", "_high"))
    verdict = "neither memorises measurably more than the other"
    if low > 0:
        verdict = "the MLPs memorise more"
    elif high < 0:
        verdict = "the attentions memorise more"
    return (
        f"MLP minus attention, image by image and averaged over the blocks: contrast {decimals(value)}, 95 % interval "
        f"{decimals(low)} to {decimals(high)}; {verdict}."
    )


def joined(names: Sequence[str], instead: str = "") -> str:
    """Names as a list in a sentence: ``a, b and c``; of a long list how many they are, or what is said instead."""
    if len(names) > LONGEST_LIST:
        return instead or f"{len(names)} layers"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
