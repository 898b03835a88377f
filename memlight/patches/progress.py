"""What a search has found so far, on the disk, so that it can be interrupted and go on."""

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memlight.patches.nearest import Nearest
from memlight.storage.tables import atomic_write

SAVE_SECONDS = 5.0
"""Least time between two writings of the file, unless the search is over."""


class SearchProgress:
    """The nearest rows among the shards that are done, in one file that is replaced as a whole.

    Args:
        path: the file.
        identity: what is searched, where and how; what another search left is not used.
        queries: how many.
        k: how many nearest rows of each.

    Attributes:
        done: the shards that were searched before this search began.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], queries: int, k: int) -> None:
        self.done: frozenset[int] = frozenset()
        self._path = path
        self._identity = json.dumps({**identity, "queries": queries, "k": k}, sort_keys=True, default=str)
        self._found = Nearest.none(queries, k)
        self._shards: set[int] = set()
        self._written = 0.0
        self._lock = threading.Lock()

    def load(self) -> Nearest:
        """What an interrupted search found; nothing where there is no file, or that of another search."""
        try:
            with np.load(self._path) as file:
                if str(file["identity"]) == self._identity:
                    self._found = Nearest(torch.from_numpy(file["distances"]), torch.from_numpy(file["rows"]))
                    self.done = frozenset(file["done"].tolist())
        except (OSError, ValueError, KeyError, EOFError):
            pass
        self._shards = set(self.done)
        return self._found

    def add(self, shard: int, found: Nearest) -> None:
        """A device has finished a shard; ``found`` is what it found until then."""
        with self._lock:
            self._shards.add(shard)
            self._found = self._found.merged(found.to(torch.device("cpu")))
            if time.monotonic() - self._written >= SAVE_SECONDS:
                self._write()
                self._written = time.monotonic()

    def remove(self) -> None:
        """The search is over and its result written."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        with atomic_write(self._path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                identity=np.array(self._identity),
                distances=self._found.distances.numpy(),
                rows=self._found.rows.numpy(),
                done=np.array(sorted(self._shards), dtype=np.int64),
            )
