"""What pruning costs while a member trains."""

from typing import ClassVar, Literal

import lightning.pytorch as L
import torch

from memlight.analyses.observe import ObserverCallback
from memlight.analyses.probe.command import ProbeOptions
from memlight.analyses.prune import ANALYSIS
from memlight.analyses.prune.command import PruneOptions
from memlight.analyses.prune.study import layers_to_prune, own_split, prune_headline, study_prune
from memlight.errors import at_least, named
from memlight.features.hooks import Activation
from memlight.storage.rundir import member_tag


class PruneCallback(ObserverCallback):
    """Compute at the end of epoch N what ``analyze.py prune`` computes of its checkpoint; the encoder stays as it is.

    That is ``--member ROLE --checkpoint epoch=N``, and it goes to the same place in ``analysis/``. The member's metrics
    get ``prune/drop/<mode>/<scope>-<ratio>`` and ``prune/excess/<mode>/<scope>-<ratio>`` (shares of the test images).
    Every copy gets a new probe, which takes a while: choose few epochs and few trials.

    Args:
        every_n_epochs: how often.
        ratios: shares of the units.
        scope: that share of each layer at once, or of all units together.
        modes: units of the highest UnitMem, random ones, or those of the lowest.
        trials: random draws for each scope and ratio.
        num_views: views of each image, averaged for the scores.
        layers: layers whose units may be pruned, by name or by pattern; all that can be if null.
        network: which network of methods that have several (teacher or student); the default one if null.
        activation: applied to every element before averaging over positions.
        max_forward: most views or images in one forward.
    """

    labelled: ClassVar = {"shared": 1, "external": 2}

    def __init__(
        self,
        every_n_epochs: int = 50,
        ratios: tuple[float, ...] = (0.1, 0.2),
        scope: tuple[Literal["layer", "model"], ...] = ("layer", "model"),
        modes: tuple[Literal["top", "random", "low"], ...] = ("top", "random", "low"),
        trials: int = 10,
        num_views: int = 10,
        layers: list[str] | None = None,
        network: str | None = None,
        activation: Activation = "abs",
        max_forward: int = 1024,
    ) -> None:
        super().__init__(every_n_epochs, layers, network)
        at_least(1, max_forward=max_forward)
        with named(views="trainer.callbacks.num_views"):
            self.options = PruneOptions(ratios, scope, modes, trials, num_views, activation)
        self.evaluation = ProbeOptions(max_forward=max_forward)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Also refuse layers that cannot be pruned and shares that are no unit, before the first step."""
        super().setup(trainer, pl_module, stage)
        layers_to_prune(self.encoder(pl_module), self.layers, self.options)

    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prune copies of this epoch's encoder."""
        data = self.data(trainer)
        encoder = self.encoder(pl_module).to(memory_format=torch.channels_last)
        names, split = layers_to_prune(encoder, self.layers, self.options), own_split(data.role)
        with self.log_to_disk(trainer, ANALYSIS, member_tag(data.role, self.moment(trainer))) as log:
            copies, effects = study_prune(
                encoder, data, names, self.options, self.evaluation, log, split=split, progress=False
            )
        self.log_numbers(pl_module, "prune", prune_headline(copies, effects))
