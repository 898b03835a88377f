"""What is done of a long UnitMem study, kept on disk: a call after a kill goes on from there.

    DIR/SPLIT-RANK.safetensors   sums, strongest images and ids of the images that one process has seen
    DIR/SPLIT-RANK.npy           their mu, float32 (images of the process, U), where the median is asked for

The first appears whole or not at all; rows of the second that the first does not know of are measured again. The
table of mu may be larger than the memory: it is read a block of units at a time.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from memlight import dist
from memlight.errors import UserError, named
from memlight.metrics.functional import BLOCK_ENTRIES, max_and_rest
from memlight.metrics.unitmem import UnitMemPass
from memlight.models.weight_files import open_safetensors, read_safetensors
from memlight.storage.arrays import map_npy
from memlight.storage.documents import parse_json
from memlight.storage.records import difference
from memlight.storage.run_files import Natural, Positive
from memlight.storage.store import RowsFile
from memlight.storage.writing import atomic_write, lacking, sync, writing

SAVE_SECONDS = 30.0
"""So much work may be lost; a study that takes less leaves nothing behind."""

PENDING_BYTES = 1 << 24
"""Rows of the table that may wait in memory."""

FORMAT = 1


class MuTable:
    """Mu of every image, float32 `.npy` files.

    Args:
        parts: ``(n, U)`` each; images in ascending order of id were dealt to them in turn.

    Attributes:
        images: N, of all parts.
        units: U.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts: list[NDArray[np.float32]] = [map_npy(part) for part in parts]
        self.images, self.units = sum(len(part) for part in self._parts), self._parts[0].shape[1]

    def columns(self, units: slice) -> Tensor:
        """Mu of some units on all images, ``(N, u)`` float32, images in ascending order of id."""
        block = torch.empty(self.images, len(range(*units.indices(self.units))))
        for number, part in enumerate(self._parts):
            block.numpy()[number :: len(self._parts)] = part[:, units]
        return block


def rest_medians(table: MuTable, device: torch.device) -> Tensor:
    """Median of each unit's mu over the images other than its strongest ([C]; the middle two averaged).

    Every process sorts its share of the units.

    Args:
        table: the same on every process.
        device: where blocks are sorted.

    Returns:
        ``(U,)`` float64, on every process.
    """
    share = -(-table.units // dist.world_size())
    first, last = (min((dist.rank() + more) * share, table.units) for more in (0, 1))
    step = max(1, BLOCK_ENTRIES // table.images)
    medians = [torch.empty(0, dtype=torch.float64, device=device)]
    for start in range(first, last, step):
        block = table.columns(slice(start, min(start + step, last)))
        medians.append(max_and_rest(block.to(device), "median")[1])
    return dist.gather_cat(torch.cat(medians))


class UnitMemProgress:
    """The passes of one study.

    Args:
        directory: of its files, which need not exist.
        made_from: everything that decides the numbers, JSON-able.

    Raises:
        UserError: the directory holds a study of other settings.
    """

    def __init__(self, directory: Path, made_from: Mapping[str, Any]) -> None:
        self.directory = directory
        settings = {"format": FORMAT, "processes": dist.world_size(), **made_from}
        self.made_from: dict[str, Any] = json.loads(json.dumps(settings))
        for state in sorted(directory.glob("*.safetensors")):
            before = _header(state).made_from
            if before != self.made_from:
                changed = difference("", before, self.made_from)
                why = f"{directory} holds what an interrupted call has measured otherwise ({changed})"
                way_out = "repeat its flags to go on, keep it apart with another `tag`, or delete that directory"
                raise UserError("run", None, why, way_out)

    def of(self, name: str, images: int, *, table: bool) -> "PassProgress":
        """The pass called ``name``.

        Args:
            name: tells the passes of a study apart.
            images: number of images that this process sees.
            table: also keep mu of every image.
        """
        return PassProgress(self.directory / f"{name}-{dist.rank()}", images, self.made_from, table)

    def table(self, name: str) -> MuTable:
        """Mu of all images of a finished pass, those of all processes.

        Raises:
            UserError: a process does not see what another has written.
        """
        dist.barrier()
        parts = [self.directory / f"{name}-{rank}.npy" for rank in range(dist.world_size())]
        if not all(part.is_file() for part in parts):
            why = f"{self.directory} is not on a disk that all processes share"
            raise UserError("run", None, why, "choose one that is")
        return MuTable(parts)

    def clear(self) -> None:
        """Delete everything, when all processes are done with it."""
        dist.barrier()
        if dist.rank() == 0:
            shutil.rmtree(self.directory, ignore_errors=True)


class PassProgress:
    """One pass of one process: the `memlight.metrics.unitmem.PassKeeper` of `measure_unitmem`.

    Args:
        stem: path of its files without their endings.
        images: number of images that this process sees.
        made_from: see `UnitMemProgress`.
        table: also keep mu of every image.

    Attributes:
        done: number of those images that are done.
    """

    def __init__(self, stem: Path, images: int, made_from: Mapping[str, Any], table: bool) -> None:
        self._state, self._rows = stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.npy")
        self._images, self._made_from, self._table = images, made_from, table
        self._pending: list[NDArray[np.float32]] = []
        self._saved = time.monotonic()
        self.done = _header(self._state).done if self._state.is_file() else 0

    def load(self) -> UnitMemPass | None:
        """The sums as they were saved last; None where nothing was."""
        if not self.done:
            return None
        header = _header(self._state)
        running = UnitMemPass(header.units, num_views=header.options["num_views"], topk=header.options["topk"])
        with named(path="run"):
            saved = read_safetensors(self._state)
        try:
            for number, metric in enumerate(running.metrics):
                metric.restore(saved[f"{number}.top"], saved[f"{number}.total"], saved["ids"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise _damaged(self._state, error) from error
        return running

    def add(self, running: UnitMemPass, mu_BU: Tensor) -> None:
        """Note the next images; every `SAVE_SECONDS` what is done reaches the disk.

        Raises:
            UserError: the disk is full, or something else keeps it from being written.
        """
        if self._table:
            if self.done == 0:
                self._require_room(4 * mu_BU.shape[1] * self._images)
            self._pending.append(mu_BU.float().cpu().numpy())
        self.done += len(mu_BU)
        with self._writing():
            if sum(rows.nbytes for rows in self._pending) >= PENDING_BYTES:
                self._write()
            if time.monotonic() - self._saved >= SAVE_SECONDS:
                self._save(running)

    def finish(self, running: UnitMemPass) -> None:
        """Complete the table; whoever is killed later need not see the images again.

        Raises:
            UserError: as `add`.
        """
        if self._table or self._state.is_file():
            with self._writing():
                self._save(running)

    def _writing(self) -> AbstractContextManager[None]:
        return writing("run", self._state.parent, "what is saved stays")

    def _require_room(self, table: int) -> None:
        if words := lacking(self._rows.parent, table):
            raise UserError("reference", "median", words, "use `reference='mean'`, or a `run` on another disk")

    def _write(self) -> None:
        """Pending rows to their place; those of an earlier call that no save knew of are written over."""
        if not self._pending:
            return
        rows = np.concatenate(self._pending)
        self._rows.parent.mkdir(parents=True, exist_ok=True)
        with RowsFile(self._rows, (self._images, rows.shape[1]), "float32", self.done - len(rows)) as file:
            file.append(rows)
        self._pending = []

    def _save(self, running: UnitMemPass) -> None:
        if self._table:
            self._write()
            sync(self._rows)
        tensors = {"ids": running.metrics[0].rows("ids")}
        for number, metric in enumerate(running.metrics):
            tensors |= {f"{number}.top": metric.top, f"{number}.total": metric.total}
        header = {
            "made_from": json.dumps(self._made_from),
            "done": str(self.done),
            "units": json.dumps(running.units),
            "options": json.dumps({"num_views": running.num_views, "topk": running.topk}),
        }
        with atomic_write(self._state) as temporary:
            temporary.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, header))
        self._saved = time.monotonic()


class Options(TypedDict):
    """How `UnitMemPass` was made."""

    num_views: Positive
    topk: Positive


class Header(NamedTuple):
    """What the saved state of a pass says of itself."""

    made_from: dict[str, Any]
    done: int
    units: dict[str, int]
    options: Options


def _header(state: Path) -> Header:
    """Read it.

    Raises:
        UserError: the file is damaged.
    """
    with named(path="run"), open_safetensors(state) as file:
        texts = file.metadata() or {}
    try:
        return Header(
            parse_json(texts["made_from"], dict[str, Any]),
            parse_json(texts["done"], Natural),
            parse_json(texts["units"], dict[str, Positive]),
            parse_json(texts["options"], Options),
        )
    except (KeyError, ValueError) as error:
        raise _damaged(state, error) from error


def _damaged(state: Path, error: Exception) -> UserError:
    why = f"{state}, which an interrupted call has left, is damaged ({error})"
    return UserError("run", None, why, "delete it to measure again")
