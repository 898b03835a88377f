"""A point of a W&B sweep: what its agent says in the environment, and where the point's results go.

An agent starts one command per point and waits for one W&B run with the id it gave. `fit` answers with its own run;
`pair` with a run for both members, which are then trained as if there were no agent.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VARIABLES = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
"""What an agent sets; every W&B run started with them would be that of the point."""


def sweep_point() -> str | None:
    """The id of the W&B run that a sweep's agent waits for; None where there is no agent."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def default_run(config: str) -> Path:
    """``runs/<config's name>``, and for a point of a sweep ``runs/<config's name>-<id>``, so that each has its own."""
    point = sweep_point()
    return Path("runs") / (Path(config).stem + (f"-{point}" if point else ""))


def without_sweep(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for processes that are not to answer for a sweep's point."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}


@contextmanager
def outside_sweep() -> Iterator[None]:
    """This process without what an agent set."""
    hidden = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
