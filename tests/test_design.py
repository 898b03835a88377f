"""The worked example of docs/DESIGN.md: one folder and one line make an analysis that every page knows."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from memlight.storage.tables import read_json, read_table
from tests.tiny_pair import ROOT, TinyPair
from tests.wandb_files import read_offline_run

PAGE = (ROOT / "docs" / "DESIGN.md").read_text(encoding="utf-8")
FILE_AND_CODE = re.compile(r"^`(memlight/[\w/]+\.py)`[^\n]*\n\n```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
MOST_LINES = 120

ANALYSE = """
import sys
from memlight.analyze import main
for argv in (
    ["silence", "--run=a"],
    ["silence", "--run=b", "--logger=csv"],
    ["report", "--run=a"],
    ["compare", "--runs", "a", "b", "--out=page"],
):
    status = main(argv)
    if status:
        sys.exit(status)
"""


def test_a_new_analysis_is_one_folder_and_one_line(plain_pair: TinyPair, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "memlight", tmp_path / "memlight", ignore=shutil.ignore_patterns("__pycache__"))
    files = FILE_AND_CODE.findall(PAGE)
    assert sum(len(code.splitlines()) for _, code in files) < MOST_LINES
    for name, code in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    registry = tmp_path / "memlight" / "analyses" / "registry.py"
    lines = registry.read_text().replace("    sequence,\n", "    sequence,\n    silence,\n", 1)
    registry.write_text(lines.replace("    sequence.ANALYSIS,\n", "    sequence.ANALYSIS,\n    silence.ANALYSIS,\n"))
    for name in ("a", "b"):
        plain_pair.copy(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", ANALYSE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = read_table(tmp_path / "a" / "analysis" / "silence" / "table.csv")
    assert (table["own"] >= 0).all() and (table["own"] <= 1).all() and (table["own"] > 0).any()
    report = (tmp_path / "a" / "report.html").read_text()
    assert "Silent outputs" in report and "<h3>silence</h3>" in report and "external images, %" in report
    compared = read_table(tmp_path / "page" / "layers.csv")
    assert compared["silence"].tolist() == [*table["difference"].tolist()] * 2
    assert read_table(tmp_path / "page" / "runs.csv")["silence/last"].tolist() == [table["difference"][-1]] * 2
    assert "silence, last layer" in (tmp_path / "page" / "compare.html").read_text()
    assert "by_depth" in read_json(tmp_path / "a" / "analysis" / "silence" / "summary.json", dict)["figures"]
    (offline,) = (tmp_path / "a" / "wandb").glob("offline-run-*")
    run = read_offline_run(offline)
    assert run.summary["silence/last"] == table["difference"][-1]
    curve = [row["silence_by_depth/difference"] for row in run.history if "silence_by_depth/difference" in row]
    assert curve == table["difference"].tolist()
