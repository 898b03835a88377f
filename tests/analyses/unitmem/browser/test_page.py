"""The browser in a real browser: addresses, clicks and keys, from a file, without a network."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from memlight.analyses.unitmem.browser.section import browser_section
from memlight.display.page import page
from tests.browsed_run import IDS, list_images, make_browsed

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000", "--dump-dom"),
)

WALK = """<pre id="walked"></pre><script>(async () => {
  const all = selector => [...document.querySelectorAll("#browser " + selector)];
  const lists = i => [...all(".list")[i].querySelectorAll("a")];
  const seen = () => ({
    hash: location.hash,
    title: all(".detail h3")[0].textContent,
    text: all(".detail")[0].textContent,
    current: all("[aria-current]").map(link => link.textContent),
    layers: lists(0).map(link => link.textContent),
    units: lists(1).map(link => link.textContent),
    pictures: all(".detail .picture").map(one => one.getAttribute("alt") ?? one.getAttribute("aria-label")),
    drawn: all(".detail img").filter(one => one.complete && one.naturalWidth === 8).length,
    stops: all(".list a").filter(link => link.tabIndex === 0).map(link => link.textContent),
    focus: document.activeElement.textContent,
  });
  const steps = [];
  const step = async act => {
    const settled = new Promise(done => addEventListener("hashchange", done, {once: true}));
    act();
    await settled;
    await new Promise(done => setTimeout(done, 300));
    steps.push(seen());
  };
  const key = name => {
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
    steps.push(seen());
  };
  await new Promise(done => setTimeout(done, 300));
  steps.push(seen());
  STEPS
  document.getElementById("walked").textContent = JSON.stringify(steps);
})();</script>"""


def walk(directory: Path, address: str, steps: str, paths: list[str] | None = None) -> list[dict[str, Any]]:
    """Open a page with two results at an address, do the steps and give what is seen at first and after each."""
    walked = directory / "walked.html"
    run = make_browsed(directory / "run", None, "again")
    if paths is not None:
        list_images(run, paths)
    section = browser_section(run, 10**6)
    html = page("Units", "", [("Results", ""), ("Browser", section)])
    walked.write_text(html.replace("</body>", WALK.replace("STEPS", steps) + "</body>"), encoding="utf-8")
    profile = f"--user-data-dir={directory / 'profile'}"
    command = [str(CHROMIUM), *FLAGS, profile, f"{walked.as_uri()}{address}"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    found = re.search(r'<pre id="walked">(.+?)</pre>', dom, flags=re.DOTALL)
    assert found, dom[-2000:]
    return list(json.loads(unescape(found[1])))


def test_layers_units_and_images_by_clicks_and_keys(tmp_path: Path) -> None:
    first, layer, unit, image, back, down, end, other = walk(
        tmp_path,
        "",
        """
        await step(() => lists(0)[0].click());
        await step(() => lists(1)[1].click());
        await step(() => all(".images a")[2].click());
        await step(() => history.back());
        lists(1)[1].focus(); key("ArrowDown");
        key("Home");
        await step(() => all(".results a")[1].click());
        """,
    )
    assert first["title"] == "All layers" and first["units"] == [] and first["stops"] == first["layers"][:1]
    assert [name[:-5] for name in first["layers"]] == ["conv/in:1", "</script><b>", "7"]
    assert first["drawn"] == len(first["pictures"]) > 3

    assert layer["hash"] == "#unitmem/conv%2Fin%3A1" and layer["title"] == "conv/in:1"
    assert layer["units"] == ["unit 10.500", "unit 00.100", "unit 20.100"]
    assert layer["current"] == ["unitmem", layer["layers"][0]]

    assert unit["hash"] == "#unitmem/conv%2Fin%3A1/0" and unit["title"] == "conv/in:1, unit 0"
    assert unit["current"] == ["unitmem", layer["layers"][0], "unit 00.100"] == ["unitmem", *unit["stops"]]
    assert unit["pictures"] == ["image 3", "image 13", "image 23"] and unit["drawn"] == 3
    assert "UnitMem 0.100, above what exchangeable images give: 0.070, one time in 20 more than 0.080" in unit["text"]
    assert "Held-out images give 0.063." in unit["text"] or "Held-out images give 0.062." in unit["text"]
    for words in ("mu 1.00", "mu 0.500", "mu 0.333", "all images but the first is 0.818"):
        assert words in unit["text"]

    assert image["hash"] == "#unitmem/image:23" and image["title"] == "Image 23"
    assert "The strongest image of 3 units and among the 3 strongest of 6, out of 8 that ever fire" in image["text"]
    for words in ("unit 2: strongest", "unit 1: rank 2", "unit 0: rank 3", "</script><b>: 2 units", "7: 1 unit"):
        assert words in image["text"]
    assert image["units"] == layer["units"]  # the list one came from stays

    assert back == unit
    assert down["title"] == "conv/in:1, unit 2" and down["focus"] == "unit 20.100" == down["stops"][1]
    assert end["title"] == "conv/in:1, unit 1" and end["hash"] == "#unitmem/conv%2Fin%3A1/1"
    assert other["hash"] == "#unitmem-again" and other["title"] == "All layers" and other["drawn"] > 3


def test_an_address_opens_what_it_names(tmp_path: Path) -> None:
    unit, dead, wrong, layer, foreign, image = walk(
        tmp_path,
        "#unitmem/7/1",
        """
        await step(() => location.hash = "#unitmem/%3C%2Fscript%3E%3Cb%3E/3");
        await step(() => location.hash = "#unitmem/7/99");
        await step(() => location.hash = "#unitmem/layer9");
        await step(() => location.hash = "#s1");
        await step(() => location.hash = "#unitmem/image:33");
        """,
    )
    assert unit["title"] == "7, unit 1" and unit["pictures"] == ["image 33", "image 43", "image 53"]
    assert [layer_name for layer_name in unit["current"] if layer_name.startswith("7")]
    assert dead["title"] == "</script><b>, unit 3" and "it is dead" in dead["text"]
    assert dead["units"][-1] == "unit 3dead"
    assert wrong["title"] == "There is no unit 99 here" and wrong["units"] == unit["units"]
    assert layer["title"] == foreign["title"] == "There is no layer layer9 here"  # other anchors leave it alone
    assert image["title"] == "Image 33" and image["drawn"] == 1


def test_pictures_have_the_names_of_their_files(tmp_path: Path) -> None:
    paths = [f"train/cat/<b>image-{i}-of-a-long-series.png" for i in range(max(IDS) + 1)]
    first, image = walk(tmp_path, "", 'await step(() => location.hash = "#unitmem/image:23");', paths)
    assert "<b>ima\N{HORIZONTAL ELLIPSIS}ies.pngid 3of 1 unit" in first["text"]
    assert image["title"] == "Image 23" and "train/cat/<b>image-23-of-a-long-series.png" in image["text"]
