from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from memlight.data.datasets import open_source
from memlight.data.loading import Batches, Draw, FixedOrder, RankSampler, TrainingOrder, data_loader, opened
from memlight.data.sources import MemorySource
from memlight.errors import UserError
from memlight.random import ANALYSIS


def numbered(count: int) -> MemorySource:
    """Image i is filled with i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).contiguous()
    return MemorySource("numbers", images, torch.arange(count) % 3, ["a", "b", "c"], "")


def training_order(repeat: int = 1, batch_size: int = 8, seed: int = 0) -> TrainingOrder:
    return TrainingOrder(np.arange(30), np.arange(40, 50), repeat, batch_size, seed)


def shown(order: TrainingOrder, epoch: int) -> Iterator[tuple[int, int]]:
    for draw in order.draws(epoch):
        yield from zip(draw.ids.tolist(), draw.epochs.tolist(), strict=True)


def test_an_epoch_shows_every_image_once() -> None:
    assert Counter(shown(training_order(), 3)) == Counter((i, 3) for i in [*range(30), *range(40, 50)])


def test_own_images_are_repeated_each_time_with_other_views() -> None:
    """Over two epochs no (image, view epoch) occurs twice, and own images occur three times as often."""
    order = training_order(repeat=3, batch_size=6)
    expected = [{(i, 3 * epoch) for i in range(30)} for epoch in (0, 1)]
    for epoch in (0, 1):
        expected[epoch] |= {(i, 3 * epoch + copy) for i in range(40, 50) for copy in range(3)}
    for epoch in (0, 1):
        assert Counter(shown(order, epoch)) == Counter(expected[epoch])
    assert not expected[0] & expected[1]


def test_incomplete_batch_is_dropped_and_differs_between_epochs() -> None:
    order = training_order(batch_size=12)
    assert len(order) == 3
    dropped = [set(range(50)) - {i for i, _ in shown(order, epoch)} for epoch in range(5)]
    assert all(len(missing - set(range(30, 40))) == 4 for missing in dropped)
    assert len({frozenset(missing) for missing in dropped}) > 1


def test_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {(seed, epoch): tuple(shown(training_order(seed=seed), epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert orders[0, 0] == tuple(shown(training_order(), 0))
    assert len({tuple(i for i, _ in order) for order in orders.values()}) == 4
    assert [i for i, _ in orders[0, 0]] != sorted(i for i, _ in orders[0, 0])


def test_candidate_and_independent_members_see_shared_images_at_the_same_steps() -> None:
    f = TrainingOrder(np.arange(30), np.arange(40, 50), 2, 10, 0)
    g = TrainingOrder(np.arange(30), np.arange(60, 70), 2, 10, 0)
    for f_draw, g_draw in zip(f.draws(5), g.draws(5), strict=True):
        assert np.array_equal(f_draw.epochs, g_draw.epochs)
        assert np.array_equal(np.where(f_draw.ids < 40, f_draw.ids, f_draw.ids + 20), g_draw.ids)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_global_batch_does_not_depend_on_the_number_of_processes(world_size: int) -> None:
    order = training_order(repeat=2)
    samplers = [RankSampler(order, rank, world_size) for rank in range(world_size)]
    for sampler in samplers:
        sampler.set_epoch(7)
    assert {len(sampler) for sampler in samplers} == {len(order)}
    for whole, *parts in zip(order.draws(7), *samplers, strict=True):
        assert {len(part.ids) for part in parts} == {8 // world_size}
        assert np.array_equal(np.concatenate([part.ids for part in parts]), whole.ids)
        assert np.array_equal(np.concatenate([part.epochs for part in parts]), whole.epochs)


def test_fixed_order_ends_with_a_smaller_batch() -> None:
    draws = list(FixedOrder(np.arange(10, 21), 4).draws(0))
    assert [draw.ids.tolist() for draw in draws] == [[10, 11, 12, 13], [14, 15, 16, 17], [18, 19, 20]]
    assert len(FixedOrder(np.arange(10, 21), 4)) == 3
    assert {epoch for draw in draws for epoch in draw.epochs.tolist()} == {ANALYSIS}
    assert list(FixedOrder(np.arange(0), 4).draws(0)) == []


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 3])
def test_batches_cover_each_id_once_over_all_processes(num_workers: int, world_size: int) -> None:
    ids = np.arange(3, 90, 2)
    parts = [
        Batches(numbered(90), ids, 7, rank, world_size, num_workers if rank == 0 else 0) for rank in range(world_size)
    ]
    found = []
    for part in parts:
        batches = list(part)
        assert len(batches) == len(part)
        mine = torch.cat([batch.ids for batch in batches])
        assert torch.equal(mine, mine.sort().values)
        for batch in batches:
            assert batch.images.dtype == torch.uint8
            assert torch.equal(batch.images[:, 2, 1, 0].long(), batch.ids)
            assert torch.equal(batch.labels, batch.ids % 3)
        found.extend(mine.tolist())
    assert sorted(found) == ids.tolist()


def test_batches_can_be_walked_twice() -> None:
    batches = Batches(numbered(9), np.arange(9), 4)
    assert [batch.ids.tolist() for batch in batches] == [batch.ids.tolist() for batch in batches]


def test_more_processes_than_images() -> None:
    assert [len(list(Batches(numbered(2), np.arange(2), 4, rank, 3))) for rank in range(3)] == [1, 1, 0]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_leaves_the_random_state_alone(num_workers: int) -> None:
    state = torch.get_rng_state()
    list(Batches(numbered(9), np.arange(9), 4, num_workers=num_workers))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_image_is_one_clear_line_from_any_process(tree: Path, num_workers: int) -> None:
    source = open_source("folder", str(tree), True, memory_limit_gb=0)
    (tree / "train/cat/03.png").write_bytes(b"nothing")
    with pytest.raises(UserError) as caught:
        list(Batches(source, np.arange(9), 2, num_workers=num_workers))
    assert "\n" not in str(caught.value)
    assert "03.png cannot be decoded: not an image of a known format" in str(caught.value)


def test_workers_read_one_archive_together(zipped: Path) -> None:
    source = open_source("archive", str(zipped), True, memory_limit_gb=0)
    everything = source.read(range(9))
    batches = list(Batches(source, np.tile(np.arange(9), 30), 5, num_workers=2))
    assert torch.equal(torch.cat([batch.images for batch in batches]), everything.repeat(30, 1, 1, 1))


def test_loader_delivers_draws() -> None:
    loader = data_loader(numbered(50), training_order(repeat=2), 1, 2)
    [expected, *_] = RankSampler(training_order(repeat=2), 1, 2)
    batch = opened(next(iter(loader)))
    assert isinstance(expected, Draw)
    assert batch.ids.tolist() == expected.ids.tolist()
    assert batch.epochs.tolist() == expected.epochs.tolist()
    assert batch.images[:, 0, 0, 0].tolist() == expected.ids.tolist()
