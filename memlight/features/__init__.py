"""What the layers of a network compute."""

from memlight.features.discovery import list_layers
from memlight.features.hooks import capture

__all__ = ["capture", "list_layers"]
