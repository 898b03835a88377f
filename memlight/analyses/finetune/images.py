"""The images that an encoder is fine-tuned on: labelled, of another data set, seen as its own were."""

from typing import NamedTuple

import numpy as np
import torch

from memlight.analyses.finetune.command import TargetFlags
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
        test: labelled test images, in ascending order of id, in memory.
    """

    data: ImageDataModule
    train: ImageBatch
    test: ImageBatch


def read_target(like: ImageDataModule, target: TargetFlags, seed: int) -> Target:
    """Open a data set and draw the images that are used.

    Args:
        like: the images that the encoder was trained on; size and normalisation are taken from it.
        target: which data set, and how many of its images.
        seed: of the draws.

    Raises:
        UserError: it cannot be read, has no labels, fewer than two classes or test images, or a class without a
            training image.
    """
    with named(root="dataset_root"):
        data = ImageDataModule(
            target.dataset,
            target.dataset_root,
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
        of_train, of_test = (np.flatnonzero(part >= 0) for part in np.split(labels, [first_test]))
        if data.num_classes < 2 or not len(of_train):
            why = "fine-tuning needs images of two classes or more (train/<class>/, test/<class>/)"
            raise UserError("dataset", target.dataset, why)
        if len(of_test) < 2:
            why = f"has {len(of_test)} test images with a class; two or more are needed to test on"
            raise UserError("dataset", target.dataset, why)
        train = _drawn(of_train, target.train_images, seed)
        if missing := sorted(set(range(data.num_classes)) - set(labels[train].tolist())):
            why = f"class {data.classes[missing[0]]} has no image among {len(train)}"
            raise UserError("train_images", target.train_images, why, ["ask for more", "leave empty classes out"])
        return Target(data, _read(data, train), _read(data, _drawn(first_test + of_test, target.test_images, seed)))


def _drawn(ids: Ids, most: int, seed: int) -> Ids:
    """At most so many, in ascending order."""
    return np.sort(ids[permutation(seed, ANALYSIS, len(ids)).numpy()[:most]])


def _read(data: ImageDataModule, ids: Ids) -> ImageBatch:
    return ImageBatch(data.images_of(ids), torch.from_numpy(data.labels_of(ids)), torch.from_numpy(ids))
