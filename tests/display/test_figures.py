"""Charts show the table's numbers, name every layer there is room for, and share no state."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memlight.analyses.layermem.chart import layermem_by_depth
from memlight.analyses.unitmem.chart import unitmem_by_layer, unitmem_histogram
from memlight.report.page import training_curves
from memlight.storage.tables import Table
from tests.synthetic_run import LAYERS, UNITS, layermem_table, metrics_table, unitmem_layers, unitmem_table

UNIT_TABLE = unitmem_table(np.random.default_rng(0))


def panels(figure: Figure) -> dict[str, Axes]:
    return {ax.get_title(loc="left") or ax.get_ylabel(): ax for ax in figure.axes}


def lines(ax: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.lines}


def deep(table: Table, layers: int) -> Table:
    """The table of a network with so many layers."""
    rows = np.arange(layers) * len(table["layer"]) // layers
    return {name: column[rows] for name, column in table.items()} | {
        "layer": np.array([f"layer{i}.conv1" for i in range(layers)])
    }


def test_importing_charts_and_report_needs_neither_torch_nor_pyplot() -> None:
    code = (
        "import sys, memlight.report.page, memlight.display.pictures\n"
        "assert not {'torch', 'matplotlib.pyplot', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_layermem_leads_with_the_contrast_and_shows_controls() -> None:
    table = layermem_table()
    axes = panels(layermem_by_depth(table))
    contrast = axes["Contrast: 0 where nothing is memorised"]
    assert any(np.array_equal(y, table["contrast"]) for y in lines(contrast).values())
    bands = [c for c in contrast.collections if len(c.get_paths()[0].vertices) > 2 * len(LAYERS)]
    for band, name in zip(bands, ("contrast_simultaneous", "contrast"), strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == table[f"{name}_low"].min()
        assert heights.max() == table[f"{name}_high"].max()
    assert [tick.get_text() for tick in contrast.get_xticklabels()] == list(LAYERS)
    published = lines(axes["Published score beside its controls"])
    np.testing.assert_array_equal(published["candidates (LayerMem)"], table["layermem"])
    for split in ("independent", "external", "shared"):
        np.testing.assert_array_equal(published[f"{split} (control)"], table[f"control_{split}"])
    bars = axes["Published step"].patches
    np.testing.assert_array_equal([bar.get_height() for bar in bars], table["delta"])


def test_a_control_without_images_is_left_out() -> None:
    table = layermem_table() | {"control_external": np.full(len(LAYERS), np.nan)}
    published = lines(panels(layermem_by_depth(table))["Published score beside its controls"])
    assert "external (control)" not in published
    assert "shared (control)" in published


@pytest.mark.parametrize("layers", [1, 2, 14, 70])
def test_layer_names_do_not_run_into_one_another(layers: int) -> None:
    figure = layermem_by_depth(deep(layermem_table(), layers))
    figure.draw_without_rendering()
    for ax in figure.axes:
        names = ax.get_xticklabels()
        assert min(layers, 7) <= len(names) <= layers
        ends = [name.get_window_extent().x1 for name in names]
        line = names[0].get_fontsize() * figure.dpi / 72
        upright = names[0].get_rotation() == 0
        needed = [name.get_window_extent().width for name in names[1:]] if upright else line / np.sin(np.radians(40))
        assert (np.diff(ends) > needed).all()


def test_unitmem_has_the_null_and_for_a_pair_its_contrasts() -> None:
    layers = unitmem_layers(UNIT_TABLE)
    pair = panels(unitmem_by_layer(layers))
    scores = lines(pair["UnitMem beside its controls"])
    np.testing.assert_array_equal(scores["mean over units"], layers["mean"])
    np.testing.assert_array_equal(scores["mean, held-out images"], layers["held_out_mean"])
    np.testing.assert_array_equal(scores["expected of exchangeable images"], layers["null_mean"])
    assert len(pair) == 3
    single = {name: column for name, column in layers.items() if not name.startswith(("unit_contrast", "own_max"))}
    assert len(panels(unitmem_by_layer(single))) == 1


def test_histograms_count_every_living_unit_once() -> None:
    axes = panels(unitmem_histogram(UNIT_TABLE))
    assert list(axes) == list(LAYERS)
    counts = [sum(bar.get_height() for bar in ax.patches) for ax in axes.values()]
    assert counts == [UNITS[0] - 2, *UNITS[1:]]
    assert list(panels(unitmem_histogram(UNIT_TABLE, ["res6", "layer1"]))) == ["res6", "layer1"]


def test_training_curves_skip_what_was_not_logged() -> None:
    rng = np.random.default_rng(0)
    metrics = {"candidate": metrics_table(rng), "independent": metrics_table(rng)}
    axes = panels(training_curves(metrics))
    loss = lines(axes["loss"])
    assert set(loss) == {"candidate", "candidate, external", "independent", "independent, external"}
    np.testing.assert_array_equal(loss["candidate"], metrics["candidate"]["train/loss"][1::2])
    np.testing.assert_allclose(axes["loss"].lines[0].get_xdata(), np.arange(1, 61))
    np.testing.assert_allclose(axes["learning rate"].lines[0].get_xdata(), np.arange(0.5, 60.1, 0.5))
    assert np.isfinite(loss["candidate, external"]).all() and len(loss["candidate, external"]) == 12
    assert len(axes) == 3


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    layermem_by_depth(layermem_table())
    assert dict(matplotlib.rcParams) == before
