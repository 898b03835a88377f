"""A run directory with made-up numbers, for the tests of figures, files and the report."""

from pathlib import Path
from typing import Any

import numpy as np

from memlight.analyses import layermem, probe, unitmem
from memlight.analyses.layermem.chart import layermem_by_depth
from memlight.analyses.layermem.columns import MEMBERSHIP, PLACEBOS
from memlight.analyses.unitmem.chart import unitmem_by_layer, unitmem_heatmap, unitmem_histogram
from memlight.display.pictures import image_grid, rows_grid
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, write_json, write_table, write_text
from tests.schemas import schema_of

LAYERS = ("layer1", "layer2", "layer3", "layer4", "res2", "layer5", "layer6", "layer7", "layer8", "res6")
UNITS = (32, 64, 64, 64, 64, 128, 256, 256, 256, 256)
CONTRAST = (0.0, 0.0001, -0.0001, 0.0, 0.0001, 0.0004, 0.0058, 0.0297, 0.0637, 0.0655)


def layermem_table() -> Table:
    """Ten layers: nothing is memorised in the first six, more and more in the last four."""
    contrast = np.array(CONTRAST)
    offset = np.linspace(-0.016, 0.02, len(LAYERS))
    layermem = offset + contrast
    return {
        "layer": np.array(LAYERS),
        "depth": np.arange(1, 11),
        "layermem": layermem,
        "delta": np.diff(layermem, prepend=np.nan),
        "control_independent": offset - contrast,
        "control_external": offset + 0.0002,
        "control_shared": offset - 0.0002,
        "contrast": contrast,
        "contrast_low": contrast - 0.0012,
        "contrast_high": contrast + 0.0012,
        "top50": layermem + 0.15,
        "least50": layermem - 0.12,
        "n": np.full(10, 5000),
        "p_adjusted": np.where(np.abs(contrast) > 0.001, 0.0001, 0.9),
        "contrast_simultaneous_low": contrast - 0.002,
        "contrast_simultaneous_high": contrast + 0.002,
    }


def membership_table() -> Table:
    """What a pair gives away that has such contrasts."""
    area = 0.5 + 4 * np.array(CONTRAST)
    table: Table = {name: area for name, column in MEMBERSHIP.items() if column.kind is float}
    for name, shift in (("low", -0.01), ("high", 0.01), ("simultaneous_low", -0.02), ("simultaneous_high", 0.02)):
        table[f"auc_pair_{name}"] = area + shift
    table |= {"layer": np.array(LAYERS), "depth": np.arange(1, 11), "n": np.full(10, 5000)}
    table |= {"p_adjusted": layermem_table()["p_adjusted"], "tpr_at_1": area / 10, "tpr_at_01": area / 100}
    return {name: table[name] for name in MEMBERSHIP}


def placebo_table() -> Table:
    """Halves of the shared images, which do not differ."""
    table: Table = {name: np.zeros(10) for name in PLACEBOS}
    table |= {"placebo": np.full(10, "shared"), "layer": np.array(LAYERS), "depth": np.arange(1, 11)}
    return table | {"p_adjusted": np.full(10, 0.7), "auc": np.full(10, 0.5), "outside": np.full(10, 0.045)}


def unitmem_table(rng: np.random.Generator) -> Table:
    """Every unit of the ten layers; two of layer1 are dead."""
    layer = np.repeat(LAYERS, UNITS)
    depth = np.repeat(np.arange(1, 11), UNITS)
    dead = np.zeros(len(layer), dtype=bool)
    dead[[3, 17]] = True
    score = np.where(dead, 0, rng.beta(12, 12 - depth))
    return {
        "layer": layer,
        "depth": depth,
        "unit": np.concatenate([np.arange(n) for n in UNITS]),
        "unitmem": score,
        "mu_max": np.where(dead, 0, 1 + score),
        "mu_rest": np.where(dead, 0, 1 - score),
        "max_id": rng.integers(0, 50_000, len(layer)),
        "dead": dead,
    }


def unitmem_layers(table: Table) -> Table:
    """The summary by layer of `unitmem_table`, as a pair has it."""
    alive = [table["unitmem"][(table["layer"] == name) & ~table["dead"]] for name in LAYERS]
    mean = np.array([scores.mean() for scores in alive])
    contrast = np.array(CONTRAST) / 4
    return {
        "layer": np.array(LAYERS),
        "depth": np.arange(1, 11),
        "units": np.array(UNITS),
        "dead": np.array([2, *[0] * 9]),
        "mean": mean,
        "p95": np.array([np.quantile(scores, 0.95) for scores in alive]),
        "max": np.array([scores.max() for scores in alive]),
        "top_mean": mean + 0.15,
        "bottom_mean": mean - 0.15,
        "null_mean": mean - 0.03,
        "null_p95": mean + 0.04,
        "held_out_mean": mean - 0.002,
        "t": np.linspace(8, 30, 10),
        "p": np.geomspace(1e-3, 1e-59, 10),
        "unit_contrast": contrast,
        "unit_contrast_low": contrast - 0.002,
        "unit_contrast_high": contrast + 0.002,
        "own_max_share": 0.5 + 4 * contrast,
        "own_max_low": 0.48 + 4 * contrast,
        "own_max_high": 0.52 + 4 * contrast,
        **{f"{name}_p_adjusted": np.where(contrast > 0.003, 0.001, 0.6) for name in ("unit_contrast", "own_max")},
        "unit_contrast_simultaneous_low": contrast - 0.003,
        "unit_contrast_simultaneous_high": contrast + 0.003,
        "own_max_simultaneous_low": 0.47 + 4 * contrast,
        "own_max_simultaneous_high": 0.53 + 4 * contrast,
    }


def metrics_table(rng: np.random.Generator, epochs: int = 60) -> Table:
    """20 steps an epoch: the rate every tenth step, the loss every epoch, the held-out loss every fifth."""
    step = np.arange(9, 20 * epochs, 10)
    epoch = step // 20
    end = step % 20 == 19
    loss = 4.2 + 2 * np.exp(-epoch / 15) + rng.normal(0, 0.02, len(step))
    return {
        "step": step,
        "lr-LARS/pg1": 1.2 * np.cos(step / step[-1] * np.pi / 2) ** 2,
        "train/loss": np.where(end, loss, np.nan),
        "train/embedding_std": np.where(end, 0.9 - 0.5 * np.exp(-epoch / 4), np.nan),
        "val/loss": np.where(end & (epoch % 5 == 4), loss + 0.15, np.nan),
        "epoch": np.where(end, epoch, np.nan),
    }


def probe_table() -> Table:
    """Both members and untrained weights, probed."""
    return {
        "member": np.array(["candidate", "candidate", "independent", "untrained"]),
        "features": np.array(["pooled", "pooled", "pooled", "pooled"]),
        "evaluation": np.array(["linear", "knn", "linear", "linear"]),
        "top1": np.array([0.7044, 0.6812, 0.7031, 0.3312]),
        "top5": np.array([0.981, 0.962, 0.98, 0.82]),
        "n_train": np.full(4, 40_000),
        "n_test": np.full(4, 5_000),
    }


def splits_file(dataset: str = "cifar10", **ids: list[int]) -> dict[str, Any]:
    """What ``splits.json`` holds, its hash made up."""
    described = {"format": 1, "order": "random", "seed": 0, "num_train": 50_000, "num_test": 10_000}
    every: dict[str, list[int]] = {"shared": [], "candidate": [], "independent": [], "external": []}
    return {**described, "dataset": dataset, "sha256": "ab" * 32, **every, **ids}


def summary_file(**changed: Any) -> dict[str, Any]:
    """What the ``summary.json`` of an analysis holds."""
    made = {"command_line": "analyze.py", "device": "CPU", "git_commit": None, "finished": "2026-11-20", "versions": {}}
    numbers = {"seed": 0, "seconds": 1.0, "images": 1, "images_per_second": 1.0, "split_sha256": "ab" * 32}
    return {**made, **numbers, "checkpoints": {}, "headline": {}, "figures": {}, **changed}


def weights_record(file: str) -> dict[str, Any]:
    """What ``encoder.json`` says of weights."""
    return {"file": file, "sha256": "ab" * 32, "prefix": "", "words": "all of it"}


def released_file(**changed: Any) -> dict[str, Any]:
    """What ``encoder.json`` holds."""
    architecture = {"name": "resnet18", "stem": "cifar", "in_channels": 3, "num_features": 512, "input_size": 224}
    views = {"name": "simclr", "size": 224, "mean": [0.5] * 3, "std": [0.5] * 3}
    made = {"encoder": "resnet18", "architecture": architecture, "weights": None, "init_seed": 0, "views": views}
    return {**made, "images": "photos", "held_out": None, **changed}


def make_trained(root: Path) -> RunDir:
    """A run whose two members have been trained and not yet analysed."""
    rng = np.random.default_rng(0)
    run = RunDir(root)
    ids = {name: list(range(i * 10, i * 10 + 10)) for i, name in enumerate(("shared", "candidate", "independent"))}
    write_json(run.splits, splits_file(**ids, external=list(range(30, 40))))
    write_text(run.config, "model:\n  class_path: SimCLR\n")
    for role in ("candidate", "independent"):
        table = metrics_table(rng)
        write_table(run.member(role).metrics, table, schema_of(table))
        write_text(run.member(role).encoder, "")
    return run


def analyse(run: RunDir) -> None:
    """Add made-up results of the three commands."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    made_from = {
        "seed": 0,
        "split_sha256": "ab" * 32,
        "checkpoints": {"candidate": "cd" * 32, "independent": "ef" * 32},
    }
    with AnalysisLog(run, layermem.ANALYSIS, logger="csv", device="cpu", **made_from) as log:
        table = layermem_table()
        log.table("table", table)
        tests = {
            "layer": np.array(LAYERS),
            "control": np.full(10, "external"),
            "t": np.arange(10.0),
            "p": np.full(10, 0.02),
        }
        log.table("tests", tests)
        log.table("membership", membership_table())
        log.table("placebos", placebo_table())
        log.figure("by_depth", layermem_by_depth(table), "LayerMem by depth, with its controls and 95 % intervals.")
        captions = [f"id {i}\n{0.9 - i / 50:.3f}" for i in range(20)]
        grid = image_grid(images[:20], captions, title="Most memorised candidates")
        log.figure("most_memorised", grid, "The candidates with the highest score in res6.")
        log.headline({"contrast_res6": table["contrast"][-1]})
        log.images = 20_000
    with AnalysisLog(run, unitmem.ANALYSIS, logger="csv", device="cpu", **made_from) as log:
        units = unitmem_table(rng)
        layers = unitmem_layers(units)
        log.table("table", units)
        log.table("layers", layers)
        log.figure("by_layer", unitmem_by_layer(layers), "UnitMem by layer, beside the null and held-out images.")
        log.figure("heatmap", unitmem_heatmap(units["layer"], {"scored": units["unitmem"]}), "Every unit, by layer.")
        log.figure("histogram", unitmem_histogram(units), "How the scores spread over the units of a layer.")
        rows = [[f"id {10 * r + c}\n{2 - c / 10:.2f}" for c in range(10)] for r in range(4)]
        labels = [f"layer{r}\nunit {r}" for r in range(4)]
        log.figure(
            "top_images",
            rows_grid(images.reshape(4, 10, 8, 8, 3), labels, rows),
            "The images that drive the top units.",
        )
    with AnalysisLog(run, probe.ANALYSIS, logger="csv", device="cpu", **made_from) as log:
        log.table("table", probe_table())
