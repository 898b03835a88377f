"""The images of a pair of encoders as a LightningDataModule: splits, training batches, views on the device."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
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
from memlight.data.files import few_words, without_labels
from memlight.data.labels import LabelFile
from memlight.data.loading import Batches, DrawnBatch, FixedOrder, Order, TrainingOrder, data_loader, opened
from memlight.data.names import names_of, write_images
from memlight.data.sizes import SplitSizes
from memlight.data.sources import JoinedSource, MemorySource
from memlight.data.split_files import SplitFile
from memlight.data.splits import SPLITS, Ids, LeftOut, PairSplit, role_splits
from memlight.errors import UserError, at_least, at_most, named
from memlight.random import ANALYSIS
from memlight.storage.image_names import ImageNames
from memlight.storage.run_files import MOST_SIDE
from memlight.storage.rundir import RunDir

VIEW_SIZE = 32
"""Side of a view in pixels where nobody said one."""

_LARGEST_SUGGESTED = 224


class ImageDataModule(L.LightningDataModule):
    """Images for one member of a pair, and the four splits for the analyses.

    Args:
        dataset: digits, cifar10, cifar100, svhn, stl10, fashion_mnist, mnist, or one's own images: folder, archive
            (zip, tar), auto; or hf:NAME, of Hugging Face.
        root: where they are: torchvision's directory, or a directory or archive with train/<class>/ and test/<class>/
            (or val/), or with images alone; Parquet files, or what save_to_disk wrote. digits needs none.
        role: candidate (trained on shared + candidate), independent (shared + independent) or all.
        repeat: how many times an epoch the member's own images are shown, each time as another view.
        batch_size: images in a training step, over all processes together.
        views: augmentation set; see `memlight.data.recipes`.
        view_size: side of a view, pixels; null is 32, and is refused where images are twice as large or larger.
        num_views: views of each image in a training step.
        mean: subtracted from each channel of a view in [0, 1]; null for none.
        std: each channel is divided by it after that; null for none.
        image_size: side of the square that every image is brought to before views are made; null keeps the size that
            all share, and otherwise takes the median shorter side, 256 at most.
        order: how ids are dealt into splits: random (seeded) or index (consecutive, as the authors' code does).
        num_shared: training images that both members see.
        num_candidate: training images that only the candidate sees.
        num_independent: training images that only the independent member sees.
        num_external: test images, seen by neither; where there are none, training images that are held out.
        split: shares of the images in place of these numbers: shared, candidate, independent, such as 0.8 0.1 0.1, with
            as many external images as candidates (held out first where there are no test images); or these and a share
            of external images. See `memlight.data.sizes`.
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
        labels: file of classes in place of those that came with the images: .csv, .json or .jsonl that names images by
            id or path, and their label.
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
        view_size: int | None = None,
        num_views: int = 2,
        mean: tuple[float, float, float] | None = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] | None = (0.5, 0.5, 0.5),
        image_size: int | None = None,
        order: str = "random",
        num_shared: int = 40_000,
        num_candidate: int = 5_000,
        num_independent: int = 5_000,
        num_external: int = 5_000,
        split: list[float] | None = None,
        splits: list[str] | str | None = None,
        randomised: bool | None = None,
        without: str | None = None,
        seed: int | None = None,
        split_seed: int | None = None,
        num_workers: int = 0,
        memory_limit_gb: float = 4.0,
        on_error: str = "raise",
        labels: str | None = None,
        download: bool = False,
        run: str | None = None,
    ) -> None:
        super().__init__()
        role_splits(role)
        self.view_size_said = view_size is not None
        view_size = VIEW_SIZE if view_size is None else view_size
        if split is not None and splits is not None:
            raise UserError("split, splits", None, "shares and a file cannot both say which image is where", "give one")
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
        self.shares = split
        self.split_file = None if splits is None else SplitFile.read(splits)
        self.randomised = randomised
        self.left_out = None if without is None else LeftOut.read(Path(without))
        self.seed = seed or 0
        self.split_seed = split_seed
        self.num_workers = num_workers
        self.memory_limit_gb = memory_limit_gb
        self.on_error = on_error
        self.labels = labels
        self.label_file = None if labels is None else LabelFile.read(Path(labels).expanduser())
        self.download = download
        self.run = run
        with named(name="views"):
            self.views = self.make_views(views)
        self._source: JoinedSource | None = None
        self._split: PairSplit | None = None
        self._known: PairSplit | None = None
        self._names: ImageNames | None = None
        self._settled = False
        self._keeps_broken = False

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
            with self.naming_skipped():
                PairSplit.load(run.splits).require_equal(self.split, run.splits)
        elif self._rank == 0:
            write_images(run, self.source, self.split)  # first, so that a run with splits has it after a kill, too
            self.split.save(run.splits)
        self._settled = True

    def open(self, *, training: bool = False) -> None:
        """Open the images and deal out the ids, without touching the run directory; the second call does nothing.

        Args:
            training: also refuse a batch that is larger than an epoch.

        Raises:
            UserError: the images cannot be opened, the splits do not fit, an image to leave out is not the member's,
                or views are much smaller than the images and nobody said so.
        """
        if self._source is not None:
            return
        source = self._open(download=False)
        self._require_view_size(source)
        self._relabel(source)
        split = self._deal(source, training)
        if self.left_out is not None:
            self.left_out.require_among(split.own_ids(self.role), self.role)
        images = len(split.shared) + len(split.own_ids(self.role)) * self.repeat
        if training and self.batch_size > images:
            raise UserError("batch_size", self.batch_size, f"an epoch has {images} images", "choose fewer")
        self._source, self._split = source, split

    def use_split(self, split: PairSplit) -> None:
        """Take the splits of a run that somebody gave, before `setup`: they cannot be dealt out again.

        Args:
            split: ids of every split; numbers and fingerprint of the images are those that are found.
        """
        self._known = split

    def keep_broken(self) -> None:
        """Before `setup`: files that cannot be decoded leave their ids to nobody, so that all others keep theirs.

        `leave_out_broken` then takes them out of the splits. For images that were numbered with such files left out
        (``on_error="skip"``) nothing changes.
        """
        self._keeps_broken = self.on_error == "raise"

    def leave_out_broken(self) -> list[str]:
        """Take files that cannot be decoded out of the splits, after `keep_broken` and `setup`.

        Returns:
            A line for each split that lost some.
        """
        broken = self.source.broken
        if not broken:
            return []
        before, self._split = self.split, self.split.without(np.array(sorted(broken), dtype=np.int64))
        lines = []
        for split in SPLITS:
            if lost := np.setdiff1d(before.ids(split), self.split.ids(split)).tolist():
                places, count = few_words(broken[id_] for id_ in lost), len(before.ids(split))
                lines.append(f"left out: {len(lost)} of {count} {split} images cannot be decoded: {places}")
        return lines

    @contextmanager
    def naming_skipped(self) -> Iterator[None]:
        """Where images are not those of a run, files that are left out since are a reason, which is then said."""
        try:
            yield
        except UserError as error:
            if self.skipped:
                error.way_out.append(f"mend the files that are left out now ({few_words(self.skipped)})")
            raise

    @property
    def facts(self) -> list[str]:
        """What somebody should know of how images, classes and splits were found, a line each; after `open`."""
        own = self.source.facts if self.label_file is None else without_labels(self.source.facts)
        lines = [*own, *self.label_facts]
        external = self.split.external
        if self.split.num_test == 0 and len(external) and self.split.order != "file":
            lines.append(f"external: {len(external)} of {self.split.num_train} images, held out: none are for tests")
        return lines

    @property
    def label_facts(self) -> list[str]:
        """What the file says of the images that were read, in a line; none without a file."""
        if self.label_file is None:
            return []
        labels = self.source.labels
        none = int((labels < 0).sum())
        without = f", and {none} of {len(labels)} images have none" if none else ""
        return [f"labels: from {self.label_file.path.name}, {len(self.classes)} classes{without}"]

    def _relabel(self, source: JoinedSource, left_out: Sequence[str] = ()) -> None:
        """Take the classes of a file where one was given."""
        if self.label_file is not None:
            source.relabel(*self.label_file.classes(source, [*left_out, *source.skipped]))

    def _require_view_size(self, source: JoinedSource) -> None:
        """Refuse the view size that nobody asked for where images are much larger.

        Raises:
            UserError: they are.
        """
        side = min(source.size)
        if self.view_size_said or side < 2 * self.view_size:
            return
        height, width = source.size
        why = (
            f"the images have {height} x {width} pixels, and views would have {self.view_size}, as nobody said how many"
        )
        larger = min(_LARGEST_SUGGESTED, side // 32 * 32)
        ways = [f"choose `view_size={larger}` (and `model.image_size` where the method has it)"]
        raise UserError("view_size", None, why, [*ways, f"`view_size={self.view_size}` for views so small"])

    def _deal(self, source: JoinedSource, training: bool = False) -> PairSplit:
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
                ids["external"] = self.split_file.drawn(ids, source, self.num_external, self._split_seed)
            return PairSplit.given(*counts, ids, dataset=dataset, randomised=self.randomised)
        labels = source.labels[: counts[0]]
        if self.order == "index" and len(source.classes) > 1 and (labels.diff() >= 0).all():
            why = "these images are sorted by class, so each split would hold other classes"
            raise UserError("order", "index", why, ["use random", "name the images of each split with `splits`"])
        with named(**{split: f"num_{split}" for split in SPLITS}):
            sizes = self._sizes(*counts)
            sizes.require(*counts, batch_size=self.batch_size if training else None, epoch=self._epoch)
            return PairSplit.make(*counts, **asdict(sizes), order=self.order, seed=self._split_seed, dataset=dataset)

    def _sizes(self, num_train: int, num_test: int) -> SplitSizes:
        """How many images each split gets; shares become the numbers that make the same splits again."""
        if self.shares is not None:
            sizes = SplitSizes.of_shares(self.shares, num_train, num_test)
            self.num_shared, self.num_candidate = sizes.shared, sizes.candidate
            self.num_independent, self.num_external = sizes.independent, sizes.external
        return SplitSizes(self.num_shared, self.num_candidate, self.num_independent, self.num_external)

    def _epoch(self, sizes: SplitSizes) -> int:
        """How many images an epoch of the member shows."""
        shared, *own = (getattr(sizes, split) for split in role_splits(self.role))
        return int(shared + sum(own) * self.repeat)

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

        Splits of a file are not among them: they are the run's own, in its ``splits.json``. Shares are not either, but
        the numbers that came of them.
        """
        aside = ("run", "views", "without", "split", "splits", "randomised")
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
            on_error="keep" if self._keeps_broken else self.on_error,
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
