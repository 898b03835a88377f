"""UnitMem of the encoder while it trains."""

from typing import Literal

import lightning.pytorch as L

from memlight.callbacks.observe import ObserverCallback
from memlight.features import Activation
from memlight.studies.unitmem import UnitMemOptions, study_unitmem, unitmem_headline


class UnitMemCallback(ObserverCallback):
    """Compute what ``analyze.py unitmem --member ROLE --checkpoint epoch=N --no-pair`` computes, at the end of epoch N.

    Results: ``analysis/unitmem-ROLE-epoch=N``, and ``unitmem/mean/<layer>`` in the member's metrics.

    Args:
        every_n_epochs: how often.
        split: which images; the member's own (candidate or independent) if null.
        num_views: views of each image, averaged.
        layers: layers to measure; all that the encoder has if null.
        activation: applied to every element before averaging over positions.
        max_forward: most views in one forward.
    """

    def __init__(
        self,
        every_n_epochs: int = 50,
        split: Literal["candidate", "independent", "external", "shared"] | None = None,
        num_views: int = 10,
        layers: list[str] | None = None,
        activation: Activation = "abs",
        max_forward: int = 1024,
    ) -> None:
        super().__init__(every_n_epochs, layers)
        self.split = split
        self.num_views = num_views
        self.activation: Activation = activation
        self.max_forward = max_forward

    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure this epoch."""
        data = self.data(trainer)
        own = data.role if data.role != "all" else "candidate"
        options = UnitMemOptions(
            split=self.split or own,
            num_views=self.num_views,
            activation=self.activation,
            max_forward=self.max_forward,
        )
        encoder = self.encoder(pl_module)
        with self.log_to_disk(trainer, "unitmem", f"{data.role}-epoch={trainer.current_epoch}") as log:
            by_layer = study_unitmem(encoder, data, self.names(encoder), options, log, progress=False)
        self.log_numbers(pl_module, "unitmem", unitmem_headline(by_layer))
