"""One directory for several runs side by side: page, tables and figures, whole or not at all. No torch."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from memlight.display import page
from memlight.errors import UserError, named
from memlight.report.compare.figures import contrast_by_depth, contrast_by_group, headline_dots, unitmem_by_depth
from memlight.report.compare.groups import group_runs, groups_table
from memlight.report.compare.page import Comparison, comparison_page
from memlight.report.compare.runs import ComparedRun, common_axis, compare_layers, layers_table, runs_table
from memlight.storage.rundir import RunDir
from memlight.storage.tables import write_table, write_text
from memlight.storage.writing import whole_directory

PAGE = "compare.html"
"""The page's file name, by which a directory of an earlier comparison is known."""

REPEATS_PAGE = "repeats.html"
"""The same of the page of repetitions."""

LONGEST_NAME = 100
"""Longest list of names in a directory's name, in characters."""


def write_comparison(runs: Sequence[ComparedRun], by: Sequence[str], out: Path) -> Path:
    """Write page, tables and figures, the whole directory or nothing.

    Args:
        runs: at least two.
        by: settings to group by; see `memlight.report.compare.groups`.
        out: the directory to make or replace; see `require_replaceable`.

    Returns:
        The page's path.

    Raises:
        UserError: no run has a setting of ``by``.
    """
    content = Comparison(runs, group_runs(runs, by), common_axis(runs))
    with whole_directory(out, argument="out") as partial:
        pictures = _draw(content, partial / "figures")
        write_table(partial / "runs.csv", *runs_table(runs))
        write_table(partial / "layers.csv", layers_table(runs, content.axis), compare_layers())
        write_table(partial / "groups.csv", *groups_table(content.groups))
        write_text(partial / PAGE, comparison_page(content, pictures))
    return out / PAGE


def default_directory(paths: Sequence[str], kind: str = "compare") -> Path:
    """``runs/<kind>-<names>``; a number and a hash in place of names that are many, or not unique."""
    names = sorted(Path(path).resolve().name for path in paths)
    joined = "-".join(names)
    if len(joined) > LONGEST_NAME or len(set(names)) < len(names):
        places = "\n".join(sorted(str(Path(path).resolve()) for path in paths))
        joined = f"{len(names)}-runs-{hashlib.sha256(places.encode()).hexdigest()[:8]}"
    return Path("runs") / f"{kind}-{joined}"


def is_comparison(path: str | Path) -> bool:
    """Whether a directory is an earlier page of several runs."""
    return any((Path(path) / page).is_file() for page in (PAGE, REPEATS_PAGE))


def require_replaceable(out: Path, page_name: str = PAGE) -> None:
    """Refuse to write over what is not an earlier page of the same kind.

    Raises:
        UserError: names the flag.
    """
    with named(run="out"):
        RunDir(out).require_writable()
    if out.is_dir() and any(out.iterdir()) and not (out / page_name).is_file():
        raise UserError("out", out, f"holds other files, which {page_name} would replace", "name a new directory")


def _draw(content: Comparison, directory: Path) -> dict[str, str]:
    """Draw and save what there is to see; the pictures as HTML by name."""
    images = "95 % interval over its images, of each layer by itself (pointwise)"
    band = f"of several runs the band goes from the lowest to the highest, of one run it is the {images}"
    drawn = {}
    if content.numbers:
        caption = (
            "Headline numbers: a dot per run, with its own 95 % interval over images where it has one (each by "
            "itself); a black bar at a group's mean."
        )
        drawn["headlines"] = (headline_dots(content.groups), caption)
    if "contrast/last" in content.numbers:
        caption = f"The contrast by depth, a line per run in its group's colour; the band is the {images}."
        drawn["contrast"] = (contrast_by_depth(content.groups, content.axis), caption)
        if content.grouped:
            caption = f"The contrast by depth, a line per group (number of runs): {band}."
            drawn["groups"] = (contrast_by_group(content.groups, content.axis), caption)
    if "unitmem/last" in content.numbers:
        caption = (
            "Left: UnitMem, mean over units; dotted: what exchangeable images would score. Right: the unit contrast. "
            f"A line per group: {band}."
        )
        drawn["unitmem"] = (unitmem_by_depth(content.groups, content.axis), caption)
    return save_pictures(drawn, directory)


def save_pictures(drawn: Mapping[str, tuple[Figure, str]], directory: Path) -> dict[str, str]:
    """Save figures as PNG files of a new directory, and give them as HTML by name.

    Args:
        drawn: name -> figure and its caption.
        directory: made.
    """
    directory.mkdir(parents=True)
    pictures = {}
    for name, (figure, caption) in drawn.items():
        png = io.BytesIO()
        figure.savefig(png, format="png")
        (directory / f"{name}.png").write_bytes(png.getvalue())
        pictures[name] = page.picture(png.getvalue(), caption)
    return pictures
