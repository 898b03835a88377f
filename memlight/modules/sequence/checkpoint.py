"""What a checkpoint of a sequence training holds besides Lightning's own."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from memlight.errors import UserError

STATE_KEY = "memlight_sequence"
"""Where a checkpoint keeps what is neither a weight nor a callback's."""


def require_sequence_checkpoint(path: Path) -> None:
    """Refuse a file that is not a whole checkpoint of a sequence training, before anything is written.

    Raises:
        UserError: it is missing, broken or another's.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, ValueError) as error:
        raise UserError(
            f"--ckpt_path {path}: cannot be read ({str(error).splitlines()[0]}); give another one."
        ) from error
    if not isinstance(checkpoint, dict) or STATE_KEY not in checkpoint:
        raise UserError(f"--ckpt_path {path}: not a checkpoint of a sequence training; give one of train.py fit.")


def require_identity(checkpoint: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of other sequences or members.

    Args:
        checkpoint: as it was loaded.
        identity: what tells this training's apart, by flag.

    Raises:
        UserError: names the flag.
    """
    if STATE_KEY not in checkpoint:
        raise UserError("--ckpt_path: not a checkpoint of a sequence training; give one of train.py fit.")
    saved = checkpoint[STATE_KEY]["identity"]
    for name, now in identity.items():
        if saved.get(name) != now:
            raise UserError(
                f"--{name} {now}: the checkpoint was trained with {saved.get(name)}; give that, or choose another "
                "--run."
            )
