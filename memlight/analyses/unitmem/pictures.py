"""Units with the images that drive them, beside the held-out images that drive them most."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memlight import dist
from memlight.data.images import ImageDataModule
from memlight.display.figures import spread_over
from memlight.display.pictures import rows_grid
from memlight.metrics.unitmem import UnitMemResult
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table

ROWS, COLUMNS = 12, 8
"""Most units in a picture, and images of each; of these `HELD_OUT` are held-out ones where there are any."""

EXTREMES = 10
"""Units in the pictures of the strongest and the weakest of all (Jafari)."""

HELD_OUT = 3

Results = Mapping[str, UnitMemResult]
Unit = tuple[str, int]
"""Layer and channel."""


def draw_units(
    results: Results, held_out: Results | None, excess: Table, data: ImageDataModule, log: AnalysisLog
) -> None:
    """Draw the strongest unit of each layer, the strongest units of all and the weakest; rank 0 does it.

    Args:
        results: layer -> result.
        held_out: the same units on images that nobody was trained on.
        excess: columns ``UNITMEM_EXCESS``, of the same units.
        data: the images.
        log: where figures go.
    """
    if dist.rank() != 0:
        return
    shown = units_shown({layer: result.unitmem for layer, result in results.items()})
    shown["top_units"] = shown["top_units"][:EXTREMES]
    shown["bottom_units"] = bottom_units(results)
    dead = sum(int(result.dead.sum()) for result in results.values())
    left_out = f" {dead} dead units are left out." if dead else " No unit is dead."
    for name, units in shown.items():
        if not units:
            continue
        title = name.replace("_", " ").capitalize()
        caption = f"{title}, with the images that drive them: id and mu."
        if held_out is not None:
            caption += " On the right the held-out images that drive the same units most."
        rows = [_row(unit, results, held_out, data) for unit in units]
        figure = rows_grid(
            np.stack([images for images, _ in rows]),
            [_label(unit, results, excess) for unit in units],
            [captions for _, captions in rows],
            title=title,
        )
        log.figure(name, figure, caption + (left_out if name == "bottom_units" else ""))


def units_shown(scores: Mapping[str, Tensor]) -> dict[str, list[Unit]]:
    """Which units are worth a picture: the strongest one of each layer, and the strongest of all; `ROWS` of either.

    Args:
        scores: layer -> ``(U,)``.

    Returns:
        The picture's name -> layer and channel of each unit.
    """
    best = [(layer, int(of_layer.argmax())) for layer, of_layer in scores.items()]
    candidates = [
        (float(of_layer[unit]), layer, unit)
        for layer, of_layer in scores.items()
        for unit in of_layer.topk(min(ROWS, of_layer.numel())).indices.tolist()
    ]
    ranked = sorted(candidates, key=lambda named: -named[0])
    return {
        "top_unit_of_each_layer": spread_over(best, ROWS),
        "top_units": [(layer, unit) for _, layer, unit in ranked[:ROWS]],
    }


def bottom_units(results: Results) -> list[Unit]:
    """The `EXTREMES` living units with the lowest scores, the lowest first."""
    candidates = []
    for layer, result in results.items():
        living = (~result.dead).nonzero().flatten()
        lowest = result.unitmem[living].topk(min(EXTREMES, living.numel()), largest=False)
        candidates += [
            (score, layer, unit)
            for score, unit in zip(lowest.values.tolist(), living[lowest.indices].tolist(), strict=True)
        ]
    return [(layer, unit) for _, layer, unit in sorted(candidates, key=lambda named: named[0])[:EXTREMES]]


def _label(named: Unit, results: Results, excess: Table) -> str:
    """Name, score, and what the null and held-out images give for it."""
    layer, unit = named
    row = int(np.flatnonzero((excess["layer"] == layer) & (excess["unit"] == unit))[0])
    beside = [
        f"{words} {excess[column][row]:.3f}"
        for column, words in (("null", "null"), ("held_out", "held out"))
        if np.isfinite(excess[column][row])
    ]
    return "\n".join([f"{layer} unit {unit}", f"UnitMem {float(results[layer].unitmem[unit]):.3f}", *beside])


def _row(
    named: Unit, results: Results, held_out: Results | None, data: ImageDataModule
) -> tuple[NDArray[np.uint8], list[str]]:
    """The images of a unit's row and their captions; a white one stands before the held-out ones."""
    layer, unit = named
    own = _strongest(results[layer], unit, COLUMNS if held_out is None else COLUMNS - HELD_OUT)
    pictures, captions = [_pictures(own, data)], [f"{id_}\n{mu:.3g}" for id_, mu in own]
    if held_out is not None:
        others = _strongest(held_out[layer], unit, HELD_OUT)
        pictures += [np.full_like(pictures[0][:1], 255), _pictures(others, data)]
        captions += ["", *(f"held out\n{mu:.3g}" for _, mu in others)]
    return np.concatenate(pictures), captions


def _strongest(result: UnitMemResult, unit: int, count: int) -> Sequence[tuple[int, float]]:
    """Id and mu of the images that drive a unit most."""
    ids, mu = result.topk_ids[:count, unit].tolist(), result.topk_mu[:count, unit].tolist()
    return list(zip(ids, mu, strict=True))


def _pictures(images: Sequence[tuple[int, float]], data: ImageDataModule) -> NDArray[np.uint8]:
    pictures: NDArray[np.uint8] = data.images_of([id_ for id_, _ in images]).permute(0, 2, 3, 1).numpy()
    return pictures
