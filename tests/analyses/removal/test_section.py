"""What the report says about removal studies follows the numbers."""

from pathlib import Path

import numpy as np

from memlight.analyses.removal.columns import REMOVAL_ARMS, REMOVAL_EFFECTS, REMOVAL_TABLE
from memlight.analyses.removal.section import removal_section, removal_words
from memlight.storage.rundir import RunDir
from memlight.storage.tables import write_json, write_table
from tests.removal_tables import arms, effects, table
from tests.synthetic_run import summary_file


def test_words_say_what_fell_and_what_rose() -> None:
    assert removal_words(table(), effects()) == (
        "The probe of the run's own candidate encoder classifies 80.00 % of the external images correctly. "
        "Trained without 4 random candidates, accuracy fell by 3.00 points (mean of 2 draws). "
        "Trained without the 4 most memorised, it "
        "fell by 5.00 points, which costs more than random. Trained without the 4 least memorised, it rose by 1.00 "
        "points, not told apart from random."
    )


def test_one_draw_is_compared_with_nothing() -> None:
    one = {name: column[:4] for name, column in table().items()}
    unknown = effects() | {"verdict": np.full(2, "not decidable")}
    text = removal_words(one, unknown)
    assert "fell by 2.00 points (one draw)" in text
    assert "told apart" not in text


def test_the_section_has_every_arm_and_every_effect(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert removal_section(run) == ""
    for tag in ("4", "4-by-layer5"):
        analysis = run.analysis("removal", tag)
        write_table(analysis.table(), table(), REMOVAL_TABLE)
        write_table(analysis.table("effects"), effects(), REMOVAL_EFFECTS)
        write_table(analysis.table("arms"), arms(), REMOVAL_ARMS)
        write_json(analysis.summary, summary_file())
    html = removal_section(run)
    assert html.count("4 candidates left out, by their score at layer8") == 2
    assert html.count('<td class="word" data-value="random">') == 2 * 2
    assert html.count("costs more") == 2 * 2 + 2  # words, cells with their sort keys
    assert "\N{MINUS SIGN}1.00" in html
