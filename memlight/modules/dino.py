"""DINO (Caron et al., ICCV 2021): a student says of every crop what its own moving average says of the global ones."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from memlight.batch import ViewBatch
from memlight.errors import at_least, below_one, positive
from memlight.models.encoders import build_encoder, encoder_spec
from memlight.modules.base import SSLModule, features_of_views
from memlight.modules.optim import OptimConfig, cosine
from memlight.random import seeded

GLOBAL_VIEWS = 2
"""Views 0 and 1 of the augmentation set are the global crops, which the teacher sees."""


class DINO(SSLModule):
    """DINO with multi-crop; ``--data.num_views`` says how many crops, the first two of them global.

    Both networks are kept and can be analysed: the **teacher**, which is the default as in the authors' evaluation,
    and the **student** (``--network student``).

    Args:
        encoder: name for `build_encoder`; it must take views of several sizes unless there are global crops only.
        stem: ``cifar`` (3x3, stride 1, no max-pool) or ``imagenet``; only torchvision ResNets have both.
        image_size: side of the global views in pixels, for encoders that must know it (ViTs).
        init_seed: the initial weights are a function of it alone, so both members of a pair start equal; null takes
            --seed_everything (0 in Python).
        optim: optimizer and schedule; its weight decay is the one of the first step.
        channels_last: memory format of the encoder and the views.
        compile: compile the encoder with torch.compile.
        weight_decay_end: weight decay of the last step, reached along a cosine.
        momentum_start: of the teacher's moving average at the first step; 1 at the last, along a cosine.
        student_temperature: of the student's softmax.
        teacher_temperature: of the teacher's, after the warm-up.
        teacher_temperature_start: of the teacher's in the first epoch of the warm-up.
        teacher_temperature_epochs: length of that linear warm-up; the last of these epochs has the full temperature.
        center_momentum: of the moving average of the teacher's output that is subtracted from it.
        freeze_last_layer_epochs: epochs for which the head's last layer stays as it was initialised.
        hidden_dim: width of the projection head.
        bottleneck_dim: width before the head's last layer.
        output_dim: number of prototypes.
        init_from: weights that the encoder of both members starts from: a file, hub or hf:ORG/NAME; null starts from
            random ones, as heads do in any case.
        init_prefix: which part of that file is the encoder; null finds the only part that fits.
        encoder_args: what a class or function of one's own is called with.
    """

    min_views = GLOBAL_VIEWS

    def __init__(
        self,
        encoder: str = "vit_tiny_patch4",
        stem: Literal["cifar", "imagenet"] = "cifar",
        image_size: int = 32,
        init_seed: int | None = None,
        optim: OptimConfig = OptimConfig("adamw", lr=5e-4, weight_decay=0.04),  # noqa: B008 - frozen
        channels_last: bool = True,
        compile: bool = False,
        weight_decay_end: float = 0.4,
        momentum_start: float = 0.996,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        teacher_temperature_start: float = 0.04,
        teacher_temperature_epochs: int = 0,
        center_momentum: float = 0.9,
        freeze_last_layer_epochs: int = 1,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        output_dim: int = 65536,
        init_from: str | None = None,
        init_prefix: str | None = None,
        encoder_args: dict[str, Any] | None = None,
    ) -> None:
        below_one(momentum_start=momentum_start, center_momentum=center_momentum)
        positive(
            student_temperature=student_temperature,
            teacher_temperature=teacher_temperature,
            teacher_temperature_start=teacher_temperature_start,
        )
        at_least(1, hidden_dim=hidden_dim, bottleneck_dim=bottleneck_dim, output_dim=output_dim)
        at_least(
            0,
            weight_decay_end=weight_decay_end,
            teacher_temperature_epochs=teacher_temperature_epochs,
            freeze_last_layer_epochs=freeze_last_layer_epochs,
        )
        from lightly.loss import DINOLoss

        super().__init__(
            encoder, stem, image_size, init_seed, optim, channels_last, compile, init_from, init_prefix, encoder_args
        )
        self.teacher = build_encoder(
            encoder, stem=stem, seed=self.init_seed, image_size=image_size, encoder_args=encoder_args
        )
        self.teacher.load_state_dict(self.encoder.state_dict())
        self.teacher.to(memory_format=self.memory_format).requires_grad_(False)
        if compile:
            self.teacher.compile()
        widths = (encoder_spec(self.encoder).num_features, hidden_dim, bottleneck_dim, output_dim)
        self.head, self.teacher_head = (dino_head(*widths, self.init_seed) for _ in range(2))
        self.teacher_head.requires_grad_(False)
        self.criterion = DINOLoss(output_dim, student_temp=student_temperature, center_momentum=center_momentum)
        self.weight_decay_end = weight_decay_end
        self.momentum_start = momentum_start
        self.teacher_temperatures = (teacher_temperature_start, teacher_temperature)
        self.teacher_temperature_epochs = teacher_temperature_epochs
        self.freeze_last_layer_epochs = freeze_last_layer_epochs

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Teacher and student; the teacher is analysed by default."""
        return {"teacher": self.teacher, "student": self.encoder}

    def trained_modules(self) -> list[nn.Module]:
        """The student and its head."""
        return [self.encoder, self.head]

    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Cross-entropy between teacher (global crops) and student (all crops), over all pairs of different crops."""
        views = [self._as_weights(view) for view in batch.views]
        with torch.no_grad():
            teacher_logits = self._logits(self.teacher, self.teacher_head, views[:GLOBAL_VIEWS])[1]
        features, student_logits = self._logits(self.encoder, self.head, views)
        temperature = warmed_up(*self.teacher_temperatures, self.current_epoch, self.teacher_temperature_epochs)
        with torch.autocast(features[0].device.type, enabled=False):
            center = None if self.training else self.criterion.center.clone()
            loss: Tensor = self.criterion(teacher_logits, student_logits, teacher_temp=temperature)
            if center is not None:  # the criterion also moves its centre
                self.criterion.center.copy_(center)
        return loss, features[0]

    @staticmethod
    def _logits(encoder: nn.Module, head: nn.Module, views: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        features = features_of_views(encoder, views)
        return features, list(head(torch.cat(features)).float().chunk(len(views)))

    def on_after_backward(self) -> None:
        """Hold the head's last layer still in the first epochs."""
        if self.current_epoch < self.freeze_last_layer_epochs:
            for parameter in self.head.get_submodule("last_layer").parameters():
                parameter.grad = None

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Set the step's weight decay, step, and move the teacher towards the student."""
        done = self.global_step / max(1, int(self.trainer.estimated_stepping_batches))
        optimizer.param_groups[0]["weight_decay"] = cosine(self.optim.weight_decay, self.weight_decay_end, done)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.move_teacher(cosine(self.momentum_start, 1.0, done))

    @torch.no_grad()
    def move_teacher(self, momentum: float) -> None:
        """``teacher = momentum * teacher + (1 - momentum) * student``, for encoder and head."""
        from lightly.models.utils import update_momentum

        update_momentum(self.encoder, self.teacher, momentum)
        update_momentum(self.head, self.teacher_head, momentum)


def warmed_up(start: float, end: float, epoch: int, epochs: int) -> float:
    """The teacher's temperature in an epoch, as the authors' code has it.

    It is ``start`` in epoch 0 and rises in equal steps to ``end`` in epoch ``epochs - 1``, the last of the warm-up. A
    warm-up of one epoch is at ``start`` in it.

    Args:
        start: of the first epoch.
        end: of the last epoch of the warm-up, and of all after it.
        epoch: from 0.
        epochs: of the warm-up; without any it is ``end`` from the beginning.
    """
    if epoch >= epochs:
        return end
    return start + (end - start) * epoch / max(1, epochs - 1)


def dino_head(width: int, hidden_dim: int, bottleneck_dim: int, output_dim: int, seed: int) -> nn.Module:
    """DINO's head, its initial weights a function of ``seed`` alone.

    Args:
        width: of the encoder's features.
        hidden_dim: of the two hidden layers.
        bottleneck_dim: before the last layer.
        output_dim: number of prototypes.
        seed: of the initial weights.
    """
    from lightly.models.modules.heads import DINOProjectionHead

    with seeded(seed), warnings.catch_warnings():  # lightly uses the weight_norm that torch deprecates
        warnings.filterwarnings("ignore", message=".*weight_norm.* is deprecated", category=FutureWarning)
        head: nn.Module = DINOProjectionHead(width, hidden_dim, bottleneck_dim, output_dim)
    return head
