"""What a single unit is trained for: the run's own loss on a few images, or to stand out on them.

The run's own loss needs the whole training method of a finished member: its encoder with heads and statistics.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from torch import Tensor, nn

from memlight.batch import ViewBatch
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.data.splits import Ids
from memlight.errors import UserError
from memlight.features.hooks import Activation, capture
from memlight.metrics.functional import unitmem_from_extremes
from memlight.modules import DINO, SimCLR, VICReg
from memlight.modules.base import SSLModule
from memlight.modules.optim import OptimConfig
from memlight.random import permutation
from memlight.runs.checkpoints import checkpoint_state
from memlight.runs.opened import OpenedRun
from memlight.storage.run_files import MethodConfig
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_yaml_config

COMPARES_IMAGES = (SimCLR, VICReg)
"""Methods whose loss of an image depends on the others in the batch; of a single image it has nothing to teach."""


class OnlyFirstTeach(nn.Module):
    """An encoder for the first images of a batch, beside others whose features are what they were before training.

    Constants have to be those of the untrained copy: features of the encoder as it is, detached, would move with its
    weights while the loss takes them for fixed, and a layer trained so pulls all images to one place.

    Args:
        encoder: what is trained, and sees the first images.
        original: sees the others, without a gradient.
        teaching: how many images come first.
        images: images in a batch; their views come view after view.
    """

    def __init__(self, encoder: nn.Module, original: nn.Module, teaching: int, images: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.original = original
        self.teaching = teaching
        self.images = images

    def forward(self, views: Tensor) -> Tensor:
        """``(V * images, 3, h, w)`` to ``(V * images, D)``."""
        by_view = views.reshape(-1, self.images, *views.shape[1:])
        with torch.no_grad():
            constant: Tensor = self.original(by_view[:, self.teaching :].flatten(0, 1))
        learning: Tensor = self.encoder(by_view[:, : self.teaching].flatten(0, 1))
        of_views = [features.reshape(len(by_view), -1, features.shape[1]) for features in (learning, constant)]
        return torch.cat(of_views, dim=1).flatten(0, 1)


@dataclass(eq=False)
class Steps:
    """The batch of every step: all chosen images, and context images that are others in every epoch.

    Views are those of a training that goes on: a function of (seed, id, epoch), with epochs that come after the last.

    Attributes:
        data: the images.
        ids: the chosen images.
        others: ids that context images are drawn from; chosen ones among them are left out.
        context: how many stand beside the chosen ones.
        first_epoch: the first epoch whose views no training step has seen.
        device: where views are made.
    """

    data: ImageDataModule
    ids: Sequence[int]
    others: Ids
    context: int
    first_epoch: int
    device: torch.device

    def __post_init__(self) -> None:
        self.others = np.setdiff1d(self.others, self.ids)

    def batch(self, epoch: int) -> ViewBatch:
        """The chosen images first, then the context images of this epoch, in the views of a training step."""
        chosen = np.array(self.ids, dtype=np.int64)
        return self.views(np.concatenate([chosen, self.drawn(epoch)]), epoch, self.data.views, self.data.num_views)

    def drawn(self, epoch: int) -> Ids:
        """The context images of an epoch."""
        order = permutation(self.data.seed, self.first_epoch + epoch, len(self.others))
        drawn: Ids = self.others[order[: self.context].numpy()]
        return drawn

    def views(self, ids: Ids, epoch: int, make: Views, num_views: int) -> ViewBatch:
        """Views of some images, keyed by the epoch, on the device."""
        data = self.data
        images, labels, ids_B = (
            tensor.to(self.device)
            for tensor in (data.images_of(ids), torch.from_numpy(data.labels_of(ids)), torch.from_numpy(ids))
        )
        epochs = torch.full_like(ids_B, self.first_epoch + epoch)
        views = [make(images, ids_B, view=view, epoch=epochs, seed=data.seed) for view in range(num_views)]
        return ViewBatch(views, labels, ids_B, epochs)


def training_loss(method: SSLModule, original: nn.Module, steps: Steps) -> Callable[[int], Tensor]:
    """The run's own loss, its heads frozen, with a gradient through the features of the chosen images alone.

    Context images stand in a batch only where the method compares images (``COMPARES_IMAGES``). Where the loss is a
    mean over images they would scale it and nothing else.

    Args:
        method: the method in eval mode; its ``encoder`` is what is trained.
        original: the encoder before training.
        steps: the batches.
    """
    if isinstance(method, COMPARES_IMAGES):
        images = len(steps.ids) + steps.context
        method.encoder = OnlyFirstTeach(method.encoder, original, len(steps.ids), images)

    def loss(epoch: int) -> Tensor:
        return method.embed_and_loss(steps.batch(epoch))[0]

    return loss


def activation_loss(
    encoder: nn.Module, layer: str, unit: int, activation: Activation, num_views: int, steps: Steps
) -> Callable[[int], Tensor]:
    """Minus the unit's contrast in the form of UnitMem ([P] eq 8): mean mu of the chosen images against the context.

    Args:
        encoder: what is trained.
        layer: its layer.
        unit: channel of it.
        activation: as in the measurement.
        num_views: views of each chosen image, averaged as in the measurement; context images have one.
        steps: the batches.
    """
    make, chosen = steps.data.views.full_size(), np.array(steps.ids, dtype=np.int64)

    def loss(epoch: int) -> Tensor:
        of_chosen = steps.views(chosen, epoch, make, num_views).views
        of_others = steps.views(steps.drawn(epoch), epoch, make, 1).views
        with capture(encoder, [layer], activation=activation) as captured:
            encoder(torch.cat([*of_chosen, *of_others]))
            mu_B = captured[layer][:, unit]
        first = num_views * len(chosen)
        return -unitmem_from_extremes(mu_B[:first].mean(), mu_B[first:].mean())

    return loss


def load_method(run: RunDir, role: str) -> SSLModule:
    """Build the method that a run's ``config.yaml`` names, with the weights of a member's ``checkpoints/last.ckpt``.

    Args:
        run: the run directory.
        role: which member.

    Returns:
        The method as training left it, on the CPU and in eval mode, without a trainer and not compiled.

    Raises:
        UserError: no configuration or checkpoint, a damaged one, or the two do not belong together.
    """
    last = run.member(role).checkpoints / "last.ckpt"
    if not last.is_file():
        why = f"no {role}/checkpoints/{last.name}, which holds the heads of the training's loss"
        ways = [*([] if run.adopted.is_file() else ["train it again"]), "use `objective='activation'`"]
        raise UserError("run", run.root, why, ways)
    method = _build(run, read_yaml_config(run.config, MethodConfig))
    try:
        method.load_state_dict(checkpoint_state(last))
    except RuntimeError as error:
        raise UserError("run", run.root, f"{role}/checkpoints/{last.name} is not of {run.config.name}") from error
    if isinstance(method, DINO):
        method.teacher_temperature_epochs = 0  # the warm-up is over; without a trainer every epoch is the first
    return method.eval()


def method_of(opened: OpenedRun, member: str, encoder: nn.Module) -> SSLModule:
    """The method whose loss trains an encoder, on its device and with the same weights.

    Args:
        opened: the run.
        member: which member.
        encoder: what `OpenedRun.encoder` gave for it.

    Raises:
        UserError: as `load_method`; the method's loss does not train this network (DINO's teacher follows its student),
            or the checkpoint holds other weights.
    """
    method = load_method(opened.run, member).to(next(encoder.parameters()).device)
    name = opened.network or next(iter(method.networks))
    if method.networks[name] is not method.encoder:
        trained = next(other for other, network in method.networks.items() if network is method.encoder)
        why = f"the loss of {type(method).__name__} trains the {trained}"
        raise UserError("network", name, why, [f"choose `network={trained!r}`", "`objective='activation'`"])
    state, finished = method.encoder.state_dict(), encoder.state_dict()
    if state.keys() != finished.keys() or not all(torch.equal(state[key], finished[key]) for key in state):
        why = f"{member}/checkpoints/last.ckpt holds other weights than the finished encoder"
        raise UserError("run", opened.run.root, why, "finish the training with `train.py fit --resume true`")
    return method


def _build(run: RunDir, config: MethodConfig) -> SSLModule:
    """The class that the configuration names, with its arguments."""
    try:
        package, _, name = config["model"]["class_path"].rpartition(".")
        kind = getattr(import_module(package), name)
        if not (isinstance(kind, type) and issubclass(kind, SSLModule)):  # before it is called, whatever it is
            raise UserError("run", run.root, f"{run.config}: {name} is not a training method of memlight")
        arguments = {**config["model"]["init_args"], "compile": False}
        for name in ("init_from", "init_prefix"):  # the checkpoint has the weights, and the file may be gone
            arguments.pop(name, None)
        if "optim" in arguments:
            arguments["optim"] = OptimConfig(**arguments["optim"])
        method = kind(**arguments)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        why = f"{run.config.name} names no method that can be built ({error})"
        raise UserError("run", run.root, why, "train it again") from error
    return method
