"""Encoders of a run: both members of a pair, the encoder inside a Lightning checkpoint, the initial weights.

Only tensors and plain values are read; a file that would run code is refused.
"""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

from torch import Tensor, nn

from memlight.errors import UserError, named
from memlight.models.encoders import build_from_metadata, load_encoder, load_state, read_metadata
from memlight.storage.documents import WrongField, checked
from memlight.storage.run_files import EncoderMetadata
from memlight.storage.rundir import MemberDir, RunDir
from memlight.storage.torch_files import read_torch

ENCODER_PREFIX = "encoder."
"""Where a training module keeps its encoder, and so how its tensors' names begin in a checkpoint that says no other."""

_GIVE = "give a checkpoint that `train.py fit` wrote"

METADATA_KEY: Final = "memlight"
"""Where a training module puts its encoder's metadata in a checkpoint."""


@dataclass(frozen=True)
class Pair:
    """Two encoders of one architecture, trained on the same splits.

    Attributes:
        f: the encoder that saw the candidates, in eval mode.
        g: the encoder that saw the independent images, in eval mode.
        metadata_f: what training recorded with `f`.
        metadata_g: what training recorded with `g`.
    """

    f: nn.Module
    g: nn.Module
    metadata_f: dict[str, Any]
    metadata_g: dict[str, Any]


@named(path="run")
def load_pair(
    run: Path, member_a: str = "candidate", member_b: str = "independent", network: str | None = None
) -> Pair:
    """Load two members of a run, on the CPU and in eval mode.

    Args:
        run: the run directory.
        member_a: role of ``f``.
        member_b: role of ``g``.
        network: which network of methods that have several; None is the default one.

    Raises:
        UserError: a member is missing or broken, or the two were not made for each other: architectures,
            layers or splits differ, or one is not what its directory's name says.
    """
    members = [RunDir(run).member(role) for role in (member_a, member_b)]
    paths = [require_network(member, network) for member in members]
    for role, path in zip((member_a, member_b), paths, strict=True):
        if not path.is_file():
            raise UserError("run", run, f"no {role}/{path.name}", "`train.py pair` trains both members")
    metadata_f, metadata_g = map(read_metadata, paths)
    for role, metadata in ((member_a, metadata_f), (member_b, metadata_g)):
        if metadata.get("role", role) != role:
            raise UserError("run", run, f"{role}/ holds an encoder trained as {metadata['role']}", "train it again")
    for key, what in (("architecture", "architectures"), ("layers", "layers"), ("split_sha256", "splits")):
        a, b = metadata_f.get(key), metadata_g.get(key)
        if a != b:
            raise UserError(
                "run",
                run,
                f"{member_a} and {member_b} have different {what} ({_difference(a, b)}), which cannot be compared",
                "train both with one `train.py pair`",
            )
    f, g = map(load_encoder, paths)
    return Pair(f, g, metadata_f, metadata_g)


@named(path="run")
def require_network(member: MemberDir, network: str | None) -> Path:
    """Where a network of a member lies.

    Raises:
        UserError: the member is finished, and has no such network.
    """
    path = member.network(network)
    if not path.is_file() and member.encoder.is_file():
        default = read_metadata(member.encoder).get("network", "encoder")
        if network == default:
            return member.encoder
        known = ", ".join([default, *member.networks()])
        raise UserError("network", network, f"{member.role}/ has no such network", f"it has {known}")
    return path


def encoder_from_checkpoint(
    ckpt_path: Path, like: nn.Module | None = None, *, network: str | None = None, argument: str = "run"
) -> nn.Module:
    """Take the encoder out of a Lightning checkpoint, on the CPU and in eval mode.

    Args:
        ckpt_path: a ``.ckpt`` file; only tensors and plain values in it are read.
        like: an encoder of the same architecture, which is copied, not changed. None builds what the
            checkpoint's metadata say.
        network: which network of methods that have several; None is the default one.
        argument: what the file is called in errors.

    Raises:
        UserError: no such file, truncated, holds code, holds no encoder, or one of another architecture.
    """
    checkpoint = _read_checkpoint(ckpt_path, argument)
    prefixes = checkpoint.get(METADATA_KEY, {}).get("prefixes", {"encoder": ENCODER_PREFIX})
    if network is not None and network not in prefixes:
        raise UserError("network", network, f"{ckpt_path} has no such network", f"it has {', '.join(prefixes)}")
    prefix = prefixes[network] if network is not None else next(iter(prefixes.values()))
    state = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.get("state_dict", {}).items()
        if name.startswith(prefix)
    }
    if not state:
        raise UserError(argument, ckpt_path, f"holds no tensor named {prefix}*", _GIVE)
    with named(path=argument):
        if like is None:
            encoder = build_from_metadata(checkpoint.get(METADATA_KEY, {}), seed=0, path=ckpt_path)
        else:
            encoder = deepcopy(like).cpu()
        load_state(encoder, state, path=ckpt_path)
    return encoder.eval()


def checkpoint_metadata(ckpt_path: Path, *, argument: str = "run") -> dict[str, Any]:
    """Read what training recorded with a Lightning checkpoint; empty for checkpoints of other programs.

    Args:
        ckpt_path: a ``.ckpt`` file; only tensors and plain values in it are read.
        argument: what the file is called in errors.

    Raises:
        UserError: no such file, truncated, or holds code.
    """
    return {**_read_checkpoint(ckpt_path, argument).get(METADATA_KEY, {})}


def checkpoint_state(ckpt_path: Path, *, argument: str = "run") -> dict[str, Tensor]:
    """Read every tensor of the training method in a Lightning checkpoint: encoder, heads and statistics, on the CPU.

    Args:
        ckpt_path: a ``.ckpt`` file; only tensors and plain values in it are read.
        argument: what the file is called in errors.

    Raises:
        UserError: no such file, truncated, holds code, or holds no weights.
    """
    state = _read_checkpoint(ckpt_path, argument).get("state_dict", {})
    if not state:
        raise UserError(argument, ckpt_path, "holds no weights", _GIVE)
    return state


def checkpoint_content(ckpt_path: Path, *, argument: str = "run") -> dict[str, Any]:
    """Read everything in a Lightning checkpoint, on the CPU.

    Args:
        ckpt_path: a ``.ckpt`` file; only tensors and plain values in it are read.
        argument: what the file is called in errors.

    Raises:
        UserError: no such file, truncated, or holds code.
    """
    return {**_read_checkpoint(ckpt_path, argument)}


@named(path="run")
def initial_encoder(metadata: Mapping[str, Any]) -> nn.Module:
    """Build an encoder as it was before training, in eval mode: the untrained control.

    Args:
        metadata: what training recorded: ``architecture`` and ``init_seed``.

    Raises:
        UserError: the metadata do not say the seed or the architecture.
    """
    if "init_seed" not in metadata:
        raise UserError("run", None, "the encoder's metadata have no init_seed, so its initial weights are unknown")
    return build_from_metadata(metadata, seed=metadata["init_seed"]).eval()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Checkpoint(TypedDict, total=False):
    """What is read of a checkpoint; what Lightning goes on from is Lightning's."""

    state_dict: dict[str, Tensor]
    memlight: EncoderMetadata


def _read_checkpoint(path: Path, argument: str) -> _Checkpoint:
    checkpoint = read_torch(path, argument, ["copy it again", _GIVE])
    if not isinstance(checkpoint, dict):
        raise UserError(argument, path, f"holds a {type(checkpoint).__name__}, not a checkpoint", _GIVE)
    try:
        return checked(checkpoint, _Checkpoint)
    except WrongField as error:
        raise UserError(argument, path, f"{error}: not a checkpoint", _GIVE) from error


def _difference(a: object, b: object) -> str:
    """What differs, short enough for one line: for two dictionaries the first key that does."""
    if isinstance(a, dict) and isinstance(b, dict):
        key = next(key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key))
        return f"{key}: {a.get(key)} and {b.get(key)}"
    if isinstance(a, str) and isinstance(b, str):
        return f"{a[:12]} and {b[:12]}"
    if isinstance(a, list) and isinstance(b, list):
        return f"{len(a)} and {len(b)} of them"
    return f"{a} and {b}"
