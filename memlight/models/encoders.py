"""Encoders by name (our own, torchvision's and timm's, without classifier), and on disk, never as a pickle."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from memlight.errors import UserError, at_most, named
from memlight.models.named import build_by_name, import_named, imported_class
from memlight.models.resnet9 import ResNet9
from memlight.models.trust import is_ones_own, remember, require_trusted, trusting
from memlight.models.vqvae import GROUPS, VQVAEEncoder
from memlight.models.weight_files import open_safetensors, read_safetensors
from memlight.random import seeded
from memlight.storage.documents import WrongField, checked, parse_json
from memlight.storage.run_files import MOST_SIDE, Architecture, EncoderMetadata
from memlight.storage.writing import atomic_write

Stem = Literal["cifar", "imagenet"]

VIT_SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
"""Width and heads of the ViTs, all of depth 12 (Touvron et al., DeiT, Table 1)."""

_METADATA_KEY = "memlight"
_from_file: ContextVar[bool] = ContextVar("_from_file", default=False)
"""Whether a class runs because a file names it; whatever it builds by a name is then named by the file as well."""

_VIT = re.compile(rf"vit_({'|'.join(VIT_SIZES)})_patch([1-9]\d*)")
_VAR = re.compile(r"var_vqvae(?:_ch([1-9]\d*))?")


@dataclass(frozen=True)
class EncoderSpec:
    """What is needed to build an encoder again.

    Attributes:
        name: ``resnet9``, ``resnet18``, ``resnet34``, ``resnet50``, ``vit_{tiny,small,base}_patchP``, ``var_vqvae``
            (or ``var_vqvae_chC``, C channels wide), ``torchvision:NAME``, ``timm:NAME`` or ``package.module:Class``.
        stem: first layers of a ResNet; resnet9 has only ``cifar``, all that are not ResNets only ``imagenet``.
        in_channels: channels of the images.
        num_features: width of the output.
        input_size: image side in pixels the encoder is meant for.
        args: what a class or function of one's own was called with; None for all others.
    """

    name: str
    stem: Stem
    in_channels: int
    num_features: int
    input_size: int
    args: dict[str, Any] | None = field(default=None, hash=False)

    def record(self) -> dict[str, Any]:
        """The same as JSON, as it stands in files: without what is not set, as older releases wrote it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def build_encoder(
    name: str,
    *,
    stem: Stem = "cifar",
    seed: int | None = None,
    image_size: int | None = None,
    encoder_args: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build an encoder that maps normalised images ``(B, 3, H, W)`` to features ``(B, num_features)``.

    Args:
        name: ``resnet9``; ``resnet18``, ``resnet34``, ``resnet50`` (torchvision's, module paths unchanged);
            ``vit_tiny_patch4`` and the like (tiny, small or base, any patch side); ``var_vqvae`` (the encoder of
            VAR's VQVAE; ``var_vqvae_ch32`` is a narrow one); ``torchvision:NAME`` or ``timm:NAME`` for any of their
            models without its classifier. Weights are random; nothing is downloaded.
            ViTs of timm, ours among them, take views of any size that is a whole number of patches.
            ``package.module:Class`` is any class of one's own that makes a `torch.nn.Module`, or a function that does;
            it is imported and called, see `memlight.models.named`, and files may name it on this machine from then on.
        stem: of the four ResNets. ``cifar`` is a 3x3 convolution of stride 1 without max-pooling;
            ``imagenet`` (7x7, stride 2, max-pool) throws away most of a 32-pixel image; so do the libraries' stems.
        seed: the initial weights are a function of it alone, and no random state outside changes.
            None draws from the global generator.
        image_size: image side in pixels; None is 32 for ``cifar`` and for patches of up to 8 pixels, the model's own
            for timm, 256 for VAR's, 224 for all others.
        encoder_args: what a class or function of one's own is called with, values of JSON.

    Returns:
        The module in train mode, with its ``EncoderSpec`` as the attribute ``spec``.

    Raises:
        UserError: unknown name (lists the nearest), an image size the encoder cannot take, or a class of one's own
            that cannot be imported, raises, or makes no encoder.
    """
    if _from_file.get() and is_ones_own(name):  # a class that a file names was given this name by the file
        require_trusted(name, None)
    encoder = _build(name, stem, seed, image_size, encoder_args)
    if encoder_spec(encoder).args is not None and not _from_file.get():
        remember(name)
    return encoder


def _build(
    name: str, stem: Stem, seed: int | None, image_size: int | None, arguments: Mapping[str, Any] | None
) -> nn.Module:
    if stem not in get_args(Stem):
        raise UserError("stem", stem, f"unknown stem; use one of {', '.join(get_args(Stem))}")
    if image_size is not None:
        at_most(MOST_SIDE, image_size=image_size)
    library, colon, short = name.partition(":")
    if arguments and not is_ones_own(name):
        way = "leave them out"
        raise UserError("encoder_args", _json(arguments), f"{name} takes none: they are for package.module:Class", way)
    if is_ones_own(name):
        return _ones_own(name, seed, image_size, json.loads(_json(arguments or {})))
    with seeded(seed):
        if colon and library in _LIBRARIES:
            return _LIBRARIES[library](name, short, image_size)
        if match := _VIT.fullmatch(name):
            return _vit(name, match[1], int(match[2]), image_size)
        if match := _VAR.fullmatch(name):
            return _var(name, int(match[1] or 160), image_size)
        if name in _BUILDERS:
            return _BUILDERS[name](name, stem, image_size)
    vits = [f"vit_{size}_patch{patch}" for size in VIT_SIZES for patch in (4, 8, 16)]
    libraries = [f"{library}:NAME" for library in _LIBRARIES]
    known = [*_BUILDERS, *vits, "var_vqvae", "var_vqvae_ch32", *libraries, "package.module:Class"]
    raise UserError("name", name, f"no such encoder; {_nearest(name, known)}")


def _json(arguments: Mapping[str, Any]) -> str:
    """Arguments as they are kept in files.

    Raises:
        UserError: one is no value of JSON.
    """
    try:
        return json.dumps(dict(arguments), allow_nan=False)
    except (TypeError, ValueError) as error:
        why = f"not all are numbers, words, lists and dictionaries of these ({error})"
        raise UserError("encoder_args", None, why, "name a function that has them inside") from error


def encoder_spec(encoder: nn.Module) -> EncoderSpec:
    """The spec ``build_encoder`` left on the encoder.

    Raises:
        ValueError: the module was not made by ``build_encoder``.
    """
    spec = getattr(encoder, "spec", None)
    if not isinstance(spec, EncoderSpec):
        raise ValueError(f"{type(encoder).__name__} has no EncoderSpec; make it with build_encoder")
    return spec


def build_from_metadata(metadata: Mapping[str, Any], *, seed: int, path: str | Path | None = None) -> nn.Module:
    """Build the architecture a metadata record describes, with the initial weights of ``seed``.

    A record may name a class that is not memlight's. It is imported only where a person has named it here, see
    `memlight.models.trust`, or where it is a class of modules in one's own code that this process has imported.

    Args:
        metadata: holds ``architecture``, an ``EncoderSpec`` as a dictionary.
        seed: of the initial weights.
        path: the file it comes from, for an error.

    Raises:
        UserError: the record is missing, describes an encoder this version does not build, or names a class that nobody
            has named here or that cannot be made as it was.
    """
    try:
        wanted = EncoderSpec(**checked(metadata["architecture"], Architecture))
    except (KeyError, TypeError, WrongField) as error:
        raise UserError("path", path, f"says nothing usable about its architecture ({error})") from error
    if is_ones_own(wanted.name):
        wanted = replace(wanted, args=wanted.args or {})
        encoder = _build_foreign(wanted, seed, path)
    else:
        with named(name="encoder"):
            encoder = _build(wanted.name, wanted.stem, seed, wanted.input_size, None)
    if encoder_spec(encoder) != wanted:
        raise UserError("path", path, f"was made as {wanted}, but this version builds {encoder_spec(encoder)}")
    return encoder


def _build_foreign(wanted: EncoderSpec, seed: int, path: str | Path | None) -> nn.Module:
    """The class that a file names, where it may; whatever is wrong with it is wrong with the file, for the user."""
    if not imported_class(wanted.name):
        require_trusted(wanted.name, path)
    token = _from_file.set(True)
    try:
        return _build(wanted.name, wanted.stem, seed, wanted.input_size, wanted.args)
    except UserError as error:
        why = f"its encoder cannot be made by {wanted.name} again: {error.why or error}"
        raise UserError("path", path, why, "start the command where that code is, as it was at training") from error
    finally:
        _from_file.reset(token)


def save_encoder(path: Path, encoder: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write an encoder's tensors and its metadata to one safetensors file, all or nothing.

    The metadata is JSON under the one key ``memlight`` of the header; its ``architecture`` is the encoder's spec.
    Tensors are written contiguous, and one that several names share is written under each of them.

    Raises:
        ValueError: the encoder was not made by ``build_encoder``, or the metadata are not JSON.
    """
    try:
        record = json.dumps({**metadata, "architecture": encoder_spec(encoder).record()}, sort_keys=True)
    except TypeError as error:
        raise ValueError(f"the metadata of {path} are not JSON: {error}") from error
    tensors = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in encoder.state_dict().items()
    }
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={_METADATA_KEY: record})


def load_encoder(path: str | Path, map_location: str | torch.device = "cpu", *, trust: Sequence[str] = ()) -> nn.Module:
    """Read an encoder that ``save_encoder`` wrote, in eval mode.

    Args:
        path: the safetensors file. Nothing in it can run code; pickles are refused.
        map_location: the device the encoder goes to.
        trust: classes of other people, as ``package.module:Class``, that the file may name: they are imported and run.

    Raises:
        UserError: no such file, truncated, a pickle, tensors that do not fit the recorded architecture, or an encoder
            by a class that nobody has named here.
    """
    record, state = read_metadata(path), read_safetensors(Path(path))
    with trusting(trust):
        encoder = build_from_metadata(record, seed=0, path=path)
    load_state(encoder, state, path=path)
    return encoder.eval().to(map_location)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read what ``save_encoder`` recorded with an encoder, without its tensors.

    Raises:
        UserError: as for ``load_encoder``.
    """
    with open_safetensors(Path(path)) as file:
        text = (file.metadata() or {}).get(_METADATA_KEY)
    again = "give a file that memlight's training wrote"
    try:
        return dict(parse_json(text or "", EncoderMetadata))
    except WrongField as error:
        raise UserError("path", path, f"its metadata: {error}", again) from error
    except ValueError as error:
        why = "holds tensors but not memlight's metadata, so its architecture is unknown"
        raise UserError("path", path, why, again) from error


def load_state(encoder: nn.Module, state: Mapping[str, Tensor], *, path: str | Path | None = None) -> None:
    """Copy tensors into an encoder; every name and shape must fit, or nothing is copied.

    Args:
        encoder: the module to fill.
        state: tensors by name.
        path: the file they come from, for an error.

    Raises:
        UserError: lists what is missing, unexpected or of another shape, grouped by module.
    """
    wanted = encoder.state_dict()
    problems = {
        "missing": wanted.keys() - state.keys(),
        "unexpected": state.keys() - wanted.keys(),
        "other shape": {name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape},
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {_by_module(names)}" for what, names in problems.items() if names)
        name = getattr(getattr(encoder, "spec", None), "name", type(encoder).__name__)
        raise UserError("path", path, f"these are not the weights of {name}. {listed}")
    require_numbers(state, wanted, path)
    encoder.load_state_dict(dict(state))


def require_numbers(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: str | Path | None) -> None:
    """Refuse tensors of a kind that copying would change without a word.

    Floating-point numbers of 16, 32 and 64 bits take each other's place. Those of 8 bits do not: files that hold such
    have scales beside them, without which they mean something else.

    Args:
        state: tensors by name.
        wanted: those that they are to be copied to.
        path: the file they come from, for an error.

    Raises:
        UserError: one is sparse, without numbers, complex, of 8 bits, or made of whole numbers where others belong.
    """
    for name, tensor in state.items():
        floats = wanted[name].is_floating_point()
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
            kind = "is not a dense tensor with its numbers"
        elif tensor.is_floating_point() and tensor.element_size() == 1:
            kind = f"is {tensor.dtype}, whose scale is not known"
        elif tensor.is_complex() or (floats and not tensor.is_floating_point()):
            kind = f"is {tensor.dtype} where floating-point numbers belong"
        else:
            continue
        way = "save the weights as float32 in the program that made them"
        raise UserError("path", path, f"{name} {kind}", way)


def _by_module(names: Iterable[str]) -> str:
    """The modules that tensors belong to: six at most, then how many more."""
    groups = sorted({name.rpartition(".")[0] or name for name in names})
    more = f", and {len(groups) - 6} more modules" if len(groups) > 6 else ""
    return ", ".join(groups[:6]) + more


def _ones_own(name: str, seed: int | None, image_size: int | None, arguments: dict[str, Any]) -> nn.Module:
    make = import_named(name)
    with seeded(seed):
        encoder, num_features, size = build_by_name(name, make, arguments, seed=seed, image_size=image_size)
    return _with_spec(encoder, EncoderSpec(name, "imagenet", 3, num_features, size, arguments))


def _resnet9(name: str, stem: Stem, image_size: int | None) -> nn.Module:
    size = image_size or 32
    _require_side(name, size, ResNet9.min_size, "for its four poolings")
    return _with_spec(ResNet9(), EncoderSpec(name, "cifar", 3, ResNet9.num_features, size))


def _resnet(name: str, stem: Stem, image_size: int | None) -> nn.Module:
    from torchvision.models import get_model

    encoder = get_model(name, weights=None)
    num_features = encoder.fc.in_features
    encoder.fc = nn.Identity()
    if stem == "cifar":
        encoder.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
        encoder.maxpool = nn.Identity()
    return _with_spec(encoder, EncoderSpec(name, stem, 3, num_features, image_size or (32 if stem == "cifar" else 224)))


def _vit(name: str, size: str, patch: int, image_size: int | None) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    width, heads = VIT_SIZES[size]
    side = image_size or (32 if patch <= 8 else 224)
    _require_whole_patches(name, side, patch)
    encoder = VisionTransformer(
        img_size=side, patch_size=patch, embed_dim=width, num_heads=heads, num_classes=0, dynamic_img_size=True
    )
    return _with_spec(encoder, EncoderSpec(name, "imagenet", 3, width, side))


def _var(name: str, channels: int, image_size: int | None) -> nn.Module:
    size = image_size or 256
    if channels % GROUPS:
        raise UserError("name", name, f"its norms have {GROUPS} groups", f"use a multiple, as var_vqvae_ch{GROUPS}")
    _require_side(name, size, VQVAEEncoder.min_size, "to be halved four times")
    encoder = VQVAEEncoder(channels, image_size=size)
    return _with_spec(encoder, EncoderSpec(name, "imagenet", 3, encoder.num_features, size))


def _torchvision(name: str, short: str, image_size: int | None) -> nn.Module:
    """Any classification model of torchvision; those with attention over positions are built for the image size."""
    from torchvision import models

    known = models.list_models(module=models)
    if short not in known:
        nearest = _nearest(short, known, prefix="torchvision:")
        raise UserError("name", name, f"torchvision has no such classification model; {nearest}")
    size = image_size or (299 if short == "inception_v3" else 224)
    options: dict[str, Any] = {}
    if short.startswith("vit_"):
        options = {"image_size": size}
    elif short.startswith("maxvit_"):
        options = {"input_size": (size, size)}
    elif short in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    if short.startswith("vit_"):
        _require_whole_patches(name, size, int(short.rpartition("_")[2]))
    try:
        encoder = models.get_model(short, weights=None, **options)
    except ValueError as error:
        raise UserError("name", name, f"torchvision cannot build it (image size {size}): {error}") from error
    return _with_spec(encoder, EncoderSpec(name, "imagenet", 3, _cut_classifier(encoder), size))


def _cut_classifier(encoder: nn.Module) -> int:
    """Replace the layer that gives the class scores (SqueezeNet's is a convolution); returns its input width."""
    path, last = [(path, m) for path, m in encoder.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    encoder.set_submodule(path, nn.Identity())
    return last.in_features if isinstance(last, nn.Linear) else last.in_channels


def _timm(name: str, short: str, image_size: int | None) -> nn.Module:
    import timm

    if not timm.is_model(short):
        nearest = _nearest(short, timm.list_models(), prefix="timm:")
        raise UserError("name", name, f"timm has no such model; {nearest}")
    try:
        config = timm.get_pretrained_cfg(short)
        takes_size = image_size is not None and config is not None and config.fixed_input_size
        encoder: Any = _create_for_any_size(short, {"img_size": image_size} if takes_size else {})
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UserError("name", name, f"timm cannot build it (image size {image_size}): {error}") from error
    num_features = getattr(encoder, "head_hidden_size", encoder.num_features)
    size = image_size or encoder.pretrained_cfg["input_size"][-1]
    if getattr(encoder, "dynamic_img_size", False):
        _require_whole_patches(name, size, encoder.patch_embed.patch_size[0])
    return _with_spec(encoder, EncoderSpec(name, "imagenet", 3, num_features, size))


def _create_for_any_size(short: str, options: dict[str, Any]) -> nn.Module:
    """A timm model that takes views of several sizes (DINO's local crops) where its class can do that."""
    import timm

    state = torch.get_rng_state()
    try:
        return timm.create_model(short, pretrained=False, num_classes=0, dynamic_img_size=True, **options)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
        torch.set_rng_state(state)
        return timm.create_model(short, pretrained=False, num_classes=0, **options)


def _require_side(name: str, size: int, least: int, what_for: str) -> None:
    if size < least:
        why = f"{size}-pixel images are too small {what_for}"
        raise UserError("name", name, why, f"use `image_size` {least} or more")


def _require_whole_patches(name: str, size: int, patch: int) -> None:
    if size % patch:
        below = size - size % patch
        sides = f"{below} or {below + patch}" if below else str(patch)
        why = f"{size}-pixel images are not a whole number of {patch}-pixel patches"
        raise UserError("name", name, why, f"use `image_size` {sides}")


def _with_spec(encoder: nn.Module, spec: EncoderSpec) -> nn.Module:
    cast(Any, encoder).spec = spec
    return encoder


def _nearest(word: str, known: list[str], prefix: str = "") -> str:
    nearest = get_close_matches(word, known, n=5, cutoff=0.4) or known[:5]
    return "nearest: " + ", ".join(prefix + name for name in nearest)


_BUILDERS: dict[str, Callable[[str, Stem, int | None], nn.Module]] = {
    "resnet9": _resnet9,
    "resnet18": _resnet,
    "resnet34": _resnet,
    "resnet50": _resnet,
}
_LIBRARIES: dict[str, Callable[[str, str, int | None], nn.Module]] = {"torchvision": _torchvision, "timm": _timm}
