"""`analyze.py compare`."""

from pathlib import Path


def compare(runs: list[str], out: str | None = None, by: list[str] | None = None) -> None:
    """Several runs side by side: what differs between them, contrast and UnitMem by depth, headline numbers.

    Args:
        runs: two or more run directories; earlier comparisons among them (as in runs/*) are left out.
        out: directory of the page, its tables and figures; runs/compare-NAMES if unset.
        by: settings to group by, such as repeat or model.temperature; all that differ, the seeds aside, if unset.
    """
    from memlight.report.compare.directory import (
        default_directory,
        is_comparison,
        require_replaceable,
        write_comparison,
    )
    from memlight.report.compare.groups import default_keys
    from memlight.report.compare.runs import open_runs

    paths = [path for path in runs if not is_comparison(path)]
    directory = Path(out) if out is not None else default_directory(paths)
    require_replaceable(directory)
    opened = open_runs(paths)
    page = write_comparison(opened, default_keys(opened) if by is None else by, directory)
    print(f"{directory}: runs.csv, layers.csv, groups.csv, figures")
    print(f"comparison: {page}")
