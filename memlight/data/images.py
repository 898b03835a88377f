"""The images of a pair of encoders as a LightningDataModule: splits, training batches, views on the device."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
from lightning.pytorch.accelerators import CUDAAccelerator
from torch import Tensor
from torch.utils.data import DataLoader

from memlight.batch import ImageBatch, ViewBatch, ViewMaker
from memlight.data.augment import Views
from memlight.data.datasets import open_sources
from memlight.data.loading import Batches, DrawnBatch, FixedOrder, Order, TrainingOrder, data_loader, opened
from memlight.data.names import names_of, write_images
from memlight.data.sources import JoinedSource, MemorySource
from memlight.data.split_files import SplitFile
from memlight.data.splits import SPLITS, Ids, LeftOut, PairSplit, role_splits
from memlight.errors import UserError, at_least, at_most, named
from memlight.random import ANALYSIS, permutation
from memlight.storage.image_names import ImageNames
from memlight.storage.run_files import MOST_SIDE
from memlight.storage.rundir import RunDir


class ImageDataModule(L.LightningDataModule):
    """Images for one member of a pair, and the four splits for the analyses.

    Args:
        dataset: digits, cifar10, cifar100, svhn, stl10, fashion_mnist, mnist, or one's own images: folder, archive
            (zip, tar), auto.
        root: where they are: torchvision's directory, or a directory or archive with train/<class>/ and test/<class>/
            (or val/), or with images alone. digits needs none.
        role: candidate (trained on shared + candidate), independent (shared + independent) or all.
        repeat: how many times an epoch the member's own images are shown, each time as another view.
        batch_size: images in a training step, over all processes together.
        views: augmentation set; see `memlight.data.recipes`.
        view_size: side of a view, pixels.
        num_views: views of each image in a training step.
        mean: subtracted from each channel of a view in [0, 1]; null for none.
        std: each channel is divided by it after that; null for none.
        image_size: side of the square that every image is brought to before views are made; null keeps the size that
            all share, and otherwise takes the median shorter side, 256 at most.
        order: how ids are dealt into splits: random (seeded) or index (consecutive, as the authors' code does).
        num_shared: training images that both members see.
        num_candidate: training images that only the candidate sees.
        num_independent: training images that only the independent member sees.
        num_external: test images, seen by neither.
        splits: file that says which image is in which split, in place of order and the numbers above (a file that names
            no external images leaves those to them); or a list of ids or paths for each (candidate=FILE ...). See
            `memlight.data.split_files`.
        randomised: of splits in a file, whether candidates and independent images were dealt at random; null if nobody
            knows.
        without: CSV file with a column id: images of the member's own that its training leaves out. The splits stay
            as they are, so analyses count them as the member's own all the same.
        seed: of the splits, the training order and the views; null takes --seed_everything (0 in Python).
        split_seed: of the splits alone, so that pairs of other seeds share them; null takes seed.
        num_workers: processes that decode ahead; images that are in memory need none.
        memory_limit_gb: images whose pixels fit in so many 10^9 bytes, for training and for test images each, are
            decoded once and kept in memory.
        on_error: raise or skip, for files that cannot be decoded.
        download: let torchvision fetch what is missing.
        run: run directory: its splits.json and images.csv are written, or the splits compared where there are some.
    """

    def __init__(
        self,
        dataset: str = "digits",
        root: str | None = None,
        role: str = "candidate",
        repeat: int = 1,
        batch_size: int = 256,
        views: str = "simclr",
        view_size: int = 32,
        num_views: int = 2,
        mean: tuple[float, float, float] | None = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] | None = (0.5, 0.5, 0.5),
        image_size: int | None = None,
        order: str = "random",
        num_shared: int = 40_000,
        num_candidate: int = 5_000,
        num_independent: int = 5_000,
        num_external: int = 5_000,
        splits: list[str] | str | None = None,
        randomised: bool | None = None,
        without: str | None = None,
        seed: int | None = None,
        split_seed: int | None = None,
        num_workers: int = 0,
        memory_limit_gb: float = 4.0,
        on_error: str = "raise",
        download: bool = False,
        run: str | None = None,
    ) -> None:
        super().__init__()
        role_splits(role)
        at_least(1, repeat=repeat, batch_size=batch_size, view_size=view_size, num_views=num_views)
        at_most(MOST_SIDE, view_size=view_size)
        if image_size is not None:
            at_least(1, image_size=image_size)
        self.dataset = dataset
        self.root = root
        self.role = role
        self.repeat = repeat
        self.batch_size = batch_size
        self.view_size = view_size
        self.num_views = num_views
        self.mean = mean
        self.std = std
        self.image_size = image_size
        self.order = order
        self.num_shared = num_shared
        self.num_candidate = num_candidate
        self.num_independent = num_independent
        self.num_external = num_external
        self.split_file = None if splits is None else SplitFile.read(splits)
        self.randomised = randomised
        self.left_out = None if without is None else LeftOut.read(Path(without))
        self.seed = seed or 0
        self.split_seed = split_seed
        self.num_workers = num_workers
        self.memory_limit_gb = memory_limit_gb
        self.on_error = on_error
        self.download = download
        self.run = run
        with named(name="views"):
            self.views = self.make_views(views)
        self._source: JoinedSource | None = None
        self._split: PairSplit | None = None
        self._known: PairSplit | None = None
        self._names: ImageNames | None = None
        self._settled = False

    def prepare_data(self) -> None:
        """Download, on one process of each machine, where asked to."""
        if self.download:
            self._open(download=True)

    def setup(self, stage: str | None = None) -> None:
        """Open the images, and settle the splits with the run directory; the second call does nothing.

        Args:
            stage: not used; every stage needs the same.

        Raises:
            UserError: the images cannot be opened, the splits do not fit, or the run has other ones.
        """
        self.open()
        if self.run is None or self._settled:
            return
        run = RunDir(Path(self.run))
        if run.splits.exists():
            PairSplit.load(run.splits).require_equal(self.split, run.splits)
        elif self._rank == 0:
            write_images(run, self.source, self.split)  # first, so that a run with splits has it after a kill, too
            self.split.save(run.splits)
        self._settled = True

    def open(self) -> None:
        """Open the images and deal out the ids, without touching the run directory; the second call does nothing.

        Raises:
            UserError: the images cannot be opened, the splits do not fit, or an image to leave out is not the member's.
        """
        if self._source is not None:
            return
        source = self._open(download=False)
        split = self._deal(source)
        if self.left_out is not None:
            self.left_out.require_among(split.own_ids(self.role), self.role)
        self._source, self._split = source, split

    def use_split(self, split: PairSplit) -> None:
        """Take the splits of a run that somebody gave, before `setup`: they cannot be dealt out again.

        Args:
            split: ids of every split; numbers and fingerprint of the images are those that are found.
        """
        self._known = split

    def _deal(self, source: JoinedSource) -> PairSplit:
        """Which image is in which split: as the run says, as a file says, or dealt out.

        Raises:
            UserError: an image of the file is not there, or there are too few images.
        """
        counts, dataset = (len(source.train), len(source.test)), f"{source.name} {source.fingerprint()[:16]}"
        if self._known is not None:
            return replace(self._known, num_train=counts[0], num_test=counts[1], dataset=dataset)
        if self.split_file is not None:
            ids = self.split_file.ids(source)
            if "external" not in ids:
                free = np.setdiff1d(np.arange(sum(counts))[counts[0] :], np.concatenate(list(ids.values())))
                drawn = permutation(self._split_seed, ANALYSIS, len(free)).numpy()[: self.num_external]
                ids["external"] = np.sort(free[drawn])
            return PairSplit.given(*counts, ids, dataset=dataset, randomised=self.randomised)
        if self.order == "index" and len(source.classes) > 1 and (source.train.labels.diff() >= 0).all():
            why = "these images are sorted by class, so each split would hold other classes"
            raise UserError("order", "index", why, ["use random", "name the images of each split with `splits`"])
        with named(**{split: f"num_{split}" for split in SPLITS}):
            return PairSplit.make(
                *counts,
                shared=self.num_shared,
                candidate=self.num_candidate,
                independent=self.num_independent,
                external=self.num_external,
                order=self.order,
                seed=self._split_seed,
                dataset=dataset,
            )

    def set_external(self, external: int) -> None:
        """Take another number of external images, in the order in which they were drawn; the other splits stay.

        Raises:
            UserError: there are too few test images.
        """
        self._split = self.split.with_external(external)

    @property
    def source(self) -> JoinedSource:
        """Every image, numbered by id.

        Raises:
            ValueError: `setup` has not been called.
        """
        if self._source is None:
            raise ValueError("call setup() first")
        return self._source

    @property
    def names(self) -> ImageNames:
        """What every image is called.

        Raises:
            ValueError: `setup` has not been called.
        """
        if self._names is None:
            self._names = names_of(self.source)
        return self._names

    @property
    def is_open(self) -> bool:
        """Whether the images are open."""
        return self._source is not None

    @property
    def split(self) -> PairSplit:
        """Ids of every split.

        Raises:
            ValueError: `setup` has not been called.
        """
        if self._split is None:
            raise ValueError("call setup() first")
        return self._split

    @property
    def classes(self) -> list[str]:
        """Names of the classes; empty where there are none."""
        return self.source.classes

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where there are none."""
        return len(self.classes)

    @property
    def skipped(self) -> list[str]:
        """Broken files that were left out."""
        return self.source.skipped

    def options(self) -> dict[str, Any]:
        """The arguments that make the same splits and views again: all but run directory and images left out.

        Splits of a file are not among them: they are the run's own, in its ``splits.json``.
        """
        aside = ("run", "views", "without", "splits", "randomised")
        names = [name for name in inspect.signature(ImageDataModule).parameters if name not in aside]
        return {**{name: getattr(self, name) for name in names}, "views": self.views.name}

    def make_views(self, name: str) -> Views:
        """An augmentation set at this module's view size and normalisation ("clean": the image as it is).

        Raises:
            UserError: there is no such set.
        """
        return Views(name, self.view_size, mean=self.mean, std=self.std)

    def view_maker(
        self,
        views: Views | None = None,
        *,
        epoch: int = ANALYSIS,
        seed: int | None = None,
        clean_first: bool = False,
    ) -> ViewMaker:
        """How an analysis asks for views, on whatever device the batch is; all of them are of one size.

        Args:
            views: augmentation set; None for the one that is trained with.
            epoch: ``ANALYSIS``, or a training epoch.
            seed: of the views; None for this module's.
            clean_first: view 0 is the untouched image (see `Views.clean`), and the others are what they are otherwise.
        """
        chosen = (self.views if views is None else views).full_size()
        chosen_seed, clean = self.seed if seed is None else seed, chosen.clean()

        def make(batch: ImageBatch, view: int) -> Tensor:
            which = clean if clean_first and view == 0 else chosen
            return which(batch.images, batch.ids, view=view, epoch=epoch, seed=chosen_seed)

        return make

    def batches(
        self, split: str, batch_size: int = 256, rank: int = 0, world_size: int = 1, *, limit: int | None = None
    ) -> Batches:
        """The images of one split in ascending order of id, each exactly once over all processes.

        Args:
            split: shared, candidate, independent or external.
            batch_size: images in a batch of this process.
            rank: of this process.
            world_size: number of processes.
            limit: at most so many images, evenly spaced, since files are often sorted by class; None for all.

        Raises:
            UserError: there is no such split.
        """
        ids = self.split.ids(split)
        if limit is not None and limit < len(ids):
            ids = ids[np.arange(limit) * len(ids) // limit]
        return Batches(self.source, ids, batch_size, rank, world_size, self._workers)

    def images_of(self, ids: Sequence[int] | Ids) -> Tensor:
        """``uint8 (B, 3, H, W)``, in the order asked for."""
        return self.source.read(ids)

    def labels_of(self, ids: Sequence[int] | Ids) -> Ids:
        """``int64 (B,)``, in the order asked for; -1 where there is no label."""
        labels: Ids = self.source.labels.numpy()[np.asarray(ids, dtype=np.int64)]
        return labels

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches of this process; on the device they become a `ViewBatch`.

        Raises:
            UserError: the batch size does not divide among the processes or exceeds the number of images.
        """
        ids = self.split.own_ids(self.role)
        if self.left_out is not None:
            ids = ids[~np.isin(ids, self.left_out.ids)]
        order = TrainingOrder(self.split.shared, ids, self.repeat, self.batch_size, self.seed)
        if len(order) == 0:
            raise UserError(
                "batch_size", self.batch_size, f"an epoch has {order.images_per_epoch} images", "choose fewer"
            )
        return self._loader(order)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The external split with the views of an analysis; no loader where it is empty.

        Every process gets equally many images, so up to ``world_size - 1`` images are left out here (the analyses
        leave none out).
        """
        ids = self.split.external
        equal = ids[: len(ids) - len(ids) % self._world_size]
        return self._loader(FixedOrder(equal, self.batch_size)) if len(equal) else []

    def on_before_batch_transfer(self, batch: DrawnBatch | UserError, dataloader_idx: int) -> DrawnBatch:
        """Raise what a DataLoader's process could not."""
        return opened(batch)

    def on_after_batch_transfer(self, batch: DrawnBatch, dataloader_idx: int) -> ViewBatch:
        """Make the views, on the device."""
        views = [
            self.views(batch.images, batch.ids, view=view, epoch=batch.epochs, seed=self.seed)
            for view in range(self.num_views)
        ]
        return ViewBatch(views, batch.labels, batch.ids, batch.epochs)

    @property
    def _split_seed(self) -> int:
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def _workers(self) -> int:
        in_memory = isinstance(self.source.train, MemorySource) and isinstance(self.source.test, MemorySource)
        return 0 if in_memory else self.num_workers

    def _open(self, download: bool) -> JoinedSource:
        train, test = open_sources(
            self.dataset,
            self.root,
            image_size=self.image_size,
            memory_limit_gb=self.memory_limit_gb,
            on_error=self.on_error,
            download=download,
        )
        return JoinedSource(train, test)

    def _loader(self, order: Order) -> DataLoader[Any]:
        if self.batch_size % self._world_size:
            why = f"{self._world_size} processes cannot share it equally"
            raise UserError("batch_size", self.batch_size, why, f"choose a multiple of {self._world_size}")
        on_gpu = self.trainer is not None and isinstance(self.trainer.accelerator, CUDAAccelerator)
        return data_loader(
            self.source, order, self._rank, self._world_size, num_workers=self._workers, pin_memory=on_gpu
        )
