"""How good the features are while a member trains: nearest neighbours every N epochs, a linear probe at the end."""

from typing import ClassVar

import lightning.pytorch as L

from memlight import dist
from memlight.analyses.observe import ObserverCallback
from memlight.analyses.probe import ANALYSIS
from memlight.analyses.probe.accuracy import study_probe
from memlight.analyses.probe.command import ProbeOptions
from memlight.data.images import ImageDataModule
from memlight.errors import UserError, at_least
from memlight.metrics.knn import embed, knn_accuracy


class OnlineEvaluation(ObserverCallback):
    """Log ``knn/top1`` of the encoder every N epochs, and probe it once it is trained.

    The vote is that of ``analyze.py probe`` (cosine similarity, 20 neighbours, temperature 0.1): images of the shared
    split vote on images of the external one, as they are. Where the limits leave no image out, the number is the one
    that ``analyze.py probe --checkpoint epoch=N`` gives. The probe is trained after the fact on frozen features; its
    table lies in ``analysis/probe-<role>`` and has both evaluations, on whole splits.

    Args:
        every_n_epochs: how often.
        num_train: most shared images that vote, evenly spaced.
        num_test: most external images that are voted on, evenly spaced.
        probe: whether to probe the trained encoder when training ends.
        network: which network of methods that have several (teacher or student); the default one if null.
        max_forward: most images in one forward.
    """

    labelled: ClassVar = {"shared": 1, "external": 1}

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_train: int = 10_000,
        num_test: int = 5_000,
        probe: bool = True,
        network: str | None = None,
        max_forward: int = 1024,
    ) -> None:
        super().__init__(every_n_epochs, None, network)
        at_least(1, num_train=num_train, num_test=num_test, max_forward=max_forward)
        self.limits = {"shared": num_train, "external": num_test}
        self.probe = probe
        self.max_forward = max_forward

    def require_images(self, data: ImageDataModule) -> None:
        """Refuse images that cannot vote or be voted on.

        Raises:
            UserError: a split is empty, or holds images without a class.
        """
        for split in self.limits:
            if len(data.split.ids(split)) == 0:
                raise UserError(f"num_{split}", 0, f"OnlineEvaluation needs {split} images", "give some")
        super().require_images(data)

    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the neighbours vote."""
        data = self.data(trainer)
        encoder, clean = self.encoder(pl_module), data.view_maker(data.make_views("clean"))
        sets = []
        for split, limit in self.limits.items():
            batches = data.batches(split, self.max_forward, dist.rank(), dist.world_size(), limit=limit)
            features, labels, _ = embed(encoder, batches, clean, max_forward=self.max_forward, progress=False)
            sets += [features, labels]
        top1 = knn_accuracy(*sets, num_classes=data.num_classes)
        self.log_numbers(pl_module, "knn", {"top1": top1})

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Probe the trained encoder, also where nothing was left to train; not after a trial run."""
        if not self.probe or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        data = self.data(trainer)
        tag = "-".join(filter(None, (self.network, data.role)))
        with self.log_to_disk(trainer, ANALYSIS, tag) as log:
            encoders = {data.role: self.encoder(pl_module)}
            study_probe(encoders, data, ProbeOptions(max_forward=self.max_forward), log, progress=False)
