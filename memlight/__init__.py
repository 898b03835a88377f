"""memlight: where, and what, does a network memorise?"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memlight.analyses.layermem.arrays import measure_pair
    from memlight.runs.notebook import open_run

    __version__: str

__all__ = ["__version__", "measure_pair", "open_run"]

_PLACES = {"measure_pair": "memlight.analyses.layermem.arrays", "open_run": "memlight.runs.notebook"}


def __getattr__(name: str) -> Any:
    """What a notebook imports from here is loaded when it is asked for: torch takes seconds."""
    if name == "__version__":
        return version("memlight")
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'memlight' has no attribute {name!r}")
