"""`memlight train ...` and `memlight analyze ...`: train.py and analyze.py as one installed command."""

import sys
from collections.abc import Sequence

from memlight.endings import leave

USAGE = """\
usage: memlight {train,analyze} ...

  memlight train pair --config simclr_cifar10 --data.root data/cifar10      train a pair of encoders, as train.py does
  memlight analyze all --run runs/simclr_cifar10                            measure it, as analyze.py does
  memlight train --help, memlight analyze --help                            every command
  memlight --version

python -m memlight is the same command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of train.py or analyze.py.

    Returns:
        Exit status of the command; 2 where there is no such.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    match words[:1]:
        case ["train"]:
            from memlight.cli import main as train

            return train(words[1:])
        case ["analyze"]:
            from memlight.analyze import main as analyze

            return analyze(words[1:])
        case ["--version"]:
            import memlight

            print(f"memlight {memlight.__version__}")
            return 0
        case ["--help" | "-h"]:
            print(USAGE, end="")
            return 0
        case []:
            print(USAGE, end="", file=sys.stderr)
            return 2
        case [other, *_]:
            print(f"error: memlight {other}: no such command; choose train or analyze.", file=sys.stderr)
    return 2


def run() -> None:
    """What the installed command does."""
    leave(main())


if __name__ == "__main__":
    run()
