"""What stands behind analyze.py: the list of its commands, which `memlight.analyses.registry` gives.

Nothing heavy is imported before a command runs, so that `--help` and mistakes in the command line answer at once.
"""

import sys
from collections.abc import Sequence

from memlight.analyses.registry import ANALYSES
from memlight.commands import Command, CommandGroup, build_parser, run_command
from memlight.errors import UserError, flag_among
from memlight.report.command import compare, everything, report
from memlight.runs.adopted.command import adopt
from memlight.runs.layers.command import layers
from memlight.storage.writing import full_disk_in_words

COMMANDS: dict[str, Command | CommandGroup] = {
    "all": everything,
    **{analysis.name: analysis.command for analysis in ANALYSES},
    "report": report,
    "compare": compare,
    "adopt": adopt,
    "layers": layers,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of analyze.py.

    Returns:
        Exit status: 0; 2 with one line on standard error when the user can fix it; 130 after ctrl-C.
    """
    parser = build_parser("analyze.py", "Measure what an encoder memorised.", COMMANDS)
    try:
        with full_disk_in_words():
            run_command(parser, COMMANDS, sys.argv[1:] if argv is None else argv)
        return 0
    except UserError as error:
        print(f"error: {error.in_flags(flag_among(error.flags or ()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; results of earlier commands are as they were", file=sys.stderr)
        return 130
