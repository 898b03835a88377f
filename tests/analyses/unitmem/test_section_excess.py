"""Words about the excess follow its intervals and those of held-out images."""

from pathlib import Path

import numpy as np

from memlight.analyses.unitmem.columns import UNITMEM_NULL
from memlight.analyses.unitmem.section_excess import excess_html, excess_words
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, write_table


def null(low: list[float], held_out_high: list[float]) -> Table:
    columns = {name: np.zeros(2) for name in [*UNITMEM_NULL][1:]}
    columns |= {"excess": np.array(low) + 0.01, "excess_low": np.array(low), "held_out_high": np.array(held_out_high)}
    return {"layer": np.array(["early", "late"]), **columns}


def test_words() -> None:
    assert "in no layer" in excess_words(null([-0.1, 0.0], [0.1, 0.1]))
    misfit = excess_words(null([0.01, 0.02], [0.05, 0.05]))
    assert "in early and late; nowhere does it exceed the null by more than held-out images" in misfit
    beyond = excess_words(null([-0.1, 0.02], [0.0, 0.01]))
    assert "score in late; in late its excess lies above that of held-out images" in beyond
    alone = null([0.01, 0.02], [np.nan, np.nan]) | {"held_out_excess": np.full(2, np.nan)}
    assert "no held-out images" in excess_words(alone)


def test_a_result_without_the_table_has_no_section(tmp_path: Path) -> None:
    analysis = RunDir(tmp_path).analysis("unitmem")
    assert excess_html(analysis) == ""
    write_table(analysis.table("null"), null([0.01, 0.02], [0.0, 0.0]), UNITMEM_NULL)
    assert "late" in excess_html(analysis) and "Excess over the null" in excess_html(analysis)
