"""Every command of the README is one that exists and takes these flags; the demo's own are run at small size."""

import re
import shlex
from pathlib import Path

import pytest

from memlight.analyze import COMMANDS
from memlight.analyze import main as analyze
from memlight.cli import main as train
from memlight.commands import build_parser
from memlight.training.removal import removal

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL))
LINES = [line for line in BLOCKS.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    assert re.search(rf"^{line.split()[1]}:", MAKEFILE, flags=re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in LINES if "analyze.py" in line])
def test_analyze_commands_parse(line: str) -> None:
    words = shlex.split(line)
    assert words[:2] == ["python", "analyze.py"]
    assert build_parser("analyze.py", "", COMMANDS).parse_args(words[2:]).command == words[2]


@pytest.mark.parametrize("line", [line for line in LINES if "train.py" in line])
def test_train_commands_parse(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)
    assert words[:2] == ["python", "train.py"]
    if words[2] == "removal":
        assert build_parser("train.py", "", {"removal": removal}).parse_args(words[2:]).command == "removal"
        return
    assert words[2] in ("pair", "fit")
    with pytest.raises(SystemExit) as stopped:
        train(["fit", *words[3:], "--print_config"])
    assert stopped.value.code == 0


def test_the_demo_is_the_readme_at_small_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        "--trainer.max_epochs=1",
        "--data.num_shared=32",
        "--data.num_candidate=16",
        "--data.num_independent=16",
        "--data.num_external=16",
        "--data.batch_size=16",
        "--data.repeat=1",
        "--trainer.log_every_n_steps=1",
        "--logger=csv",
        f"--run={tmp_path / 'demo'}",
    ]
    for role in ("candidate", "independent"):
        fit = ["fit", "--config", str(ROOT / "configs/demo_quick.yaml"), "--data.role", role]
        assert train([*fit, *small]) == 0
    for command in re.findall(r"analyze\.py (\w+) --run runs/demo_quick", MAKEFILE):
        extra = [] if command == "report" else ["--logger", "csv"]
        extra += ["--views", "2", "--layers", "layer1", "layer8"] if command == "all" else []
        assert analyze([command, "--run", str(tmp_path / "demo"), *extra]) == 0
    page = tmp_path / "demo" / "report.html"
    assert f"report: {page}" in capsys.readouterr().out
    assert "contrast" in page.read_text()
