"""How often 95 % intervals of the contrast hold its true value: the table in docs/METHODS.md.

    python benchmarks/coverage.py                       # about six minutes on two CPU cores
    python benchmarks/coverage.py --simulations 200

Scores of n candidates and n independent images: normal; lognormal in one group or in both; normal with 2 % of the
candidates (drawn anew) shifted by 5 standard deviations, and the same with exactly 2 % of them. Expected: at least .93
with what `family` chooses.
"""

import argparse
import math

import numpy as np

from memlight.stats.families import bootstrap_t, needs_bootstrap

SHIFT, SHARE = 5.0, 0.02
KINDS = ("normal", "both lognormal", "one lognormal", "2 % shifted, drawn anew", "2 % shifted, exactly")


def draw(kind: str, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(n, 1)`` of candidates and of independent images."""
    candidate, independent = generator.standard_normal((2, n, 1))
    if kind.endswith("lognormal"):
        return np.exp(candidate), np.exp(independent) if kind.startswith("both") else independent
    if kind.endswith("anew"):
        candidate += SHIFT * (generator.random((n, 1)) < SHARE)
    if kind.endswith("exactly"):
        candidate[: round(SHARE * n)] += SHIFT
    return candidate, independent


def main() -> None:
    """Print a row for each kind of scores and number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000, help="of each row; a fifth of them at n = 5000")
    options = parser.parse_args()
    print("| scores | images a group | normal | bootstrap-t | chosen |\n|---|---|---|---|---|")
    for kind in KINDS:
        truth = SHIFT * SHARE / 2 if kind.startswith("2 %") else math.exp(0.5) / 2 if kind.startswith("one") else 0.0
        for n in (50, 200, 500, 5000):
            generator = np.random.default_rng(n)
            covered = np.zeros(3)
            simulations = options.simulations if n < 5000 else options.simulations // 5
            for seed in range(simulations):
                groups = draw(kind, n, generator)
                contrast = float(groups[0].mean() - groups[1].mean()) / 2
                error = math.sqrt(sum(group.var(ddof=1) / n for group in groups)) / 2
                lower, upper, _ = bootstrap_t(*groups, draws=1000, seed=seed)
                normal = abs(contrast - truth) < 1.96 * error
                studentised = contrast - float(lower[0]) * error < truth < contrast + float(upper[0]) * error
                chosen = studentised if needs_bootstrap(*groups) else normal
                covered += [normal, studentised, chosen]
            print(
                f"| {kind} | {n} | " + " | ".join(f"{share:.3f}" for share in covered / simulations) + " |", flush=True
            )


if __name__ == "__main__":
    main()
