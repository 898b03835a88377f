"""Every part of a file that may be an encoder, compared with it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from memlight.models.foreign.adapting import adapted
from memlight.models.foreign.filters import filter_of, filtered
from memlight.models.foreign.layouts import gathered, layouts
from memlight.models.foreign.names import Splitter, State, adds_nothing, may_stay
from memlight.models.foreign.structure import resnet9_state
from memlight.models.resnet9 import ResNet9


@dataclass
class Part:
    """A part of a file compared with the encoder.

    Attributes:
        prefix: dotted name of the part; empty for the top level.
        layout: how it names its tensors, where not as the encoder does.
        state: its tensors under the encoder's names.
        used: their names in the file.
        matched: how many of them have the encoder's shape.
        missing: what only the encoder has.
        other_shape: what both have, in two shapes.
        unexpected: what only the part has, under its own names.
        notes: what was done to tensors so that they fit.
    """

    prefix: str
    layout: str
    state: State
    used: set[str]
    matched: int
    missing: list[str]
    other_shape: list[str]
    unexpected: list[str]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether it fills the encoder, and holds nothing within it that the encoder does not run."""
        return not (self.missing or self.other_shape or self.unexpected)


def compare(tensors: Mapping[str, Tensor], encoder: nn.Module, *, resample: bool) -> list[Part]:
    """Every part that has at least one of the encoder's names, in the layout that suits it; the best first.

    Args:
        tensors: of the file.
        encoder: not changed.
        resample: see `memlight.models.foreign.adapting.adapted`.
    """
    own = encoder.state_dict()
    splitter = Splitter(own)
    parts: list[Part] = []
    for find in (_by_name, _by_structure, _by_filter):
        parts += find(tensors, encoder, own, splitter, resample)
        if any(part.fits for part in parts):
            break
    best: dict[str, Part] = {}
    for part in sorted(parts, key=lambda part: (not part.fits, -part.matched, -len(part.state))):
        best.setdefault(part.prefix, part)
    return list(best.values())


def _by_name(
    tensors: Mapping[str, Tensor], encoder: nn.Module, own: Mapping[str, Tensor], splitter: Splitter, resample: bool
) -> list[Part]:
    """The parts whose names one of the encoder's layouts explains."""
    splits = {name: list(splitter.splits(name)) for name in tensors}
    parts: list[Part] = []
    for layout in layouts(encoder):
        wanted = {one for name in own for names in layout.names(name) for one in names}
        found: dict[str, dict[str, str]] = {}
        for name, ways in splits.items():
            for prefix, rest in ways:
                if (simple := layout.simple(rest)) in wanted:
                    found.setdefault(prefix, {}).setdefault(simple, name)
        inside = {name.partition(".")[0] for name in wanted}
        for prefix, names in found.items():
            state, gone = gathered(layout, own, {simple: tensors[name] for simple, name in names.items()})
            used = {names[simple] for simple in gone}
            part = _part(prefix, layout.words, state, used, encoder, own, resample)
            if 2 * part.matched > len(own):  # of a part that is not the encoder everything is unexpected
                part.unexpected = [
                    rest
                    for name, rest in splitter.within(tensors, prefix).items()
                    if name not in used
                    and not may_stay(layout.simple(rest), encoder, inside)
                    and not adds_nothing(layout.simple(rest), tensors[name], gone)
                ]
            parts.append(part)
        if any(part.fits for part in parts):
            break
    return parts


def _by_structure(
    tensors: Mapping[str, Tensor], encoder: nn.Module, own: Mapping[str, Tensor], splitter: Splitter, resample: bool
) -> list[Part]:
    """ResNet9s of other programs, by the order and shapes of what they hold."""
    if not isinstance(encoder, ResNet9):
        return []
    parts = []
    for prefix in _prefixes(tensors, splitter, len(own) // 2):
        names = splitter.within(tensors, prefix)
        found = resnet9_state({rest: tensors[name] for name, rest in names.items()}, own)
        if found is not None:
            state, words = found
            parts.append(_part(prefix, words, state, set(names), encoder, own, resample))
    return _innermost(parts)


def _by_filter(
    tensors: Mapping[str, Tensor], encoder: nn.Module, own: Mapping[str, Tensor], splitter: Splitter, resample: bool
) -> list[Part]:
    """What timm's own function for official weights of this model makes of the parts."""
    convert = filter_of(encoder)
    if convert is None:
        return []
    parts = []
    inside = {name.partition(".")[0] for name in own}
    for prefix in _prefixes(tensors, splitter, len(own) // 2):
        names = splitter.within(tensors, prefix)
        given = {rest: tensors[name] for name, rest in names.items()}
        made = filtered(convert, given, encoder, resample=resample)
        if made is None:
            continue
        rest = {name: tensor for name, tensor in made.state.items() if name not in own}
        state = {name: tensor for name, tensor in made.state.items() if name in own}
        used = {name for name, short in names.items() if short not in rest}
        part = _part(prefix, made.words, state, used, encoder, own, resample)
        left = [name for name in rest if not may_stay(name, encoder, inside)]
        part.unexpected = [*left, *made.lost]
        parts.append(part)
    fitting = [part for part in parts if part.fits]
    return _innermost(fitting) if fitting else parts


def _part(
    prefix: str,
    layout: str,
    state: State,
    used: set[str],
    encoder: nn.Module,
    own: Mapping[str, Tensor],
    resample: bool,
) -> Part:
    state, notes = adapted(state, own, encoder, resample=resample)
    wrong = [name for name in state if state[name].shape != own[name].shape]
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    return Part(prefix, layout, state, used, len(state) - len(wrong), missing, wrong, [], notes)


def _prefixes(tensors: Iterable[str], splitter: Splitter, least: int) -> list[str]:
    """Prefixes that enough tensors of a file have."""
    counts = Counter(prefix for name in tensors for prefix, _ in splitter.splits(name))
    return [prefix for prefix, count in counts.items() if count >= least]


def _innermost(parts: list[Part]) -> list[Part]:
    """Parts that hold no other one."""

    def holds(outer: str, inner: str) -> bool:
        return inner != outer and f"{inner}.".startswith(f"{outer}." if outer else "")

    return [part for part in parts if not any(holds(part.prefix, other.prefix) for other in parts)]
