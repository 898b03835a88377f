"""What stands behind train.py: `pair`, `removal`, `fit` and `validate`.

This module imports neither torch nor Lightning, so that `train.py --help` and many a mistake in the
command line answer at once; `memlight.training.fit` is loaded when there is something to train.
"""

import os
import sys
from collections.abc import Sequence
from signal import SIGTERM

from memlight.endings import children_end_with_us, end_with_parent, leave, told_when_terminated
from memlight.errors import UserError, flag_among
from memlight.storage.writing import full_disk_in_words

USAGE = """\
usage: train.py {pair,removal,fit,validate} [options]

  pair      train a candidate and an independent encoder: two `fit` processes, resumable, finished members kept
  removal   train a pair's candidate again without its most memorised images, the least, and random ones; compare
  fit       train one member (--data.role candidate|independent|all), with any flag of Lightning's Trainer
  validate  the loss of a checkpoint on the external split (--ckpt_path FILE)

  train.py pair --config configs/simclr_cifar10.yaml --data.root data/cifar10
  train.py fit  --config configs/simclr_cifar10.yaml --data.role candidate
  train.py removal --config configs/removal_digits.yaml     (or --run runs/demo_digits --remove 100 --trials 3)
  train.py fit  --config configs/sequence/dam_switch.yaml --model.replicas 64
  train.py fit  --help       lists every option;  --print_config  prints the whole configuration as YAML

A configuration of configs/ is given by its file or by its name (--config simclr_cifar10).
A class is given by its name (--model SimCLR); its options follow it (--model.encoder resnet18). Changing the
class drops the options that a configuration file gave to the other one.
"""

_SAVED = "finished epochs are saved: pair goes on from there, fit with --resume true"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of train.py.

    Returns:
        Exit status: 0; 2 with one line on standard error when the user can fix it; 130 after ctrl-C; 143 after SIGTERM.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        end_with_parent()
        with told_when_terminated(), children_end_with_us(), full_disk_in_words():
            return _run(args)
    except UserError as error:
        flag_of = flag_among(error.flags) if error.flags is not None else "--{}".format
        print(f"error: {error.in_flags(flag_of)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    except SystemExit as stopped:
        if stopped.code == 128 + SIGTERM:
            if not getattr(stopped, "said", False) and os.environ.get("LOCAL_RANK", "0") == "0":
                print(f"terminated; {_SAVED}", file=sys.stderr)
            return 128 + SIGTERM
        if not isinstance(stopped.__context__, KeyboardInterrupt):  # Lightning turns ctrl-C into exit(1)
            raise
    print(f"interrupted; {_SAVED}", file=sys.stderr)
    return 130


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if args else 2
    command = args[0]
    if command not in ("pair", "removal", "fit", "validate"):
        raise UserError(f"train.py {command}: no such command; choose pair, removal, fit or validate.")
    from memlight.commands import with_underscores
    from memlight.training.arguments import (
        configs_by_name,
        configs_first,
        lists_in_one_word,
        require_configs,
        trains_sequences,
    )

    given = configs_by_name(with_underscores(args[1:]))
    require_configs(given)
    flags = lists_in_one_word(configs_first(given))
    if command == "pair":
        from memlight.training.pair import train_pair

        return train_pair(flags)
    if command == "removal":
        from memlight.training.removal import train_removal

        return train_removal(flags)
    import memlight.callbacks  # noqa: F401 - registers them, so that `class_path: UnitMemCallback` is found
    from memlight.training.fit import run

    if trains_sequences(flags):
        from memlight.training.sequences import SequenceCLI

        run([command, *flags], SequenceCLI)
    else:
        run([command, *flags])
    return 0


if __name__ == "__main__":
    leave(main())
