"""A module of a user's own in the working directory, with encoders in it and with everything that can be wrong."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NETS = '''
import random

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """Changes whatever a forward can change: a counter, running statistics, all random generators."""

    def __init__(self, width=4, norm="batch"):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}[norm](width)
        self.fc = nn.Linear(width, 5)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("scale", torch.tensor(random.random() + np.random.rand()))

    def forward(self, x):
        self.calls += 1
        self.scale = self.scale * 1
        random.random(), np.random.rand(), torch.rand(1)
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.LazyConv2d(4, 3), nn.LazyLinear(6)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


class Fixed(nn.Module):
    """For images of 8 pixels alone."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 7)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Plain(nn.Module):
    """No parameter at all."""

    def forward(self, x):
        return x.mean((2, 3))


class Gives(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.conv, self.what = nn.Conv2d(3, 4, 1), what

    def forward(self, x):
        y = self.conv(x)
        return {
            "maps": y, "tokens": y.flatten(2).mT, "dict": {"pooled": y.mean((2, 3)), "all": y}, "tuple": (y, None),
            "nothing": None, "first": y.mean((0, 2, 3)), "one": y.mean(), "merged": y.flatten(0, 1).mean(2),
            "whole": y.mean((2, 3)).long(), "wide": y[:, :, :, :, None],
        }[self.what]


class Describes(nn.Linear):
    spec = "of its own"


class Stateful(nn.Linear):
    def get_extra_state(self):
        return {"a": 1}


def make(width=4):
    return Net(width)


def count(n):
    return [0] * n


def fails(text="no luck"):
    raise RuntimeError(text)


def quits():
    raise SystemExit(3)


def other(name):
    from memlight.models.encoders import build_encoder

    return build_encoder(name)


def linear():
    return Describes(3, 4)


def stateful():
    return Stateful(3, 4)


MADE = Net()
NUMBER = 3


def same():
    return MADE
'''


@contextmanager
def in_working_directory(folder: Path, name: str = "mynets", text: str = NETS) -> Iterator[str]:
    """A folder with such a module is the working directory, as of a new process with an empty list of trusted names."""
    with pytest.MonkeyPatch.context() as patch:
        (folder / f"{name}.py").write_text(text)
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setattr("memlight.models.trust._trusted", [])
        try:
            yield name
        finally:
            sys.modules.pop(name, None)


@contextmanager
def on_another_machine(folder: Path, name: str = "mynets") -> Iterator[None]:
    """Within this block nobody has named anything yet, and nothing was imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "other"))
        patch.setattr("memlight.models.trust._trusted", [])
        patch.delitem(sys.modules, name, raising=False)
        yield
