"""What stands behind train.py: `pair`, `fit` and `validate`.

This module imports neither torch nor Lightning, so that `train.py --help` and every mistake in the
command line answer at once; `memlight.training` is loaded when there is something to train.
"""

import sys
from collections.abc import Sequence

from memlight.errors import UserError

USAGE = """\
usage: train.py {pair,fit,validate} [options]

  pair      train a candidate and an independent encoder: two `fit` processes, resumable, finished members kept
  fit       train one member (--data.role candidate|independent|all), with any flag of Lightning's Trainer
  validate  the loss of a checkpoint on the external split (--ckpt_path FILE)

  train.py pair --config configs/simclr_cifar10.yaml --data.root data/cifar10
  train.py fit  --config configs/simclr_cifar10.yaml --data.role candidate
  train.py fit  --help       lists every option;  --print_config  prints the whole configuration as YAML
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of train.py.

    Returns:
        Exit status: 0, or 2 with one line on standard error when the user can fix it.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        if not args or args[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if args else 2
        if args[0] == "pair":
            from memlight.pair import train_pair

            return train_pair(args[1:])
        if args[0] not in ("fit", "validate"):
            raise UserError(f"train.py {args[0]}: no such command; choose pair, fit or validate.")
        from memlight.training import run

        run(args)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
