"""The commands of docs/SEQUENCES.md exist, and its Python gives the numbers that it says."""

import re
import shlex

import pytest
import torch

from memlight.analyze import COMMANDS
from memlight.commands import build_parser
from tests.tiny_pair import ROOT

PAGE = (ROOT / "docs" / "SEQUENCES.md").read_text()
LINES = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)).splitlines()


@pytest.mark.parametrize("line", [line for line in LINES if "analyze.py" in line])
def test_analyses_parse(line: str) -> None:
    python, script, *words = shlex.split(line)
    assert (python, script) == ("python", "analyze.py")
    assert build_parser(script, "", COMMANDS).parse_args(words).command == words[0]


def test_every_configuration_that_is_named_exists() -> None:
    named = {*re.findall(r"configs/sequence/(\w+)\.yaml", PAGE), *re.findall(r"runs/((?:control|zipf|dam)_\w+)", PAGE)}
    paragraph = PAGE[PAGE.index("`configs/sequence/` holds") : PAGE.index("## What is measured")]
    named |= set(re.findall(r"`([a-z_]+)`", paragraph))
    there = {path.stem for path in (ROOT / "configs" / "sequence").glob("*.yaml")}
    assert named - there == set() and len(named) > 8


def test_the_notebook_gives_the_probabilities_that_stand_beside_it() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    *lines, last = code.strip().splitlines()
    names: dict[str, object] = {}
    exec("\n".join(lines), names)
    given = eval(last.split("#")[0], names)
    torch.testing.assert_close(given, torch.tensor([[1, 0.7914, 0.7914]]), atol=5e-5, rtol=0)


def test_every_picture_of_the_page_exists() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", PAGE)
    assert pictures and all((ROOT / "docs" / path).is_file() for path in pictures)
