"""What stands behind analyze.py: the list of its commands, each a typed function in `memlight.analyses`.

Nothing heavy is imported before a command runs, so that `--help` and mistakes in the command line answer at once.
"""

import sys
from collections.abc import Sequence

from memlight.analyses.classmem import classmem
from memlight.analyses.compare import compare
from memlight.analyses.exchange import exchange
from memlight.analyses.features import features
from memlight.analyses.finetune import finetune
from memlight.analyses.images import images
from memlight.analyses.layermem import layermem
from memlight.analyses.patches import PATCHES
from memlight.analyses.probe import probe
from memlight.analyses.prune import prune
from memlight.analyses.removal import removal
from memlight.analyses.report import report
from memlight.analyses.sequence import sequence
from memlight.analyses.unit import unit
from memlight.analyses.unitmem import unitmem
from memlight.commands import Command, CommandGroup, build_parser, run_command
from memlight.errors import UserError

COMMANDS: dict[str, Command | CommandGroup] = {
    "layermem": layermem,
    "unitmem": unitmem,
    "classmem": classmem,
    "probe": probe,
    "features": features,
    "images": images,
    "prune": prune,
    "exchange": exchange,
    "unit": unit,
    "finetune": finetune,
    "removal": removal,
    "patches": PATCHES,
    "sequence": sequence,
    "report": report,
    "compare": compare,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of analyze.py.

    Returns:
        Exit status: 0; 2 with one line on standard error when the user can fix it; 130 after ctrl-C.
    """
    parser = build_parser("analyze.py", "Measure what an encoder memorised.", COMMANDS)
    try:
        run_command(parser, COMMANDS, sys.argv[1:] if argv is None else argv)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; results of earlier commands are as they were", file=sys.stderr)
        return 130
