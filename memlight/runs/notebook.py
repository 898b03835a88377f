"""A run as a notebook sees it: its tables as data frames, its encoders, images and splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlight.errors import UserError
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import read_json, read_table

if TYPE_CHECKING:
    import pandas
    from torch import Tensor, nn

    from memlight.data.splits import PairSplit
    from memlight.runs.opened import OpenedRun


class Run:
    """One run directory; nothing in it is changed.

    Args:
        run: the run directory.
        root: where its images are now; None is where they were at training.
        device: where encoders are put.
        trust: code of other people, as ``package.module:Class``, that the run may name as what its encoders were made
            by: it is imported and run. What was imported or typed here need not be given.

    Raises:
        UserError: it is not a run directory.
    """

    def __init__(
        self, run: str | Path, root: str | None = None, device: str = "cpu", trust: Sequence[str] = ()
    ) -> None:
        self.dir = RunDir.open(run)
        self._root, self._device, self._trust = root, device, trust
        self._opened: OpenedRun | None = None

    def __repr__(self) -> str:
        return f"<run {self.dir.root}: {', '.join(self.analyses()) or 'nothing measured yet'}>"

    def analyses(self) -> list[str]:
        """Names of the finished analyses, with their tags: ``layermem``, ``unitmem-independent``."""
        return list(self.dir.summaries())

    def table(self, analysis: str, table: str = "table") -> "pandas.DataFrame":
        """A table of a finished analysis, with the columns that it has on disk.

        Args:
            analysis: its name, with the tag if it has one; see `analyses`.
            table: name of the file without ``.csv``, such as ``membership`` or ``samples`` of ``layermem``.

        Raises:
            UserError: there is no such analysis or table, or pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            way = "`pip install pandas`"
            raise UserError("table", table, "a data frame needs pandas, which is not installed", way) from error
        file = self._analysis(analysis).table(table)
        if not file.is_file():
            names = ", ".join(sorted(path.stem for path in file.parent.glob("*.csv")))
            raise UserError("table", table, f"{analysis} has no such table", f"it has {names}")
        return pandas.DataFrame(read_table(file))

    def summary(self, analysis: str) -> dict[str, Any]:
        """What ``summary.json`` of a finished analysis says: headline numbers, command, seed, hashes, versions.

        Raises:
            UserError: there is no such analysis.
        """
        return {**read_json(self._analysis(analysis).summary, Summary)}

    def encoder(self, member: str = "candidate", checkpoint: str | None = None) -> "nn.Module":
        """An encoder of the run, in eval mode on the device.

        Args:
            member: candidate, independent, all, or random (its initial weights).
            checkpoint: name of a checkpoint, such as ``epoch=49``; the finished encoder if None.

        Raises:
            UserError: it was not trained, or has no such checkpoint.
        """
        from memlight.models.trust import trusting

        with trusting(self._trust):
            return self._open().encoder(member, checkpoint)

    def images(self, ids: Sequence[int]) -> "Tensor":
        """``uint8 (B, 3, H, W)``, in the order asked for.

        Args:
            ids: of the images, as tables name them.

        Raises:
            UserError: the images are not where they were; say with ``root`` where they are.
        """
        opened = self._open()
        opened.read_images()
        return opened.data.images_of(list(ids))

    @property
    def splits(self) -> "PairSplit":
        """Ids of every split: ``splits.ids("candidate")``."""
        return self._open().split

    def _open(self) -> "OpenedRun":
        if self._opened is None:
            import torch

            from memlight.runs.opened import read_run

            self._opened = read_run(str(self.dir.root), root=self._root, device=torch.device(self._device))
        return self._opened

    def _analysis(self, name: str) -> AnalysisDir:
        if name not in (found := self.analyses()):
            made = f"it has {', '.join(found)}" if found else "nothing was measured yet"
            way = f"make it with `python analyze.py {name} --run {self.dir.root}`"
            raise UserError("analysis", name, f"{self.dir.root} has no such result; {made}", way)
        return self.dir.analysis(name)


def open_run(run: str | Path, root: str | None = None, device: str = "cpu", trust: Sequence[str] = ()) -> Run:
    """Open a run directory in a notebook: ``open_run("runs/x").table("layermem")``.

    Args:
        run: the run directory.
        root: where its images are now; None is where they were at training.
        device: where encoders are put, such as ``cuda``.
        trust: code of other people, as ``package.module:Class``, that the run may name, see `Run`.

    Raises:
        UserError: it is not a run directory.
    """
    return Run(run, root, device, trust)
