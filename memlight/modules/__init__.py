"""Training methods as LightningModules."""

from memlight.modules.simclr import SimCLR

__all__ = ["SimCLR"]
