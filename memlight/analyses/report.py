"""`analyze.py report`."""


def report(run: str) -> None:
    """One self-contained HTML page from everything the run directory holds.

    Args:
        run: run directory.
    """
    from memlight.report import write_report
    from memlight.rundir import RunDir

    opened = RunDir.open(run)
    opened.require_writable()
    print(f"report: {write_report(opened)}")
