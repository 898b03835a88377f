"""What the report says about the images that drive units follows the numbers."""

from pathlib import Path

import numpy as np

from memlight.analyses.images.columns import IMAGES_CLUSTERS, IMAGES_DESCRIPTORS, IMAGES_MATCHED, IMAGES_OWNERSHIP
from memlight.analyses.images.section import cluster_words, descriptor_words, images_section, ownership_words
from memlight.report.page import write_report
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, write_json, write_table
from tests.image_tables import tables
from tests.report.test_page import Reader
from tests.synthetic_run import make_trained

MINUS = "\N{MINUS SIGN}"


def write(run: RunDir, made: dict[str, Table], tag: str | None = None) -> None:
    analysis = run.analysis("images", tag)
    columns = {
        "ownership": IMAGES_OWNERSHIP,
        "descriptors": IMAGES_DESCRIPTORS,
        "matched": IMAGES_MATCHED,
        "clusters": IMAGES_CLUSTERS,
    }
    for name, header in columns.items():
        write_table(analysis.table(name), made[name], header)
    made_from = {"checkpoints": {}, "command_line": "analyze.py images", "finished": "now", "seconds": 1.0}
    made_from |= {"images_per_second": 1.0, "device": "CPU", "seed": 0, "split_sha256": "ab", "git_commit": None}
    write_json(analysis.summary, made_from | {"figures": {}, "headline": {}, "versions": {}})


def test_words_say_how_few_own_the_units_beside_chance_and_held_out_images() -> None:
    assert ownership_words(tables()["ownership"]) == (
        "144 units make up the top 10 %. Of 500 images 9.4 % own any of them (25.1 % if owners were drawn at random), "
        "and the 10 % of images that own most own 90.0 % of them (50.0 %). On held-out images the same numbers are "
        "10.2 % and 90.0 %."
    )
    assert "held-out" not in ownership_words(tables(held_out=False)["ownership"])


def test_words_name_what_was_found_and_whether_held_out_images_differ() -> None:
    made = tables()
    assert descriptor_words(made["descriptors"], made["matched"]) == (
        "How many top units an image owns is correlated with bytes per pixel (0.00) at a false-discovery rate of 0.05. "
        "Among held-out images the correlation with rms contrast is another. With all other descriptors matched, "
        "owners and controls differ in bytes per pixel."
    )
    made["descriptors"]["beyond_q"][:] = 1
    words = descriptor_words(made["descriptors"], made["matched"])
    assert "No correlation differs from that among held-out images, so nothing here tells memorised images" in words


def test_words_claim_nothing_where_nothing_was_found() -> None:
    made = tables(held_out=False)
    made["descriptors"]["q"][:], made["matched"]["q"][:] = 0.06, np.nan
    assert descriptor_words(made["descriptors"], made["matched"]) == (
        "No descriptor is correlated with how many top units an image owns at a false-discovery rate of 0.05. There "
        "are no held-out images to tell memorised images from striking ones. With all other descriptors matched, "
        "owners and controls differ in no descriptor."
    )
    made["clusters"]["q"][:] = 0.5
    assert cluster_words(made["clusters"]).endswith(
        "in none is the share of driving images other than chance would make it."
    )


def test_words_name_the_clusters_that_drive_units() -> None:
    assert cluster_words(tables()["clusters"]) == (
        "47 driving images and 53 others make up 2 clusters by what the encoder gives for them; the share of driving "
        "images is other than 47.0 % in cluster 0 (23 of 63)."
    )


def test_the_section_holds_every_table_and_is_in_the_report(tmp_path: Path) -> None:
    run = make_trained(tmp_path / "run")
    assert images_section(run) == ""
    write(run, tables())
    write(run, tables(held_out=False), "independent-on-independent")
    section = Reader(images_section(run))
    assert "independent-on-independent" in section.text and "cat & dog" in str(section.rows)
    row = next(row for row in section.rows if row[:3] == ["candidate", "all layers", "top 10 %"])
    assert row[3:9] == ["144", "500", "9.4", "24.0 to 26.0", "37.5", "7.0 to 10.0"]
    assert ["bytes per pixel", "0.000"] in [row[:2] for row in section.rows]
    assert ["spectral slope", f"{MINUS}0.300", f"{MINUS}0.090 to 0.090"] in [row[:3] for row in section.rows]
    assert ["spectral slope", "40", "yes", f"{MINUS}0.600"] in [row[:4] for row in section.rows]
    page = Reader(write_report(run).read_text(encoding="utf-8"))
    assert (
        "What the images that drive units look like" in page.text and "images-independent-on-independent" in page.text
    )
