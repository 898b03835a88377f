"""One HTML page of a sequence experiment: it has members that differ in seeds, and no encoders, splits or images."""

from pathlib import Path
from typing import Any

from memlight.analyses.sequence.section import sequence_section
from memlight.display import page
from memlight.display.page import number, word
from memlight.display.parts import provenance, rows_of
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, table_of, write_text

SUMMARY = "summary.json"


def write_sequence_report(run: RunDir) -> Path:
    """Write ``report.html`` of a sequence experiment.

    Args:
        run: a run directory with ``results.npz``.

    Returns:
        The page's path.

    Raises:
        UserError: a table or summary is damaged.
    """
    made = read_json(run.root / SUMMARY)
    measured = sequence_section(run) or page.paragraph(
        "Not measured yet. Make it with", "missing", code=f"python analyze.py sequence --run {run.root}"
    )
    sections = [
        ("Sequences", measured),
        ("What was done", _events(made["events"])),
        ("How it was made", _provenance(run)),
    ]
    count, sets = made["members"], len(made["sets"])
    opening = f"{count} {'member' if count == 1 else 'members'} trained together, {sets} sequence set"
    opening += "." if sets == 1 else "s one after the other."
    write_text(run.report, page.page(f"What {run.name} learned", page.paragraph(opening, "soft"), sections))
    return run.report


def _events(events: list[dict[str, object]]) -> str:
    if not events:
        return page.paragraph("One set from beginning to end: no switch, no intervention.")
    cells = [(event["step"], event["kind"], event["words"]) for event in events]
    rows = [
        [number(int(row["step"])), word(row["kind"]), word(row["words"])]
        for row in rows_of(table_of(("step", "kind", "words"), cells))
    ]
    return page.table(("gradient step", "event", "what happened"), rows)


def _provenance(run: RunDir) -> str:
    return provenance(run, ("sequence",), _made, "Nothing is recorded.")


def _made(summary: Any) -> list[tuple[str, str]]:
    return [
        ("finished", f"{summary['finished']}, {summary['seconds']:.1f} s"),
        ("results, sha256", summary["checkpoints"]["sequence"][:12]),
        ("first member's seed", str(summary["seed"])),
    ]
