"""What the page gets: every unit in order of its score, its images, and no more bytes than there is room for."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memlight.analyses.unitmem.browser.content import browser_content
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table, write_table
from tests.browsed_run import IDS, IMAGES, LAYERS, excess, image, make_browsed, scores, top
from tests.schemas import schema_of

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
