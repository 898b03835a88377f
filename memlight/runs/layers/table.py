"""The table that `analyze.py layers` prints."""

import os
import sys
from collections.abc import Sequence

from torch import nn

from memlight import dist
from memlight.errors import UserError, named
from memlight.features.discovery import chosen_layers, forward_blank
from memlight.features.hooks import layer_sizes
from memlight.features.layers import layer_place
from memlight.models.encoders import build_from_metadata, encoder_spec, read_metadata
from memlight.models.trust import trusting
from memlight.runs.layers.command import ArchitectureFlags
from memlight.runs.released import SEED, build_named
from memlight.storage.rundir import RunDir

HEADINGS = ("layer", "kind", "units", "output")
"""Of the columns: name, kind of the module, channels, and size of the output for one image."""


def encoder_to_list(
    run: str | None, member: str, released: ArchitectureFlags, trust: Sequence[str] | None
) -> nn.Module:
    """The architecture in question, in eval mode; its weights do not matter.

    Raises:
        UserError: there is no such run or encoder.
    """
    if run is None:
        return build_named(released.whole, {}).eval()
    directory = RunDir.open(run)
    trained = [place for place in directory.members() if place.encoder.is_file()]
    if not trained:
        raise UserError("run", run, "no encoder.safetensors in it", "finish the training with `train.py pair`")
    chosen = trained[0] if member == "random" else next((place for place in trained if place.role == member), None)
    if chosen is None:
        raise UserError("member", member, f"{run} has no such encoder", f"it has {', '.join(p.role for p in trained)}")
    with named(path="run"), trusting(trust):
        return build_from_metadata(read_metadata(chosen.encoder), seed=SEED, path=chosen.encoder).eval()


def layer_rows(encoder: nn.Module, chosen: Sequence[str] | None = None) -> list[tuple[str, str, str, str]]:
    """A row for each layer, in the order of ``HEADINGS``.

    Args:
        encoder: made by `memlight.models.encoders.build_encoder`.
        chosen: names and patterns; all layers if None.

    Raises:
        UserError: an unknown layer, or a pattern that matches none.
    """
    names = chosen_layers(encoder, chosen)
    sizes = layer_sizes(encoder, names)
    rows = []
    for name in names:
        path, suffix = layer_place(encoder, name)
        kind = type(encoder.get_submodule(path)).__name__
        shape = " x ".join(map(str, sizes[name].shape))
        rows.append((name, f"input of {kind}" if suffix else kind, str(sizes[name].units), shape))
    return rows


def print_layers(encoder: nn.Module, chosen: Sequence[str] | None = None) -> None:
    """Print the table, and what the encoder gives; see `layer_rows`."""
    rows = layer_rows(encoder, chosen)
    if dist.rank() > 0:
        return
    widths = [max(len(row[column]) for row in (HEADINGS, *rows)) for column in range(len(HEADINGS))]
    lines = [
        f"{layer:<{widths[0]}}  {kind:<{widths[1]}}  {units:>{widths[2]}}  {output}".rstrip()
        for layer, kind, units, output in (HEADINGS, *rows)
    ]
    spec = encoder_spec(encoder)
    features = tuple(forward_blank(encoder).shape)[1]
    total = sum(int(row[2]) for row in rows)
    lines.append(
        f"{spec.name}: {len(rows)} layers, {total} units, {features} features, of {spec.input_size}-pixel images"
    )
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:  # whoever reads it, as `head` does, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
