"""Every command of docs/DISTRIBUTED.md is one that exists and takes these flags."""

import re
import shlex

import pytest

from memlight.analyze import COMMANDS
from memlight.cli import main
from memlight.commands import build_parser
from tests.tiny_pair import ROOT

SCRIPTS = ("train.py", "analyze.py")
PAGE = (ROOT / "docs" / "DISTRIBUTED.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL))
LINES = BLOCKS.replace("\\\n", "").replace("$command", "probe").replace("$role", "candidate").splitlines()
WORDS = [shlex.split(line, comments=True) for line in LINES]
GIVEN = [words[words.index(script) :] for words in WORDS for script in SCRIPTS if script in words]
"""What is given to either script on the page, the script first."""


@pytest.mark.parametrize("words", GIVEN, ids=lambda words: " ".join(words[:2]))
def test_commands_of_the_page_parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    script, command, *flags = words
    if script == "analyze.py":
        assert build_parser(script, "", COMMANDS).parse_args([command, *flags]).command == command
        return
    assert command in ("pair", "fit")
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *(flag for flag in flags if flag != "--parallel"), "--print_config"])
    assert stopped.value.code == 0
