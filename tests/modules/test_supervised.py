import math

import numpy as np
import pytest
import torch
from torch import Tensor

from memlight.errors import UserError
from memlight.modules import Supervised
from tests.modules.tiny import assert_gradients_reach_exactly, assert_starts_from_its_seed, view_batch


def small(init_seed: int = 0, label_smoothing: float = 0.0) -> Supervised:
    return Supervised(image_size=16, init_seed=init_seed, num_classes=3, label_smoothing=label_smoothing)


def cross_entropy_by_loops(logits: Tensor, labels: Tensor, smoothing: float) -> float:
    """``-log p`` of the label, with ``smoothing`` of the target spread over all classes (Szegedy et al., 2016)."""
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        for number, value in enumerate(row):
            target = (1 - smoothing) * (number == label) + smoothing / len(row)
            total -= target * (value - log_sum)
    return total / len(logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("num_views", [1, 2])
def test_loss_is_cross_entropy_averaged_over_views(smoothing: float, num_views: int) -> None:
    module, batch = small(label_smoothing=smoothing).eval(), view_batch(*[16] * num_views)
    each = [cross_entropy_by_loops(module.head(module.encoder(view)), batch.labels, smoothing) for view in batch.views]
    loss, features = module.embed_and_loss(batch)
    assert loss.item() == pytest.approx(sum(each) / num_views, rel=1e-5)
    assert features.shape == (4 * num_views, 256)


def test_gradient_reaches_every_parameter() -> None:
    assert_gradients_reach_exactly(small(), view_batch(16))


def test_both_members_start_from_the_same_weights_and_leave_the_global_generator_alone() -> None:
    assert_starts_from_its_seed(small)


def test_images_must_have_the_classes_of_the_classifier() -> None:
    module = small()
    module.require_classes(3)
    for found, words in ((0, "these images have no classes"), (10, "num_classes=3: the images have 10")):
        with pytest.raises(UserError, match=words):
            module.require_classes(found)


def test_images_to_train_on_must_have_classes_and_some_of_those_to_validate_on() -> None:
    module, labelled, mixed, none = small(), *(np.array(labels) for labels in ([0, 2, 1], [0, -1], [-1, -1]))
    module.require_labels(labelled, mixed), module.require_labels(labelled, none[:0])
    with pytest.raises(UserError, match=r"1 of 2 training images have no class; give their classes with `data.labels`"):
        module.require_labels(mixed, labelled)
    with pytest.raises(UserError, match=r"none of the 2 external images, .* `data.num_external=0`"):
        module.require_labels(labelled, none)


def test_images_without_a_class_do_not_count_in_the_loss() -> None:
    module = small().eval()
    batch = view_batch(16)
    labels = batch.labels.clone()
    labels[2:] = -1
    some, _ = module.embed_and_loss(batch._replace(labels=labels))
    alone = batch._replace(views=[view[:2] for view in batch.views], labels=labels[:2], ids=batch.ids[:2])
    torch.testing.assert_close(some, module.embed_and_loss(alone)[0])


@pytest.mark.parametrize(("name", "value"), [("num_classes", 1), ("label_smoothing", 1.0), ("label_smoothing", -0.1)])
def test_bad_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"^{name}={value}: must be"):
        Supervised(**{name: value})  # type: ignore[arg-type]
