"""What Lightning prints: the harmless is left out, and what it says of itself waits until there is a training."""

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


_NOISE = (
    *("Tip:", "TPU available", "Loading `train_dataloader` to estimate", "`weights_only` was not set"),
    *("`Trainer.fit` stopped", "Received SIGTERM", "Detected KeyboardInterrupt"),  # train.py has lines of its own
)

_LOGGERS = (
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.trainer.connectors.signal_connector",
    "lightning.pytorch.utilities.rank_zero",
)


class _Waiting(logging.Filter):
    """Holds lines back until there is a training, so that a mistake is answered with one line alone."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[logging.LogRecord] | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print it now."""
        if any(words in str(record.msg) for words in _NOISE):
            return False
        if self.held is None or record.levelno >= logging.WARNING:
            return True
        self.held.append(record)
        return False


_WAITING = _Waiting()


def silence() -> None:
    """Keep harmless warnings and lines of Lightning's off the screen, and its others until `speak`."""
    for harmless in _WARNINGS:
        warnings.filterwarnings("ignore", message=harmless)
    _WAITING.held = []
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_WAITING)


def speak() -> None:
    """Print what was held back: all is checked, and the training begins."""
    held, _WAITING.held = _WAITING.held or [], None
    for record in held:
        logging.getLogger(record.name).handle(record)
