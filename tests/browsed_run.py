"""UnitMem results of three small layers with awkward names, for the tests of the image browser."""

from pathlib import Path

import numpy as np

from memlight.analyses.unitmem.browser.thumbnails import Thumbnails, encode
from memlight.analyses.unitmem.columns import UNITMEM_EXCESS, UNITMEM_TABLE, UNITMEM_TOP
from memlight.storage.image_names import IMAGES as IMAGES_CSV
from memlight.storage.image_names import ImageNames
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, table_of, write_json, write_table
from tests.synthetic_run import splits_file

LAYERS = {"conv/in:1": 3, "</script><b>": 4, "7": 2}
"""Layer -> number of units; the last unit of the second layer is dead."""

IMAGES = 8
IDS = [10 * i + 3 for i in range(IMAGES)]


def scores() -> Table:
    """Every unit with its score and the mean mu of the other images."""
    rows: list[tuple[object, ...]] = []
    for depth, (layer, units) in enumerate(LAYERS.items()):
        for unit in range(units):
            dead = (depth, unit) == (1, 3)
            score = 0.0 if dead else 0.1 + 0.2 * ((unit * 2 + depth) % 4)
            mu_max = 0.0 if dead else 1.0 + unit / 4
            rest = mu_max * (1 - score) / (1 + score)
            rows.append((layer, depth, unit, score, mu_max, rest, IDS[(unit + depth) % IMAGES], dead))
    return table_of([*UNITMEM_TABLE][:8], rows)


def excess() -> Table:
    """Nulls that half of the units exceed."""
    table = scores()
    nulls = np.where(table["dead"], np.nan, table["unitmem"] - 0.03)
    p95 = nulls + np.where(table["unit"] % 2 == 0, 0.01, 0.05)
    same = {name: table[name] for name in ("layer", "depth", "unit", "unitmem")}
    unseen = np.full(len(nulls), 0.0625)
    return {**same, "null": nulls, "null_p95": p95, "excess": table["unitmem"] - nulls, "held_out": unseen}


def top() -> Table:
    """The three strongest images of each living unit: image unit + depth, and the next two."""
    units = scores()
    rows = [
        (layer, unit, rank, IDS[(unit + depth + rank) % IMAGES], mu / (rank + 1))
        for layer, depth, unit, mu, dead in zip(
            *(units[name].tolist() for name in ("layer", "depth", "unit", "mu_max", "dead")), strict=True
        )
        if not dead
        for rank in range(3)
    ]
    return table_of(UNITMEM_TOP, rows)


def image(number: int) -> np.ndarray:
    """One of the pictures: ``uint8 (8, 8, 3)``."""
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def make_browsed(root: Path, *tags: str | None) -> RunDir:
    """A run with such a result for each tag; the first keeps pictures."""
    run = RunDir(root)
    write_json(run.splits, splits_file("made up", candidate=IDS))
    for tag in tags or (None,):
        write_browsed(run.analysis("unitmem", tag))
    pictures = [encode(image(number), 32, 10_000) for number in range(IMAGES)]
    Thumbnails(np.array(IDS), pictures).write(next(run.analyses("unitmem")).thumbnails)
    return run


def write_browsed(analysis: AnalysisDir) -> None:
    """The tables that the browser reads."""
    write_table(analysis.table(), scores(), UNITMEM_TABLE)
    write_table(analysis.table("top"), top(), UNITMEM_TOP)
    write_table(analysis.table("excess"), excess(), UNITMEM_EXCESS)
    write_json(analysis.summary, {"figures": {}})


def list_images(run: RunDir, paths: list[str]) -> None:
    """Write ``images.csv``, as a run with images in files has it."""
    ids = np.arange(len(paths))
    named = {"id": ids, "path": ImageNames(paths, are_files=True).path(ids), "label": np.full(len(ids), -1)}
    write_table(run.images, {**named, "split": np.full(len(ids), ""), "sha256": np.full(len(ids), "")}, IMAGES_CSV)
