"""Encoders by name, and encoders on disk: tensors and JSON in one safetensors file, never a pickle."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from memlight.errors import UserError
from memlight.models.architectures import EncoderSpec, Stem, build_architecture
from memlight.random import seeded
from memlight.storage.tables import atomic_write

__all__ = [
    "EncoderSpec",
    "Stem",
    "build_encoder",
    "build_from_metadata",
    "encoder_spec",
    "load_encoder",
    "load_state",
    "read_metadata",
    "save_encoder",
]

_METADATA_KEY = "memlight"


def build_encoder(
    name: str, *, stem: Stem = "cifar", seed: int | None = None, image_size: int | None = None
) -> nn.Module:
    """Build an encoder that maps normalised images ``(B, 3, H, W)`` to features ``(B, num_features)``.

    Args:
        name: ``resnet9``; ``resnet18``, ``resnet34``, ``resnet50`` (torchvision's, module paths unchanged);
            ``vit_tiny_patch4`` and the like (tiny, small or base, any patch side); ``var_vqvae`` (the encoder of
            VAR's VQVAE; ``var_vqvae_ch32`` is a narrow one); ``torchvision:NAME`` or ``timm:NAME`` for any of their
            models without its classifier. Weights are random; nothing is downloaded.
            ViTs of timm, ours among them, take views of any size that is a whole number of patches.
        stem: of the four ResNets. ``cifar`` is a 3x3 convolution of stride 1 without max-pooling;
            ``imagenet`` (7x7, stride 2, max-pool) throws away most of a 32-pixel image; so do the libraries' stems.
        seed: the initial weights are a function of it alone, and no random state outside changes.
            None draws from the global generator.
        image_size: image side in pixels; None is 32 for ``cifar`` and for patches of up to 8 pixels, the model's own
            for timm, 256 for VAR's, 224 for all others.

    Returns:
        The module in train mode, with its ``EncoderSpec`` as the attribute ``spec``.

    Raises:
        UserError: unknown name (lists the nearest), or an image size the encoder cannot take.
    """
    if stem not in get_args(Stem):
        raise UserError(f"--model.stem {stem}: unknown stem; use one of {', '.join(get_args(Stem))}")
    with seeded(seed):
        return build_architecture(name, stem, image_size)


def encoder_spec(encoder: nn.Module) -> EncoderSpec:
    """The spec ``build_encoder`` left on the encoder.

    Raises:
        ValueError: the module was not made by ``build_encoder``.
    """
    spec = getattr(encoder, "spec", None)
    if not isinstance(spec, EncoderSpec):
        raise ValueError(f"{type(encoder).__name__} has no EncoderSpec; make it with build_encoder")
    return spec


def build_from_metadata(metadata: Mapping[str, Any], *, seed: int, source: str) -> nn.Module:
    """Build the architecture a metadata record describes, with the initial weights of ``seed``.

    Args:
        metadata: holds ``architecture``, an ``EncoderSpec`` as a dictionary.
        seed: of the initial weights.
        source: the flag and file to name in an error.

    Raises:
        UserError: the record is missing, or describes an encoder this version does not build.
    """
    try:
        wanted = EncoderSpec(**metadata["architecture"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{source}: says nothing usable about its architecture ({error})") from error
    encoder = build_encoder(wanted.name, stem=wanted.stem, seed=seed, image_size=wanted.input_size)
    if encoder_spec(encoder) != wanted:
        raise UserError(f"{source}: was made as {wanted}, but this version builds {encoder_spec(encoder)}")
    return encoder


def save_encoder(path: Path, encoder: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write an encoder's tensors and its metadata to one safetensors file, all or nothing.

    The metadata is JSON under the one key ``memlight`` of the header; its ``architecture`` is the encoder's spec.
    Tensors are written contiguous, and one that several names share is written under each of them.

    Raises:
        ValueError: the encoder was not made by ``build_encoder``, or the metadata are not JSON.
    """
    try:
        record = json.dumps({**metadata, "architecture": asdict(encoder_spec(encoder))}, sort_keys=True)
    except TypeError as error:
        raise ValueError(f"the metadata of {path} are not JSON: {error}") from error
    tensors = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in encoder.state_dict().items()
    }
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={_METADATA_KEY: record})


def load_encoder(path: str | Path, map_location: str | torch.device = "cpu", *, flag: str = "--weights") -> nn.Module:
    """Read an encoder that ``save_encoder`` wrote, in eval mode.

    Args:
        path: the safetensors file. Nothing in it can run code; pickles are refused.
        map_location: the device the encoder goes to.
        flag: what the user typed to name the file, for the error messages.

    Raises:
        UserError: no such file, truncated, a pickle, or tensors that do not fit the recorded architecture.
    """
    source = f"{flag} {path}"
    with _safetensors(Path(path), source) as file:
        record = _metadata(file, source)
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
    encoder = build_from_metadata(record, seed=0, source=source)
    load_state(encoder, state, source=source)
    return encoder.eval().to(map_location)


def read_metadata(path: Path, *, flag: str = "--weights") -> dict[str, Any]:
    """Read what ``save_encoder`` recorded with an encoder, without its tensors.

    Raises:
        UserError: as for ``load_encoder``.
    """
    source = f"{flag} {path}"
    with _safetensors(path, source) as file:
        return _metadata(file, source)


def load_state(encoder: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy tensors into an encoder; every name and shape must fit, or nothing is copied.

    Args:
        encoder: the module to fill.
        state: tensors by name.
        source: the flag and file to name in an error.

    Raises:
        UserError: lists what is missing, unexpected or of another shape, grouped by module.
    """
    own = encoder.state_dict()
    problems = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "other shape": {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape},
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {_by_module(names)}" for what, names in problems.items() if names)
        name = getattr(getattr(encoder, "spec", None), "name", type(encoder).__name__)
        raise UserError(f"{source}: these are not the weights of {name}. {listed}")
    encoder.load_state_dict(dict(state))


@contextmanager
def _safetensors(path: Path, source: str) -> Iterator[Any]:
    """Open a safetensors file, with one clear line for everything that can be wrong with it."""
    if not path.is_file():
        raise UserError(f"{source}: no such file")
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except SafetensorError as error:
        if _is_pickle(path):
            raise UserError(
                f"{source}: this is a pickle (torch.save), which can run code when it is loaded; "
                "give an encoder.safetensors, which holds only tensors and JSON"
            ) from error
        raise UserError(
            f"{source}: truncated, or not a safetensors file ({error}); copy it again, or train it again"
        ) from error


def _is_pickle(path: Path) -> bool:
    """Asked only of files that are not safetensors, whose first bytes are a length and may look like anything."""
    with path.open("rb") as file:
        start = file.read(4)
    return start[:1] == b"\x80" or start == b"PK\x03\x04"


def _metadata(file: Any, source: str) -> dict[str, Any]:
    try:
        record = json.loads((file.metadata() or {})[_METADATA_KEY])
    except (KeyError, json.JSONDecodeError) as error:
        raise UserError(
            f"{source}: holds tensors but not memlight's metadata, so its architecture is unknown; "
            "give a file that memlight's training wrote"
        ) from error
    return cast(dict[str, Any], record)


def _by_module(names: Iterable[str]) -> str:
    """The modules that tensors belong to: six at most, then how many more."""
    groups = sorted({name.rpartition(".")[0] or name for name in names})
    more = f", and {len(groups) - 6} more modules" if len(groups) > 6 else ""
    return ", ".join(groups[:6]) + more
