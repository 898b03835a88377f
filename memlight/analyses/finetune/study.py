"""Fine-tuning of chosen layers on another data set: the study behind `analyze.py finetune`."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from memlight import dist
from memlight.analyses.finetune.arms import Arm, finetune_tables
from memlight.analyses.finetune.chart import finetune_chart
from memlight.analyses.finetune.command import TargetFlags
from memlight.batch import ImageBatch
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.data.splits import Ids
from memlight.errors import UserError, named
from memlight.interventions.finetune import (
    Classifier,
    FinetuneOptions,
    finetune,
    new_classifier,
    right_answers,
    trained_parameters,
)
from memlight.random import ANALYSIS, permutation
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table


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


def read_target(
    like: ImageDataModule, target: TargetFlags, seed: int, *, labels: str | None = None, on_error: str = "raise"
) -> Target:
    """Open a data set and draw the images that are used.

    Args:
        like: the images that the encoder was trained on; size and normalisation are taken from it.
        target: which data set, and how many of its images.
        seed: of the draws.
        labels: file of classes; None for those that came with the images.
        on_error: raise or skip, for files that cannot be decoded.

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
            labels=labels,
            on_error=on_error,
            seed=seed,
            num_workers=like.num_workers,
        )
        data.open()
        if dist.rank() == 0 and data.facts:
            print("\n".join(data.facts))
        of_class = data.source.labels.numpy()
        first_test = len(data.source.train)
        of_train, of_test = (np.flatnonzero(part >= 0) for part in np.split(of_class, [first_test]))
        if data.num_classes < 2 or not len(of_train):
            why = "fine-tuning needs images of two classes or more (train/<class>/, test/<class>/)"
            raise UserError("dataset", target.dataset, why)
        if len(of_test) < 2:
            why = f"has {len(of_test)} test images with a class; two or more are needed to test on"
            raise UserError("dataset", target.dataset, why)
        train = _drawn(of_train, target.train_images, seed)
        if missing := sorted(set(range(data.num_classes)) - set(of_class[train].tolist())):
            why = f"class {data.classes[missing[0]]} has no image among {len(train)}"
            raise UserError("train_images", target.train_images, why, ["ask for more", "leave empty classes out"])
        return Target(data, _read(data, train), _read(data, _drawn(first_test + of_test, target.test_images, seed)))


def _drawn(ids: Ids, most: int, seed: int) -> Ids:
    """At most so many, in ascending order."""
    return np.sort(ids[permutation(seed, ANALYSIS, len(ids)).numpy()[:most]])


def _read(data: ImageDataModule, ids: Ids) -> ImageBatch:
    return ImageBatch(data.images_of(ids), torch.from_numpy(data.labels_of(ids)), torch.from_numpy(ids))


def study_finetune(
    encoder: nn.Module,
    target: Target,
    arms: Sequence[Arm],
    options: FinetuneOptions,
    log: AnalysisLog,
    *,
    views: Views,
    seed: int = 0,
    max_forward: int = 1024,
    progress: bool = True,
) -> Table:
    """Fine-tune a copy of the encoder for every arm and trial, and test each at its end.

    Nothing is chosen by the test images: the last state of each copy is tested, once. All arms of a trial see the same
    views in the same order, so that they are compared in pairs. Processes share the copies among them.

    Args:
        encoder: the encoder that is copied.
        target: the images.
        arms: which layers; the first trains the linear layer alone.
        options: how copies are trained.
        log: where the results go.
        views: of the training images; test images are seen as they are.
        seed: of order and views.
        max_forward: most images in one forward without gradients.
        progress: show a bar.

    Returns:
        One row per arm and trial (``FINETUNE_TABLE``).

    Raises:
        UserError: fewer images than a batch, or a training that diverged.
    """
    clean = target.data.view_maker(target.data.make_views("clean"))
    classifier = new_classifier(encoder, target.train, clean, target.data.num_classes, max_forward=max_forward)
    jobs = [(arm, trial) for arm in arms for trial in range(len(arm.draws))]
    mine = range(dist.rank(), len(jobs), dist.world_size())
    steps = options.steps(len(target.train.ids))
    right: list[Tensor] = []
    with tqdm(
        total=len(mine) * options.epochs * steps,
        desc=f"fine-tuning, {len(arms)} arms",
        unit="step",
        disable=not progress or dist.rank() > 0,
        mininterval=0.1 if sys.stderr.isatty() else 30,
    ) as bar:
        for job in mine:
            arm, trial = jobs[job]
            bar.set_postfix_str(f"{arm.name}, trial {trial + 1} of {len(arm.draws)}", refresh=False)
            tuned = finetune(
                classifier,
                arm.draws[trial],
                target.train,
                target.data.view_maker(views, seed=seed),
                options,
                seed=seed,
                trial=trial,
                after_epoch=lambda: bar.update(steps),
            )
            right.append(right_answers(tuned, target.test, clean, max_forward=max_forward))
    by_job = _gathered(right, mine, classifier, len(target.test.ids))
    log.images += len(jobs) * (options.epochs * len(target.train.ids) + len(target.test.ids))
    rights = {arm.name: by_job[[job for job, (of, _) in enumerate(jobs) if of is arm]] for arm in arms}
    parameters = {layers: trained_parameters(classifier, layers) for arm in arms for layers in arm.draws}
    table, effects = finetune_tables(arms, rights, parameters)
    log.table("table", table)
    log.table("effects", effects)
    log.figure("arms", finetune_chart(effects, table), "Accuracy on the target's test images, by what was fine-tuned.")
    log.headline(_headline(effects, target))
    return table


def _gathered(right: Sequence[Tensor], mine: Sequence[int], classifier: Classifier, images: int) -> Tensor:
    """The answers of all jobs of all processes, bool ``(jobs, M)`` on the CPU."""
    device = classifier.mean_D.device
    answers = torch.stack(list(right)) if right else torch.empty((0, images), dtype=torch.bool, device=device)
    numbers = dist.gather_cat(torch.tensor(list(mine), dtype=torch.int64, device=device))
    return dist.gather_cat(answers.to(torch.uint8))[numbers.argsort()].bool().cpu()


def _headline(effects: Table, target: Target) -> dict[str, object]:
    numbers = {
        f"{name}/{arm}": float(value)
        for name in ("top1", "gain", "over_random")
        for arm, value in zip(effects["arm"], effects[name], strict=True)
        if value == value  # not NaN
    }
    sizes = {"train_images": len(target.train.ids), "test_images": len(target.test.ids)}
    return {"dataset": target.data.source.name, "classes": target.data.num_classes, **sizes, **numbers}
