"""A file's weights in an encoder: all of them, from the one part that fits, or an error that says why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from memlight.errors import UserError
from memlight.models.encoders import load_state, require_numbers
from memlight.models.foreign.comparison import Part, compare
from memlight.models.foreign.names import by_group, grouped, left_out
from memlight.models.foreign.reasons import listed, near, none_fits, several
from memlight.models.weight_files import read_weights, require_tensors


@dataclass(frozen=True)
class Loaded:
    """Where an encoder's weights came from.

    Attributes:
        prefix: dotted name of the part of the file that is the encoder; empty for the top level.
        layout: how the part names its tensors, where not as the encoder does.
        tensors: how many of its tensors were filled.
        left_out: the rest of the file, as ``(group, number of tensors)``.
        notes: what was done to tensors so that they fit.
    """

    prefix: str
    layout: str
    tensors: int
    left_out: list[tuple[str, int]]
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """One line for people."""
        part = self.prefix or "the top level"
        said = [words for words in (self.layout, *self.notes) if words]
        named = f" ({'; '.join(said)})" if said else ""
        rest = f"; left out: {by_group(self.left_out)}" if self.left_out else ""
        return f"{self.tensors} tensors from {part}{named}{rest}"


def load_weights(encoder: nn.Module, path: Path, *, prefix: str | None = None, resample: bool = False) -> Loaded:
    """Fill an encoder from somebody else's file, and put it in eval mode.

    Every tensor of the encoder must be in the file with its shape, or nothing is copied; only counters of batches may
    be missing. What the file holds besides the encoder (heads, decoders, optimizers) is left out; what it holds
    *within* the encoder and the encoder has not is an error, as the file is then of another architecture. A first
    convolution of one channel is made one of three, which takes their mean.

    Args:
        encoder: made by `memlight.models.encoders.build_encoder`.
        path: see `memlight.models.weight_files.read_weights`.
        prefix: which part of the file, as ``teacher.backbone``; keys of dictionaries and dotted names are alike, and
            a stretch of the name is enough where only one part has it. None finds the only part that fits.
        resample: position embeddings of another grid of patches are resampled to the encoder's, as the authors of
            DINO and DINOv2 do for theirs and with antialiasing for all others; without it they are an error.

    Raises:
        UserError: the file cannot be read, several parts fit, or none does: says what is missing, unexpected or of
            another shape, and the likely reason.
    """
    file = read_weights(path)
    tensors = require_tensors(file, path)
    parts = compare(tensors, encoder, resample=resample)
    conversion = None if parts else file.conversion(path)
    if conversion:
        raise UserError("path", path, conversion)
    if prefix is not None:
        parts = _chosen(parts, prefix, tensors, path)
    fitting = [part for part in parts if part.fits]
    if len(fitting) != 1:
        raise UserError("path", path, several(fitting, encoder) if fitting else none_fits(parts, tensors, encoder))
    part = fitting[0]
    require_numbers(part.state, encoder.state_dict(), path)
    for name, tensor in part.state.items():
        if name.endswith("running_var") and (tensor < 0).any():
            raise UserError("path", path, f"{name} holds negative variances: damaged", "copy it again")
        if not tensor.isfinite().all():
            why = f"{name} holds NaN or infinity, its training has diverged"
            raise UserError("path", path, why, "use an earlier file")
    load_state(encoder, encoder.state_dict() | part.state, path=path)
    encoder.eval()
    return Loaded(part.prefix, part.layout, part.matched, left_out(tensors, part.prefix, part.used), part.notes)


def _chosen(parts: list[Part], prefix: str, tensors: Mapping[str, Tensor], path: Path) -> list[Part]:
    """The parts that the prefix means: the one so called, or those that have its words one after another."""
    exact = [part for part in parts if part.prefix == prefix]
    close = [part for part in parts if f".{prefix}." in f".{part.prefix}."]
    if not (exact or close):
        others = f"others are: {listed(near(parts))}" if parts else f"it holds {by_group(grouped(tensors).items())}"
        raise UserError("path", path, f"`prefix={prefix}`: no part of that name is like the encoder; {others}")
    return exact or close
