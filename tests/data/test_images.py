import inspect
import os
import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from memlight.batch import ViewBatch
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.data.splits import SPLITS
from memlight.errors import UserError
from memlight.random import ANALYSIS
from tests.close import PIXELS
from tests.ddp import run_ddp

SIZES: dict[str, Any] = {"num_shared": 64, "num_candidate": 16, "num_independent": 16, "num_external": 20}


def digits(**changes: Any) -> ImageDataModule:
    return ImageDataModule(**(SIZES | {"dataset": "digits", "batch_size": 16, "view_size": 8} | changes))


def ready(**changes: Any) -> ImageDataModule:
    data = digits(**changes)
    data.prepare_data()
    data.setup()
    return data


class Recorder(L.LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = nn.Parameter(torch.zeros(()))
        self.training_batches: list[ViewBatch] = []
        self.validation_batches: list[ViewBatch] = []

    def training_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self.training_batches.append(batch)

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self.validation_batches.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(data: ImageDataModule, **options: Any) -> Recorder:
    """Two epochs under a Trainer with Lightning's defaults."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        accelerator="cpu", num_sanity_val_steps=0, **({"max_epochs": 2, "devices": 1} | quiet | options)
    )
    recorder = Recorder()
    trainer.fit(recorder, datamodule=data)
    return recorder


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
]


def test_training_batches_under_a_trainer() -> None:
    data = digits(num_views=3, repeat=2, seed=5)
    recorder = fit(data)
    own, shared = set(data.split.candidate.tolist()), set(data.split.shared.tolist())
    assert len(recorder.training_batches) == 2 * ((64 + 2 * 16) // 16)
    ids = torch.cat([batch.ids for batch in recorder.training_batches]).tolist()
    assert set(ids) == own | shared
    assert all(ids.count(i) == (4 if i in own else 2) for i in set(ids))
    batch = recorder.training_batches[0]
    assert len(batch.views) == 3
    assert {(view.dtype, view.shape) for view in batch.views} == {(torch.float32, (16, 3, 8, 8))}
    assert torch.equal(batch.labels, torch.from_numpy(data.labels_of(batch.ids.numpy())))


def test_every_appearance_of_an_image_is_another_view_and_can_be_made_again() -> None:
    data = digits(repeat=2, seed=5)
    recorder = fit(data)
    chosen = int(data.split.candidate[0])
    seen = [
        view[batch.ids == chosen]
        for batch in recorder.training_batches
        for view in batch.views
        if (batch.ids == chosen).any()
    ]
    appearances = torch.cat(seen)
    assert len(appearances) == 8
    assert len({appearance.numpy().tobytes() for appearance in appearances}) == 8
    views = Views("simclr", 8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    again = torch.cat(
        [
            views(data.images_of([chosen]), torch.tensor([chosen]), view=view, epoch=epoch, seed=5)
            for epoch in range(4)
            for view in range(2)
        ]
    )
    distances = (appearances[:, None] - again[None]).flatten(2).abs().amax(2)
    assert distances.amin(0).max() < 1e-5


def test_validation_shows_the_external_split_with_the_views_of_an_analysis() -> None:
    data = digits()
    recorder = fit(data, max_epochs=1)
    ids = torch.cat([batch.ids for batch in recorder.validation_batches])
    assert ids.tolist() == data.split.external.tolist()
    batch = recorder.validation_batches[0]
    expected = data.views(data.images_of(batch.ids.numpy()), batch.ids, view=1, epoch=ANALYSIS, seed=0)
    torch.testing.assert_close(batch.views[1], expected, **PIXELS)


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_no_external_images_means_no_validation() -> None:
    assert fit(digits(num_external=0), max_epochs=1).validation_batches == []


def test_workers_decode_what_is_not_in_memory(tree: Path) -> None:
    files = {"dataset": "folder", "root": str(tree), "num_shared": 4, "num_candidate": 3, "num_independent": 2}
    files |= {"num_external": 5, "batch_size": 3}
    in_memory, on_demand = (
        fit(digits(**files, **options), max_epochs=2) for options in ({}, {"memory_limit_gb": 0.0, "num_workers": 1})
    )
    assert len(in_memory.training_batches) == 4
    for expected, found in zip(in_memory.training_batches, on_demand.training_batches, strict=True):
        assert torch.equal(expected.ids, found.ids)
        assert torch.equal(expected.views[0], found.views[0])


def fit_as_one_rank() -> tuple[list[tuple[Tensor, Tensor]], list[int], str]:
    """What this rank of two is trained and validated on, and the refusal of a batch size that two cannot share."""
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    addresses = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ.update(addresses | {name: str(value) for name, value in places.items()})
    warnings.simplefilter("ignore")
    options: dict[str, Any] = {"strategy": "ddp", "devices": 2, "plugins": [TorchElasticEnvironment()]}
    recorder = fit(digits(num_external=19), **options)
    try:
        fit(digits(batch_size=15), **options)
        refusal = ""
    except UserError as error:
        refusal = str(error)
    trained = [(batch.ids, batch.views[1]) for batch in recorder.training_batches]
    return trained, [i for batch in recorder.validation_batches for i in batch.ids.tolist()], refusal


@pytest.mark.ddp
def test_two_processes_train_on_the_batches_of_one() -> None:
    """Under Lightning's defaults: its own DistributedSampler must not come on top."""
    alone = fit(digits(num_external=19))
    (trained_0, validated_0, refusal), (trained_1, validated_1, _) = run_ddp(fit_as_one_rank)
    assert len(alone.training_batches) == len(trained_0) == 10
    for whole, (ids_0, view_0), (ids_1, view_1) in zip(alone.training_batches, trained_0, trained_1, strict=True):
        assert torch.equal(torch.cat([ids_0, ids_1]), whole.ids)
        torch.testing.assert_close(torch.cat([view_0, view_1]), whole.views[1], **PIXELS)
    assert len(validated_0) == len(validated_1) == 2 * 9
    assert len({*validated_0, *validated_1}) == 18
    assert refusal.startswith("batch_size=15: 2 processes cannot share it equally")


@pytest.mark.parametrize("split", SPLITS)
def test_batches_of_a_split(split: str) -> None:
    data = ready()
    found = torch.cat([batch.ids for batch in data.batches(split, 7)])
    assert found.tolist() == data.split.ids(split).tolist()
    parts = [data.batches(split, 7, rank, 2) for rank in (0, 1)]
    assert sorted(i for part in parts for batch in part for i in batch.ids.tolist()) == found.tolist()
    batch = next(iter(data.batches(split)))
    assert torch.equal(batch.images, data.images_of(batch.ids.numpy()))


def test_limited_batches_are_spread_over_the_split() -> None:
    data = ready()
    ids = data.split.shared
    found = torch.cat([batch.ids for batch in data.batches("shared", 5, limit=16)])
    assert found.tolist() == ids[::4].tolist()
    assert data.batches("shared", limit=1000).ids.tolist() == ids.tolist()


def test_index_order_is_refused_where_images_are_sorted_by_class(tree: Path) -> None:
    few = {"num_shared": 4, "num_candidate": 2, "num_independent": 2, "num_external": 2, "order": "index"}
    with pytest.raises(UserError, match=r"^order='index': .*sorted by class"):
        ready(dataset="folder", root=str(tree), **few)
    assert ready(**few).split.candidate.tolist() == [4, 5]


def test_view_maker_takes_epoch_seed_and_set() -> None:
    data = ready()
    batch = next(iter(data.batches("candidate")))
    plain = data.view_maker()(batch, 2)
    assert torch.equal(plain, data.views(batch.images, batch.ids, view=2, epoch=ANALYSIS, seed=0))
    assert not torch.equal(plain, data.view_maker(epoch=0)(batch, 2))
    assert not torch.equal(plain, data.view_maker(seed=1)(batch, 2))
    clean = data.view_maker(data.make_views("clean"))(batch, 0)
    torch.testing.assert_close(clean, batch.images / 255 * 2 - 1, **PIXELS)


@pytest.mark.parametrize("name", ["simclr", "var", "dino"])
def test_view_0_can_be_the_untouched_image_at_the_size_and_normalisation_of_the_others(name: str) -> None:
    data = ready(view_size=12)
    batch = next(iter(data.batches("candidate")))
    views = Views(name, 12, mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
    make, usual = data.view_maker(views, clean_first=True, seed=3), data.view_maker(views, seed=3)
    mean, std = torch.tensor(views.mean)[:, None, None], torch.tensor(views.std)[:, None, None]
    pixels = resize(batch.images / 255, [12, 12], antialias=True)
    torch.testing.assert_close(make(batch, 0), (pixels - mean) / std, **PIXELS)
    assert not torch.equal(make(batch, 0), usual(batch, 0))
    for view in (1, 2, 3):
        assert torch.equal(make(batch, view), usual(batch, view))


def test_a_set_s_own_normalisation_is_that_of_its_untouched_image() -> None:
    assert Views("var", 16).clean().spec() == {**Views("var", 16).spec(), "name": "clean"}
    assert Views("simclr", 16).clean().spec() == {"name": "clean", "size": 16, "mean": None, "std": None}


def test_splits_are_written_once_and_then_required(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    first = ready(run=run)
    content = (tmp_path / "run" / "splits.json").read_bytes()
    again = ready(run=run, role="independent", batch_size=8)
    assert again.split.sha256 == first.split.sha256
    assert (tmp_path / "run" / "splits.json").read_bytes() == content
    with pytest.raises(UserError, match=r"^run: .*splits\.json .*data.num_candidate: 16, now 17"):
        ready(run=run, num_candidate=17)
    assert (tmp_path / "run" / "splits.json").read_bytes() == content


def test_images_that_changed_under_a_run_are_noticed(tree: Path, tmp_path: Path) -> None:
    files = {"dataset": "folder", "root": str(tree), "num_shared": 4, "num_candidate": 2, "num_independent": 2}
    files |= {"num_external": 5, "run": str(tmp_path / "run")}
    ready(**files)
    (tree / "train/cat/04.png").rename(tree / "train/cat/4.png")
    with pytest.raises(UserError, match=r"data.dataset: pets .*, now pets .*"):
        ready(**files)


def test_setup_twice_opens_once(tree: Path) -> None:
    data = ready()
    source = data.source
    data.setup("validate")
    assert data.source is source


def test_classes() -> None:
    data = ready()
    assert (data.num_classes, data.classes, data.skipped) == (10, list("0123456789"), [])


def test_before_setup() -> None:
    with pytest.raises(ValueError, match=r"call setup\(\) first"):
        digits().batches("candidate")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "f"}, "^role='f': choose one of"),
        ({"repeat": 0}, "^repeat=0"),
        ({"image_size": 0}, "^image_size=0"),
        ({"views": "simclrr"}, "simclrr"),
        ({"num_shared": 4000}, r"^num_shared=4000: with .*there are 1497 training images"),
        ({"dataset": "imagenet"}, "^dataset='imagenet'"),
    ],
)
def test_impossible_options_name_the_argument(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(**changes)


def test_batch_larger_than_an_epoch() -> None:
    with pytest.raises(UserError, match=r"^batch_size=81: an epoch has 80 images"):
        ready(batch_size=81).train_dataloader()


def test_loading_and_views_leave_the_random_state_alone() -> None:
    data = ready()
    state = torch.get_rng_state()
    make = data.view_maker()
    for batch in data.batches("candidate"):
        make(batch, 0)
    for drawn in data.train_dataloader():
        data.on_after_batch_transfer(drawn, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_option_is_documented() -> None:
    documented = set(re.findall(r"^    (\w+): ", inspect.cleandoc(ImageDataModule.__doc__ or ""), re.MULTILINE))
    assert documented == set(inspect.signature(ImageDataModule).parameters)
