"""Images, splits, and views made on the device."""

from memlight.data.images import ImageDataModule

__all__ = ["ImageDataModule"]
