"""`analyze.py all` beside the single commands one after the other, on the same pair: wall time and their ratio.

    python benchmarks/everything.py                     # trains the quick demo pair for one epoch first: 5 minutes
    python benchmarks/everything.py --run runs/demo_quick

Each command is a process of its own, as a user starts it. Expected on CPUs: a ratio of at most .6.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SINGLE = (
    ["layermem"],
    ["unitmem"],
    ["unitmem", "--member", "independent", "--split", "independent"],
    ["classmem"],
    ["probe"],
)


def timed(*words: str) -> float:
    """Seconds of a command, which must succeed."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each command, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="a trained pair whose images have classes; its results are made anew")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or str(Path(folder) / "pair")
        if options.run is None:
            short = ["--config", "configs/demo_quick.yaml", "--trainer.max_epochs", "1", "--logger", "csv"]
            timed("train.py", "pair", *short, "--run", run)
        singles = 0.0
        for command in SINGLE:
            seconds = timed("analyze.py", *command, "--run", run, "--logger", "csv")
            singles += seconds
            print(f"{' '.join(command):50} {seconds:6.1f} s", flush=True)
        report = timed("analyze.py", "report", "--run", run)
        together = timed("analyze.py", "all", "--run", run, "--logger", "csv")
    print(f"{'report':50} {report:6.1f} s\n{'one after the other':50} {singles + report:6.1f} s")
    print(f"{'all':50} {together:6.1f} s, {together / (singles + report):.2f} of it")


if __name__ == "__main__":
    main()
