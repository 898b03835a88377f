"""Fine-tuning changes the chosen layers and the linear classifier, and nothing else."""

import math
from copy import deepcopy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from memlight.batch import ImageBatch
from memlight.errors import UserError
from memlight.interventions.finetune import (
    Classifier,
    FinetuneOptions,
    finetunable_layers,
    finetune,
    new_classifier,
    right_answers,
    trained_parameters,
)
from memlight.models.encoders import build_encoder
from memlight.random import permutation
from tests.tiny_net import assert_unchanged, snapshot

CLASSES = 3
OPTIONS = FinetuneOptions(epochs=2, lr=3e-3, head_lr=2e-2, batch_size=8)


def images(count: int = 21) -> ImageBatch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return ImageBatch(pixels, torch.arange(count) % CLASSES, 100 + torch.arange(count))


def views(batch: ImageBatch, view: int) -> Tensor:
    """Each view of an image is another; view 0 is the image."""
    return (batch.images / 127.5 - 1).roll(view, 3)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return new_classifier(build_encoder("resnet9", image_size=16, seed=0).eval(), images(), views, CLASSES)


def changed(before: Classifier, after: Classifier) -> set[str]:
    now = after.state_dict()
    return {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, now[name])}


HEAD = {"head.weight", "head.bias"}


def tensors_of(layer: str) -> set[str]:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"encoder.{layer}.conv.weight", *(f"encoder.{layer}.norm.{name}" for name in norm)}


@pytest.mark.parametrize("layers", [(), ("layer6",), ("layer4", "layer8")])
def test_only_the_chosen_layers_and_the_head_change(classifier: Classifier, layers: tuple[str, ...]) -> None:
    before = snapshot(classifier)
    tuned = finetune(classifier, layers, images(), views, OPTIONS)
    assert_unchanged(classifier, before)
    assert changed(classifier, tuned) == HEAD.union(*(tensors_of(layer) for layer in layers))
    assert not any(module.training for module in tuned.modules())
    assert not any(parameter.requires_grad for parameter in tuned.parameters())


def test_while_training_frozen_parameters_have_no_gradient_and_frozen_modules_are_in_eval_mode(
    classifier: Classifier,
) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    encoder = classifier.encoder

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = encoder
            self.spec = encoder.spec

        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                learning = {name for name, parameter in self.inner.named_parameters() if parameter.requires_grad}
                seen.append((learning, {name for name, module in self.inner.named_modules() if module.training}))
            features: Tensor = self.inner(x)
            return features

    spying = new_classifier(Spy().eval(), images(), views, CLASSES)
    finetune(spying, ["inner.layer7"], images(), views, OPTIONS)
    learning = {"layer7.conv.weight", "layer7.norm.weight", "layer7.norm.bias"}
    assert seen == [(learning, {"layer7.conv", "layer7.norm"})] * 4


def test_an_encoder_that_changes_what_is_frozen_is_found_out() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            features: Tensor = self.linear(x.mean((2, 3)))
            return features

    counting = new_classifier(Counting().eval(), images(), views, CLASSES)
    with pytest.raises(RuntimeError, match=r"frozen, and yet changed: encoder\.count$"):
        finetune(counting, [], images(), views, OPTIONS)


def test_the_linear_classifier_follows_adam_on_the_cross_entropy_written_out(classifier: Classifier) -> None:
    data = images()
    tuned = finetune(classifier, [], data, views, OPTIONS, seed=5, trial=1)
    with torch.no_grad():
        clean = classifier.encoder(views(data, 0)).double()
    mean, deviation = clean.mean(0), clean.std(0, correction=0)
    weight, bias = torch.zeros(CLASSES, 256, dtype=torch.float64), torch.zeros(CLASSES, dtype=torch.float64)
    moments = [[torch.zeros_like(p), torch.zeros_like(p)] for p in (weight, bias)]
    step, steps = 0, 2 * (21 // 8)
    for epoch in range(2):
        view = 2 + epoch  # the third and fourth: trial 1 of two epochs each
        order = permutation(5, view, 21)
        for start in (0, 8):
            chosen = order[start : start + 8]
            batch = ImageBatch(*(tensor[chosen] for tensor in data))
            with torch.no_grad():
                z = classifier.encoder(views(batch, view)).double()
            gradients = [torch.zeros_like(weight), torch.zeros_like(bias)]
            for features, label in zip(z, batch.labels.tolist(), strict=True):
                x = torch.where(deviation > 0, (features - mean) / deviation, 0)
                share = (weight @ x + bias).softmax(0)
                share[label] -= 1
                gradients[0] += share[:, None] * x / 8
                gradients[1] += share / 8
            lr = 2e-2 * (1 + math.cos(math.pi * step / steps)) / 2
            step += 1
            for parameter, gradient, (first, second) in zip((weight, bias), gradients, moments, strict=True):
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.999).add_(0.001 * gradient**2)
                parameter -= lr * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(tuned.head.weight.double(), weight, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(tuned.head.bias.double(), bias, rtol=1e-3, atol=1e-5)


def test_trials_differ_and_each_can_be_done_again(classifier: Classifier) -> None:
    first, again, other = (
        finetune(classifier, ["layer8"], images(), views, OPTIONS, trial=trial) for trial in (0, 0, 1)
    )
    assert changed(first, again) == set()
    assert changed(first, other) >= HEAD


def test_every_epoch_asks_for_another_view_of_whole_batches(classifier: Classifier) -> None:
    asked: list[tuple[int, list[int]]] = []

    def watched(batch: ImageBatch, view: int) -> Tensor:
        asked.append((view, batch.ids.tolist()))
        return views(batch, view)

    epochs: list[None] = []
    finetune(classifier, [], images(), watched, OPTIONS, trial=3, after_epoch=lambda: epochs.append(None))
    assert [view for view, _ in asked] == [6, 6, 7, 7] and len(epochs) == 2
    for epoch in (asked[:2], asked[2:]):
        ids = [id_ for _, batch in epoch for id_ in batch]
        assert len(ids) == len(set(ids)) == 16


def test_a_layer_follows_torch_with_its_norm_in_train_mode(classifier: Classifier) -> None:
    data = images()
    tuned = finetune(classifier, ["layer8"], data, views, OPTIONS)
    model = deepcopy(classifier)
    block = model.encoder.get_submodule("layer8")
    block.get_submodule("norm").train()
    optimizer = torch.optim.Adam([{"params": block.parameters()}, {"params": model.head.parameters()}])
    for step in range(4):
        order = permutation(0, step // 2, 21)[8 * (step % 2) : 8 * (step % 2) + 8]
        batch = ImageBatch(*(tensor[order] for tensor in data))
        logits = model(views(batch, step // 2))
        loss = -logits.log_softmax(1)[torch.arange(8), batch.labels].mean()
        model.zero_grad()
        loss.backward()
        for group, lr in zip(optimizer.param_groups, (3e-3, 2e-2), strict=True):
            group["lr"] = lr * (1 + math.cos(math.pi * step / 4)) / 2
        optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tuned.state_dict()[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_answers_do_not_depend_on_how_many_images_go_at_once(classifier: Classifier) -> None:
    tuned = finetune(classifier, ["layer8"], images(), views, OPTIONS)
    before = snapshot(tuned)
    right = right_answers(tuned, images(), views)
    assert_unchanged(tuned, before)
    assert torch.equal(right, right_answers(tuned, images(), views, max_forward=4))
    with torch.no_grad():
        expected = [
            int(tuned(views(ImageBatch(image[None], label, label), 0)).argmax()) == int(label)
            for image, label in zip(images().images, images().labels, strict=True)
        ]
    assert right.tolist() == expected


def test_parameters_are_counted_with_the_norm_and_the_head(classifier: Classifier) -> None:
    head = 256 * CLASSES + CLASSES
    assert trained_parameters(classifier, []) == head
    assert trained_parameters(classifier, ["layer1", "layer6"]) == head + 27 * 32 + 2 * 32 + 9 * 128 * 256 + 2 * 256


def test_layers_to_choose_from_are_those_with_units_and_weights_of_their_own() -> None:
    assert finetunable_layers(build_encoder("resnet9", image_size=16)) == [f"layer{n}" for n in range(1, 9)]
    vit = VisionTransformer(8, 4, num_classes=0, embed_dim=12, depth=2, num_heads=3)
    parts = [f"blocks.{block}.{part}" for block in range(2) for part in ("attn", "mlp")]
    assert finetunable_layers(vit, image_size=8) == ["patch_embed.proj", *parts]


def test_refusals_name_the_flag(classifier: Classifier) -> None:
    with pytest.raises(UserError, match=r"^layers='res2': has no weights"):
        finetune(classifier, ["res2"], images(), views, OPTIONS)
    with pytest.raises(UserError, match=r"^layers='layer9': no such layer"):
        finetune(classifier, ["layer9"], images(), views, OPTIONS)
    with pytest.raises(UserError, match=r"^batch_size=8: there are 7 training images"):
        finetune(classifier, [], images(7), views, OPTIONS)
    with pytest.raises(UserError, match=r"^lr, head_lr: fine-tuning layer8 diverged with 0\.003 and 0\.02"):
        finetune(classifier, ["layer8"], images(), lambda batch, view: views(batch, view) / 0, OPTIONS)
