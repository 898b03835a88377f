"""Fine-tuning: chosen layers of a copy of an encoder, and a linear classifier behind it, trained on labelled images."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlight.batch import ImageBatch, ViewMaker
from memlight.errors import UserError
from memlight.features.passes import device_of, observing
from memlight.interventions.exchange import layer_tensors
from memlight.interventions.parts import prunable_layers
from memlight.random import permutation


@dataclass(frozen=True)
class FinetuneOptions:
    """How a classifier is trained: Adam without weight decay, one cosine from the learning rates to 0.

    Attributes:
        epochs: passes over the images; each image has another view in each.
        lr: first learning rate of the layers.
        head_lr: first learning rate of the linear layer, which begins at zero and not where an encoder was trained to.
            Too low a one leaves the linear layer alone far from its best, so that any layer would seem to gain.
        batch_size: images in a step; an incomplete last batch of an epoch is dropped.
    """

    epochs: int = 20
    lr: float = 1e-3
    head_lr: float = 1e-2
    batch_size: int = 128

    def steps(self, images: int) -> int:
        """Steps in an epoch.

        Raises:
            UserError: there are fewer images than a batch.
        """
        if images < self.batch_size:
            raise UserError("batch_size", self.batch_size, f"there are {images} training images", "choose fewer")
        return images // self.batch_size


class Classifier(nn.Module):
    """An encoder and a linear layer on its standardised features.

    The linear layer starts at zero. Mean and deviation are those of the encoder as it is given, and stay fixed, so that
    one learning rate serves encoders whose features differ in size.

    Args:
        encoder: maps ``(B, 3, h, w)`` to features ``(B, D)``; held, not copied.
        features_ND: its features of the training images, by which they are standardised.
        num_classes: number of classes.
    """

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, encoder: nn.Module, features_ND: Tensor, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        deviation = features_ND.std(0, correction=0)
        self.register_buffer("mean_D", features_ND.mean(0))
        self.register_buffer("scale_D", torch.where(deviation > 0, 1 / deviation.where(deviation > 0, 1), 0))
        self.head = nn.Linear(features_ND.shape[1], num_classes, device=features_ND.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, views: Tensor) -> Tensor:
        """Normalised images ``(B, 3, h, w)`` to logits ``(B, num_classes)``."""
        logits: Tensor = self.head((self.encoder(views).flatten(1) - self.mean_D) * self.scale_D)
        return logits


def new_classifier(
    encoder: nn.Module, train: ImageBatch, make_views: ViewMaker, num_classes: int, *, max_forward: int = 1024
) -> Classifier:
    """Put a linear layer behind an encoder, before any training.

    Args:
        encoder: maps ``(B, 3, h, w)`` to ``(B, D)``; held, not copied.
        train: the images whose features give mean and deviation.
        make_views: how they are seen for that; their view 0.
        num_classes: number of classes.
        max_forward: most images in one forward.
    """
    return Classifier(encoder, _outputs(encoder, train, make_views, max_forward).flatten(1), num_classes)


def finetunable_layers(model: nn.Module, image_size: int | None = None) -> list[str]:
    """The layers that a ranking chooses from, in execution order: units that rows of the layer's own weights make.

    Sums have no weights, and a block's output is made by several layers that can be chosen by themselves.

    Args:
        model: any network that maps ``(B, 3, H, W)`` to a tensor.
        image_size: image side in pixels; None takes ``model.spec.input_size``.
    """
    owners = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    layers = prunable_layers(model, image_size)
    return [layer for layer in layers if any(f"{owner}.".startswith(f"{layer}.") for owner in owners)]


def trained_parameters(classifier: Classifier, layers: Sequence[str], image_size: int | None = None) -> int:
    """How many numbers `finetune` would change: of the layers and of the linear classifier."""
    changed = _tensors(classifier, layers, image_size)
    return sum(parameter.numel() for name, parameter in classifier.named_parameters() if name in changed)


def finetune(
    classifier: Classifier,
    layers: Sequence[str],
    train: ImageBatch,
    make_views: ViewMaker,
    options: FinetuneOptions,
    *,
    seed: int = 0,
    trial: int = 0,
    image_size: int | None = None,
    after_epoch: Callable[[], object] = lambda: None,
) -> Classifier:
    """Train a copy of a classifier: the chosen layers and the linear layer, by cross-entropy, and nothing else.

    A layer is what `memlight.interventions.exchange.exchange_layers` moves: everything below its path and the
    normalisation of its output. Batch normalisations of chosen layers normalise by the batch and go on averaging; all
    else, dropout of chosen layers included, is as in evaluation, so that only order and views are random. These are a
    function of seed, trial, epoch and id: all layers chosen in one trial see the same.

    Args:
        classifier: left bit-identical.
        layers: module paths in ``classifier.encoder``; none trains the linear layer alone.
        train: labelled images, on any device.
        make_views: ``(batch, view index) -> (B, 3, h, w)``; epoch e of trial t asks for view ``t * epochs + e``.
        options: number of epochs, learning rates and batch size.
        seed: of the order; that of the views is in ``make_views``.
        trial: which repetition.
        image_size: image side in pixels; None takes ``classifier.encoder.spec.input_size``.
        after_epoch: called after each epoch.

    Returns:
        The trained copy, in eval mode.

    Raises:
        UserError: an unknown layer, one without weights, fewer images than a batch, or a training that diverged.
    """
    steps = options.steps(len(train.ids))
    tuned = deepcopy(classifier).eval().requires_grad_(False)
    changed = _tensors(tuned, layers, image_size)
    for name in changed:
        tuned.get_submodule(name.rpartition(".")[0]).training = True
    trained = {name: p.requires_grad_(True) for name, p in tuned.named_parameters() if name in changed}
    rates = {name: options.head_lr if name.startswith("head.") else options.lr for name in trained}
    optimizer = torch.optim.Adam([{"params": [trained[name]], "lr": rates[name]} for name in trained])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps * options.epochs)
    device = device_of(tuned)
    for epoch in range(options.epochs):
        view = trial * options.epochs + epoch
        order = permutation(seed, view, len(train.ids))[: steps * options.batch_size].to(train.ids.device)
        for chosen in torch.split(order, options.batch_size):
            batch = ImageBatch(*(tensor[chosen].to(device, non_blocking=True) for tensor in train))
            with torch.enable_grad():
                loss = F.cross_entropy(tuned(make_views(batch, view)), batch.labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        after_epoch()
    tuned.eval().requires_grad_(False)
    if not all(parameter.isfinite().all() for parameter in trained.values()):
        which = ",".join(layers) or "the linear layer"
        why = f"fine-tuning {which} diverged with {options.lr} and {options.head_lr}"
        raise UserError("lr, head_lr", None, why, "choose lower ones")
    _require_frozen(classifier, tuned, changed)
    return tuned


def right_answers(
    classifier: Classifier, test: ImageBatch, make_views: ViewMaker, *, max_forward: int = 1024
) -> Tensor:
    """Which images a classifier classifies correctly, from their view 0: bool ``(M,)`` on its device."""
    logits = _outputs(classifier, test, make_views, max_forward)
    return logits.argmax(1) == test.labels.to(logits.device)


def _tensors(classifier: Classifier, layers: Sequence[str], image_size: int | None) -> set[str]:
    """Parameters and buffers of the layers and of the head, by their names in the classifier."""
    own = layer_tensors(classifier.encoder, layers, image_size) if layers else []
    return {"head.weight", "head.bias", *(f"encoder.{name}" for name in own)}


def _require_frozen(before: Classifier, after: Classifier, may_change: set[str]) -> None:
    """All that is not of what was trained is bit-identical.

    Raises:
        RuntimeError: the training loop is wrong.
    """
    now = after.state_dict()
    changed = [
        name for name, x in before.state_dict().items() if name not in may_change and not torch.equal(x, now[name])
    ]
    if changed:
        raise RuntimeError(f"frozen, and yet changed: {', '.join(changed)}")


def _outputs(model: nn.Module, data: ImageBatch, make_views: ViewMaker, max_forward: int) -> Tensor:
    """``(N, ...)`` outputs for view 0 of each image, float32, in the order of the images."""
    device = device_of(model)
    outputs = []
    with observing(model):
        for start in range(0, len(data.ids), max_forward):
            part = ImageBatch(*(tensor[start : start + max_forward].to(device) for tensor in data))
            outputs.append(model(make_views(part, 0)).float())
    return torch.cat(outputs)
