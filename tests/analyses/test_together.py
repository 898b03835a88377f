"""`analyze.py all`: one pass gives what the single commands give."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from memlight.analyses import together
from memlight.features import passes
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from tests.tiny_pair import THREE_LAYERS, TinyPair, analyze, assert_same_tables

SINGLE = {
    "layermem": ("layermem", ["--labels=thirds.csv"]),
    "unitmem": ("unitmem", []),
    "unitmem-independent-on-independent": ("unitmem", ["--member=independent", "--split=independent"]),
    "classmem-by-thirds": ("classmem", ["--labels=thirds.csv"]),
    "probe-by-thirds": ("probe", ["--labels=thirds.csv"]),
}


@pytest.fixture(scope="module")
def run(plain_pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Candidates have classes by id modulo 3."""
    root = plain_pair.copy(tmp_path_factory.mktemp("all") / "pair")
    rows = [
        f"{id_},{'abc'[id_ % 3]}"
        for ids in read_json(RunDir(root).splits, dict).values()
        if isinstance(ids, list)
        for id_ in ids
    ]
    (root / "thirds.csv").write_text("\n".join(["id,label", *sorted(set(rows))]) + "\n")
    forwards = []
    whole = passes.view_batches

    def counted(*arguments: object, **options: object):  # type: ignore[no-untyped-def]
        for views, batch in whole(*arguments, **options):  # type: ignore[arg-type]
            forwards.append((len(views), len(batch.ids)))
            yield views, batch

    with patch.object(passes, "view_batches", counted):
        assert analyze(root, "all", *THREE_LAYERS, "--views=3", f"--labels={root / 'thirds.csv'}", short=False) == 0
    done = RunDir(root)
    (done.root / "forwards.txt").write_text(str(sum(views for views, _ in forwards)))
    return done


@pytest.mark.parametrize("name", SINGLE)
def test_tables_are_those_of_the_single_commands(run: RunDir, name: str) -> None:
    command, flags = SINGLE[name]
    flags = [flag.replace("thirds", str(run.root / "thirds")) for flag in flags]
    views = [] if command in ("classmem", "probe") else ["--views=3"]
    layers = [] if command == "probe" else THREE_LAYERS
    assert analyze(run.root, command, *layers, *views, *flags, "--tag=single", short=False) == 0
    found_in, single = run.root / "analysis" / name, run.analysis(command, "single")
    tables = sorted(path.stem for path in single.dir.glob("*.csv"))
    assert sorted(path.stem for path in found_in.glob("*.csv")) == tables
    (found,) = (analysis for analysis in run.analyses(command) if analysis.dir == found_in)
    assert_same_tables(found, single, tables)


def test_every_view_is_made_once(run: RunDir) -> None:
    """Three views and the untouched image of each image, and those shared images that the pass has no views of."""
    splits = read_json(run.splits, dict)
    sizes = {name: len(splits[name]) for name in ("candidate", "independent", "external", "shared")}
    passed = sizes["candidate"] * 2 + sizes["independent"] + sizes["external"]
    rest = sizes["shared"] - sizes["candidate"]
    by_random = sizes["shared"] + sizes["external"]
    assert int((run.root / "forwards.txt").read_text()) == 4 * passed + rest + by_random


def test_the_report_is_made_and_lists_them_all(run: RunDir) -> None:
    page = run.report.read_text(encoding="utf-8")
    for name in SINGLE:
        assert f"<h3>{name}</h3>" in page


def test_a_second_writer_is_refused_before_the_pass(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    from memlight.storage.writing import writer_of

    with (
        writer_of(run.analysis("probe").dir),
        patch.object(together, "measure_everything", side_effect=AssertionError("measured")),
    ):
        assert analyze(run.root, "all", *THREE_LAYERS, "--views=3") == 2
    assert "probe" in capsys.readouterr().err
    assert np.isfinite(read_table(run.analysis("layermem").table())["contrast"]).all(), "what was there stays"


def test_without_classes_the_rest_is_measured(
    plain_pair: TinyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = plain_pair.copy(tmp_path / "pair")
    assert analyze(root, "all", *THREE_LAYERS, "--views=2") == 0
    assert "classmem is left out: no image of 2 of 10 classes" in capsys.readouterr().out
    names = sorted(path.name for path in (root / "analysis").iterdir())
    assert names == ["layermem", "probe", "unitmem", "unitmem-independent-on-independent"]
