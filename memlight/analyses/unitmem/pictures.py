"""Units with the images that drive them, beside the held-out images that drive them most, and thumbnails."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch import Tensor
from tqdm import tqdm

from memlight import dist
from memlight.analyses.unitmem.browser.thumbnails import (
    BYTES,
    MOST_IMAGES,
    Thumbnails,
    driving_images,
    driving_rows,
    encode,
    side_within,
)
from memlight.analyses.unitmem.columns import UNITMEM_TOP
from memlight.data.images import ImageDataModule
from memlight.data.joining import JoinedScores
from memlight.display.figures import spread_over
from memlight.display.pictures import Picture, channels_last, rows_grid
from memlight.metrics.unitmem import UnitMemResult
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table, read_table

ROWS, COLUMNS = 12, 8
"""Most units in a picture, and images of each; of these `HELD_OUT` are held-out ones where there are any."""

EXTREMES = 10
"""Units in the pictures of the strongest and the weakest of all (Jafari)."""

HELD_OUT = 3

AT_ONCE = 256
"""Images in memory while thumbnails are made."""

Results = Mapping[str, UnitMemResult]
Unit = tuple[str, int]
"""Layer and channel."""

Driving = Sequence[tuple[int, float]]
"""Images that drive a unit: id and mu of each, the strongest first."""


def draw_units(
    results: Results,
    held_out: Results | None,
    excess: Table,
    data: ImageDataModule,
    log: AnalysisLog,
    joined: JoinedScores | None = None,
) -> None:
    """Draw the strongest unit of each layer, the strongest units of all and the weakest; rank 0 does it.

    Args:
        results: layer -> result.
        held_out: the same units on images that nobody was trained on.
        excess: columns ``UNITMEM_EXCESS``, of the same units.
        data: the images.
        log: where figures go.
        joined: scores that others computed of the images, which stand below the others; None for none.
    """
    if dist.rank() != 0:
        return
    shown = units_shown({layer: result.unitmem_mean for layer, result in results.items()})
    shown["top_units"] = shown["top_units"][:EXTREMES]
    shown["bottom_units"] = bottom_units(results)
    dead = sum(int(result.dead.sum()) for result in results.values())
    left_out = f" {dead} dead units are left out." if dead else " No unit is dead."
    words = f"with the images that drive them: {data.names.under_pictures}, and mu."
    if held_out is not None:
        words += " On the right the held-out images that drive the same units most."
    count = COLUMNS if held_out is None else COLUMNS - HELD_OUT
    for name, units in shown.items():
        if not units:
            continue
        labels = [_label(unit, results, excess) for unit in units]
        rows = [_strongest(results[layer], unit, count) for layer, unit in units]
        unseen = None if held_out is None else [_strongest(held_out[layer], unit, HELD_OUT) for layer, unit in units]
        said = words + (left_out if name == "bottom_units" else "")
        draw_rows(name, labels, rows, data, log, said, unseen, joined)


def draw_rows(
    name: str,
    labels: Sequence[str],
    rows: Sequence[Driving],
    data: ImageDataModule,
    log: AnalysisLog,
    words: str,
    held_out: Sequence[Driving] | None = None,
    joined: JoinedScores | None = None,
) -> None:
    """Write one figure: a row for each unit, with the images that drive it above their ids and mu.

    Args:
        name: of the figure, which becomes its title: ``top_units`` is "Top units".
        labels: of the units.
        rows: the images of each unit.
        data: the images.
        log: where the figure goes.
        words: of its caption, after the title.
        held_out: other images of each unit, which stand behind a white place.
        joined: scores that others computed of the images; None for none.
    """
    pictures: list[list[Picture | None]] = [_pictures(row, data) for row in rows]
    captions = [_captions(row, data, [str(id_) for id_, _ in row], joined) for row in rows]
    for place, row in enumerate(held_out or ()):
        pictures[place] += [None, *_pictures(row, data)]
        captions[place] += ["", *_captions(row, data, ["held out"] * len(row), joined)]
    title = name.replace("_", " ").capitalize()
    log.figure(name, rows_grid(pictures, labels, captions, title=title), f"{title}, {words}")


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
        lowest = result.unitmem_mean[living].topk(min(EXTREMES, living.numel()), largest=False)
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
    return "\n".join([f"{layer} unit {unit}", f"UnitMem {float(results[layer].unitmem_mean[unit]):.3f}", *beside])


def _strongest(result: UnitMemResult, unit: int, count: int) -> Driving:
    ids, mu = result.topk_ids[:count, unit].tolist(), result.topk_mu[:count, unit].tolist()
    return list(zip(ids, mu, strict=True))


def _pictures(row: Driving, data: ImageDataModule) -> list[Picture | None]:
    return list(channels_last(data.images_of([id_ for id_, _ in row])))


def _captions(row: Driving, data: ImageDataModule, words: Sequence[str], joined: JoinedScores | None) -> list[str]:
    """The name of each image, where it has one, these words, mu, and the score of others, where it has one."""
    ids = [id_ for id_, _ in row]
    others = [""] * len(ids) if joined is None else joined.captions(ids)
    return data.names.captions(ids, words, [f"{mu:.3g}" for _, mu in row], others)


def write_thumbnails(data: ImageDataModule, log: AnalysisLog, *, progress: bool = True) -> None:
    """Write ``thumbnails.npz`` of the images that drive units in ``top.csv``, reading each of them once.

    Rank 0 does it. All of them take at most `BYTES`: each gets an equal share, which decides its side and quality.

    Args:
        data: where the images are.
        log: of an analysis that has written the table ``top``.
        progress: show a bar.
    """
    if dist.rank() != 0:
        return
    driving = driving_images(driving_rows(read_table(log.partial.table("top"), UNITMEM_TOP)))
    ids = np.sort(driving[:MOST_IMAGES])
    share = BYTES // max(1, len(ids))
    side = side_within(share)
    webp: list[bytes] = []
    with (
        ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
        tqdm(total=len(ids), desc="thumbnails", unit="image", disable=not progress) as bar,
    ):
        for start in range(0, len(ids), AT_ONCE):
            images = channels_last(data.images_of(ids[start : start + AT_ONCE]))
            webp += pool.map(lambda image: encode(image, side, share), images)
            bar.update(len(images))
    Thumbnails(ids, webp).write(log.partial.thumbnails)
