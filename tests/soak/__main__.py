"""`python -m tests.soak`: runs the campaigns and prints how often each tried, and how often all was well.

Two go on side by side: the launched pairs, which take as long as all others together, and those others in turn.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a hundred launched trainings need not compile the package each

import torch

from tests.soak.campaigns import Campaign, Place, campaigns
from tests.soak.children import call
from tests.soak.commands import make_bases


def main() -> int:
    """Run what was chosen; 1 if anything failed."""
    known = campaigns()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--points", type=int, default=50, help="kills of each command (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of random moments and of malformed files (default: 0)")
    parser.add_argument("--only", nargs="+", choices=known, metavar="CAMPAIGN", help=f"of {', '.join(known)}")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process that has started threads cannot be forked
    root = Path(tempfile.mkdtemp(prefix="memlight-soak-"))
    place = Place(root, options.points, options.seed)
    if call(lambda: make_bases(place.bases), root, root / "bases.log"):
        print(f"the directories to begin from could not be made; see {root / 'bases.log'}", file=sys.stderr)
        return 1
    begun = time.monotonic()
    print(f"{'campaign':34} {'tried':>6} {'passed':>6} {'seconds':>8}", flush=True)
    chosen = options.only or list(known)
    beside = [name for name in chosen if name == "kill pair"]
    lane = os.fork() if beside else -1
    if lane == 0:
        os._exit(min(run([known[name] for name in beside], place), 1))
    failed = run([known[name] for name in chosen if name not in beside], place)
    if lane > 0:
        failed += os.waitstatus_to_exitcode(os.waitpid(lane, 0)[1]) != 0
    outcome = "something failed" if failed else "all was well"
    print(f"{'in all':34} {'':13} {time.monotonic() - begun:8.0f}  {outcome}; what failed is kept in {root}")
    return 1 if failed else 0


def run(chosen: Sequence[Campaign], place: Place) -> int:
    """Run campaigns one after the other and print what came of each; gives the number of failures."""
    failed = 0
    for campaign in chosen:
        start = time.monotonic()
        tried = campaign(place)
        passed = tried.count - min(tried.count, len(tried.failures))
        line = f"{tried.name:34} {tried.count:6} {passed:6} {time.monotonic() - start:8.0f}  {tried.note}"
        print("\n    ".join([line, *tried.failures]), flush=True)
        failed += len(tried.failures)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
