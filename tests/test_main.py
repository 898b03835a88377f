"""The installed command `memlight`, and configurations by name."""

from pathlib import Path

import pytest

import memlight
from memlight.__main__ import main
from memlight.errors import UserError
from memlight.training.arguments import configs_by_name, shipped_configs
from tests.tiny_pair import ROOT


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"memlight {memlight.__version__}\n"
    assert f'version = "{memlight.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["--help"], 0, "usage: memlight {train,analyze}"),
        ([], 2, "usage: memlight {train,analyze}"),
        (["nothing"], 2, "error: memlight nothing: no such command; choose train or analyze."),
        (["train"], 2, "usage: train.py"),
        (["train", "--help"], 0, "usage: train.py"),
        (["analyze", "report", "--run", "nothing"], 2, "--run nothing: no such directory"),
    ],
)
def test_words_lead_to_the_two_programs(
    argv: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == status
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_configurations_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = shipped_configs()
    assert {"demo_quick", "simclr_cifar10", "sequence/dam_switch"} <= names.keys()
    file = str(ROOT / "configs" / "demo_quick.yaml")
    assert configs_by_name(["--config", "demo_quick", "--x=1"]) == ["--config", file, "--x=1"]
    assert configs_by_name(["--config=demo_quick"]) == [f"--config={file}"]
    monkeypatch.chdir(tmp_path)
    Path("demo_quick").write_text("")  # a file of that name wins
    for words in (["--config", "demo_quick"], ["--config", "missing.yaml"], ["-c"], ["--x", "demo_quick"]):
        assert configs_by_name(words) == words
    with pytest.raises(UserError, match=r"neither a file nor a configuration that comes with memlight; nearest: demo_"):
        configs_by_name(["--config", "demo_quik"])
