"""The HTML page of several runs side by side. No torch."""

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from memlight.analyses.registry import headline_numbers
from memlight.analyses.verdicts import holm, interval_p
from memlight.display import page
from memlight.display.page import Cell, decimals, number, word
from memlight.display.parts import POINTS
from memlight.display.words import named_above, together
from memlight.report.compare.groups import Group, spread, spread_words
from memlight.report.compare.runs import Axis, ComparedRun, measured_otherwise, same_encoders
from memlight.runs.settings import SHORT_NAMES, differing, setting_text


@dataclass(frozen=True)
class Comparison:
    """What the page is made from.

    Attributes:
        runs: in the order given.
        groups: the same runs, in groups.
        axis: where their layers stand.
    """

    runs: Sequence[ComparedRun]
    groups: Sequence[Group]
    axis: Axis

    @property
    def grouped(self) -> bool:
        """Whether any group has several runs."""
        return any(len(group.runs) > 1 for group in self.groups)

    @property
    def numbers(self) -> list[str]:
        """The headline numbers on the page that any run has; published LayerMem stands in the tables only."""
        return [
            name
            for name, number in headline_numbers().items()
            if number.title and any(spread(group, name).runs for group in self.groups)
        ]

    @property
    def differing(self) -> list[str]:
        """Settings in which the runs differ."""
        return differing([run.settings for run in self.runs])


def comparison_page(content: Comparison, pictures: Mapping[str, str]) -> str:
    """The whole document.

    Args:
        content: the runs.
        pictures: figures as HTML, by name.
    """
    sections = [
        ("Runs", pictures.get("headlines", "") + runs_section(content)),
        ("Contrast by depth", _depth_words(content) + pictures.get("contrast", "")),
        ("Groups", _groups(content) + pictures.get("groups", "")),
        ("Units", pictures.get("unitmem", page.paragraph("UnitMem was measured in none of these runs.", "missing"))),
        ("Not measured", missing_section(content)),
        ("How it was made", provenance_section(content)),
    ]
    return page.page(f"{len(content.runs)} runs side by side", _opening(content), sections)


def contrast_words(runs: Sequence[ComparedRun]) -> str:
    """The contrast of the last layers in words that follow the numbers; all runs are tested together (Holm)."""
    measured = [run for run in runs if run.number("contrast/last_low") <= run.number("contrast/last_high")]
    if not measured:
        return "The contrast was measured in none of these runs."
    low, high = (pick(measured, key=lambda run: run.number("contrast/last")) for pick in (min, max))
    ends = [[run.number(f"contrast/last{end}") for run in measured] for end in ("", "_low", "_high")]
    values, p = np.array(ends[0]), holm(interval_p(*ends))
    above, below = (int(named_above(sign * values, p).sum()) for sign in (1, -1))
    text = (
        f"Contrast of the last layer: from {decimals(low.number('contrast/last'))} ({low.name}) to "
        f"{decimals(high.number('contrast/last'))} ({high.name}); it lies above 0 in {above} of "
        f"{together(len(measured), 'runs')} (each over its images)."
    )
    return f"{text} In {below} it lies below 0, which memorisation cannot explain." if below else text


def _opening(content: Comparison) -> str:
    keys = content.differing
    told = [f"The runs differ in {', '.join(keys)}." if keys else "The runs differ in no setting."]
    told += [f"{' and '.join(names)} hold the same encoder file." for names in same_encoders(content.runs)]
    unknown = [run.name for run in content.runs if not run.settings]
    told += [f"{name} says nothing of how it was trained." for name in unknown]
    return page.paragraph(contrast_words(content.runs), "lead") + page.paragraph(" ".join(told))


def runs_section(content: Comparison) -> str:
    """A row per run with the settings that differ and its headline numbers, and what all share."""
    short = [key for key in content.differing if key in SHORT_NAMES.values()]
    header = ["run", *short, *(headline_numbers()[name].title for name in content.numbers)]
    rows = [
        [word(run.name), *(_setting(run, key) for key in short), *(_measured(run, name) for name in content.numbers)]
        for run in content.runs
    ]
    explained = (
        "In brackets 95 % intervals over the images of one run, of each number by itself. A highest layer is chosen by "
        "what it shows, so what stands there is the band that holds all layers of the run at once; runs that were "
        "measured before there was one have none. The last layer is not chosen. Accuracies are the candidate's."
    )
    html = page.paragraph(explained, "soft") + page.table(header, rows)
    if len(short) < len(content.differing):
        every = [[word(run.name), *(_setting(run, key) for key in content.differing)] for run in content.runs]
        html += page.folded("Every setting that differs", page.table(["run", *content.differing], every))
    shared = [(key, value) for key, value in content.runs[0].settings.items() if key not in content.differing]
    facts = [(key, setting_text(value) or "not set") for key, value in shared]
    return html + page.folded("What all share", page.facts(facts))


def _setting(run: ComparedRun, key: str) -> Cell:
    value = run.settings.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(str(value), value)
    return word(setting_text(value))


def _measured(run: ComparedRun, name: str) -> Cell:
    cell = _number(name, run.number(name))
    if not headline_numbers()[name].interval or cell.value is None:
        return cell
    low, high = (run.number(f"{name}_{end}") for end in ("low", "high"))
    ends = f" [{_text(name, low)}, {_text(name, high)}]" * math.isfinite(low + high)
    return Cell(f"{cell.text}{ends} {run.numbers.get(f'{name}_layer', '')}".rstrip(), cell.value)


def _number(name: str, value: float) -> Cell:
    return number(_scaled(name, value), headline_numbers()[name].digits)


def _text(name: str, value: float) -> str:
    return decimals(_scaled(name, value), headline_numbers()[name].digits)


def _scaled(name: str, value: float) -> float:
    return POINTS * value if headline_numbers()[name].percent else value


def _depth_words(content: Comparison) -> str:
    if content.axis.layers:
        text = "All runs have the layers of one architecture; they stand in execution order."
    else:
        text = (
            "The runs have different layers. They stand on a common axis of relative depth, index / (number of layers "
            "\N{MINUS SIGN} 1), from 0 for the first to 1 for the last; layers at equal depth need not do the same."
        )
    return page.paragraph(text, "soft")


def _groups(content: Comparison) -> str:
    by = list(content.groups[0].values)
    told = f"Grouped by {', '.join(by)}. " if by else "All runs are one group. "
    words = page.paragraph(told + spread_words(content.groups))
    if not content.grouped:
        return words
    explained = (
        "For several runs: their mean, in brackets its 95 % interval by Student's t over runs, then the lowest and the "
        "highest of them. For one run: its number, in brackets its 95 % interval over images. Each interval is for its "
        "number by itself."
    )
    header = [*by, "runs", *(headline_numbers()[name].title for name in content.numbers)]
    rows = [
        [
            *(_setting(group.runs[0], key) for key in by),
            number(len(group.runs)),
            *(_spread(group, name) for name in content.numbers),
        ]
        for group in content.groups
    ]
    return words + page.paragraph(explained, "soft") + page.table(header, rows)


def _spread(group: Group, name: str) -> Cell:
    found = spread(group, name)
    if found.runs < 2:
        (run,) = [run for run in group.runs if run.number(name) == found.mean] or group.runs[:1]
        return _measured(run, name)
    ends = (found.mean_low, found.mean_high, found.lowest, found.highest)
    low, high, lowest, highest = (_text(name, end) for end in ends)
    cell = _number(name, found.mean)
    return Cell(f"{cell.text} [{low}, {high}], {lowest} to {highest}", cell.value)


def missing_section(content: Comparison) -> str:
    """The commands that measure what is blank."""
    commands = [
        f"python analyze.py {command} --run {shlex.quote(str(run.run.root))}"
        for run in content.runs
        for command in run.missing
    ]
    if not commands:
        return page.paragraph("Every run has the contrast, UnitMem and accuracies.")
    return page.paragraph("What is blank here is measured by", "missing") + page.listing("\n".join(commands))


def provenance_section(content: Comparison) -> str:
    """How the page and the results of each run were made, and what was not measured alike."""
    parts = []
    for command, ways in measured_otherwise(content.runs).items():
        told = "; ".join(f"{flags} ({', '.join(names)})" for flags, names in ways.items())
        parts.append(page.paragraph(f"{command} was not measured alike: {told}.", "missing"))
    made_with = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    parts.append(page.paragraph("Only results without a tag are compared. This page:", code=made_with))
    each = ""
    for run in content.runs:
        made = [(command, _how(summary)) for command, summary in run.summaries.items()]
        each += f"<h3>{escape(run.name)}</h3>" + page.facts([("directory", str(run.run.root)), *made])
    return "".join(parts) + page.folded("Commands of each run", each)


def _how(summary: Mapping[str, Any]) -> str:
    code = f"code {summary['git_commit'][:12]}" if summary["git_commit"] else "not a git checkout"
    return f"{summary['command_line']} ({summary['finished']}, {summary['device']}, {code})"
