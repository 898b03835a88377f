import numpy as np
import pytest

from memlight.analyses.removal.arms import choose_arms, class_shift
from memlight.random import permutation


def test_arms_are_the_highest_the_lowest_and_seeded_draws() -> None:
    ids = np.array([3, 5, 8, 13, 21, 34])
    scores = np.array([0.2, -0.1, 0.7, 0.2, 0.7, -0.1])
    arms = choose_arms(ids, scores, 3, 2, seed=7)
    assert [(arm.name, arm.trial, arm.kind) for arm in arms] == [
        ("top", 0, "top"),
        ("low", 0, "low"),
        ("random-1", 1, "random"),
        ("random-2", 2, "random"),
    ]
    by_score = sorted(zip(scores.tolist(), ids.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
    assert arms[0].ids.tolist() == sorted(id_ for _, id_ in by_score[:3]) == [3, 8, 21]  # of two with 0.2 the lower id
    by_score.sort()
    assert arms[1].ids.tolist() == sorted(id_ for _, id_ in by_score[:3]) == [3, 5, 34]
    for arm in arms[2:]:
        drawn = [int(ids[row]) for row in permutation(7, arm.trial, 6)[:3]]
        assert arm.ids.tolist() == sorted(drawn)
    for arm in arms:
        assert arm.scores.tolist() == [float(scores[ids.tolist().index(id_)]) for id_ in arm.ids]


def test_more_trials_leave_earlier_ones_as_they_are_and_seeds_and_trials_differ() -> None:
    ids, scores = np.arange(100), np.zeros(100)
    three, five = (choose_arms(ids, scores, 20, trials, seed=0) for trials in (3, 5))
    assert [arm.ids.tolist() for arm in three] == [arm.ids.tolist() for arm in five[:5]]
    other = choose_arms(ids, scores, 20, 5, seed=1)
    drawn = [tuple(arm.ids.tolist()) for arm in (*five, *other) if arm.trial]
    assert len(set(drawn)) == 10


@pytest.mark.parametrize("remove", [0, 7])
def test_as_many_are_removed_as_there_are_at_most(remove: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 6, got {remove}"):
        choose_arms(np.arange(6), np.zeros(6), remove, 1, seed=0)


def test_class_shift_is_the_total_variation_distance() -> None:
    rng = np.random.default_rng(0)
    candidates = rng.integers(0, 4, 50)
    removed = candidates[:12]
    distance = 0.0
    for number in range(5):  # the last class has no image
        share = sum(label == number for label in removed) / 12
        distance += abs(share - sum(label == number for label in candidates) / 50) / 2
    assert class_shift(removed, candidates, 5) == pytest.approx(distance)
    assert class_shift(candidates, candidates, 5) == 0
    assert class_shift(np.zeros(3, np.int64), np.ones(4, np.int64), 2) == 1
