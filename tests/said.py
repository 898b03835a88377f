"""What analyze.py prints of an error that the library raised."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memlight.errors import UserError


def said(error: UserError) -> str:
    return error.in_flags(lambda name: f"--{name.replace('_', '-')}")


@contextmanager
def refused(match: str) -> Iterator[None]:
    """The block is refused with a line of the command that matches."""
    with pytest.raises(UserError) as caught:
        yield
    assert re.search(match, said(caught.value)), said(caught.value)
