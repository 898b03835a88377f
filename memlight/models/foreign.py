"""Other people's weights in an encoder: which part of a file fits, under which names, and why it may not."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from memlight.errors import UserError
from memlight.models.encoders import load_state, require_numbers
from memlight.models.weight_files import read_tensors

State = dict[str, Tensor]

HEADS = frozenset({"fc", "head", "heads", "head_dist", "classifier", "linear", "last_linear"})
"""Names that classifiers go by; an encoder has none, and what a file holds for one is left out."""

WITH_STEMS = ("resnet18", "resnet34", "resnet50")
"""Encoders that are built with either stem."""

_DERIVED = frozenset({"num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask"})
_GROUPS = 6


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


@dataclass(frozen=True)
class Loaded:
    """Where an encoder's weights came from.

    Attributes:
        prefix: dotted name of the part of the file that is the encoder; empty for the top level.
        layout: how the part names its tensors, where not as the encoder does.
        tensors: how many of its tensors were filled.
        left_out: the rest of the file, as ``(group, number of tensors)``.
    """

    prefix: str
    layout: str
    tensors: int
    left_out: list[tuple[str, int]]

    @property
    def words(self) -> str:
        """One line for people."""
        part = self.prefix or "the top level"
        named = f" ({self.layout})" if self.layout else ""
        rest = f"; left out: {by_group(self.left_out)}" if self.left_out else ""
        return f"{self.tensors} tensors from {part}{named}{rest}"


@dataclass
class _Part:
    """A part of a file compared with the encoder; names are the encoder's, in ``unexpected`` the file's."""

    prefix: str
    layout: Layout
    state: dict[str, Tensor]
    matched: int
    missing: list[str]
    other_shape: list[str]
    unexpected: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return not (self.missing or self.other_shape or self.unexpected)


def load_weights(encoder: nn.Module, path: Path, *, prefix: str | None = None) -> Loaded:
    """Fill an encoder from somebody else's file, and put it in eval mode.

    Every tensor of the encoder must be in the file with its shape, or nothing is copied; only counters of batches may
    be missing. What the file holds besides the encoder (heads, decoders, optimizers) is left out; what it holds
    *within* the encoder and the encoder has not is an error, as the file is then of another architecture.

    Args:
        encoder: made by `memlight.models.encoders.build_encoder`.
        path: see `memlight.models.weight_files.read_tensors`.
        prefix: which part of the file, as ``teacher.backbone``; keys of dictionaries and dotted names are alike, and
            a stretch of the name is enough where only one part has it. None finds the only part that fits.

    Raises:
        UserError: the file cannot be read, several parts fit, or none does: says what is missing, unexpected or of
            another shape, and the likely reason.
    """
    tensors = read_tensors(path)
    parts = _compare(tensors, encoder)
    if prefix is not None:
        parts = _chosen(parts, prefix, tensors, path)
    fitting = [part for part in parts if part.fits]
    if len(fitting) != 1:
        raise UserError("path", path, _several(fitting, encoder) if fitting else _none(parts, tensors, encoder))
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
    return Loaded(part.prefix, part.layout.words, part.matched, _left_out(tensors, part))


def _compare(tensors: Mapping[str, Tensor], encoder: nn.Module) -> list[_Part]:
    """Every part that has at least one of the encoder's names, in the layout that suits it; the best first."""
    own = encoder.state_dict()
    parts = []
    for layout in layouts(encoder):
        wanted = {layout.name_in_file(name): name for name in own}
        by_prefix: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            for prefix, rest in _splits(name):
                if rest in wanted:
                    by_prefix.setdefault(prefix, {})[wanted[rest]] = tensor
        for prefix, with_its_names in by_prefix.items():
            state = layout.convert(with_its_names)
            wrong = [name for name in state if state[name].shape != own[name].shape]
            missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
            part = _Part(prefix, layout, state, len(state) - len(wrong), missing, wrong)
            if 2 * part.matched > len(own):  # of a part that is not the encoder everything is unexpected
                part.unexpected = _unexpected(tensors, prefix, wanted.keys(), encoder)
            parts.append(part)
    best: dict[str, _Part] = {}
    for part in sorted(parts, key=lambda part: (-part.matched, -len(part.state))):
        best.setdefault(part.prefix, part)
    return list(best.values())


def _splits(name: str) -> Iterable[tuple[str, str]]:
    """Every way to take a dotted name as prefix and rest."""
    words = name.split(".")
    return ((".".join(words[:cut]), ".".join(words[cut:])) for cut in range(len(words)))


def _unexpected(tensors: Iterable[str], prefix: str, used: Set[str], encoder: nn.Module) -> list[str]:
    """What a part holds and the encoder has not, but for what may be left out without changing what is computed."""
    start = f"{prefix}." if prefix else ""
    inside = {name.partition(".")[0] for name in used}
    config = getattr(encoder, "pretrained_cfg", {}).get("classifier") or ()
    classifiers = (config,) if isinstance(config, str) else tuple(config)

    def may_stay(name: str) -> bool:
        first, dot, _ = name.partition(".")
        if first in HEADS or first.startswith(("mask_token", "decoder")) or name.rpartition(".")[2] in _DERIVED:
            return True
        if any(name.startswith(f"{classifier}.") for classifier in classifiers):
            return True
        return bool(dot) and first not in inside and getattr(encoder, first, None) is None

    names = (name.removeprefix(start) for name in tensors if name.startswith(start))
    return [name for name in names if name not in used and not may_stay(name)]


def _chosen(parts: list[_Part], prefix: str, tensors: Mapping[str, Tensor], path: Path) -> list[_Part]:
    """The parts that the prefix means: the one so called, or those that have its words one after another."""
    exact = [part for part in parts if part.prefix == prefix]
    near = [part for part in parts if f".{prefix}." in f".{part.prefix}."]
    if not (exact or near):
        others = f"others are: {_listed(_near(parts))}" if parts else f"it holds {by_group(_groups(tensors).items())}"
        raise UserError("path", path, f"`prefix={prefix}`: no part of that name is like the encoder; {others}")
    return exact or near


def _near(parts: list[_Part]) -> list[_Part]:
    """The parts that come near the best one, which is the first."""
    return [part for part in parts if 2 * part.matched >= parts[0].matched]


def _listed(parts: list[_Part]) -> str:
    return by_group((part.prefix or "''", part.matched) for part in parts)


def _several(fitting: list[_Part], encoder: nn.Module) -> str:
    first = fitting[0].prefix or "''"
    filled = f"{len(fitting)} parts of it fill {_name(encoder)} completely"
    return f"{filled}: {_listed(fitting)}; say which with `prefix` {first}"


def _none(parts: list[_Part], tensors: Mapping[str, Tensor], encoder: nn.Module) -> str:
    own = encoder.state_dict()
    if not parts:
        return (
            f"none of its tensors is named as in {_name(encoder)}; it holds {by_group(_groups(tensors).items())}, the "
            f"encoder {by_group(_groups(own).items())}. {likely_reason(encoder, tensors)}"
        )
    best = parts[0]
    problems = {"missing": best.missing, "unexpected": best.unexpected, "other shape": best.other_shape}
    listed = "; ".join(f"{what}: {by_group(_groups(names).items())}" for what, names in problems.items() if names)
    near = _near(parts)[1:]
    others = f" Other parts can be named with `prefix`: {_listed(near)}." if near else ""
    return (
        f"not the weights of {_name(encoder)}. {best.prefix or 'The top level'} of the file has {best.matched} of its "
        f"{len(own)} tensors; {listed}. "
        f"{likely_reason(encoder, tensors, best.state, best.missing + best.unexpected)}{others}"
    )


def _groups(names: Iterable[str]) -> Counter[str]:
    return Counter(name.partition(".")[0] for name in names)


def _name(encoder: nn.Module) -> str:
    return str(getattr(getattr(encoder, "spec", None), "name", type(encoder).__name__))


def _left_out(tensors: Mapping[str, Tensor], part: _Part) -> list[tuple[str, int]]:
    """What was not used, by the first word in which a name leaves the part's prefix."""
    start = part.prefix.split(".") if part.prefix else []
    used = {".".join([*start, part.layout.name_in_file(name)]) for name in part.state}
    groups: Counter[str] = Counter()
    for name in tensors:
        if name not in used:
            words = name.split(".")
            same = next((i for i, (a, b) in enumerate(zip(words, start, strict=False)) if a != b), len(start))
            groups[".".join(words[: same + 1])] += 1
    return list(groups.items())


def by_group(groups: Iterable[tuple[str, int]]) -> str:
    """Groups of tensors with their numbers, six at most: ``layer1 (12), fc (2)``."""
    listed = [f"{name} ({count})" for name, count in groups]
    more = f" and {len(listed) - _GROUPS} more" if len(listed) > _GROUPS else ""
    return ", ".join(listed[:_GROUPS]) + more


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


def likely_reason(
    encoder: nn.Module,
    tensors: Mapping[str, Tensor],
    best: Mapping[str, Tensor] = MappingProxyType({}),
    missing_or_unexpected: Sequence[str] = (),
) -> str:
    """The most likely reason why nothing in a file fits, with the way out.

    Args:
        encoder: made by `memlight.models.encoders.build_encoder`.
        tensors: everything in the file.
        best: tensors of the part that fits best, under the encoder's names.
        missing_or_unexpected: names that only the encoder has, or only this part.
    """
    if _is_lightly_generator(tensors):
        return (
            "Likely lightly's ResNetGenerator cut into nn.Sequential, which has no ReLU after its first norm: no "
            "encoder here computes the same; docs/ENCODERS.md shows how to measure a model of one's own in Python."
        )
    if not best or missing_or_unexpected:
        return "Likely another architecture (deeper, shallower, another kind): name another `encoder`."
    own = encoder.state_dict()
    other = {name: (best[name].shape, own[name].shape) for name in best if best[name].shape != own[name].shape}
    if other.keys() == {"conv1.weight"}:
        return _stem(encoder, other["conv1.weight"][0][-1])
    for patches, positions in (("patch_embed.proj.weight", "pos_embed"), ("conv_proj.weight", "encoder.pos_embedding")):
        if patches in other and other.keys() <= {patches, positions}:
            theirs, ours = (shape[-1] for shape in other[patches])
            return f"Its patches are {theirs} pixels wide, the encoder's {ours}: name another `encoder`."
        if other.keys() == {positions}:
            return _grid(encoder, *(shape[1] for shape in other[positions]))
    return "The same names in other sizes: name a wider or narrower `encoder`, or another `image_size`."


def _stem(encoder: nn.Module, side: int) -> str:
    spec: Any = getattr(encoder, "spec")  # noqa: B009 -- build_encoder put it there
    name, stem = spec.name.rpartition(":")[2], {3: "cifar", 7: "imagenet"}.get(side)
    if stem is None or name not in WITH_STEMS:
        return f"Its first convolution is {side}x{side}: name another `encoder`."
    return f"Its first convolution is {side}x{side}: use `encoder={name}` `stem={stem}`."


def _grid(encoder: nn.Module, tokens: int, own_tokens: int) -> str:
    """Position embeddings of another grid of patches; they are not interpolated, which would change the encoder."""
    size = int(getattr(encoder, "spec").input_size)  # noqa: B009 -- build_encoder put it there
    patch = _patch_side(encoder)
    prefix = own_tokens - (size // patch) ** 2
    side = math.isqrt(max(0, tokens - prefix))
    if side**2 != tokens - prefix:
        return f"Its position embeddings have {tokens} entries, the encoder's {own_tokens}: name another `encoder`."
    return (
        f"Its position embeddings are for {side}x{side} patches ({side * patch}-pixel images), the encoder's for "
        f"{size // patch}x{size // patch} ({size}-pixel images): use `image_size={side * patch}`."
    )


def _patch_side(encoder: Any) -> int:
    convolution = encoder.patch_embed.proj if hasattr(encoder, "patch_embed") else encoder.conv_proj
    return int(convolution.kernel_size[0])


def _is_lightly_generator(tensors: Iterable[str]) -> bool:
    """A first block at number 2 (torchvision's is at 4), with lightly's name for the shortcut."""
    names = list(tensors)
    return any(re.search(r"(^|\.)2\.0\.conv1\.weight$", name) for name in names) and any(
        re.search(r"(^|\.)[345]\.0\.shortcut\.0\.weight$", name) for name in names
    )
