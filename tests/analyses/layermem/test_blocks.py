"""LayerMem by transformer block, against plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memlight.analyses.layermem.chart import layermem_by_block
from memlight.analyses.layermem.columns import LAYERMEM_BLOCKS
from memlight.analyses.layermem.tables import (
    PARTS,
    layermem_blocks,
    layermem_table,
    layers_by_block,
    mlp_minus_attention,
)
from memlight.features.discovery import list_layers
from memlight.metrics.layermem import LayerMem, LayerMemResult
from memlight.models.encoders import build_encoder
from memlight.storage.tables import read_table, write_table

LAYERS = ["stem", *(f"blocks.{n}{end}" for n in range(2) for end in (".attn", ".norm2@in", ".mlp.act", ".mlp", ""))]


def results(layers: list[str] = LAYERS) -> dict[str, dict[str, LayerMemResult]]:
    found: dict[str, dict[str, LayerMemResult]] = {"candidate": {}, "independent": {}}
    for split, of_split in found.items():
        for depth, layer in enumerate(layers):
            metric = LayerMem()
            generator = torch.Generator().manual_seed(depth + 100 * (split == "candidate"))
            align_f, align_g = torch.rand(2, 40, generator=generator) + 0.5
            metric.update(align_f, align_g, torch.arange(40))
            of_split[layer] = metric.compute()
    return found


@pytest.mark.parametrize(("name", "blocks"), [("vit_tiny_patch16", 12), ("resnet9", 0)])
def test_layers_of_real_encoders_by_block(name: str, blocks: int) -> None:
    found = layers_by_block(list_layers(build_encoder(name, image_size=32, seed=0)))
    assert len(found) == blocks
    assert all(list(parts) == list(PARTS) for parts in found)
    if blocks:
        assert found[3] == {
            "attention": "blocks.3.attn",
            "residual_attention": "blocks.3.norm2@in",
            "hidden": "blocks.3.mlp.act",
            "mlp": "blocks.3.mlp",
            "residual_mlp": "blocks.3",
        }


def test_table_by_block_picks_the_rows_of_the_layers(tmp_path: Path) -> None:
    table = layermem_table(results())
    write_table(tmp_path / "blocks.csv", layermem_blocks(table), LAYERMEM_BLOCKS)
    blocks = read_table(tmp_path / "blocks.csv", LAYERMEM_BLOCKS)
    assert list(blocks) == list(LAYERMEM_BLOCKS)
    assert blocks["block"].tolist() == [1] * 5 + [2] * 5
    assert blocks["part"].tolist() == list(PARTS) * 2
    for row, layer in enumerate(blocks["layer"].tolist()):
        source = LAYERS.index(layer)
        assert blocks["contrast"][row] == table["contrast"][source]
        assert blocks["delta"][row] == table["delta"][source]


def test_mlp_minus_attention_is_taken_image_by_image() -> None:
    scored = results()
    found = mlp_minus_attention(scored)
    assert found is not None
    means, variances = {}, {}
    for split, of_split in scored.items():
        differences = []
        for image in range(40):
            of_image = [
                float(of_split[f"blocks.{n}.mlp"].scores[image] - of_split[f"blocks.{n}.attn"].scores[image])
                for n in range(2)
            ]
            differences.append(sum(of_image) / 2)
        means[split] = sum(differences) / 40
        variances[split] = sum((d - means[split]) ** 2 for d in differences) / 39
    value = (means["candidate"] - means["independent"]) / 2
    error = (variances["candidate"] / 40 + variances["independent"] / 40) ** 0.5 / 2
    assert found.contrast[0] == pytest.approx(value, rel=1e-5)
    assert found.se[0] == pytest.approx(error, rel=1e-5)
    assert found.low[0] < value < found.high[0]
    assert (found.p_adjusted[0] <= 0.05) == (abs(value) > 2 * error)


def test_without_blocks_or_without_independent_images_there_is_nothing_to_compare() -> None:
    assert len(layermem_blocks(layermem_table(results(["layer1", "layer2"])))["block"]) == 0
    assert mlp_minus_attention(results(["layer1", "layer2"])) is None
    assert mlp_minus_attention({"candidate": results()["candidate"]}) is None


def test_figure_draws_every_part() -> None:
    figure = layermem_by_block(layermem_blocks(layermem_table(results())))
    assert len(figure.axes[0].lines) == len(PARTS) + 1  # and the line at 0
    np.testing.assert_allclose(np.asarray(figure.axes[0].lines[0].get_xdata()), [1, 2])
