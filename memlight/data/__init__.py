"""Images, splits, views made on the device; bit sequences."""

from memlight.data.images import ImageDataModule
from memlight.data.sequences import SequenceDataModule

__all__ = ["ImageDataModule", "SequenceDataModule"]
