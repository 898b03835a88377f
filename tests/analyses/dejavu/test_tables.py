"""Differences of differences against loops; silent where nothing is memorised, and not where something is."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memlight.analyses.dejavu.tables import Group, differences, placebo_table, samples_table, trained_table
from memlight.metrics.retrieval import CornerResult
from memlight.stats import critical_value
from memlight.stats.families import relabelled_t

LAYERS = ["layer1", "layer2", "layer3"]


def group(images: int, *, known_f: NDArray[np.bool_] | None = None, known_g: NDArray[np.bool_] | None = None) -> Group:
    """Two encoders of unequal quality look at made-up images; a crop of a known image carries more of the image."""
    generator = np.random.default_rng(0)
    content, values = generator.standard_normal((images, 8)), []
    for quality, known in ((0.7, known_f), (0.4, known_g)):
        for _ in LAYERS:
            strength = quality + (0.6 * known[:, None] if known is not None else 0)
            crops = (1 + strength * content + generator.standard_normal((images, 8)) for _ in range(2))
            values.append(CornerResult(*map(torch.from_numpy, crops), torch.arange(images)))
    ranks, top1 = (
        np.stack([getattr(value, name).numpy() for value in values], axis=1) for name in ("reciprocal_rank", "top1")
    )
    ids = np.arange(100, 100 + images)
    return Group("", LAYERS, ids, ranks[:, :3], ranks[:, 3:], top1[:, :3], top1[:, 3:])


def test_a_row_is_what_loops_over_images_give() -> None:
    everything = group(60)
    candidate = everything.among("candidate", everything.ids[::2])
    independent = everything.among("independent", everything.ids[1::2])
    table = trained_table(candidate, independent)
    assert table["layer"].tolist() == LAYERS and table["depth"].tolist() == [0, 1, 2]
    assert table["n"].tolist() == [60] * 3
    for layer in range(3):
        for prefix, kind, f, g in (
            ("", "mrr", everything.rank_f, everything.rank_g),
            ("top1_", "top1", everything.top1_f, everything.top1_g),
        ):
            own = [sum(f[row, layer] - g[row, layer] for row in range(start, 60, 2)) / 30 for start in (0, 1)]
            assert table[f"{prefix}difference"][layer] == pytest.approx((own[0] - own[1]) / 2)
            assert table[f"{kind}_f_candidate"][layer] == pytest.approx(f[::2, layer].mean())
            assert table[f"{kind}_g_independent"][layer] == pytest.approx(g[1::2, layer].mean())


def test_the_better_encoder_is_no_memory_and_placebos_name_a_layer_in_at_most_7_of_100_deals() -> None:
    """The members differ in every image alike. Each deal of the halves is one relabelling of the same ranks."""
    advantage = group(120).advantage("rank")
    assert advantage.mean() > 0.05, "f is better on all of them"
    halves = advantage[:60], advantage[60:]
    critical = critical_value(relabelled_t(*halves, 2999, seed=0))
    deals = relabelled_t(*halves, 1000, seed=1)
    assert 0.03 <= (np.abs(deals).max(1) > critical).mean() <= 0.07
    assert np.abs(deals.mean(0)).max() < 0.15


def test_the_placebo_of_one_deal_says_nothing() -> None:
    everything = group(200)
    halves = [everything.among("external", ids) for ids in (everything.ids[::2], everything.ids[1::2])]
    table = placebo_table("external", *halves)
    assert (table["p_adjusted"] > 0.05).all() and (table["top1_p_adjusted"] > 0.05).all()
    assert table["placebo"].tolist() == ["external"] * 3
    assert table["mrr_f"][0] == pytest.approx(everything.rank_f[:, 0].mean())


def test_planted_memory_is_found_in_every_layer() -> None:
    own = np.arange(200) % 2 == 0
    everything = group(200, known_f=own, known_g=~own)
    found = differences(
        everything.among("candidate", everything.ids[own]), everything.among("independent", everything.ids[~own])
    )
    assert (found["p_adjusted"] < 0.01).all() and (found["difference_simultaneous_low"] > 0).all()
    assert (found["difference_simultaneous_low"] < found["difference_low"]).all()


def test_every_image_of_every_layer_is_in_the_samples() -> None:
    everything = group(20)
    table = samples_table([everything.among("external", everything.ids[3:8])], lambda ids: ids % 7)
    assert table["id"].tolist() == [*range(103, 108)] * 3
    assert table["layer"].tolist() == [layer for layer in LAYERS for _ in range(5)]
    assert (table["label"] == table["id"] % 7).all() and set(table["split"].tolist()) == {"external"}
    np.testing.assert_array_equal(table["reciprocal_rank_g"][5:10], everything.rank_g[3:8, 1])
