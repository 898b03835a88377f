"""What the report says about fine-tuning follows the numbers."""

from pathlib import Path

from memlight.analyses.finetune.columns import FINETUNE_EFFECTS, FINETUNE_TABLE
from memlight.analyses.finetune.section import finetune_section, finetune_words, ranking_verdict
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, write_json, write_table
from tests.finetuned_tables import one_trial, tables
from tests.report.test_page import Reader
from tests.synthetic_run import summary_file

HEADLINE = {"dataset": "fish & <chips>", "classes": 3, "train_images": 2000, "test_images": 100}


def test_words_say_what_was_gained_and_whether_the_ranking_found_it() -> None:
    words = finetune_words(tables()[1], HEADLINE)
    assert words.startswith(
        "On fish & <chips> (2000 images trained on, 100 tested on, 3 trials) a linear classifier alone "
        "classifies 50.0 % correctly. The highest mean gain is that of layer8: 20.0 points ("
    )
    assert "4 of 6 arms gain over the classifier alone (6 arms tested together at a family-wise 5 %)." in words
    assert "The 1 layer of highest delta against as many random ones: 18.0 points (" in words
    assert words.count("worth fine-tuning holds.") == 1
    assert "The 2 layers of highest delta against as many random ones: 0.0 points (0.0 to 0.0)." in words
    assert words.count("worth fine-tuning is not decidable.") == 1
    assert "The 2 layers of highest layermem against as many random ones: \N{MINUS SIGN}20.0 points (" in words
    assert words.count("worth fine-tuning does not hold.") == 1


def test_random_layers_can_gain_most() -> None:
    words = finetune_words(tables("layermem-2", "random-2")[1], HEADLINE)
    assert "The highest mean gain is that of 2 layers drawn at random: 10.0 points (" in words


def test_named_layers_and_a_single_trial_claim_nothing() -> None:
    words = finetune_words(one_trial()[1], HEADLINE)
    assert "random" not in words
    assert words.endswith("The highest mean gain is that of layer1: 5.0 points (no interval, one trial).")


def test_the_verdict_needs_an_adjusted_p() -> None:
    found = [ranking_verdict(gain, p) for gain, p in ((0.1, 0.05), (-0.2, 0.01), (0.1, 0.06))]
    assert found == ["holds", "does not hold", "is not decidable"]
    assert ranking_verdict(float("nan"), float("nan")) == "is not decidable"


def write(run: RunDir, tag: str | None, made: tuple[Table, Table]) -> None:
    analysis = run.analysis("finetune", tag)
    write_table(analysis.table(), made[0], FINETUNE_TABLE)
    write_table(analysis.table("effects"), made[1], FINETUNE_EFFECTS)
    write_json(analysis.summary, summary_file(headline=HEADLINE))


def test_the_section_has_every_arm_of_every_result(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert finetune_section(run) == ""
    write(run, None, tables())
    write(run, "named-<only>", tables("layer1"))
    page = Reader(finetune_section(run))
    assert "named-<only>" in page.text and "fish & <chips>" in page.text
    first = page.rows[1:8]
    assert [row[0] for row in first] == tables()[1]["arm"].tolist()
    assert first[0][:4] == ["head", "none", "10", "50.00"] and len(first[0]) == 5  # blanks are not read
    assert (first[2][1], first[2][5], first[2][8]) == ("layer8", "20.00", "18.00")
    assert [row[:2] for row in page.rows[9:]] == [["head", "none"], ["layer1", "layer1"]]
    assert [len(row) for row in page.rows[8:]] == [8, 5, 8]
