"""The names of tensors in files: wrappers taken off, the parts of a name, what is left out without a word."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn

State = dict[str, Tensor]

HEADS = frozenset(
    {"fc", "head", "heads", "head_dist", "classifier", "linear", "last_linear", "pooler", "lm_head", "projectors"}
)
"""Names that classifiers go by; an encoder has none, and what a file holds for one is left out."""

WRAPPERS = frozenset(
    {"_orig_mod", "module", "_module", "_forward_module", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}
)
"""What torch.compile, DataParallel and their kin put between the names of modules."""

_TRAINING_ALONE = ("mask_token", "masked_embed", "decoder")
"""What pretraining has beside the encoder, and the encoder does not run."""

_DERIVED = frozenset({"num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask"})
_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")
_GROUPS = 6


class Splitter:
    """Takes the names of a file apart, as far as they may be those of one encoder.

    Args:
        own: the encoder's names. What is a word of theirs is no wrapper.
    """

    def __init__(self, own: Iterable[str]) -> None:
        names = list(own)
        self._wrappers = WRAPPERS - {word for name in names for word in name.split(".")}
        self._chunks = any(name.startswith("blocks.") for name in names) and not any(map(_CHUNKED.match, names))

    def splits(self, name: str) -> Iterator[tuple[str, str]]:
        """Every way to take a dotted name as prefix and rest; wrappers within the rest are taken off.

        DINOv2's training keeps its blocks in chunks, ``blocks.CHUNK.NUMBER``; their rest is without the chunk.
        """
        words = name.split(".")
        for cut in range(len(words)):
            if words[cut] not in self._wrappers:
                rest = ".".join(word for word in words[cut:] if word not in self._wrappers)
                yield ".".join(words[:cut]), _CHUNKED.sub(r"blocks.\1.", rest) if self._chunks else rest

    def within(self, names: Iterable[str], prefix: str) -> dict[str, str]:
        """The names that begin with a prefix, and what is the rest of each."""
        start = f"{prefix}." if prefix else ""
        rests = {}
        for name in names:
            if name.startswith(start) or not start:
                words = [word for word in name.removeprefix(start).split(".") if word not in self._wrappers]
                rest = ".".join(words)
                rests[name] = _CHUNKED.sub(r"blocks.\1.", rest) if self._chunks else rest
        return rests


def may_stay(name: str, encoder: nn.Module, inside: Iterable[str]) -> bool:
    """Whether a tensor of a part may be left out without changing what the encoder computes.

    Args:
        name: in the part.
        encoder: that has no such tensor.
        inside: the first words of names in the part that the encoder has.
    """
    first, dot, _ = name.partition(".")
    last = name.rpartition(".")[2]
    if first in HEADS or first.startswith(_TRAINING_ALONE) or last in _DERIVED:
        return True
    config = getattr(encoder, "pretrained_cfg", None) or {}
    classifiers = config.get("classifier") or ()
    if any(name.startswith(f"{one}.") for one in ((classifiers,) if isinstance(classifiers, str) else classifiers)):
        return True
    return bool(dot) and first not in inside and getattr(encoder, first, None) is None


def adds_nothing(name: str, tensor: Tensor, weights: Iterable[str]) -> bool:
    """Whether a tensor is a bias of zeros, of a module whose weight is used.

    Args:
        name: in the part.
        tensor: of that name.
        weights: names in the part that are used.
    """
    module, _, last = name.rpartition(".")
    return last == "bias" and f"{module}.weight" in weights and not tensor.is_meta and not tensor.any()


def left_out(tensors: Mapping[str, Tensor], prefix: str, used: Iterable[str]) -> list[tuple[str, int]]:
    """What was not used, by the first word in which a name leaves the part's prefix."""
    start = prefix.split(".") if prefix else []
    gone = set(used)
    groups: Counter[str] = Counter()
    for name in tensors:
        if name not in gone:
            words = name.split(".")
            same = next((i for i, (a, b) in enumerate(zip(words, start, strict=False)) if a != b), len(start))
            groups[".".join(words[: same + 1])] += 1
    return list(groups.items())


def grouped(names: Iterable[str]) -> Counter[str]:
    """How many names begin with which word."""
    return Counter(name.partition(".")[0] for name in names)


def by_group(groups: Iterable[tuple[str, int]]) -> str:
    """Groups of tensors with their numbers, six at most: ``layer1 (12), fc (2)``."""
    listed = [f"{name} ({count})" for name, count in groups]
    more = f" and {len(listed) - _GROUPS} more" if len(listed) > _GROUPS else ""
    return ", ".join(listed[:_GROUPS]) + more
