"""How other programs name an encoder's tensors: the same names, or names that follow from ours by a rule."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One way in which a file may name the tensors of an encoder.

    Attributes:
        words: what it is, for people; empty for the encoder's own names.
        name_in_file: the name that the file has for a tensor of the encoder.
        convert: from the file's tensors, under the encoder's names, to the encoder's tensors.
    """

    words: str = ""
    name_in_file: Callable[[str], str] = str
    convert: Callable[[State], State] = dict


def layouts(encoder: nn.Module) -> list[Layout]:
    """The layouts in which an encoder's weights may come, its own names first."""
    from timm.layers.mlp import GluMlp
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
        return [Layout(), _dinov2(registers, gated)] if registers or gated else [Layout()]
    return [Layout()]


def _numbered(encoder: nn.Module) -> Layout:
    """``nn.Sequential(*list(resnet.children())[:-1])``, as lightly's examples make their backbones."""
    numbers = {name: str(number) for number, (name, _) in enumerate(encoder.named_children())}

    def name_in_file(name: str) -> str:
        child, dot, rest = name.partition(".")
        return numbers[child] + dot + rest

    return Layout("children by number, as in nn.Sequential(*resnet.children())", name_in_file)


_SHORTCUT = Layout(
    "downsample is called shortcut, as in lightly's ResNet", lambda name: name.replace(".downsample.", ".shortcut.")
)


_LINEAR_1_AND_2 = Layout(
    "as torchvision published them",
    lambda name: name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."),
)

_DOTTED_NORMS = Layout(
    "as torchvision published them", lambda name: re.sub(r"(\.denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)
)


def _dinov2(registers: bool, gated: bool) -> Layout:
    """Facebook's names: register tokens, and the two Linears of a gated MLP.

    Its table of positions begins with the class token's, which timm keeps in the class token where there are registers.
    """

    def name_in_file(name: str) -> str:
        if gated:
            name = name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        return "register_tokens" if name == "reg_token" else name

    def convert(state: State) -> State:
        if not registers or not {"cls_token", "pos_embed"} <= state.keys():
            return state
        positions = state["pos_embed"]
        class_token = state["cls_token"] + positions[:, :1]
        return state | {"cls_token": class_token, "pos_embed": positions[:, 1:]}

    return Layout("DINOv2's names", name_in_file, convert)
