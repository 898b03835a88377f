"""The encoders there are, by name: our own, torchvision's and timm's, each without its classifier."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, cast

import torch
from torch import nn

from memlight.errors import UserError
from memlight.models.resnet9 import ResNet9
from memlight.models.vqvae import GROUPS, VQVAEEncoder

Stem = Literal["cifar", "imagenet"]

VIT_SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
"""Width and heads of the ViTs, all of depth 12 (Touvron et al., DeiT, Table 1)."""

_FLAG = "--model.encoder/--encoder"
_VIT = re.compile(rf"vit_({'|'.join(VIT_SIZES)})_patch([1-9]\d*)")
_VAR = re.compile(r"var_vqvae(?:_ch([1-9]\d*))?")


@dataclass(frozen=True)
class EncoderSpec:
    """What is needed to build an encoder again.

    Attributes:
        name: ``resnet9``, ``resnet18``, ``resnet34``, ``resnet50``, ``vit_{tiny,small,base}_patchP``, ``var_vqvae``
            (or ``var_vqvae_chC``, C channels wide), ``torchvision:NAME`` or ``timm:NAME``.
        stem: first layers of a ResNet; resnet9 has only ``cifar``, all that are not ResNets only ``imagenet``.
        in_channels: channels of the images.
        num_features: width of the output.
        input_size: image side in pixels the encoder is meant for.
    """

    name: str
    stem: Stem
    in_channels: int
    num_features: int
    input_size: int


def build_architecture(name: str, stem: Stem, image_size: int | None) -> nn.Module:
    """Build an encoder by name, with weights from the global generator and its ``EncoderSpec`` as ``spec``.

    Args:
        name: see `EncoderSpec`.
        stem: likewise.
        image_size: image side in pixels; None is the architecture's own.

    Raises:
        UserError: unknown name (lists the nearest), or an image size the encoder cannot take.
    """
    library, colon, short = name.partition(":")
    if colon and library in _LIBRARIES:
        return _LIBRARIES[library](name, short, image_size)
    if match := _VIT.fullmatch(name):
        return _vit(name, match[1], int(match[2]), image_size)
    if match := _VAR.fullmatch(name):
        return _var(name, int(match[1] or 160), image_size)
    if name not in _BUILDERS:
        vits = [f"vit_{size}_patch{patch}" for size in VIT_SIZES for patch in (4, 8, 16)]
        known = [*_BUILDERS, *vits, "var_vqvae", "var_vqvae_ch32", *(f"{library}:NAME" for library in _LIBRARIES)]
        raise UserError(f"{_FLAG} {name}: no such encoder; {_nearest(name, known)}")
    return _BUILDERS[name](name, stem, image_size)


def _resnet9(name: str, stem: Stem, image_size: int | None) -> nn.Module:
    size = image_size or 32
    if size < ResNet9.min_size:
        raise UserError(
            f"{_FLAG} resnet9: {size}-pixel images are too small for its four poolings; "
            f"use --data.view_size {ResNet9.min_size} or more"
        )
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
        raise UserError(f"{_FLAG} {name}: its norms have {GROUPS} groups; use a multiple, as var_vqvae_ch{GROUPS}")
    if size < VQVAEEncoder.min_size:
        raise UserError(
            f"{_FLAG} {name}: {size}-pixel images are too small to be halved four times; "
            f"use --data.view_size {VQVAEEncoder.min_size} or more"
        )
    encoder = VQVAEEncoder(channels, image_size=size)
    return _with_spec(encoder, EncoderSpec(name, "imagenet", 3, encoder.num_features, size))


def _torchvision(name: str, short: str, image_size: int | None) -> nn.Module:
    """Any classification model of torchvision; those with attention over positions are built for the image size."""
    from torchvision import models

    known = models.list_models(module=models)
    if short not in known:
        nearest = _nearest(short, known, prefix="torchvision:")
        raise UserError(f"{_FLAG} {name}: torchvision has no such classification model; {nearest}")
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
        raise UserError(f"{_FLAG} {name}: torchvision cannot build it (image size {size}): {error}") from error
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
        raise UserError(f"{_FLAG} {name}: timm has no such model; {nearest}")
    try:
        config = timm.get_pretrained_cfg(short)
        takes_size = image_size is not None and config is not None and config.fixed_input_size
        encoder: Any = _create_for_any_size(short, {"img_size": image_size} if takes_size else {})
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{_FLAG} {name}: timm cannot build it (image size {image_size}): {error}") from error
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


def _require_whole_patches(name: str, size: int, patch: int) -> None:
    if size % patch:
        below = size - size % patch
        sides = f"{below} or {below + patch}" if below else str(patch)
        raise UserError(
            f"{_FLAG} {name}: {size}-pixel images are not a whole number of {patch}-pixel patches; "
            f"use --data.view_size {sides}"
        )


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
