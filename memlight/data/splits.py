"""Which image is in which split of a pair (shared, candidate, independent, external), and which are left out."""

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.random import ANALYSIS, permutation
from memlight.storage.opening import read_limited
from memlight.storage.records import difference
from memlight.storage.run_files import SplitsFile
from memlight.storage.tables import TABLE_BYTES, csv_rows, read_json, write_json

SPLITS = ("shared", "candidate", "independent", "external")
"""Splits, in the order in which ids are dealt out."""

ROLES = {
    "candidate": ("shared", "candidate"),
    "independent": ("shared", "independent"),
    "all": ("shared", "candidate", "independent"),
}
"""Role of an encoder -> the splits it is trained on (Wang et al., NeurIPS 2024, appendix B)."""

PARTNERS = {"candidate": "independent", "independent": "candidate"}
"""Member of a pair -> the other one, and so the split that only the other one is trained on."""

Ids = NDArray[np.int64]

_FORMAT = 1
_NAMED = 5


@dataclass(frozen=True, eq=False)
class PairSplit:
    """Ids of every split of a pair of encoders.

    Training image i has id i, test image j has id ``num_train + j``. Where they are dealt out here, the shared,
    candidate and independent ids are training images and the external ids are test images; a file may say otherwise. No
    id is in two splits.

    Attributes:
        shared: ``int64 (S,)`` ascending ids that both encoders are trained on.
        candidate: ``int64 (C,)`` ascending ids that only the candidate encoder is trained on.
        independent: ``int64 (I,)`` ascending ids that only the independent encoder is trained on.
        external: ``int64 (E,)`` ascending ids that neither is trained on.
        order: "random" (a seeded permutation), "index" (consecutive ids, as in the authors' code) or "file" (given by
            somebody).
        seed: seed of the permutation.
        num_train: number of training images.
        num_test: number of test images.
        dataset: which images the ids stand for.
        randomised: of those in a file, whether candidates and independent images were dealt at random, as far as
            somebody said so.
    """

    shared: Ids
    candidate: Ids
    independent: Ids
    external: Ids
    order: str
    seed: int
    num_train: int
    num_test: int
    dataset: str
    randomised: bool | None = None

    @classmethod
    def make(
        cls,
        num_train: int,
        num_test: int,
        *,
        shared: int = 40_000,
        candidate: int = 5_000,
        independent: int = 5_000,
        external: int = 5_000,
        order: str = "random",
        seed: int = 0,
        dataset: str = "",
    ) -> "PairSplit":
        """Deal out ids.

        Args:
            num_train: number of training images.
            num_test: number of test images.
            shared: how many training images both encoders see.
            candidate: how many only the candidate encoder sees.
            independent: how many only the independent encoder sees.
            external: how many test images.
            order: "random" or "index": shared ids 0..S-1, then the candidates, then the independent ones.
            seed: seed of the random order; the ids are a function of the arguments alone.
            dataset: which images the ids stand for.

        Raises:
            UserError: there are too few images, a size is negative, or the order is unknown.
        """
        sizes = {"shared": shared, "candidate": candidate, "independent": independent, "external": external}
        for name, size in sizes.items():
            if size < 0:
                raise UserError(name, size, "a number of images cannot be negative")
        if shared + candidate + independent > num_train:
            with_both = f"with `candidate={candidate}` and `independent={independent}`"
            wanted = f"{shared + candidate + independent} images are wanted, but there are {num_train} training images"
            raise UserError("shared", shared, f"{with_both} {wanted}", "ask for fewer")
        if external > num_test:
            ways_out = [f"choose {num_test} or fewer"] if num_test else ["choose 0", "add a test/ folder"]
            raise UserError("external", external, f"there are {num_test} test images", ways_out)
        if order not in ("random", "index"):
            raise UserError("order", order, "choose random or index")
        train, test = _dealt(num_train, order, seed), _dealt(num_test, order, seed)
        ends = np.cumsum([shared, candidate, independent])
        own = [np.sort(ids) for ids in np.split(train[: ends[-1]], ends[:-1])]
        unseen = np.sort(num_train + test[:external])
        return cls(own[0], own[1], own[2], unseen, order, seed, num_train, num_test, dataset)

    @classmethod
    def given(
        cls, num_train: int, num_test: int, ids: Mapping[str, Ids], *, dataset: str = "", randomised: bool | None = None
    ) -> "PairSplit":
        """Splits that somebody gave.

        Args:
            num_train: number of training images.
            num_test: number of test images.
            ids: split -> ascending ids, of which none is in two; splits that are missing are empty.
            dataset: which images the ids stand for.
            randomised: whether candidates and independent images were dealt at random; None if nobody knows.
        """
        own = [np.asarray(ids.get(split, ()), dtype=np.int64) for split in SPLITS]
        return cls(own[0], own[1], own[2], own[3], "file", 0, num_train, num_test, dataset, randomised)

    @property
    def dealt_at_random(self) -> bool | None:
        """Whether candidates and independent images were dealt at random; None where nobody knows."""
        return {"random": True, "index": False}.get(self.order, self.randomised)

    @property
    def half(self) -> bool:
        """Whether this is of half a pair: the second encoder has no images of its own, and is a mere reference."""
        return len(self.independent) == 0

    def with_external(self, external: int) -> "PairSplit":
        """The same splits with another number of external images: fewer of them, or these and more.

        Raises:
            UserError: there are too few test images.
        """
        if self.order == "file":
            if external > len(self.external):
                why = f"{len(self.external)} external images were given by a file"
                raise UserError("external", external, why, f"choose {len(self.external)} or fewer")
            chosen = permutation(self.seed, ANALYSIS, len(self.external)).numpy()[:external]
            return replace(self, external=np.sort(self.external[chosen]))
        if external > self.num_test:
            why = f"there are {self.num_test} test images"
            raise UserError("external", external, why, f"choose {self.num_test} or fewer")
        test = _dealt(self.num_test, self.order, self.seed)
        return replace(self, external=np.sort(self.num_train + test[:external]))

    def ids(self, split: str) -> Ids:
        """Ascending ids of one split.

        Raises:
            UserError: there is no such split.
        """
        if split not in SPLITS:
            raise UserError("split", split, f"choose one of {', '.join(SPLITS)}")
        ids: Ids = getattr(self, split)
        return ids

    def own_ids(self, role: str) -> Ids:
        """Ids of the images an encoder of this role is trained on besides the shared ones, split by split.

        Raises:
            UserError: there is no such role.
        """
        return np.concatenate([self.ids(split) for split in role_splits(role)[1:]])

    @property
    def sha256(self) -> str:
        """Hash of the ids and of what they stand for; equal on every machine and library version."""
        digest = hashlib.sha256(f"{self.dataset}\n{self.num_train}\n{self.num_test}\n".encode())
        for split in SPLITS:
            ids = self.ids(split)
            digest.update(f"{split} {ids.size}\n".encode())
            digest.update(ids.astype("<i8").tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the split as JSON, atomically."""
        aside = SPLITS if self.order == "file" else (*SPLITS, "randomised")
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in aside}
        ids = {split: self.ids(split) for split in SPLITS}
        write_json(path, {"format": _FORMAT, "sha256": self.sha256, **content, **ids})

    @classmethod
    def load(cls, path: Path) -> "PairSplit":
        """Read a saved split.

        Raises:
            UserError: the file is missing, truncated, edited, or of another format.
        """
        content = read_json(path, SplitsFile)
        try:
            split = cls(**_arguments(content))
        except OverflowError:  # no file of ours has numbers of more than 64 bits
            split = None
        if split is None or content["format"] != _FORMAT or content["sha256"] != split.sha256:
            why = f"{path} was edited or is damaged (its ids do not match its sha256)"
            raise UserError("run", None, why, ["restore it", "train in another `run`"])
        return split

    def require_equal(self, other: "PairSplit", path: Path) -> None:
        """Refuse to go on with ``other`` ids than those of this run.

        Args:
            other: the split that the present options give.
            path: the file that this split was read from.

        Raises:
            UserError: they differ; the message says in what.
        """
        if self.sha256 == other.sha256:
            return
        before, now = (
            {name: getattr(split, name) for name in ("dataset", "num_train", "num_test", "order", "seed")}
            | {f"num_{name}": split.ids(name).size for name in SPLITS}
            for split in (self, other)
        )
        what = difference("data", before, now) if before != now else "the same sizes but other ids"
        why = f"{path} holds another split than the data options give ({what})"
        raise UserError("run", None, why, ["use the options it was made with", "use another `run`"])


def role_splits(role: str) -> tuple[str, ...]:
    """Names of the splits that an encoder of this role is trained on, shared first.

    Raises:
        UserError: there is no such role.
    """
    if role not in ROLES:
        raise UserError("role", role, f"choose one of {', '.join(ROLES)}")
    return ROLES[role]


def _dealt(n: int, order: str, seed: int) -> Ids:
    return permutation(seed, ANALYSIS, n).numpy() if order == "random" else np.arange(n, dtype=np.int64)


def _arguments(content: SplitsFile) -> dict[str, Any]:
    """Constructor arguments from what `save` wrote."""
    fields_of_file: Mapping[str, Any] = content
    plain = {name: fields_of_file[name] for name in ("order", "seed", "num_train", "num_test", "dataset")}
    ids = {split: np.array(fields_of_file[split], dtype=np.int64) for split in SPLITS}
    return {**plain, **ids, "randomised": fields_of_file.get("randomised")}


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Ids from a CSV file with a header and a column ``id``; other columns are not read.

    Attributes:
        path: the file.
        ids: ``int64 (K,)`` in the file's order.
        sha256: hash of the file's bytes.
    """

    path: Path
    ids: Ids
    sha256: str

    @classmethod
    def read(cls, path: Path) -> "LeftOut":
        """Read the file, without looking for its images.

        Raises:
            UserError: there is no such file, or it is none of this kind.
        """
        try:
            content = read_limited(path, TABLE_BYTES)
            header, *rows = csv_rows(content) or [[]]
        except (OSError, ValueError, csv.Error) as error:
            raise UserError("without", path, f"cannot be read ({error})") from error
        if "id" not in header:
            why = f"the first line must name the column id, and may name others; it is {header}"
            raise UserError("without", path, why)
        column = header.index("id")
        ids = []
        for number, row in enumerate(rows, start=2):
            if not row:
                continue
            cell = row[column].strip() if len(row) > column else ""
            if not cell.isdecimal():
                raise UserError("without", path, f"row {number} has no id: {','.join(row)!r}")
            ids.append(int(cell))
        if not ids:
            raise UserError("without", path, "names no image", "leave it out to train on all of them")
        if len(set(ids)) < len(ids):
            raise UserError("without", path, f"id {next(id_ for id_ in ids if ids.count(id_) > 1)} is in it twice")
        return cls(path, np.array(ids, dtype=np.int64), hashlib.sha256(content).hexdigest())

    def require_among(self, own: Ids, role: str) -> None:
        """Refuse images that the member would not be trained on alone anyway.

        Args:
            own: ``int64 (O,)`` ids of the member's own images, the shared ones aside.
            role: of the member.

        Raises:
            UserError: names the first of them.
        """
        others = self.ids[~np.isin(self.ids, own)].tolist()
        if others:
            shown = ", ".join(map(str, others[:_NAMED])) + ", ..." * (len(others) > _NAMED)
            raise UserError(
                "without",
                self.path,
                f"{len(others)} of {len(self.ids)} ids are not among the {len(own)} images of the {role} member alone "
                f"(id {shown}); only those can be left out, and splits.json lists them",
            )

    @property
    def record(self) -> dict[str, Any]:
        """What an encoder's metadata say of it."""
        return {"file": self.path.name, "sha256": self.sha256, "count": len(self.ids)}
