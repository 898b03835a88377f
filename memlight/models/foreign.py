"""Other people's weights in an encoder: which part of a file it is, and whether that fits to the last tensor."""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from memlight.errors import UserError
from memlight.models.encoders import load_state
from memlight.models.layouts import Layout, layouts
from memlight.models.misfits import by_group, likely_reason
from memlight.models.weight_files import read_tensors

HEADS = frozenset({"fc", "head", "heads", "head_dist", "classifier", "linear", "last_linear"})
"""Names that classifiers go by; an encoder has none, and what a file holds for one is left out."""

_DERIVED = frozenset({"num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask"})


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


def load_weights(encoder: nn.Module, path: Path, *, prefix: str | None = None, flag: str = "--weights") -> Loaded:
    """Fill an encoder from somebody else's file, and put it in eval mode.

    Every tensor of the encoder must be in the file with its shape, or nothing is copied; only counters of batches may
    be missing. What the file holds besides the encoder (heads, decoders, optimizers) is left out; what it holds
    *within* the encoder and the encoder has not is an error, as the file is then of another architecture.

    Args:
        encoder: made by `memlight.models.encoders.build_encoder`.
        path: see `memlight.models.weight_files.read_tensors`.
        prefix: which part of the file, as ``teacher.backbone``; keys of dictionaries and dotted names are alike, and
            a stretch of the name is enough where only one part has it. None finds the only part that fits.
        flag: what the user typed to name the file, for the error messages.

    Raises:
        UserError: the file cannot be read, several parts fit, or none does: says what is missing, unexpected or of
            another shape, and the likely reason.
    """
    source = f"{flag} {path}"
    tensors = read_tensors(path, flag=flag)
    parts = _compare(tensors, encoder)
    if prefix is not None:
        parts = _chosen(parts, prefix, tensors, source)
    fitting = [part for part in parts if part.fits]
    if len(fitting) != 1:
        raise UserError(f"{source}: {_several(fitting, encoder) if fitting else _none(parts, tensors, encoder)}")
    part = fitting[0]
    for name, tensor in part.state.items():
        if not tensor.isfinite().all():
            raise UserError(f"{source}: {name} holds NaN or infinity, its training has diverged; use an earlier file")
    load_state(encoder, encoder.state_dict() | part.state, source=source)
    encoder.eval()
    return Loaded(part.prefix, part.layout.words, part.matched, _left_out(tensors, part))


def _compare(tensors: Mapping[str, Tensor], encoder: nn.Module) -> list[_Part]:
    """Every part that has at least one of the encoder's names, in the layout that suits it; the best first."""
    own = encoder.state_dict()
    parts = []
    for layout in layouts(encoder):
        wanted = {layout.name_in_file(name): name for name in own}
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            for prefix, rest in _splits(name):
                if rest in wanted:
                    found.setdefault(prefix, {})[wanted[rest]] = tensor
        for prefix, with_its_names in found.items():
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


def _chosen(parts: list[_Part], prefix: str, tensors: Mapping[str, Tensor], source: str) -> list[_Part]:
    """The parts that the prefix means: the one so called, or those that have its words one after another."""
    exact = [part for part in parts if part.prefix == prefix]
    near = [part for part in parts if f".{prefix}." in f".{part.prefix}."]
    if not (exact or near):
        others = f"others are: {_listed(_near(parts))}" if parts else f"it holds {by_group(_groups(tensors).items())}"
        raise UserError(f"{source}: --prefix {prefix}: no part of that name is like the encoder; {others}")
    return exact or near


def _near(parts: list[_Part]) -> list[_Part]:
    """The parts that come near the best one, which is the first."""
    return [part for part in parts if 2 * part.matched >= parts[0].matched]


def _listed(parts: list[_Part]) -> str:
    return by_group((part.prefix or "''", part.matched) for part in parts)


def _several(fitting: list[_Part], encoder: nn.Module) -> str:
    first = fitting[0].prefix or "''"
    return (
        f"{len(fitting)} parts of it fill {_name(encoder)} completely: {_listed(fitting)}; say which with "
        f"--prefix {first}"
    )


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
    others = f" Other parts can be named with --prefix: {_listed(near)}." if near else ""
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
