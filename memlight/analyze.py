"""What stands behind analyze.py: the list of its commands, each a typed function in `memlight.analyses`.

Nothing heavy is imported before a command runs, so that `--help` and mistakes in the command line answer at once.
"""

import sys
from collections.abc import Sequence

from memlight.analyses.classmem.command import classmem
from memlight.analyses.exchange.command import exchange
from memlight.analyses.features.command import features
from memlight.analyses.finetune.command import finetune
from memlight.analyses.images.command import images
from memlight.analyses.layermem.command import layermem
from memlight.analyses.patches.command import PATCHES
from memlight.analyses.probe.command import probe
from memlight.analyses.prune.command import prune
from memlight.analyses.removal.command import removal
from memlight.analyses.sequence.command import sequence
from memlight.analyses.unit.command import unit
from memlight.analyses.unitmem.command import unitmem
from memlight.commands import Command, CommandGroup, build_parser, run_command
from memlight.errors import UserError
from memlight.report.command import report
from memlight.report.compare.command import compare

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
