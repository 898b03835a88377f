"""Which image is in which split of a pair: shared, candidate, independent, external."""

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.random import ANALYSIS, permutation
from memlight.storage.tables import read_json, write_json

SPLITS = ("shared", "candidate", "independent", "external")
"""Splits, in the order in which ids are dealt out."""

ROLES = {
    "candidate": ("shared", "candidate"),
    "independent": ("shared", "independent"),
    "all": ("shared", "candidate", "independent"),
}
"""Role of an encoder -> the splits it is trained on (Wang et al., NeurIPS 2024, appendix B)."""

PARTNERS = {"candidate": "independent", "independent": "candidate"}
"""Member of a pair -> the other one; likewise the split that only the other one is trained on."""

Ids = NDArray[np.int64]

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class PairSplit:
    """Ids of every split of a pair of encoders.

    Training image i has id i, test image j has id ``num_train + j``. The shared, candidate and independent ids are
    training images, the external ids are test images; no id is in two splits.

    Attributes:
        shared: ``int64 (S,)`` ascending ids that both encoders are trained on.
        candidate: ``int64 (C,)`` ascending ids that only the candidate encoder is trained on.
        independent: ``int64 (I,)`` ascending ids that only the independent encoder is trained on.
        external: ``int64 (E,)`` ascending ids that neither is trained on.
        order: "random" (a seeded permutation) or "index" (consecutive ids, as in the authors' code).
        seed: seed of the permutation.
        num_train: number of training images.
        num_test: number of test images.
        dataset: which images the ids stand for.
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
                raise UserError(f"--data.num_{name} {size}: a number of images cannot be negative.")
        if shared + candidate + independent > num_train:
            raise UserError(
                f"--data.num_shared {shared} --data.num_candidate {candidate} --data.num_independent {independent}: "
                f"{shared + candidate + independent} images wanted, but there are {num_train} training images; "
                "ask for fewer."
            )
        if external > num_test:
            raise UserError(
                f"--data.num_external {external}: there are {num_test} test images; choose {num_test}"
                + (" or fewer." if num_test else ", or add a test/ folder.")
            )
        if order not in ("random", "index"):
            raise UserError(f"--data.order {order}: choose random or index.")
        train, test = _dealt(num_train, order, seed), _dealt(num_test, order, seed)
        ends = np.cumsum([shared, candidate, independent])
        own = [np.sort(ids) for ids in np.split(train[: ends[-1]], ends[:-1])]
        unseen = np.sort(num_train + test[:external])
        return cls(own[0], own[1], own[2], unseen, order, seed, num_train, num_test, dataset)

    def with_external(self, count: int) -> "PairSplit":
        """The same splits with another number of external images: fewer of them, or these and more.

        Raises:
            UserError: there are too few test images.
        """
        if count > self.num_test:
            raise UserError(
                f"--external {count}: there are {self.num_test} test images; choose {self.num_test} or fewer."
            )
        test = _dealt(self.num_test, self.order, self.seed)
        return replace(self, external=np.sort(self.num_train + test[:count]))

    def ids(self, split: str) -> Ids:
        """Ascending ids of one split.

        Raises:
            UserError: there is no such split.
        """
        if split not in SPLITS:
            raise UserError(f"--split {split}: choose one of {', '.join(SPLITS)}.")
        ids: Ids = getattr(self, split)
        return ids

    def role_ids(self, role: str) -> Ids:
        """Ascending ids of every image an encoder of this role is trained on.

        Raises:
            UserError: there is no such role.
        """
        return np.sort(np.concatenate([self.ids(split) for split in role_splits(role)]))

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
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in SPLITS}
        ids = {split: self.ids(split) for split in SPLITS}
        write_json(path, {"format": _FORMAT, "sha256": self.sha256, **content, **ids})

    @classmethod
    def load(cls, path: Path) -> "PairSplit":
        """Read a saved split.

        Raises:
            UserError: the file is missing, truncated, edited, or of another format.
        """
        content = read_json(path)
        try:
            split = cls(**_arguments(content))
            intact = content["format"] == _FORMAT and content["sha256"] == split.sha256
        except (KeyError, TypeError, ValueError, OverflowError):
            intact = False
        if not intact:
            raise UserError(
                f"--run: {path} was edited or is damaged (its ids do not match its sha256); restore it, "
                "or train in another --run."
            )
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
        raise UserError(
            f"--run: {path} holds another split than the --data options give ({_difference(self, other)}). "
            "Use the options it was made with, or another --run."
        )


def role_splits(role: str) -> tuple[str, ...]:
    """Names of the splits that an encoder of this role is trained on, shared first.

    Raises:
        UserError: there is no such role.
    """
    if role not in ROLES:
        raise UserError(f"--data.role {role}: choose one of {', '.join(ROLES)}.")
    return ROLES[role]


def _dealt(n: int, order: str, seed: int) -> Ids:
    return permutation(seed, ANALYSIS, n).numpy() if order == "random" else np.arange(n, dtype=np.int64)


def _arguments(content: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments from what `save` wrote."""
    plain: dict[str, Any] = {name: content[name] for name in ("order", "seed", "num_train", "num_test", "dataset")}
    if not all(isinstance(number, int) for split in SPLITS for number in content[split]):
        raise TypeError("ids are whole numbers")
    return plain | {split: np.array(content[split], dtype=np.int64) for split in SPLITS}


def _difference(saved: PairSplit, now: PairSplit) -> str:
    """What differs between two splits, the cause before the effect."""
    for name in ("dataset", "num_train", "num_test"):
        before, after = getattr(saved, name), getattr(now, name)
        if before != after:
            return f"{name} is {before} there, {after} here"
    for split in SPLITS:
        before, after = saved.ids(split).size, now.ids(split).size
        if before != after:
            return f"{before} {split} images there, {after} here"
    for name in ("order", "seed"):
        before, after = getattr(saved, name), getattr(now, name)
        if before != after:
            return f"--data.{name} is {before} there, {after} here"
    return "the same sizes but other ids"
