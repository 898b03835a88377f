"""What libraries say during a training that a user can do nothing about, by name."""

import logging
import warnings

_WARNINGS = (
    ".*does not have many workers.*",  # images are in memory
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning 2.6 against torch 2.15
    ".*Precision bf16-mixed is not supported by the model summary.*",
    ".*args parameter is intended to run from within Python.*",
    ".*Checkpoint directory .* exists and is not empty.*",  # a training that is resumed
    ".*callbacks used to create the checkpoint need to be provided.*",  # `validate` has none
    ".*The dirpath has changed from .*",  # in a run directory that was moved
    ".*Total length of `list` across ranks is zero.*",  # --data.num_external 0
    ".*smaller than the logging interval.*",  # losses are logged by epoch
)

_NOISE = ("Tip:", "TPU available", "Loading `train_dataloader` to estimate")


def silence() -> None:
    """Keep these warnings and lines of Lightning's off the screen; everything else is shown."""
    for harmless in _WARNINGS:
        warnings.filterwarnings("ignore", message=harmless)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_tells_something)


def _tells_something(record: logging.LogRecord) -> bool:
    return not any(words in str(record.msg) for words in _NOISE)
