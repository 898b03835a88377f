"""The report's image browser: layers, their units, the images that drive them."""

from importlib.resources import files

from memlight.analyses.unitmem.browser.content import Content, browser_content
from memlight.analyses.unitmem.browser.thumbnails import MOST_IMAGES
from memlight.display import page
from memlight.storage.rundir import RunDir


def browser_section(run: RunDir, most_bytes: int) -> str:
    """HTML of the browser over all UnitMem results of a run; empty where none names its strongest images.

    Args:
        run: the run.
        most_bytes: of the data within; pictures that do not fit are left out.

    Raises:
        UserError: a table or a file of thumbnails is damaged.
    """
    analyses = [analysis for analysis in run.analyses("unitmem") if analysis.table("top").is_file()]
    if not analyses:
        return ""
    content = browser_content(analyses, most_bytes)
    tables = [f"analysis/{analysis.dir.name}/top.csv" for analysis in analyses]
    explained = page.paragraph(
        "Choose a layer to see its units, the highest UnitMem first; a unit to see the images that it answers to most, "
        "with mu, its activation averaged over an image's views; an image to see which units it drives. Arrow keys "
        "walk through a list. The address names what is shown, so it can be sent to somebody who has this file. Every "
        "unit has a strongest image, memorised or not: its score says something where it lies above its null and above "
        "what it gives for held-out images.",
        "soft",
    )
    without_script = page.paragraph(
        "The browser needs JavaScript. The pictures above show the strongest units, and the strongest images of every "
        f"unit are in {', '.join(tables)}.",
        "missing",
    )
    return (
        explained
        + page.paragraph(browser_words(content), "soft")
        + f"<noscript>{without_script}</noscript>"
        + f"<style>{_source('browser.css')}</style>"
        + '<div id="browser"></div>'
        + f'<script type="application/json" id="browser-data">{content.text}</script>'
        + f"<script>{_source('browser.js')}</script>"
    )


def browser_words(content: Content) -> str:
    """How many images there are, and which are shown without a picture, and why."""
    text = f"{content.images} images are among the strongest of some unit."
    if content.left_out:
        text = f"There is no room here for {', '.join(content.left_out)}; tables are in analysis/. {text}"
    if content.pictures == content.images:
        return f"{text} Each has a picture here, reduced where it was large."
    text += f" {content.pictures} have a picture here, reduced where it was large; the others are shown by their ids."
    if content.stored < content.images:
        text += (
            f" {content.images - content.stored} have none in the run directory: a result keeps {MOST_IMAGES:,}, of "
            "the images that matter most, and one that was made before there were any keeps none until analyze.py "
            "unitmem makes it again."
        )
    if content.pictures < content.stored:
        text += f" {content.stored - content.pictures} are left out, so that the page stays below 30 MB."
    return text


def _source(name: str) -> str:
    return files("memlight.analyses.unitmem.browser").joinpath(name).read_text(encoding="utf-8")
