import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from memlight.commands import CommandGroup, build_parser, read_docstring, run_command
from tests.tiny_pair import ROOT


def measure(
    run: str,
    ratios: tuple[float, ...] = (0.1,),
    mode: Literal["top", "low"] = "top",
    views: int = 10,
    layers: list[str] | None = None,
    verify: bool = False,
) -> dict[str, object]:
    """Measure something.

    More about it.

    Args:
        run: the run directory.
        ratios: shares of units, in
            per cent of 100 %.
        mode: which end.
        views: how many.
        layers: which layers.
        verify: look twice.

    Returns:
        Its own arguments.
    """
    return {"run": run, "ratios": ratios, "mode": mode, "views": views, "layers": layers, "verify": verify}


COMMANDS = {"measure": measure}


def call(*argv: str) -> object:
    return run_command(build_parser("analyze.py", "about", COMMANDS), COMMANDS, argv)


def test_types_lists_choices_and_switches() -> None:
    assert call(
        "measure", "--run", "r", "--ratios", "0.1", "0.2", "--mode", "low", "--layers", "a", "b", "--verify"
    ) == {
        "run": "r",
        "ratios": [0.1, 0.2],
        "mode": "low",
        "views": 10,
        "layers": ["a", "b"],
        "verify": True,
    }


def test_defaults_come_from_the_signature() -> None:
    assert call("measure", "--run", "r") == measure("r")


@pytest.mark.parametrize("argv", [["measure"], ["measure", "--run", "r", "--mode", "best"], ["other"], []])
def test_a_wrong_command_line_exits_with_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        call(*argv)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_is_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        call("measure", "--help")
    assert stopped.value.code == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "shares of units, in per cent of 100 %. (default: (0.1,))" in page
    assert "the run directory." in page


def test_read_docstring_joins_continued_lines_and_stops_at_the_next_section() -> None:
    summary, helps = read_docstring(measure)
    assert summary == "Measure something."
    assert list(helps) == ["run", "ratios", "mode", "views", "layers", "verify"]
    assert helps["ratios"] == "shares of units, in per cent of 100 %."
    assert helps["verify"] == "look twice."


@dataclass(frozen=True)
class Place:
    """Where.

    Attributes:
        device: cpu or
            cuda.
        tag: a word.
    """

    device: str = "cpu"
    tag: str | None = None


def look(run: str, place: Place = Place()) -> tuple[str, Place]:
    """Look.

    Args:
        run: which.
        place: device and name
    """
    return run, place


def test_a_dataclass_stands_for_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"look": look}
    parser = build_parser("analyze.py", "about", commands)
    assert run_command(parser, commands, ["look", "--run", "r", "--tag", "t"]) == ("r", Place("cpu", "t"))
    assert run_command(parser, commands, ["look", "--run", "r"]) == look("r")
    with pytest.raises(SystemExit):
        run_command(parser, commands, ["look", "--help"])
    help_text = capsys.readouterr().out
    assert "device and name:" in help_text and "cpu or cuda. (default: cpu)" in help_text


def test_commands_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"patches": CommandGroup("About patches.", {"measure": measure}), "measure": lambda: "the other one"}
    parser = build_parser("analyze.py", "about", commands)
    called = run_command(parser, commands, ["patches", "measure", "--run", "runs/x", "--views", "3"])
    assert isinstance(called, dict) and called["run"] == "runs/x" and called["views"] == 3
    assert run_command(parser, commands, ["measure"]) == "the other one"
    for words, said in ((["--help"], "About patches."), (["patches", "--help"], "Measure something.")):
        with pytest.raises(SystemExit, match="0"):
            parser.parse_args(words)
        assert said in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["patches"])
    assert "required: COMMAND" in capsys.readouterr().err


def test_the_help_of_analyze_imports_nothing_that_takes_long() -> None:
    code = "import sys, memlight.analyze; print(sorted({'numpy', 'torch', 'yaml', 'matplotlib'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
