"""Other people's weights in an encoder: which part of a file fits, under which names, and why it may not."""

from memlight.models.foreign.loading import Loaded, load_weights

__all__ = ["Loaded", "load_weights"]
