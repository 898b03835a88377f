"""Containers that were read: none that hold themselves, nest too deep, or repeat one another without end."""

import argparse
from collections.abc import Callable

DEPTH = 100
"""Containers within each other, at most."""

REPEATED = 10_000_000
"""Values of a file counted where they stand, each as often as it is referred to; more than are written, at most."""


def require_tree(value: object, *, leaf: Callable[[object], bool] = lambda value: False) -> None:
    """Refuse containers that hold themselves, nest too deep, or repeat one another without end.

    Args:
        value: what was read.
        leaf: whether something is looked into no further.

    Raises:
        ValueError: says which of these it does.
    """
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    open_now: set[int] = set()
    stack: list[tuple[object, bool]] = [(value, False)]
    while stack:
        item, done = stack.pop()
        if done:
            inner = _inside(item)
            sizes[id(item)] = 1 + sum(sizes.get(id(one), 1) for one in inner)
            depths[id(item)] = 1 + max((depths.get(id(one), 0) for one in inner), default=0)
            open_now.discard(id(item))
            if depths[id(item)] > DEPTH:
                raise ValueError(f"its containers nest deeper than {DEPTH}")
            if sizes[id(item)] > REPEATED + 16 * len(sizes):
                raise ValueError("its containers repeat one another, and hold too much")
        elif id(item) in open_now:
            raise ValueError("it holds itself")
        elif id(item) not in sizes and not leaf(item) and (inner := _inside(item)):
            open_now.add(id(item))
            stack.append((item, True))
            stack.extend((one, False) for one in inner if id(one) not in sizes and _holds(one))


def _holds(value: object) -> bool:
    return isinstance(value, dict | list | tuple | set | frozenset | argparse.Namespace)


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return list(vars(value).values()) if isinstance(value, argparse.Namespace) else []
