"""Random numbers that are a function of what they are for, not of when or where they are drawn.

A view's parameters depend on (seed, sample id, epoch, view) alone, so they are the same in any batch, on any
rank and device, and after a restart, and a view can be made again from its numbers. The generator is SplitMix64
(Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) used as a counter-based hash
in wrapping 64-bit integers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

ANALYSIS = -1
"""The epoch of every analysis: no training epoch shares its views."""

_GAMMA = 0x9E3779B97F4A7C15
_ID, _EPOCH, _VIEW, _STREAM = 0xD1B54A32D192ED03, 0xABC98388FB8FAC03, 0x8CB92BA72F3D8DD7, 0xDB4F0B9175AE2165
_PERMUTATION_STREAM = 0x70657266


def uniforms(seed: int, ids_B: Tensor, *, epoch: int | Tensor, view: int, draws: int, stream: int = 0) -> Tensor:
    """Draw ``draws`` numbers for each sample.

    Args:
        seed: any integer.
        ids_B: ``int64 (B,)`` sample ids; the result is on their device.
        epoch: one epoch for all, or ``int64 (B,)`` on the same device.
        view: index of the view.
        draws: how many numbers each sample gets; the first k do not depend on it.
        stream: which purpose the numbers serve; streams are independent of one another.

    Returns:
        ``float32 (B, draws)``, uniform on the multiples of 2**-24 in [0, 1).
    """
    keys_B = _mix(_mix(_keys(seed, ids_B, epoch, view, stream)))
    counters = torch.arange(1, draws + 1, device=ids_B.device) * _signed(_GAMMA)
    bits_BD = _shift_right(_mix(keys_B[:, None] + counters), 40)
    return bits_BD.to(torch.float32) * 2.0**-24


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """Shuffle ``range(n)``; the same on every machine and with every library version.

    Args:
        seed: any integer.
        epoch: which shuffle; ``ANALYSIS`` for one that is not an epoch's.
        n: how many.

    Returns:
        ``int64 (n,)`` on the CPU.
    """
    positions_N = torch.arange(n, dtype=torch.int64, device=torch.device("cpu"))
    return _mix(_mix(_keys(seed, positions_N, epoch, 0, _PERMUTATION_STREAM))).argsort(stable=True)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw initial weights on the CPU from ``seed`` alone and put its generator back; None leaves all as it is."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the accelerators
        yield


def _keys(seed: int, ids_B: Tensor, epoch: int | Tensor, view: int, stream: int) -> Tensor:
    """One 64-bit state per sample: each coordinate times its own odd constant, added up."""
    constant = _mix_int(seed) + view * _VIEW + stream * _STREAM
    if isinstance(epoch, Tensor):
        return ids_B * _signed(_ID) + epoch * _signed(_EPOCH) + _signed(constant)
    return ids_B * _signed(_ID) + _signed(constant + epoch * _EPOCH)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on ``int64``; multiplication wraps."""
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def _mix_int(x: int) -> int:
    """The same finaliser on a Python integer, after one step of the counter so that seed 0 is not special."""
    mask = (1 << 64) - 1
    x = (x + _GAMMA) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: ``>>`` on ``int64`` would copy the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    """The ``int64`` with the low 64 bits of ``x``."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)
