"""How two records of how something was made differ: for errors that say why a kept result cannot go on."""

from typing import Any


def difference(key: str, before: Any, after: Any) -> str:
    """Where two records differ first, in the order of the second: ``data.repeat: 1, now 4``.

    Args:
        key: what both are called, which the place within them follows; empty for records without a name.
        before: the kept one: numbers and texts, in dictionaries or not.
        after: what it is compared with.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for name in (*after, *before):
            if before.get(name) != after.get(name):
                return difference(f"{key}.{name}" if key else name, before.get(name), after.get(name))
    return f"{key}: {before}, now {after}"
