"""Tables and JSON on disk: typed columns, exact floats, and never half a file.

A table is a dictionary of equally long 1-D arrays, stored as CSV with one header row. Floats are written with
``repr``, so reading a table back gives the very same numbers.
"""

import csv
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from memlight.errors import UserError

Table = dict[str, NDArray[Any]]
"""Column name -> 1-D array; every column has the same length."""

LAYERMEM_TABLE = (
    *("layer", "depth", "layermem", "delta", "control_independent", "control_external", "control_shared"),
    *("contrast", "contrast_low", "contrast_high", "top50", "least50", "n"),
)
LAYERMEM_SAMPLES = ("id", "split", "label", "layer", "align_f", "align_g", "score")
LAYERMEM_INTERVALS = (
    "layer",
    *(
        f"{name}{end}"
        for name in ("layermem", "top50", "least50", "control_independent", "control_external", "control_shared")
        for end in ("", "_low", "_high")
    ),
)
LAYERMEM_TESTS = ("layer", "control", "t", "p")
_AGREEMENT = ("n", "top", "overlap", "chance", "chance_p95", "tau", "tau_low", "tau_high")
LAYERMEM_AGREEMENT = ("split", "layer_a", "layer_b", *_AGREEMENT)
LAYERMEM_BLOCKS = ("block", "part", "layer", "layermem", "delta", "contrast", "contrast_low", "contrast_high")
UNITMEM_TABLE = (
    *("layer", "depth", "unit", "unitmem", "mu_max", "mu_rest", "max_id", "dead"),
    *("unitmem_median", "mu_rest_median"),
)
UNITMEM_LAYERS = (
    *("layer", "depth", "units", "dead", "mean", "p95", "max", "top_mean", "bottom_mean"),
    *("null_mean", "null_p95", "held_out_mean", "t", "p"),
    *("unit_contrast", "unit_contrast_low", "unit_contrast_high"),
    *("own_max_share", "own_max_low", "own_max_high"),
)
UNITMEM_EXCESS = ("layer", "depth", "unit", "unitmem", "null", "null_p95", "excess", "held_out", "null_draw")
UNITMEM_NULL = (
    *("layer", "mean", "null_mean", "excess", "excess_low", "excess_high"),
    *("held_out_excess", "held_out_low", "held_out_high", "above_null_p95"),
)
UNITMEM_HIGHEST = (
    *("rank", "layer", "unit", "unitmem", "null", "null_p95", "held_out", "mu_max", "mu_rest", "max_id"),
    "unitmem_median",
)
UNITMEM_TESTS = ("layer", "scores", "k", "top_mean", "top_std", "bottom_mean", "bottom_std", "t", "p")
UNITMEM_EXTREMES = ("layer", "scores", "units", "top", "bottom")
UNITMEM_MEDIANS = ("layer", "scores", "units", "mean", "median", "null", "null_median", "pearson", "spearman")
UNITMEM_TOP = ("layer", "unit", "rank", "id", "mu")
UNITMEM_RELIABILITY = ("layer", "split_half")
UNITMEM_CURVE = ("layer", "n", "mean")
CLASSMEM_TABLE = ("layer", "depth", "unit", "classmem", "max_class", "mu_max", "mu_rest")
CLASSMEM_LAYERS = (
    *("layer", "depth", "units", "dead", "mean", "p95", "max"),
    *("null_mean", "null_p95", "held_out_mean", "unitmem_mean"),
)
CLASSMEM_CLASSES = ("class", "class_name", "images")
PRUNE_TABLE = ("mode", "scope", "ratio", "trial", "units", "probe_top1", "knn_top1", "drop")
PRUNE_EFFECTS = (
    *("scope", "ratio", "mode", "units", "dead", "drop", "drop_low", "drop_high"),
    *("random", "random_low", "random_high", "draws", "excess", "excess_low", "excess_high", "verdict"),
)
PRUNE_UNITS = ("mode", "scope", "ratio", "trial", "layer", "units", "dead", "pruned")
EXCHANGE_TABLE = ("layers", "dataset", "probe_top1", "layermem_before", "layermem_after")
EXCHANGE_EFFECTS = (
    *("layers", "dataset", "recalibrated", "top1", "drop", "drop_low", "drop_high", "knn_top1", "n_train", "n_test"),
)
EXCHANGE_LAYERS = (
    *("layers", "layer", "recalibrated", "layermem_before", "layermem_after"),
    *("contrast_before", "contrast_before_low", "contrast_before_high"),
    *("contrast_after", "contrast_after_low", "contrast_after_high"),
)
UNIT_TABLE = (
    *("method", "epoch", "unitmem", "mu_max", "mu_rest", "max_id", "mu_of_ids", "rank"),
    *("null_mean", "null_p95", "loss"),
)
UNIT_OTHERS = ("method", "unit", "trained", "unitmem_before", "unitmem_after", "max_id_before", "max_id_after")
UNIT_ACCURACY = ("encoder", "probe_top1", "knn_top1", "n_train", "n_test")
FINETUNE_TABLE = ("arm", "layers", "rank_by", "count", "trial", "trained_parameters", "top1", "gain")
FINETUNE_EFFECTS = (
    *("arm", "layers", "rank_by", "count", "trials", "trained_parameters", "top1", "top1_low", "top1_high"),
    *("gain", "gain_low", "gain_high", "over_random", "over_random_low", "over_random_high"),
)
REMOVAL_WITHOUT = ("id", "layer", "score")
REMOVAL_TABLE = ("arm", "trial", "removed", "probe_top1", "knn_top1", "drop")
REMOVAL_EFFECTS = (
    *("arm", "removed", "drop", "drop_low", "drop_high", "random", "random_low", "random_high", "draws"),
    *("excess", "excess_low", "excess_high", "verdict"),
)
REMOVAL_ARMS = (
    *("arm", "trial", "removed", "layer", "mean_score", "in_top", "class_shift"),
    *("images_per_epoch", "steps_per_epoch"),
)
REMOVAL_CLASSES = ("arm", "trial", "class", "class_name", "removed", "candidates")
PATCHES_TABLE = ("statistic", "value", "low", "high", "null", "null_low", "null_high", "maximum")
PATCHES_IMAGES = (
    *("image", "name", "mean_distance", "median_distance", "sources", "top_source", "top_name", "top_share"),
    *("entropy", "same_position"),
)
PATCHES_ORIGINS = ("source", "name", "patches", "images")
PATCHES_RAREFACTION = ("patches", "sources", "null")
PATCHES_NEAREST = ("image", "patch", "source", "source_patch", "distance")
PATCHES_COMPARE = ("model", "images", *PATCHES_TABLE, "over_held_out", "over_low", "over_high")
PROBE_TABLE = ("member", "features", "evaluation", "top1", "top5", "n_train", "n_test")
IMAGES_DESCRIBED = (
    *("spectral_slope", "high_frequency", "edge_density", "bytes_per_pixel", "colourfulness", "foreground_share"),
    *("brightness", "rms_contrast"),
)
IMAGES_TABLE = ("id", "split", "label", "units", "top_units", *IMAGES_DESCRIBED, "cluster")
IMAGES_OWNERSHIP = (
    *("split", "layer", "which", "units", "images"),
    *(
        f"{name}{end}"
        for name in ("owners", "top_1", "top_10", "most")
        for end in ("", "_null", "_null_low", "_null_high")
    ),
)
IMAGES_CURVE = ("share", "units", "null", "null_low", "null_high", "held_out_units")
IMAGES_DESCRIPTORS = (
    *("descriptor", "rho", "null_low", "null_high", "p", "q", "held_out_rho", "held_out_p", "held_out_q"),
    *("beyond", "beyond_p", "beyond_q"),
)
IMAGES_MATCHED = (
    *("descriptor", "pairs", "within_class", "difference", "null_low", "null_high", "p", "q"),
    *("unmatched", "imbalance", "imbalance_unmatched"),
    *("held_out_pairs", "held_out_difference", "held_out_p", "held_out_q"),
)
IMAGES_CLUSTERS = (
    *("cluster", "images", "drivers", "controls", "driver_share", "null_low", "null_high", "p", "q"),
    *("units", "unit_share", "class_name", "class_share"),
)
IMAGES_SILHOUETTES = ("k", "silhouette")
COMPARE_LAYERS = (
    *("run", "layer", "depth", "relative_depth", "contrast", "contrast_low", "contrast_high", "layermem"),
    *("unitmem", "null", "unit_contrast", "unit_contrast_low", "unit_contrast_high"),
    *("own_max_share", "own_max_low", "own_max_high", "classmem"),
)
COMPARE_GROUPS = ("number", "runs", "mean", "lowest", "highest", "mean_low", "mean_high")
REPEATS_LAYERS = ("layer", "depth", *COMPARE_GROUPS)
REPEATS_NUMBERS = ("analysis", *COMPARE_GROUPS)
REPEATS_AGREEMENT = ("split", "layer", "run_a", "run_b", *_AGREEMENT)

OPTIONAL_COLUMNS = frozenset(UNITMEM_TABLE[8:] + UNITMEM_LAYERS[14:] + UNITMEM_EXCESS[8:])
"""Columns a table may leave out: the median form of UnitMem, what only a pair of encoders has, what came later."""

TEXT_COLUMNS = frozenset(
    {"layer", "split", "control", "member", "features", "evaluation", "part", "class_name", "pruned"}
    | {"arm", "layers", "rank_by", "which", "descriptor"}
    | {"layer_a", "layer_b", "run_a", "run_b", "dataset"}
    | {"run", "measure", "swapped"}
    | {"statistic", "name", "top_name", "model"}
)
"""Columns that stay text where every cell looks like a number, as the layers "0", "1" of ``nn.Sequential``."""

_AGAIN = "run the command that makes it again"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place, synced, when the block succeeds.

    A killed process leaves the old file or the new one, and an exception leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a directory's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_directory(new: Path, old: Path) -> None:
    """Let ``new`` take the place of ``old``, which may not exist, in two renames."""
    retired = old.with_name(f".{old.name}.retired")
    shutil.rmtree(retired, ignore_errors=True)
    if old.exists():
        old.rename(retired)
    new.rename(old)
    sync(old.parent)
    shutil.rmtree(retired, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file as a whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, table: Table, columns: Sequence[str]) -> None:
    """Write ``table`` as CSV, its columns in the order of ``columns``.

    Args:
        path: the file to make or replace.
        table: columns of equal length; those in ``OPTIONAL_COLUMNS`` may be missing.
        columns: the names this file has, for example ``LAYERMEM_TABLE``.

    Raises:
        ValueError: a column is missing, unknown, not 1-D, or of another length.
    """
    missing = [name for name in columns if name not in table and name not in OPTIONAL_COLUMNS]
    unknown = [name for name in table if name not in columns]
    if missing or unknown:
        raise ValueError(f"{path.name}: missing columns {missing}, unknown columns {unknown}")
    present = [name for name in columns if name in table]
    shapes = {name: np.shape(table[name]) for name in present}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"{path.name}: columns must be 1-D and of equal length, got {shapes}")
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(present)
        writer.writerows(zip(*(np.asarray(table[name]).tolist() for name in present), strict=True))


def read_table(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read a CSV file back into typed columns.

    A column is ``int64`` where every cell is an integer, ``float64`` where every cell is a number or empty
    (NaN), ``bool`` where every cell is True or False, and text otherwise and for ``TEXT_COLUMNS``.

    Args:
        path: a file that ``write_table`` or ``MetricsCSV`` made.
        columns: when given, the header that the file must have.

    Raises:
        UserError: the file is missing, cut short, or has other columns.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--run: {path} cannot be read ({error}); {_AGAIN}") from error
    rows = list(csv.reader(text.splitlines()))
    if not text.endswith("\n") or any(len(row) != len(rows[0]) for row in rows):
        raise UserError(f"--run: {path} is cut short or was edited; {_AGAIN}")
    header, *body = rows
    if columns is not None and header != [n for n in columns if n in header or n not in OPTIONAL_COLUMNS]:
        raise UserError(f"--run: {path} has columns {header} where {list(columns)} belong; {_AGAIN}")
    cells = zip(*body, strict=True) if body else ((),) * len(header)
    return {name: _typed(name, column) for name, column in zip(header, cells, strict=True)}


def _typed(name: str, cells: Sequence[str]) -> NDArray[Any]:
    if name in TEXT_COLUMNS:
        return np.array(cells, dtype=np.str_)
    if set(cells) <= {"True", "False"} and cells:
        return np.array([cell == "True" for cell in cells])
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except ValueError:
        pass
    try:
        return np.array([float(cell or "nan") for cell in cells], dtype=np.float64)
    except ValueError:
        return np.array(cells, dtype=np.str_)


def table_of(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table from its rows, which may be none."""
    cells = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return {name: np.array(values) for name, values in zip(columns, cells, strict=True)}


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON; NumPy values are unwrapped, NaN and infinities become null."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--run: {path} cannot be read ({error}); {_AGAIN}") from error


def read_yaml_config(path: Path) -> dict[str, Any]:
    """Read a saved configuration.

    Raises:
        UserError: the file is missing or is not a YAML mapping.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"--run: {path} cannot be read ({error}); {_AGAIN}") from error
    if not isinstance(config, dict):
        raise UserError(f"--run: {path} is not a configuration; {_AGAIN}")
    return config


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
