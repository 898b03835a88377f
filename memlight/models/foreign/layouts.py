"""The ways in which files name the tensors of an encoder: its own, and those of other programs."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from memlight.models.foreign.names import State

Alternatives = tuple[tuple[str, ...], ...]
"""Names of one tensor in a file; each alternative is one name, or several whose tensors lie one behind the other."""


def _as_it_is(name: str) -> Alternatives:
    return ((name,),)


def _unchanged(state: State, own: Mapping[str, Tensor]) -> State:
    return state


@dataclass(frozen=True)
class Layout:
    """One way in which a file may name the tensors of an encoder.

    Attributes:
        words: what it is, for people; empty for the encoder's own names.
        names: where a tensor of the encoder is in the file.
        simple: a name of the file without the differences between one release of a program and the next.
        convert: from the tensors so found, under the encoder's names, to the encoder's tensors.
    """

    words: str = ""
    names: Callable[[str], Alternatives] = field(default=_as_it_is)
    simple: Callable[[str], str] = field(default=str)
    convert: Callable[[State, Mapping[str, Tensor]], State] = field(default=_unchanged)


def gathered(layout: Layout, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[State, set[str]]:
    """The encoder's tensors, as far as a part of a file has them.

    Args:
        layout: how the file names them.
        own: the encoder's.
        found: of the part, by their simple names.

    Returns:
        The tensors under the encoder's names, and the names of the part that went into them.
    """
    state: State = {}
    used: set[str] = set()
    for name in own:
        for names in layout.names(name):
            if all(one in found for one in names):
                state[name] = _joined([found[one] for one in names])
                used.update(names)
                break
    state = layout.convert(state, own)
    return {name: _shaped(tensor, own[name]) for name, tensor in state.items()}, used


def _joined(tensors: list[Tensor]) -> Tensor:
    if len(tensors) == 1 or any(one.dim() != tensors[0].dim() or one.dim() == 0 for one in tensors):
        return tensors[0]
    if any(one.shape[1:] != tensors[0].shape[1:] or one.dtype != tensors[0].dtype for one in tensors):
        return tensors[0]
    return torch.cat(tensors)


def _shaped(tensor: Tensor, own: Tensor) -> Tensor:
    """A tensor with the encoder's sides of one: a class token of another program is a vector."""
    if tensor.shape != own.shape and [s for s in tensor.shape if s != 1] == [s for s in own.shape if s != 1]:
        return tensor.reshape(own.shape)
    return tensor


def layouts(encoder: nn.Module) -> list[Layout]:
    """The layouts in which an encoder's weights may come, its own names first."""
    from timm.layers.mlp import GluMlp
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer
    from torchvision import models

    if isinstance(encoder, models.ResNet):
        return [Layout(), _numbered(encoder), _SHORTCUT]
    if isinstance(encoder, models.VisionTransformer):
        return [Layout(), _LINEAR_1_AND_2]
    if isinstance(encoder, models.DenseNet):
        return [Layout(), _DOTTED_NORMS]
    if isinstance(encoder, VisionTransformer):
        registers = encoder.reg_token is not None and encoder.no_embed_class
        gated = isinstance(encoder.blocks[0].mlp, GluMlp)
        own = [Layout(), _dinov2(registers, gated)] if registers or gated else [Layout()]
        return [*own, _of_transformers(registers), _OF_THE_AUTHORS_MAE]
    if isinstance(encoder, Eva):
        return [Layout(), _of_transformers(registers=False)]
    return [Layout()]


def _renamed(words: str, name_in_file: Callable[[str], str]) -> Layout:
    return Layout(words, lambda name: ((name_in_file(name),),))


def _numbered(encoder: nn.Module) -> Layout:
    """``nn.Sequential(*list(resnet.children())[:-1])``, as lightly's examples make their backbones."""
    numbers = {name: str(number) for number, (name, _) in enumerate(encoder.named_children())}

    def name_in_file(name: str) -> str:
        child, dot, rest = name.partition(".")
        return numbers[child] + dot + rest

    return _renamed("children by number, as in nn.Sequential(*resnet.children())", name_in_file)


_SHORTCUT = _renamed(
    "downsample is called shortcut, as in lightly's ResNet", lambda name: name.replace(".downsample.", ".shortcut.")
)
_LINEAR_1_AND_2 = _renamed(
    "as torchvision published them",
    lambda name: name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."),
)
_DOTTED_NORMS = _renamed(
    "as torchvision published them", lambda name: re.sub(r"(\.denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)
)


def _dinov2(registers: bool, gated: bool) -> Layout:
    """Facebook's names: register tokens, and the two Linears of a gated MLP."""

    def names(name: str) -> Alternatives:
        if gated:
            name = name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        return (("register_tokens" if name == "reg_token" else name,),)

    return Layout("DINOv2's names", names, convert=_class_position_in_its_token if registers else _unchanged)


def _class_position_in_its_token(state: State, own: Mapping[str, Tensor]) -> State:
    """A table of positions begins with the class token's; timm keeps it in the token where there are registers."""
    if not {"cls_token", "pos_embed"} <= state.keys():
        return state
    positions = state["pos_embed"]
    return state | {"cls_token": state["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}


_SIMPLE = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^(?:model\.)?(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
        (r"\.(?:attention\.)?attention\.(query|key|value)\.", r".attn.\1."),
        (r"\.(?:attention|self_attn)\.q_proj\.", ".attn.query."),
        (r"\.(?:attention|self_attn)\.k_proj\.", ".attn.key."),
        (r"\.(?:attention|self_attn)\.v_proj\.", ".attn.value."),
        (r"\.(?:attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
        (r"\.(?:layernorm_before|layer_norm1)\.", ".norm1."),
        (r"\.(?:layernorm_after|layer_norm2)\.", ".norm2."),
        (r"\.(?:intermediate\.dense|mlp\.weights_in)\.", ".mlp.fc1."),
        (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
        (r"\.mlp\.(?:weights_out|down_proj)\.", ".mlp.fc2."),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"^embeddings\.(?:position_embeddings|position_embedding\.weight)$", "pos_embed"),
        (r"^embeddings\.(?:cls_token|class_embedding)$", "cls_token"),
        (r"^embeddings\.register_tokens$", "reg_token"),
        (r"^embeddings\.distillation_token$", "dist_token"),
        (r"^embeddings\.mask_token$", "mask_token"),
        (r"^embeddings\.patch_embeddings?\.(?:projection\.)?", "patch_embed.proj."),
        (r"^(?:layernorm|post_layernorm)\.", "norm."),
        (r"^pre_layrnorm\.", "norm_pre."),
    )
)
"""How transformers has called the tensors of ViT, DeiT, ViTMAE, DINOv2, DINOv3 and CLIP, in its files and in memory."""


def _simple_of_transformers(name: str) -> str:
    for pattern, simple in _SIMPLE:
        name = pattern.sub(simple, name)
    return name


def _of_transformers(registers: bool) -> Layout:
    """The names of transformers' vision models: queries, keys and values apart."""

    def names(name: str) -> Alternatives:
        stem, _, last = name.rpartition(".")
        if stem.endswith(".attn.qkv"):
            block = stem.removesuffix("qkv")
            return (tuple(f"{block}{which}.{last}" for which in ("query", "key", "value")),)
        if found := re.fullmatch(r"(.+\.attn\.)(q|k|v)(?:_proj\.(weight|bias)|_(bias))", name):
            which = {"q": "query", "k": "key", "v": "value"}[found[2]]
            return ((f"{found[1]}{which}.{found[3] or found[4]}",),)
        if stem.endswith(".mlp.fc1"):
            mlp = stem.removesuffix("fc1")
            return ((name,), (f"{mlp}gate_proj.{last}", f"{mlp}up_proj.{last}"), (f"{mlp}up_proj.{last}",))
        if found := re.fullmatch(r"(.+\.mlp\.)fc1_([gx])\.(\w+)", name):
            return ((f"{found[1]}{'gate' if found[2] == 'g' else 'up'}_proj.{found[3]}",),)
        if found := re.fullmatch(r"(.+)\.gamma_([12])", name):
            return ((f"{found[1]}.ls{found[2]}.gamma",),)
        return ((name,),)

    convert = _class_position_in_its_token if registers else _unchanged
    return Layout("transformers' names", names, _simple_of_transformers, convert)


def _simple_of_the_authors(name: str) -> str:
    name = re.sub(r"^transformer\.(\d+)\.", r"blocks.\1.", name)
    name = re.sub(r"^patchify\.", "patch_embed.proj.", name)
    name = re.sub(r"^layer_norm\.", "norm.", name)
    return "pos_embed" if name == "pos_embedding" else name


def _with_a_class_position(state: State, own: Mapping[str, Tensor]) -> State:
    """Their table of positions is ``(patches, 1, width)`` and has none for the class token: zeros."""
    positions = state.get("pos_embed")
    if positions is None or positions.dim() != 3 or positions.shape[1] != 1:
        return state
    positions = positions.transpose(0, 1)
    if own["pos_embed"].shape[1] == positions.shape[1] + 1:
        positions = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    return state | {"pos_embed": positions}


_OF_THE_AUTHORS_MAE = Layout(
    "as the MAE of the authors of LayerMem names them", simple=_simple_of_the_authors, convert=_with_a_class_position
)
