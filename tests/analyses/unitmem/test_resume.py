"""A study that was cut short goes on where it was, to the same bytes; other settings are refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from memlight.analyses.unitmem import resume as unitmem_progress
from memlight.analyses.unitmem.resume import PassProgress, UnitMemProgress, rest_medians
from memlight.errors import UserError
from memlight.metrics.functional import unitmem
from memlight.metrics.unitmem import UnitMemResult, measure_unitmem
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.close import SCORES
from tests.ddp import run_ddp
from tests.metrics.tiny import LAYERS, TinyEncoder, image_batches, make_views
from tests.tiny_pair import THREE_LAYERS, VIEWS, analyze, table_bytes

TWO_IMAGES_AT_ONCE = ["--no-pair", f"--max-forward={2 * VIEWS}", *THREE_LAYERS]


class Cut(BaseException):
    """Ends the process like a signal: nothing catches it."""


def cut_short(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Save at every second batch, and end in the batch after so many; rows that no save knows of are on the disk."""
    add, calls = PassProgress.add, [0]

    def counted(self: PassProgress, *given: object) -> None:
        calls[0] += 1
        monkeypatch.setattr(unitmem_progress, "SAVE_SECONDS", 0.0 if calls[0] % 2 == 0 else 1e9)
        add(self, *given)  # type: ignore[arg-type]
        if calls[0] == after:
            self._write()
            raise Cut

    monkeypatch.setattr(PassProgress, "add", counted)


@pytest.mark.parametrize(("reference", "kills"), [("mean", [11]), ("median", [5, 7])])
def test_a_call_after_kills_gives_the_bytes_of_one(
    reference: str,
    kills: list[int],
    trained: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [f"--reference={reference}", *TWO_IMAGES_AT_ONCE]
    whole, resumed = (trained.analysis("unitmem", f"{name}-{reference}") for name in ("whole", "resumed"))
    assert analyze(trained.root, "unitmem", f"--tag={whole.tag}", *flags) == 0
    for after in kills:  # in the first pass, then in that of held-out images
        with monkeypatch.context() as patched:
            cut_short(patched, after)
            with pytest.raises(Cut):
                analyze(trained.root, "unitmem", f"--tag={resumed.tag}", *flags)
        assert not resumed.dir.exists()
        capsys.readouterr()
    names = [path.name for path in sorted(resumed.progress.iterdir())]
    kinds = (".npy", ".safetensors") if reference == "median" else (".safetensors",)
    assert names == [f"{split}-0{kind}" for split in ("candidate", "external") for kind in kinds]
    assert analyze(trained.root, "unitmem", f"--tag={resumed.tag}", *flags) == 0
    said = capsys.readouterr().out
    assert "UnitMem candidate: 16 of 16 images were measured by a call that was cut short" in said
    assert "UnitMem external: 4 of 15 images" in said
    assert table_bytes(resumed) == table_bytes(whole)
    assert not resumed.progress.exists() and not whole.progress.exists()


def test_other_settings_are_refused_before_anything_is_measured(
    trained: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = trained.analysis("unitmem", "refused")
    flags = [f"--tag={done.tag}", *TWO_IMAGES_AT_ONCE]
    with monkeypatch.context() as patched:
        cut_short(patched, 4)
        with pytest.raises(Cut):
            analyze(trained.root, "unitmem", *flags)
    for other, words in (
        ("--activation=relu", "(activation: abs, now relu)"),
        ("--precision=bf16", "(precision: fp32, now bf16)"),
        ("--split=independent", "(split: candidate, now independent)"),
        ("--view-set=weak", "(views.name: simclr, now weak)"),
        ("--seed=3", "(seed: 0, now 3)"),
        ("--member=random", "(member: candidate, now random)"),
    ):
        assert analyze(trained.root, "unitmem", *flags, other) == 2
        error = capsys.readouterr().err
        assert words in error and str(done.progress) in error and "--tag" in error
    assert analyze(trained.root, "unitmem", *flags, "--max-forward=100") == 0  # as after running out of memory
    assert read_table(done.table("layers"))["layer"].tolist() == THREE_LAYERS[1:]


def test_precision_reaches_the_forwards(trained: RunDir) -> None:
    tables = {}
    for precision in ("fp32", "bf16"):
        flags = [f"--precision={precision}", f"--tag={precision}", "--no-pair", "--layers=layer8"]
        assert analyze(trained.root, "unitmem", *flags) == 0
        tables[precision] = read_table(trained.analysis("unitmem", precision).table())["mu_rest"]
    relative = np.abs(tables["bf16"] - tables["fp32"]) / tables["fp32"].mean()
    assert 1e-5 < relative.max() < 0.05


def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    keeper = UnitMemProgress(tmp_path / "kept", {}).of("candidate", 20, table=True)
    with pytest.raises(
        UserError, match=r"^reference='median': 2 kB are needed and 100 bytes are free; use `reference='mean'`"
    ):
        measure_unitmem(TinyEncoder(), image_batches(20, 4), make_views, LAYERS, keeper=keeper, progress=False)


def test_a_disk_that_fills_up_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(unitmem_progress, "SAVE_SECONDS", 0.0)
    keeper = UnitMemProgress(tmp_path / "kept", {}).of("candidate", 20, table=True)
    with pytest.raises(UserError, match=r"^run: .* cannot be written .*No space left"):
        measure_unitmem(TinyEncoder(), image_batches(20, 4), make_views, LAYERS, keeper=keeper, progress=False)


def _measure(directory: Path, cut: dict[int, int] | None) -> tuple[dict[str, UnitMemResult], torch.Tensor]:
    rank = distributed.get_rank()
    kept = UnitMemProgress(directory, {"encoder": "tiny"})
    own = torch.arange(1000, 1021)[rank::2]
    keeper = kept.of("candidate", len(own), table=True)
    rest = own[keeper.done :]
    batches = image_batches(21, 2, rest)
    if cut is not None:
        batches = batches[: cut[rank]]

        def stop(running: object) -> None:
            raise Cut

        keeper.finish = stop  # type: ignore[method-assign,assignment]
    results = measure_unitmem(
        TinyEncoder(), batches, make_views, LAYERS, num_views=3, max_forward=6, keeper=keeper, progress=False
    )
    return results, rest_medians(kept.table("candidate"), torch.device("cpu"))


def _cut_then_whole(directory: str) -> tuple[dict[str, UnitMemResult], torch.Tensor]:
    unitmem_progress.SAVE_SECONDS = 0.0
    with pytest.raises(Cut):
        _measure(Path(directory), {0: 3, 1: 1})
    return _measure(Path(directory), None)


@pytest.mark.ddp
def test_two_processes_go_on_each_where_it_was(tmp_path: Path) -> None:
    alone = measure_unitmem(
        TinyEncoder(), image_batches(21, 4), make_views, LAYERS, num_views=3, keep_table=True, progress=False
    )
    for results, medians in run_ddp(_cut_then_whole, 2, str(tmp_path)):
        start = 0
        for layer, result in results.items():
            assert result.n == 21 and torch.equal(result.topk_ids, alone[layer].topk_ids)
            np.testing.assert_allclose(result.unitmem, alone[layer].unitmem, **SCORES)
            np.testing.assert_allclose(result.halves, alone[layer].halves, **SCORES)
            mu = alone[layer].mu
            assert mu is not None
            rest = medians[start : start + mu.shape[1]]
            start += mu.shape[1]
            scores = (result.mu_max - rest) / (result.mu_max + rest)
            np.testing.assert_allclose(scores, unitmem(mu, "median"), **SCORES)
    with pytest.raises(UserError, match="processes: 2, now 1"):
        UnitMemProgress(tmp_path, {"encoder": "tiny"})
