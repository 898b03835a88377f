"""UnitMem of the encoder while it trains."""

from dataclasses import replace
from typing import cast

import lightning.pytorch as L

from memlight.analyses.observe import ObserverCallback
from memlight.analyses.unitmem import ANALYSIS
from memlight.analyses.unitmem.command import UnitMemOptions
from memlight.analyses.unitmem.study import study_unitmem, unitmem_headline, unitmem_tag
from memlight.errors import named
from memlight.features.hooks import Activation
from memlight.runs.flags import Split


class UnitMemCallback(ObserverCallback):
    """Compute at the end of epoch N what ``analyze.py unitmem`` computes of its checkpoint.

    That is ``--member ROLE --split SPLIT --checkpoint epoch=N --no-pair``, and it goes to the same place in
    ``analysis/``. The member's metrics get ``unitmem/mean/<layer>`` and the like; ``unitmem_SPLIT/mean/<layer>`` when
    SPLIT is not the member's own.

    Args:
        every_n_epochs: how often.
        split: which images; the member's own (candidate or independent) if null.
        num_views: views of each image, averaged.
        layers: layers to measure, by name or by pattern, as ``layer4.*``; all that the encoder has if null.
        network: which network of methods that have several (teacher or student); the default one if null.
        activation: applied to every element before averaging over positions.
        max_forward: most views in one forward.
    """

    def __init__(
        self,
        every_n_epochs: int = 50,
        split: Split | None = None,
        num_views: int = 10,
        layers: list[str] | None = None,
        network: str | None = None,
        activation: Activation = "abs",
        max_forward: int = 1024,
    ) -> None:
        super().__init__(every_n_epochs, layers, network)
        self.split = split
        self.max_forward = max_forward
        with named(views="num_views"):
            self.options = UnitMemOptions(views=num_views, activation=activation)

    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure this epoch."""
        data = self.data(trainer)
        own = cast(Split, data.role if data.role != "all" else "candidate")
        options = replace(self.options, split=self.split or own)
        encoder = self.encoder(pl_module)
        tag = unitmem_tag(data.role, options.split, self.moment(trainer))
        names, at_once = self.names(encoder), self.max_forward
        with self.log_to_disk(trainer, ANALYSIS, tag) as log:
            by_layer = study_unitmem(encoder, data, names, options, log, max_forward=at_once, progress=False)
        key = "unitmem" if options.split == own else f"unitmem_{options.split}"
        self.log_numbers(pl_module, key, unitmem_headline(by_layer))
