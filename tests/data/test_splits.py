import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memlight.data.splits import ROLES, SPLITS, PairSplit
from memlight.errors import UserError


def small(**changes: Any) -> PairSplit:
    sizes: dict[str, Any] = {"shared": 50, "candidate": 20, "independent": 20, "external": 10}
    return PairSplit.make(100, 30, **(sizes | {"dataset": "toys"} | changes))


@pytest.mark.parametrize("order", ["random", "index"])
def test_splits_are_disjoint_sorted_and_inside_their_half(order: str) -> None:
    split = small(order=order)
    together = np.concatenate([split.ids(name) for name in SPLITS])
    assert [split.ids(name).size for name in SPLITS] == [50, 20, 20, 10]
    assert len(set(together.tolist())) == 100
    for name in SPLITS:
        ids = split.ids(name)
        assert ids.dtype == np.int64
        assert (np.diff(ids) > 0).all()
        low, high = (100, 130) if name == "external" else (0, 100)
        assert low <= ids.min() and ids.max() < high


def of_role(split: PairSplit, role: str) -> NDArray[np.int64]:
    return np.sort(np.concatenate([split.shared, split.own_ids(role)]))


def test_index_order_is_that_of_the_authors_code() -> None:
    split = PairSplit.make(50_000, 10_000, order="index")
    f, g = of_role(split, "candidate"), of_role(split, "independent")
    assert f.tolist() == list(range(45_000))
    assert g.tolist() == [*range(40_000), *range(45_000, 50_000)]
    assert split.external.tolist() == list(range(50_000, 55_000))


def test_random_order_depends_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first = small(seed=3)
    torch.manual_seed(9)
    np.random.seed(9)
    assert small(seed=3).sha256 == first.sha256 != small(seed=4).sha256
    torch.set_rng_state(state)
    small()
    assert torch.equal(torch.get_rng_state(), state)


def test_random_order_spreads_every_split_over_the_whole_set() -> None:
    split = PairSplit.make(50_000, 10_000)
    for name in ("shared", "candidate", "independent"):
        ids = split.ids(name)
        standard_error = 50_000 / np.sqrt(12 * ids.size)
        assert abs(ids.mean() - 25_000) < 4 * standard_error


def test_hash_is_pinned() -> None:
    """The hash is stored with every encoder: a change here makes every earlier run unusable."""
    split = PairSplit.make(10, 4, shared=4, candidate=2, independent=2, external=2, order="index", dataset="toys")
    assert split.sha256 == "aa7c4485661493057dc6efe67baf6d12cd055758f6694f4dfc071ea5f3e84e6c"


def test_roles() -> None:
    split = small()
    assert set(of_role(split, "all")) == set(split.shared) | set(split.candidate) | set(split.independent)
    assert not set(of_role(split, "candidate")) & set(split.independent)
    assert set(ROLES) == {"candidate", "independent", "all"}
    with pytest.raises(UserError, match=r"^role='f': choose one of candidate"):
        of_role(split, "f")
    with pytest.raises(UserError, match=r"^split='test': choose one of shared"):
        split.ids("test")


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        (
            {"shared": 61},
            r"^shared=61: with `candidate=20` and `independent=20` 101 images are wanted, but there are 100",
        ),
        ({"external": 31}, "^external=31: there are 30 test images"),
        ({"candidate": -1}, "^candidate=-1"),
        ({"order": "sorted"}, "^order='sorted': choose random or index"),
    ],
)
def test_impossible_splits_name_the_argument(changes: dict[str, Any], flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        small(**changes)


@pytest.mark.parametrize("order", ["random", "index"])
def test_without_test_images_external_ones_are_training_images_that_are_held_out(order: str) -> None:
    split = PairSplit.make(100, 0, shared=50, candidate=20, independent=20, external=8, order=order)
    together = np.concatenate([split.ids(name) for name in SPLITS])
    assert len(split.external) == 8 and len(set(together.tolist())) == len(together) == 98 and together.max() < 100
    more = split.with_external(10)
    assert set(split.external) < set(more.external) and not set(more.external) & set(split.own_ids("all"))
    with pytest.raises(UserError, match=r"^external=11: there are no test images, and 10 images that neither"):
        split.with_external(11)
    with pytest.raises(UserError, match=r"^shared=50: .* 101 images are wanted, .* 100 training images, of which `ext"):
        PairSplit.make(100, 0, shared=50, candidate=20, independent=20, external=11)
    assert PairSplit.make(100, 0, shared=5, candidate=5, independent=5, external=0).external.size == 0


def test_save_and_load(tmp_path: Path) -> None:
    split = small(seed=7)
    path = tmp_path / "run" / "splits.json"
    split.save(path)
    loaded = PairSplit.load(path)
    assert loaded.sha256 == split.sha256
    assert (loaded.seed, loaded.order, loaded.num_train, loaded.num_test, loaded.dataset) == (
        *(7, "random", 100, 30),
        "toys",
    )
    assert [p.name for p in path.parent.iterdir()] == ["splits.json"]
    loaded.require_equal(split, path)


def cut_in_half(content: dict[str, Any]) -> str:
    text = json.dumps(content)
    return text[: len(text) // 2]


def move_one_id(content: dict[str, Any]) -> str:
    content["candidate"][0] = content["independent"][0]
    return json.dumps(content)


def drop_a_split(content: dict[str, Any]) -> str:
    del content["external"]
    return json.dumps(content)


def fractional_ids(content: dict[str, Any]) -> str:
    content["shared"][0] += 0.5
    return json.dumps(content)


def another_format(content: dict[str, Any]) -> str:
    return json.dumps(content | {"format": 2})


def not_an_object(content: dict[str, Any]) -> str:
    return "[]"


@pytest.mark.parametrize(
    "damage", [cut_in_half, move_one_id, drop_a_split, fractional_ids, another_format, not_an_object]
)
def test_damaged_file_is_refused(tmp_path: Path, damage: Callable[[dict[str, Any]], str]) -> None:
    path = tmp_path / "splits.json"
    small().save(path)
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(UserError, match=r"^run: .*splits\.json"):
        PairSplit.load(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "data.seed: 0, now 1"),
        ({"order": "index"}, "data.order: random, now index"),
        ({"candidate": 19}, "data.num_candidate: 20, now 19"),
        ({"dataset": "others"}, "data.dataset: toys, now others"),
    ],
)
def test_another_split_is_refused_with_its_difference(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        small().require_equal(small(**changes), Path("runs/x/splits.json"))


def test_more_external_images_are_the_same_ones_and_more() -> None:
    split = PairSplit.make(50, 30, shared=20, candidate=5, independent=5, external=10, seed=3, dataset="x")
    assert split.with_external(10).sha256 == split.sha256
    more = split.with_external(25)
    assert set(split.external) < set(more.external)
    made = PairSplit.make(50, 30, shared=20, candidate=5, independent=5, external=25, seed=3, dataset="x")
    assert more.sha256 == made.sha256
    assert set(split.with_external(4).external) < set(split.external)
    with pytest.raises(UserError, match=r"^external=31: there are 30 test images"):
        split.with_external(31)
