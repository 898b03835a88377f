from dataclasses import replace
from pathlib import Path

import pytest

from memlight.analyses.registry import ANALYSES, as_markdown, curves, headline_columns
from memlight.analyze import COMMANDS
from memlight.report import page
from memlight.storage.tables import write_json
from tests.synthetic_run import make_trained, summary_file
from tests.tiny_pair import ROOT

FOLDERS = {path.parent.name for path in (ROOT / "memlight" / "analyses").glob("*/__init__.py")}

MADE = {
    **{"command_line": "analyze.py x", "git_commit": None, "versions": {}, "seconds": 1.0, "images_per_second": 1.0},
    **{"finished": "today", "device": "CPU", "seed": 0, "split_sha256": None, "checkpoints": {}, "figures": {}},
}


def test_every_folder_is_one_analysis_and_a_command() -> None:
    names = [analysis.name for analysis in ANALYSES]
    assert sorted(names) == sorted(FOLDERS) and [*COMMANDS] == ["all", *names, "report", "compare", "adopt", "layers"]


@pytest.mark.parametrize(("file", "docs"), [("README.md", "docs/"), ("docs/README.md", "")])
def test_the_lists_of_analyses_are_those_of_the_registry(file: str, docs: str) -> None:
    assert f"\n{as_markdown(docs)}\n" in (ROOT / file).read_text(encoding="utf-8")
    assert all((ROOT / "docs" / analysis.docs).is_file() for analysis in ANALYSES)


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"]({path.name})" not in index] == ["README.md"]


def test_a_number_by_layer_comes_from_a_column_of_its_table() -> None:
    for analysis in ANALYSES:
        for curve in analysis.curves.values():
            assert {curve.column, *curve.interval} <= analysis.schema(analysis.by_layer).keys()
    assert len(curves()) == sum(len(analysis.curves) for analysis in ANALYSES)
    assert len(set(headline_columns())) == len(headline_columns())


def test_how_every_result_was_made_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_trained(tmp_path / "run")
    for analysis in ANALYSES:
        write_json(run.analysis(analysis.name).summary, summary_file(**MADE))
    monkeypatch.setattr(page, "ANALYSES", [replace(analysis, section=None) for analysis in ANALYSES])
    monkeypatch.setattr(page, "_opening", lambda run: "")
    html = page.write_report(run).read_text()
    assert [analysis.name for analysis in ANALYSES if f"<h3>{analysis.name}</h3>" not in html] == []


def test_another_table_is_refused() -> None:
    with pytest.raises(ValueError, match="layermem declares no table 'more', only table, samples"):
        ANALYSES[0].schema("more")
