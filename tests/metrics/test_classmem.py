import numpy as np
import pytest
import torch
from torch import distributed

from memlight.analyses.classmem.study import unit_activations
from memlight.errors import UserError
from memlight.metrics.classmem import ClassMem, ClassMemResult, measure_classmem, shuffled_labels
from memlight.metrics.functional import class_means, classmem
from tests.close import NETWORK, SCORES
from tests.ddp import run_ddp
from tests.metrics.tiny import LAYERS, TinyEncoder, image_batches, make_views, one_by_one


def labelled() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mu = torch.rand(50, 6, generator=generator)
    mu[:, 1] = 0
    return mu, torch.arange(50) % 4, torch.randperm(90, generator=generator)[:50]


def check(result: ClassMemResult) -> None:
    mu, labels, _ = labelled()
    np.testing.assert_allclose(result.classmem, classmem(mu, labels), rtol=1e-12)
    assert torch.equal(result.max_class, class_means(mu, labels).argmax(0))
    assert result.classmem[1] == 0


def test_streaming_equals_the_function_and_counts_images_once() -> None:
    mu, labels, ids = labelled()
    metric = ClassMem(6, 4)
    metric.update(mu[:30], labels[:30], ids[:30])
    metric.update(mu[20:], labels[20:], ids[20:])
    check(metric.compute())


def _share() -> ClassMemResult:
    mu, labels, ids = labelled()
    part = slice(0, 11) if distributed.get_rank() == 0 else slice(11, 50)
    metric = ClassMem(6, 4)
    metric.update(mu[part], labels[part], ids[part])
    return metric.compute()


@pytest.mark.ddp
def test_two_processes_give_what_one_gives() -> None:
    for result in run_ddp(_share, 2):
        check(result)


def test_missing_labels_and_classes_are_refused() -> None:
    mu, labels, ids = labelled()
    with pytest.raises(UserError, match="a class 0 to 3 for every image"):
        ClassMem(6, 4).update(mu, labels - 1, ids)
    metric = ClassMem(6, 5)
    metric.update(mu, labels, ids)
    with pytest.raises(UserError, match="no image of class 4"):
        metric.compute()
    signed = ClassMem(6, 4)
    signed.update(mu - 3, labels, ids)
    with pytest.raises(UserError, match="`activation='abs'`"):
        signed.compute()


IDS = torch.arange(1000, 1012)
CLASSES = torch.tensor([0, 2, 1, 1, 2, 0, 2, 2, 1, 0, 2, 1])


def measure(encoder: TinyEncoder, **options: object) -> dict[str, ClassMemResult]:
    settings = {"ids": IDS, "labels": CLASSES, "num_classes": 3, "permutations": 4, "seed": 7, "progress": False}
    return measure_classmem(encoder, image_batches(12, 5), make_views, LAYERS, **settings | options)


def by_hand(mu: np.ndarray, labels: np.ndarray, reference: str) -> tuple[list[float], list[int]]:
    """Score and strongest class of every unit, one unit and one class at a time."""
    scores, strongest = [], []
    for unit in mu.T:
        means = [float(np.mean([m for m, label in zip(unit, labels, strict=True) if label == c])) for c in range(3)]
        top = max(range(3), key=lambda c: means[c])
        others = [means[c] for c in range(3) if c != top]
        rest = sum(others) / 2 if reference == "mean" else float(np.median(others))
        scores.append((means[top] - rest) / (means[top] + rest))
        strongest.append(top)
    return scores, strongest


@pytest.mark.parametrize("num_views", [1, 3])
@pytest.mark.parametrize("reference", ["mean", "median"])
def test_one_pass_gives_what_one_image_and_class_at_a_time_give(num_views: int, reference: str) -> None:
    results = measure(TinyEncoder(), num_views=num_views, reference=reference, max_forward=4)
    shuffles = shuffled_labels(CLASSES, 4, 7).numpy()
    for layer, outputs in one_by_one(TinyEncoder(), 12, num_views).items():
        activations = outputs.abs().flatten(3).mean(-1) if outputs.ndim > 3 else outputs.abs()
        mu, result = activations.mean(1).numpy(), results[layer]
        scores, strongest = by_hand(mu, CLASSES.numpy(), reference)
        np.testing.assert_allclose(result.classmem, scores, **SCORES)
        assert result.max_class.tolist() == strongest
        assert result.null.shape == (4, len(scores))
        for draw in range(4):
            expected, _ = by_hand(mu, shuffles[:, 1 + draw], reference)
            np.testing.assert_allclose(result.null[draw], expected, **SCORES)
        assert result.unitmem is not None
        for unit, values in enumerate(mu.T):
            top = int(values.argmax())
            rest = np.delete(values, top).mean()
            assert float(result.unitmem.unitmem[unit]) == pytest.approx(
                (values[top] - rest) / (values[top] + rest), abs=SCORES["atol"]
            )
            assert int(result.unitmem.max_id[unit]) == 1000 + top


def test_the_encoder_and_the_random_state_are_left_as_they_were() -> None:
    encoder = TinyEncoder().train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    random_state = torch.get_rng_state()
    measure(encoder)
    unit_activations(encoder, image_batches(12, 5), make_views, [("stem", 0)], progress=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in encoder.modules())
    assert not encoder.stem._forward_hooks


def test_shuffles_keep_the_sizes_of_classes_and_are_a_function_of_the_seed() -> None:
    shuffles = shuffled_labels(CLASSES, 50, 3)
    assert torch.equal(shuffles[:, 0], CLASSES)
    assert torch.equal(shuffles.sort(dim=0).values, CLASSES.sort().values[:, None].expand(-1, 51))
    assert torch.equal(shuffled_labels(CLASSES, 20, 3), shuffles[:, :21])
    assert not torch.equal(shuffled_labels(CLASSES, 50, 4)[:, 1:], shuffles[:, 1:])
    assert len({tuple(column.tolist()) for column in shuffles.T}) > 45
    often = (shuffled_labels(CLASSES, 2000, 0)[:, 1:] == 2).double().mean(1)
    assert (often - 5 / 12).abs().max() < 0.05  # each image is of each class as often as any other


def test_labels_that_say_nothing_score_like_the_null_and_others_far_above() -> None:
    generator = torch.Generator().manual_seed(1)
    mu = torch.rand(300, 40, generator=generator)
    ids, labels = torch.arange(300), torch.randint(0, 5, (300,), generator=generator)
    answering = mu.clone()
    answering[labels == 3, :20] += 3
    for planted, activations in ((False, mu), (True, answering)):
        metric = ClassMem(40, 5, labellings=41)
        metric.update(activations, shuffled_labels(labels, 40, 0), ids)
        result = metric.compute()
        beaten = (result.classmem > result.null.quantile(0.95, dim=0))[:20].double().mean()
        assert result.null.min() > 0
        assert beaten == 1 if planted else beaten < 0.3
        if planted:
            assert (result.max_class[:20] == 3).all() and (result.classmem[:20] > 4 * result.null[:, :20].mean()).all()


def test_images_without_a_given_label_are_refused() -> None:
    with pytest.raises(ValueError, match="whose label was not given"):
        measure(TinyEncoder(), ids=IDS + 1)
    with pytest.raises(UserError, match="no image of class 3"):
        measure(TinyEncoder(), num_classes=4)
    with pytest.raises(UserError, match="no image in it"):
        measure_classmem(TinyEncoder(), [], make_views, LAYERS, ids=IDS, labels=CLASSES, num_classes=3, progress=False)


def test_activations_of_chosen_units_are_those_of_the_layers() -> None:
    units = [("body.3", 7), ("stem", 2), ("body.3", 7), ("head", 0)]
    mu, ids = unit_activations(
        TinyEncoder(), image_batches(12, 5)[::-1], make_views, units, num_views=2, max_forward=6, progress=False
    )
    assert ids.tolist() == IDS.tolist()
    expected = one_by_one(TinyEncoder(), 12, 2)
    for column, (layer, unit) in enumerate(units):
        outputs = expected[layer][:, :, unit].abs()
        outputs = outputs.flatten(2).mean(-1) if outputs.ndim > 2 else outputs
        np.testing.assert_allclose(mu[:, column], outputs.mean(1), **NETWORK)
    nothing, none = unit_activations(TinyEncoder(), [], make_views, units, progress=False)
    assert nothing.shape == (0, 4) and none.shape == (0,)
