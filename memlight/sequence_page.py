"""One HTML page of a sequence experiment: it has members that differ in seeds, and no encoders, splits or images."""

from pathlib import Path

from memlight import page
from memlight.analysis_page import rows_of
from memlight.page import number, word
from memlight.rundir import RunDir
from memlight.sections.sequence import sequence_section
from memlight.tables import read_json, table_of, write_text

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
    sections = [("Sequences", measured), ("What was done", _events(made["events"])), ("How it was made", _made(run))]
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


def _made(run: RunDir) -> str:
    parts = []
    for analysis in run.analyses("sequence"):
        summary = read_json(analysis.summary)
        pairs = [
            ("command", summary["command_line"]),
            ("finished", f"{summary['finished']}, {summary['seconds']:.1f} s"),
            ("results, sha256", summary["checkpoints"]["sequence"][:12]),
            ("first member's seed", str(summary["seed"])),
            ("git commit", summary["git_commit"] or "not a git checkout"),
            ("versions", ", ".join(f"{name} {version}" for name, version in summary["versions"].items())),
        ]
        parts.append(f"<h3>{analysis.dir.name}</h3>" + page.facts(pairs))
    if run.config.is_file():
        parts.append(page.folded("config.yaml of the training", page.listing(run.config.read_text(encoding="utf-8"))))
    return "".join(parts) or page.paragraph("Nothing is recorded.", "missing")
