"""The page: words follow the numbers, nothing is fetched, and what is missing says how to make it."""

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from memlight.analyses.layermem.columns import LAYERMEM_TABLE
from memlight.analyses.layermem.section import blocks_words, contrast_words, membership_words
from memlight.analyses.unitmem.section import unitmem_words
from memlight.display.words import joined
from memlight.errors import UserError
from memlight.report.page import write_report
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, write_table, write_text
from tests.synthetic_run import (
    LAYERS,
    analyse,
    layermem_table,
    make_trained,
    membership_table,
    unitmem_layers,
    unitmem_table,
)


class Reader(HTMLParser):
    """Checks that tags nest, and collects text, image sources and table rows."""

    VOID = ("meta", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.sources: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        if "style" not in self.open and "script" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def _analysed_once(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = make_trained(tmp_path_factory.mktemp("runs") / "simclr")
    analyse(run)
    return run


@pytest.fixture
def analysed(_analysed_once: RunDir, tmp_path: Path) -> RunDir:
    """A run of one's own with all analyses."""
    return RunDir(Path(shutil.copytree(_analysed_once.root, tmp_path / "simclr")))


def with_interval(shift: Callable[[Table], np.ndarray]) -> Table:
    table = layermem_table()
    middle = shift(table)
    return table | {"contrast": middle, "p_adjusted": np.where(middle != 0, 0.01, 0.6)}


def test_the_headline_names_where_memorisation_is_and_is_not_measured() -> None:
    assert contrast_words(layermem_table()) == (
        "Memorisation is measured in 4 of 10 layers, most in res6: its contrast is 0.0655, where 0 is nothing "
        "memorised (95 % band over all layers 0.0635 to 0.0675; adjusted p 0.0001, all layers tested together). No "
        "memorisation is measured in layer1, layer2, layer3, layer4, res2 and layer5."
    )


def test_the_headline_claims_nothing_where_there_is_nothing() -> None:
    nothing = contrast_words(with_interval(lambda table: np.zeros(len(LAYERS))))
    assert nothing == (
        "No memorisation is measured in any of 10 layers: no contrast lies above 0 (all layers tested together; "
        "smallest adjusted p 0.6)."
    )
    everything = contrast_words(with_interval(lambda table: np.full(len(LAYERS), 0.01)))
    assert "in 10 of 10 layers" in everything and "No memorisation" not in everything
    below = contrast_words(with_interval(lambda table: np.where(table["depth"] == 1, -0.01, 0)))
    assert "no contrast lies above 0" in below and "In layer1 the contrast lies below 0" in below


def test_the_most_memorising_layer_is_one_that_is_claimed() -> None:
    table = with_interval(lambda table: np.where(table["depth"] == 3, 0.002, 0.0))
    table["contrast"][8], table["p_adjusted"][8] = 0.5, 0.051
    assert "in 1 of 10 layers, most in layer3" in contrast_words(table)


def test_unit_words_follow_the_pair_contrast() -> None:
    layers = unitmem_layers(unitmem_table(np.random.default_rng(0)))
    among = "(10 layers tested together at a family-wise 5 %)."
    assert unitmem_words(layers).endswith(f"is above 0 in layer7, layer8 and res6 {among}")
    layers["unit_contrast_p_adjusted"][:] = 0.2
    assert unitmem_words(layers).endswith(f"is not above 0 in any layer {among}")
    del layers["unit_contrast"]
    assert "contrast" not in unitmem_words(layers)


def test_a_whole_report_is_self_contained_and_has_every_number(analysed: RunDir) -> None:
    html = write_report(analysed).read_text(encoding="utf-8")
    page = Reader(html)
    assert not re.search(r"https?:|//cdn|@import|url\(", html)
    pictures = [source for source in page.sources if not source.startswith("#")]
    assert len(pictures) == 7 and all(source.startswith("data:image/png;base64,") for source in pictures)
    assert contrast_words(layermem_table()) in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert membership_words(membership_table()) in page.text.replace("\N{NO-BREAK SPACE}", " ")
    rows = [row[:5] for row in page.rows]
    assert ["layer6", "0.0058", "0.0046 to 0.0070", "0.0001", "memorisation measured"] in rows
    assert ["layer1", "0.0000", "\N{MINUS SIGN}0.0012 to 0.0012", "0.9000", "no memorisation measured"] in rows
    assert "halves of the shared images differ in no layer (4.5\N{NO-BREAK SPACE}% of 200 halvings do" in page.text
    assert "dealt at random" in page.text
    assert ["layer4", "external", "3.00", "2.0e-02"] in page.rows
    assert ["candidate", "pooled", "knn", "68.12", "96.20", "40000", "5000"] in page.rows
    for fact in ("cifar10 (10 shared, 10 candidate", "ab" * 32, "candidate cdcdcdcdcdcd", "class_path: SimCLR"):
        assert fact in page.text
    assert "Not measured yet" not in page.text


def test_what_is_missing_says_which_command_makes_it(tmp_path: Path) -> None:
    page = Reader(write_report(make_trained(tmp_path / "run")).read_text(encoding="utf-8"))
    for command in ("layermem", "unitmem", "probe"):
        assert f"Not measured yet. Make it with python analyze.py {command} --run {tmp_path / 'run'}" in page.text
    assert "No epoch was logged yet" not in page.text
    empty = Reader(write_report(RunDir(tmp_path / "other")).read_text(encoding="utf-8"))
    assert "Encoders trained: none yet." in empty.text
    assert "No epoch was logged yet." in empty.text


def test_a_training_in_its_first_epoch_has_a_page(tmp_path: Path) -> None:
    run = make_trained(tmp_path / "run")
    for role in ("candidate", "independent"):
        write_text(run.member(role).metrics, "step,lr-SGD\n9,0.1\n")
    assert "No epoch was logged yet." in write_report(run).read_text(encoding="utf-8")


def test_names_cannot_break_the_page(analysed: RunDir) -> None:
    table = layermem_table()
    table["layer"] = np.array([f"<script>{name}" for name in table["layer"]])
    write_table(analysed.analysis("layermem").table(), table, LAYERMEM_TABLE)
    write_text(analysed.config, "</code></pre><script>alert(1)</script>")
    html = write_report(analysed).read_text(encoding="utf-8")
    assert html.count("<script>") == 1
    assert "<script>layer6" in Reader(html).text


def test_an_undefined_contrast_is_not_called_no_memorisation(analysed: RunDir) -> None:
    table = layermem_table()
    for name in ("contrast", "contrast_low", "contrast_high", "p_adjusted"):
        table[name][0] = np.nan
    write_table(analysed.analysis("layermem").table(), table, LAYERMEM_TABLE)
    page = Reader(write_report(analysed).read_text(encoding="utf-8"))
    assert "not defined" in next(row for row in page.rows if row[0] == "layer1")
    assert "measured in layer2, layer3" in page.text


def test_what_the_auc_says_depends_on_its_adjusted_p() -> None:
    table = membership_table()
    assert membership_words(table) == (
        "Shown one image of each member's own, the score of res6 tells in 76 of 100 cases which member was trained on "
        "which, where 50 are guessing (AUC 0.76, 95 % band over all layers 0.74 to 0.78; adjusted p 0.0001)."
    )
    table["p_adjusted"][:] = 0.2
    assert "no layer's score tells better than guessing which member was trained on which" in membership_words(table)
    table["auc_pair"][:] = np.nan
    assert membership_words(table) == ""


def test_a_damaged_table_leaves_the_old_page(analysed: RunDir) -> None:
    write_report(analysed)
    before = analysed.report.read_bytes()
    path = analysed.analysis("layermem").table()
    path.write_text(path.read_text()[:-5])
    with pytest.raises(UserError, match="cut short"):
        write_report(analysed)
    assert analysed.report.read_bytes() == before


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.01, 0.005, 0.015), "the MLPs memorise more"),
        ((-0.01, -0.015, -0.005), "the attentions memorise more"),
        ((0.01, -0.005, 0.025), "neither memorises measurably more than the other"),
    ],
)
def test_words_about_blocks_follow_the_interval(interval: tuple[float, float, float], verdict: str) -> None:
    names = ("mlp_minus_attention", "mlp_minus_attention_low", "mlp_minus_attention_high")
    assert blocks_words(dict(zip(names, interval, strict=True))).endswith(f"; {verdict}.")
    assert blocks_words({"contrast/layer1": 0.1}) == ""


def test_long_lists_of_layers_are_counted() -> None:
    names = [f"layer{n}" for n in range(9)]
    assert joined(names[:8]).endswith("layer6 and layer7")
    assert joined(names) == "9 layers" and joined(names, "the others") == "the others"
