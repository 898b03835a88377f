"""The browser's section: it is there when there is something to browse, and says what is missing."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memlight.analyses.unitmem.browser.section import Content, browser_content, browser_section, browser_words
from memlight.analyses.unitmem.columns import UNITMEM_EXCESS
from memlight.errors import UserError
from memlight.storage.image_names import ImageNames
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table, write_table
from tests.browsed_run import IDS, IMAGES, LAYERS, excess, image, list_images, make_browsed, scores, top
from tests.report.test_page import Reader
from tests.schemas import schema_of


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


ROOM = 10**6


@pytest.fixture
def browsed(tmp_path: Path) -> RunDir:
    return make_browsed(tmp_path / "run", None, "again")


def test_every_unit_is_there_in_order_with_its_images(browsed: RunDir) -> None:
    content = json.loads(browser_content(list(browsed.analyses("unitmem")), ROOM).text)
    assert [result["name"] for result in content["results"]] == ["unitmem", "unitmem-again"]
    units, nulls, strongest = scores(), excess(), top()
    for layer in content["results"][0]["layers"]:
        expected: list[tuple[Any, ...]] = []
        for row in np.flatnonzero(units["layer"] == layer["name"]).tolist():
            unit = int(units["unit"][row])
            of_unit = (strongest["layer"] == layer["name"]) & (strongest["unit"] == unit)
            unitmem, dead = float(units["unitmem"][row]), bool(units["dead"][row])
            ids, mu = strongest["id"][of_unit].tolist(), strongest["mu"][of_unit].tolist()
            null = float(nulls["null"][row])
            expected.append((dead, -unitmem, unit, units["mu_rest"][row], None if dead else null, ids, mu))
        expected.sort(key=lambda unit: unit[:3])
        assert layer["unit"] == [unit[2] for unit in expected]
        assert layer["alive"] == sum(not unit[0] for unit in expected)
        assert layer["score"] == pytest.approx([-unit[1] for unit in expected], rel=1e-3)
        assert layer["rest"] == pytest.approx([unit[3] for unit in expected], rel=1e-3)
        assert layer["null"] == [None if unit[4] is None else pytest.approx(unit[4], rel=1e-3) for unit in expected]
        assert [[content["ids"][i] for i in images] for images in layer["images"]] == [unit[5] for unit in expected]
        assert layer["mu"] == [pytest.approx(unit[6], rel=1e-3) for unit in expected]
    assert [layer["name"] for layer in content["results"][0]["layers"]] == list(LAYERS)


def test_pictures_belong_to_their_ids(browsed: RunDir) -> None:
    found = browser_content(list(browsed.analyses("unitmem")), ROOM)
    content = json.loads(found.text)
    used = set(top()["id"].tolist())
    assert set(content["ids"]) == used and found.images == found.stored == found.pictures == len(used)
    for id_, webp in zip(content["ids"], content["webp"], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(webp))).convert("RGB"))
        assert (pixels == image(IDS.index(id_))).all()


def test_pictures_that_matter_less_are_left_out_where_there_is_no_room(browsed: RunDir) -> None:
    analysis = browsed.analysis("unitmem")
    whole, bare = browser_content([analysis], ROOM), browser_content([analysis], 0)
    assert bare.pictures == 0 and json.loads(bare.text)["results"] == json.loads(whole.text)["results"]
    shown = []
    for most in range(len(whole.text), len(bare.text), -97):
        part = browser_content([analysis], most)
        webp = json.loads(part.text)["webp"]
        shown.append(part.pictures)
        assert len(part.text) <= most and part.images == part.stored == whole.images
        assert [picture is not None for picture in webp] == [True] * shown[-1] + [False] * (len(webp) - shown[-1])
    assert shown == sorted(shown, reverse=True) and len(set(shown)) > 3


def test_results_take_no_more_than_half_of_the_room(browsed: RunDir) -> None:
    analyses = list(browsed.analyses("unitmem"))
    tables = len(browser_content(analyses[:1], 0).text)
    crowded = browser_content(analyses, 2 * tables)
    assert crowded.left_out == ["unitmem-again"] and crowded.pictures > 0
    assert [result["name"] for result in json.loads(crowded.text)["results"]] == ["unitmem"]
    assert browser_content(analyses, 5 * tables).left_out == []


def test_nothing_in_the_text_can_end_the_script_element(browsed: RunDir) -> None:
    assert "<" not in browser_content(list(browsed.analyses("unitmem")), ROOM).text


def test_a_result_without_nulls_or_pictures_is_shown_without(tmp_path: Path) -> None:
    run = make_browsed(tmp_path / "run")
    analysis = run.analysis("unitmem")
    analysis.table("excess").unlink()
    analysis.thumbnails.unlink()
    found = browser_content([analysis], ROOM)
    content = json.loads(found.text)
    assert "null" not in content["results"][0]["layers"][0]
    assert content["webp"] == [None] * found.images and (found.stored, found.pictures) == (0, 0)


def test_a_layer_says_whether_its_percentile_is_calibrated(tmp_path: Path) -> None:
    analysis = make_browsed(tmp_path / "run").analysis("unitmem")
    assert all(
        "calibrated" not in layer
        for layer in json.loads(browser_content([analysis], ROOM).text)["results"][0]["layers"]
    )
    table = excess()
    table["p95_calibrated"] = (table["depth"] == 1) & ~scores()["dead"]
    write_table(analysis.table("excess"), table, UNITMEM_EXCESS)
    layers = json.loads(browser_content([analysis], ROOM).text)["results"][0]["layers"]
    assert [layer["calibrated"] for layer in layers] == [False, True, False]


def test_images_that_leave_a_unit_silent_do_not_drive_it(tmp_path: Path) -> None:
    analysis = make_browsed(tmp_path / "run").analysis("unitmem")
    table = read_table(analysis.table("top"))
    table["mu"][table["rank"] > 0] = 0
    write_table(analysis.table("top"), table, schema_of(table))
    content = json.loads(browser_content([analysis], ROOM).text)
    assert {len(images) for layer in content["results"][0]["layers"] for images in layer["images"]} == {0, 1}
    assert set(content["ids"]) == set(table["id"][table["rank"] == 0].tolist())


def test_a_result_in_which_every_unit_is_dead_is_shown(tmp_path: Path) -> None:
    run = make_browsed(tmp_path / "run")
    analysis = run.analysis("unitmem")
    table = read_table(analysis.table("top"))
    write_table(analysis.table("top"), {name: column[:0] for name, column in table.items()}, schema_of(table))
    found = browser_content([analysis], ROOM)
    assert found.images == 0 and json.loads(found.text)["results"][0]["layers"][0]["images"] == [[], [], []]


def test_tables_of_the_tests_hold_what_they_say() -> None:
    assert scores()["dead"].sum() == 1 and len(IDS) == IMAGES
    assert (scores()["unitmem"] > excess()["null_p95"]).any() and (scores()["unitmem"] < excess()["null_p95"]).any()


def test_files_are_named_where_the_run_lists_them_and_end_no_script(browsed: RunDir) -> None:
    assert "paths" not in json.loads(browser_content(list(browsed.analyses("unitmem")), ROOM).text)
    paths = [f"a/</script><img src=x onerror=alert({i})>\udc80.png" for i in range(max(IDS) + 1)]
    list_images(browsed, paths)
    html = browser_section(browsed, ROOM)
    assert html.lower().count("</script>") == 2 and "<img src=x" not in html
    content = json.loads(browser_content(list(browsed.analyses("unitmem")), ROOM, ImageNames.read(browsed.images)).text)
    assert content["paths"] == [paths[id_].replace("\udc80", "\\udc80") for id_ in content["ids"]]


def test_images_in_no_files_have_their_ids_alone(browsed: RunDir) -> None:
    list_images(browsed, [f"train/{i}" for i in range(max(IDS) + 1)])
    names = ImageNames.read(browsed.images)
    assert "paths" not in json.loads(browser_content(list(browsed.analyses("unitmem")), ROOM, names).text)
