"""Changes to copies of encoders: units pruned, layers exchanged, units restored. No Trainer, no W&B."""

from memlight.interventions.exchange import exchange_layers
from memlight.interventions.prune import prune_units, restore_units

__all__ = ["exchange_layers", "prune_units", "restore_units"]
