"""What the report says about pruning follows the numbers."""

from pathlib import Path

import numpy as np
import pytest

from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE
from memlight.analyses.prune.section import order, prune_section, prune_words
from memlight.analyses.verdicts import JUDGED_ANEW
from memlight.storage.rundir import RunDir
from memlight.storage.schema import required
from memlight.storage.tables import Table, write_json, write_table
from tests.pruned_tables import copies, effects
from tests.synthetic_run import summary_file


def test_words_say_what_fell_what_rose_and_what_became_of_the_order() -> None:
    lead, first, *others = prune_words(copies(), effects())
    unpruned = "the unpruned one's probe classifies 80.00 % of the external images correctly."
    together = "Against random, 8 comparisons tested together at a family-wise 5 %."
    assert lead == f"20 copies were pruned; {unpruned} {together}"
    assert first == (
        "10 % of each layer's units pruned: accuracy fell by 5.00 points without the highest UnitMem, fell by 3.00 "
        "points without random units (mean of 3 draws), rose by 1.00 points without the lowest UnitMem (3 of these 112 "
        "never fired). Against random, the highest UnitMem: costs more; the lowest UnitMem: costs less. The published "
        "order (top costs more than random, random more than low): holds."
    )
    assert [text.rpartition(": ")[2] for text in others] == ["not decidable.", "does not hold.", "not decidable."]
    assert others[1].startswith("10 % of all units pruned")


def test_what_was_not_pruned_is_not_spoken_of() -> None:
    without = {name: column[copies()["mode"] != "random"] for name, column in copies().items()}
    compared = effects() | {"verdict": np.full(8, "no random draws")}
    for text in prune_words(without, compared)[1:]:
        assert "random" not in text and "order" not in text
    draws = {name: column[np.isin(copies()["mode"], ["none", "random"])] for name, column in copies().items()}
    nothing = {name: column[:0] for name, column in effects().items()}
    texts = prune_words(draws, nothing)[1:]
    assert len(texts) == 4
    assert all(text.endswith("fell by 3.00 points without random units (mean of 3 draws).") for text in texts)


@pytest.mark.parametrize(
    ("top", "low", "said"),
    [
        ("costs more", "costs less", "holds"),
        ("costs more", "not decidable", "not decidable"),
        ("costs more", "costs more", "does not hold"),
        ("costs less", "costs less", "does not hold"),
        ("not decidable", "not decidable", "not decidable"),
    ],
)
def test_the_published_order(top: str, low: str, said: str) -> None:
    assert order(top, low) == said


def write(run: RunDir, tag: str | None, table: Table, compared: Table) -> None:
    analysis = run.analysis("prune", tag)
    write_table(analysis.table(), table, PRUNE_TABLE)
    write_table(analysis.table("effects"), compared, PRUNE_EFFECTS)
    write_json(analysis.summary, summary_file())


def test_the_section_has_every_copy_and_every_effect(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert prune_section(run) == ""
    write(run, None, copies(), effects())
    only_random = np.isin(copies()["mode"], ["none", "random"])
    draws = {name: column[only_random] for name, column in copies().items()}
    write(run, "draws", draws, {name: column[:0] for name, column in effects().items()})
    html = prune_section(run)
    plain, _, tagged = html.partition("<h3>draws</h3>")
    assert plain.count("<tr>") == 1 + 8 + 1 + 21
    assert tagged.count("<tr>") == 1 + 13
    assert "10 % of each layer" in plain and "\u22121.00" in plain  # the lowest units' drop, in points
    assert ">costs more</td>" in plain and JUDGED_ANEW not in html


def test_an_older_result_is_judged_anew(tmp_path: Path) -> None:
    """Its rows had verdicts by themselves: the draws of three copies decide little of eight comparisons."""
    run = RunDir(tmp_path)
    old = {name: column for name, column in effects().items() if name in required(PRUNE_EFFECTS)}
    write(run, None, copies(), old)
    html = prune_section(run)
    assert JUDGED_ANEW in html and "costs more</td>" not in html and html.count("not decidable</td>") == 8
