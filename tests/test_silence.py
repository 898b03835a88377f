"""Where nothing is memorised and no choice matters, sentences name nothing in 95 of 100 cases.

The tables are those of studies whose numbers are noise alone. What comes of relabelling is in
`tests/analyses/unitmem/test_contrast.py`, `tests/analyses/unitmem/test_excess.py` and `tests/test_stats_families.py`.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from memlight.analyses.effects import effect_row, paired_drop
from memlight.analyses.exchange.columns import DONOR, EXCHANGE_EFFECTS, NONE
from memlight.analyses.exchange.section import exchange_words
from memlight.analyses.finetune.arms import Arm, finetune_tables
from memlight.analyses.finetune.section import finetune_words
from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE
from memlight.analyses.prune.section import prune_words
from memlight.analyses.removal.columns import REMOVAL_EFFECTS, REMOVAL_TABLE
from memlight.analyses.removal.section import removal_words
from memlight.analyses.verdicts import against_untreated, effects_table
from memlight.report.compare import page, repeats, repeats_page
from memlight.report.compare.runs import ComparedRun
from memlight.storage.schema import required
from memlight.storage.tables import table_of

STUDIES = 150
MOST = 0.05 + 2 * np.sqrt(0.05 * 0.95 / STUDIES)
"""Share of false alarms that STUDIES studies with one in twenty give in 97 of 100 cases, at most."""

IMAGES, DRAWS = 60, 5


def copies(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Which test images each of so many copies classifies correctly: images differ, and copies do, by nothing else."""
    ease, level = rng.normal(0.7, 0.4, IMAGES), rng.normal(0, 0.1, (count, 1))
    return torch.from_numpy(ease + level + rng.normal(0, 0.3, (count, IMAGES)) > 0.5)


def test_pruning_says_of_no_copy_that_it_costs_more_or_less_than_random() -> None:
    rng, said = np.random.default_rng(0), 0
    shares = [("layer", 0.1), ("layer", 0.2), ("model", 0.1), ("model", 0.2)]
    for _ in range(STUDIES):
        table, rows = [("none", "none", 0.0, 0, 0, 0.8, 0.7, 0.0)], []
        for scope, ratio in shares:
            none, top, low, *random = copies(rng, 3 + DRAWS)
            for mode, copy in (("top", top), ("low", low)):
                rows.append((scope, ratio, mode, 9, 0, *effect_row(none, copy, random)))
                table.append((mode, scope, ratio, 0, 9, 0.8, 0.7, 0.0))
        words = prune_words(table_of(PRUNE_TABLE, table), effects_table(PRUNE_EFFECTS, rows))
        said += "costs" in " ".join(words).replace("(top costs more than random, random more than low)", "")
    assert said / STUDIES <= MOST


def test_removal_says_of_no_arm_that_it_costs_more_or_less_than_random() -> None:
    rng, said = np.random.default_rng(1), 0
    table = [("none", 0, 0, 0.8, 0.7, 0.0), *(("random", draw, 4, 0.7, 0.7, 0.1) for draw in range(DRAWS))]
    for _ in range(STUDIES):
        none, top, low, *random = copies(rng, 3 + DRAWS)
        rows = [(arm, 4, *effect_row(none, copy, random)) for arm, copy in (("top", top), ("low", low))]
        said += "costs" in removal_words(table_of(REMOVAL_TABLE, table), effects_table(REMOVAL_EFFECTS, rows))
    assert said / STUDIES <= MOST


def test_exchange_counts_no_exchange_that_changes_accuracy() -> None:
    """Twenty copies that differ from the unexchanged encoder by chance, image by image."""
    rng, said = np.random.default_rng(2), 0
    for _ in range(STUDIES):
        level = rng.normal(0.7, 0.4, IMAGES)
        rows = []
        none, *others = torch.from_numpy(level + rng.normal(0, 0.3, (21, IMAGES)) > 0.5)
        for name, copy in ((NONE, none), (DONOR, others[0]), *((f"layer{n}", copy) for n, copy in enumerate(others))):
            rows.append((name, "digits", False, 0.7, *paired_drop(none, copy), 0.5, 300, IMAGES))
        words = exchange_words(against_untreated(table_of(required(EXCHANGE_EFFECTS), rows), (NONE, DONOR)))
        said += "fell in 0 of 20 exchanges and rose in 0 (" not in words
    assert said / STUDIES <= MOST


def test_fine_tuning_names_no_ranking_and_no_arm_that_gains() -> None:
    rng, trials = np.random.default_rng(3), 4
    layers = ("layer1", "layer2", "layer3")
    arms = [Arm("head", "head", ((),) * trials)]
    for count in (1, 2):
        arms += [Arm(f"{kind}-{count}", kind, (layers[:count],) * trials) for kind in ("delta", "contrast", "random")]
    parameters = {layers[:count]: 10 for count in range(3)}
    headline = {"dataset": "digits", "train_images": 100, "test_images": IMAGES}
    judged, gained = 0, 0
    for _ in range(STUDIES):
        right = {arm.name: copies(rng, trials) for arm in arms}
        shared = {name: answers ^ (torch.rand(trials, IMAGES) < 0.1) for name, answers in right.items()}
        words = finetune_words(finetune_tables(arms, shared, parameters)[1], headline)
        judged += "fine-tuning holds" in words or "does not hold" in words
        gained += "0 of 6 arms gain" not in words
    assert judged / STUDIES <= MOST
    assert gained / STUDIES <= MOST


def test_repetitions_name_no_layer() -> None:
    rng, said = np.random.default_rng(4), 0
    for study in range(STUDIES):
        runs, layers = 2 + study % 4, 10
        depth = rng.normal(size=(runs, layers)).cumsum(1) / np.sqrt(np.arange(1, layers + 1))  # neighbours are alike
        rows = []
        for layer in range(layers):
            found = repeats.spread_of(depth[:, layer])
            rows.append((f"layer{layer}", layer, "contrast", *(getattr(found, name) for name in SPREAD)))
        means = repeats.with_claims(table_of(required(repeats.REPEATS_LAYERS), rows))
        words = repeats_page.contrast_words(means)
        said += "In no layer" not in words or "below 0" in words
    assert said / STUDIES <= MOST


SPREAD = ("runs", "mean", "lowest", "highest", "mean_low", "mean_high")


@dataclass
class Measured:
    """What a comparison reads of a run's headline numbers."""

    name: str
    value: float

    def number(self, name: str) -> float:
        return self.value + {"contrast/last": 0.0, "contrast/last_low": -1.96, "contrast/last_high": 1.96}[name]


def test_a_comparison_counts_no_run_that_memorises() -> None:
    rng, said = np.random.default_rng(5), 0
    for _ in range(STUDIES):
        runs = [Measured(f"run{n}", float(value)) for n, value in enumerate(rng.normal(size=20))]
        words = page.contrast_words(cast("list[ComparedRun]", runs))
        said += "above 0 in 0 of 20 runs" not in words or "below 0" in words
    assert said / STUDIES <= MOST
