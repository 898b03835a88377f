"""Made-up results of sequence experiments, for the tests of their tables, figures and pages."""

from pathlib import Path
from typing import Any

import numpy as np

from memlight.sequences.results import SequenceResults
from memlight.storage.tables import write_text


def sequence_results(
    *, members: int = 6, sets: int = 2, zipf: bool = False, memory: bool = True, seed: int = 0, speed: float = 2.0
) -> SequenceResults:
    """Every set is learned within its own phase of 1000 steps, later ones faster, and forgotten afterwards.

    Args:
        members: members E.
        sets: sequence sets S.
        zipf: whether low ranks are drawn, and learned, far more often.
        memory: whether it is a model with an associative memory, whose weights are kept.
        seed: of the noise between members.
        speed: how many times faster the second set is learned than the first.
    """
    rng = np.random.default_rng(seed)
    phase, bits, heads = 1000, 8, 3
    steps = np.arange(0, phase * sets + 1, 100)
    ranks = np.arange(0, 200, 10)
    share = 1 / (ranks + 1) if zipf else np.full(len(ranks), 0.02)
    shape = (members, sets, len(steps))
    accuracy, loss = np.full(shape, np.nan), np.full(shape, np.nan)
    tested = np.full((*shape, len(ranks)), np.nan)
    drawn = np.full((*shape, len(ranks)), np.nan)
    positions = np.full((*shape, bits), np.nan)
    noise = rng.normal(0, 0.02, members)
    for index in range(sets):
        since = steps - index * phase
        at = np.flatnonzero(since > 0 if index else since >= 0)
        trained = np.minimum(since[at], phase)
        left = np.where(since[at] > phase, 0.3, 1.0)
        rate = 0.005 * (speed if index else 1.0)
        learned = (1 - np.exp(-rate * trained))[None] * left * (1 + noise)[:, None]
        accuracy[:, index, at], loss[:, index, at] = 0.5 + 0.4 * learned, np.log(2) - 0.55 * learned
        drawn[:, index, at] = (trained[:, None] * share).round()
        by_rank = (1 - np.exp(-0.5 * drawn[:, index, at])) * left[:, None] * (1 + noise)[:, None, None]
        tested[:, index, at] = 0.5 + 0.48 * by_rank
        positions[:, index, at] = 0.5 + 0.5 * learned[..., None] * np.linspace(0, 0.9, bits)
    switches = phase * np.arange(1, sets)
    weights = {
        int(step): {
            "A_logits": rng.normal(0, 1, (members, bits, heads, bits)),
            "B_logits": rng.normal(0, 1, (members, heads, bits)),
        }
        for step in (*switches, steps[-1])
    }
    optional: dict[str, Any] = {
        "retrieval_top1": np.where(np.isfinite(accuracy), 0.01 + 0.5 * (accuracy - 0.5), np.nan),
        "weights": weights,
    }
    return SequenceResults(
        seeds=np.arange(members),
        set_seeds=np.arange(members * sets).reshape(members, sets),
        switch_start_iter=switches,
        eval_steps=steps,
        set_accuracy=accuracy,
        set_loss=loss,
        set_loss_unweighted=loss * 1.05 if zipf else loss,
        test_rank=ranks,
        test_accuracy=tested,
        test_loss=np.log(2) * 2 * (1 - tested),
        test_appearances=drawn,
        position_accuracy=positions,
        train_steps=steps[1:],
        train_loss=np.nanmin(loss[:, :, 1:], axis=1),
        ceiling_accuracy=np.full((members, sets), 0.93),
        ceiling_loss=np.full((members, sets), 0.11),
        floor_accuracy=np.full((members, sets), 0.5),
        floor_loss=np.full((members, sets), np.log(2)),
        events=[{"step": int(step), "kind": "data_switch", "words": "a new set"} for step in switches],
        args={
            "model": {"class_path": "memlight.modules.SequenceDAM" if memory else "memlight.modules.SequenceAttention"},
            "data": {"init_args": {"law": "zipf" if zipf else "uniform", "exponent": 1.0}},
        },
        sequences=[rng.integers(0, 2, (200, bits)).astype(np.uint8) for _ in range(sets)],
        **(optional if memory else {}),
    )


def write_sequence_run(root: Path, results: SequenceResults) -> Path:
    """A run directory as ``train.py fit`` leaves it."""
    root.mkdir(parents=True, exist_ok=True)
    write_text(root / "config.yaml", "model:\n  class_path: memlight.modules.sequence.module.SequenceModule\n")
    results.write(root)
    return root
