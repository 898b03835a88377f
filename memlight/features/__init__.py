"""What the layers of a network compute."""

from memlight.features.hooks import capture, list_layers

__all__ = ["capture", "list_layers"]
