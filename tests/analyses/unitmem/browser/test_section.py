"""The browser's section: it is there when there is something to browse, and says what is missing."""

from pathlib import Path

import pytest

from memlight.analyses.unitmem.browser.content import Content
from memlight.analyses.unitmem.browser.section import browser_section, browser_words
from memlight.errors import UserError
from tests.browsed_run import make_browsed
from tests.report.test_page import Reader


def test_without_a_list_of_strongest_images_there_is_no_section(tmp_path: Path) -> None:
    run = make_browsed(tmp_path / "run")
    run.analysis("unitmem").table("top").unlink()
    assert browser_section(run, 10**6) == ""


def test_the_section_is_whole_html_that_fetches_nothing(tmp_path: Path) -> None:
    html = browser_section(make_browsed(tmp_path / "run"), 10**6)
    page = Reader(html)
    assert page.sources == [] and "http" not in html and "url(" not in html and "@import" not in html
    assert "analysis/unitmem/top.csv" in page.text  # for those without JavaScript


def test_words_say_which_pictures_are_missing_and_why() -> None:
    assert browser_words(Content("", 5, 5, 5, [])).endswith("Each has a picture here, reduced where it was large.")
    older = browser_words(Content("", 50, 40, 40, []))
    assert "40 have a picture here" in older and "10 have none in the run directory" in older
    assert "30 MB" not in older
    crowded = browser_words(Content("", 50, 50, 30, []))
    assert "30 have a picture" in crowded and "20 are left out, so that the page stays below 30 MB" in crowded
    assert "none in the run directory" not in crowded
    assert "no room here for unitmem-a, unitmem-b; " in browser_words(Content("", 5, 5, 5, ["unitmem-a", "unitmem-b"]))


def test_damaged_thumbnails_are_named(tmp_path: Path) -> None:
    run = make_browsed(tmp_path / "run")
    run.analysis("unitmem").thumbnails.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"thumbnails\.npz cannot be read"):
        browser_section(run, 10**6)
