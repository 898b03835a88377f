"""The images that an encoder is fine-tuned on: labelled, of another data set, seen as its own were."""

from typing import NamedTuple

import numpy as np
import torch

from memlight.batch import ImageBatch
from memlight.data.images import ImageDataModule
from memlight.data.splits import Ids
from memlight.errors import UserError, named
from memlight.random import ANALYSIS, permutation


class Target(NamedTuple):
    """A data set to fine-tune on.

    Attributes:
        data: makes the views, at the size and with the normalisation that the encoder was trained with.
        train: labelled training images, in ascending order of id, in memory.
        test: labelled test images, likewise.
    """

    data: ImageDataModule
    train: ImageBatch
    test: ImageBatch


def read_target(
    like: ImageDataModule, dataset: str, root: str | None, *, train_images: int, test_images: int, seed: int
) -> Target:
    """Open a data set and draw the images that are used.

    Args:
        like: the images that the encoder was trained on; size and normalisation are taken from it.
        dataset: a name that ``--data.dataset`` takes.
        root: where it is; None for digits.
        train_images: at most so many, drawn from the labelled training images.
        test_images: at most so many, drawn from the labelled test images.
        seed: of the draws.

    Raises:
        UserError: it cannot be read, has no labels, fewer than two classes or test images, or a class without a
            training image.
    """
    with named(root="dataset_root"):
        data = ImageDataModule(
            dataset,
            root,
            view_size=like.view_size,
            mean=like.mean,
            std=like.std,
            image_size=like.image_size,
            num_shared=0,
            num_candidate=0,
            num_independent=0,
            num_external=0,
            seed=seed,
            num_workers=like.num_workers,
        )
        data.open()
    labels = data.source.labels.numpy()
    first_test = len(data.source.train)
    found = [np.flatnonzero(part >= 0) for part in np.split(labels, [first_test])]
    where = f"--dataset {dataset}"
    if data.num_classes < 2 or not len(found[0]):
        raise UserError(f"{where}: fine-tuning needs images of two classes or more (train/<class>/, test/<class>/).")
    if len(found[1]) < 2:
        raise UserError(f"{where}: has {len(found[1])} test images with a class; two or more are needed to test on.")
    train = _drawn(found[0], train_images, seed)
    test = _drawn(first_test + found[1], test_images, seed)
    missing = sorted(set(range(data.num_classes)) - set(labels[train].tolist()))
    if missing:
        name = data.classes[missing[0]]
        raise UserError(
            f"--train-images {train_images}: class {name} has no image among {len(train)}; ask for more, or leave "
            "empty classes out."
        )
    return Target(data, _read(data, train), _read(data, test))


def _drawn(ids: Ids, most: int, seed: int) -> Ids:
    """At most so many, in ascending order."""
    return np.sort(ids[permutation(seed, ANALYSIS, len(ids)).numpy()[:most]])


def _read(data: ImageDataModule, ids: Ids) -> ImageBatch:
    with named(root="dataset_root"):
        return ImageBatch(data.images_of(ids), torch.from_numpy(data.labels_of(ids)), torch.from_numpy(ids))
