"""A wall of images on a page: the pointer on a patch shows its nearest patch, in the picture it belongs to."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
.wall { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: .8rem; }
.wall figure, .beside figure { margin: 0; }
.browser { display: grid; grid-template-columns: minmax(0, 1fr) 17rem; gap: 1.5rem; margin: 1rem 0; }
.browser .beside { position: sticky; top: 4rem; align-self: start; font-size: .88rem; min-height: 24rem; }
.cells { position: relative; background-size: 100% 100%; border-radius: 3px; overflow: hidden; }
.sharp { image-rendering: pixelated; }
.cells i { position: absolute; cursor: crosshair; outline: 1px solid transparent; outline-offset: -1px; }
.cells i.same { outline: 2px solid #ffb000; outline-offset: -2px; }
.cells i.here { outline: 3px solid #ff2d55; outline-offset: -3px; }
.beside .cells { width: 17rem; } .beside p { margin: .5rem 0; overflow-wrap: anywhere; }
.wall figcaption { font-size: .78rem; margin: .15rem 0 0; overflow-wrap: anywhere; }
@media (max-width: 50rem) { .browser { grid-template-columns: 1fr; } }
"""

SCRIPT = """
const patchSources = JSON.parse(document.getElementById("patch-sources").textContent);
const beside = document.querySelector(".browser .beside");
const showPatch = event => {
  const cell = event.target.closest(".wall i");
  if (!cell || cell.classList.contains("here")) return;
  for (const other of document.querySelectorAll(".browser i")) other.classList.remove("here", "same");
  const [source, place, far] = cell.dataset.p.split(" "), [name, picture] = patchSources[source];
  const alike = document.querySelectorAll(`.wall i[data-p^="${source} "]`);
  for (const other of alike) other.classList.add("same");
  cell.classList.add("here");
  const shown = beside.querySelector(".cells");
  shown.style.backgroundImage = `url(${picture})`;
  shown.children[place].classList.add("here");
  const own = [...cell.parentNode.children];
  for (const other of own) if (other.dataset.p.startsWith(source + " "))
    shown.children[other.dataset.p.split(" ")[1]].classList.add(other === cell ? "here" : "same");
  const here = own.filter(other => other.dataset.p.startsWith(source + " ")).length;
  beside.querySelector("p").textContent =
    `${name}, patch ${place}, at distance ${far} of patch ${own.indexOf(cell)}. ` +
    `Nearest to ${here} of the ${own.length} patches of this image, and to ${alike.length} patches shown here.`;
};
document.querySelector(".wall").addEventListener("pointerover", showPatch);
document.querySelector(".wall").addEventListener("click", showPatch);
const firstPatch = document.querySelector(".wall i");
if (firstPatch) showPatch({target: firstPatch});
"""


@dataclass(frozen=True)
class ShownImage:
    """One image of the wall.

    Attributes:
        caption: below it.
        picture: its file, PNG or JPEG.
        patches: of each patch, row by row: source, which patch of the source, distance.
    """

    caption: str
    picture: bytes
    patches: Sequence[tuple[int, int, float]]


@dataclass(frozen=True)
class ShownSource:
    """One source.

    Attributes:
        name: of the file.
        picture: its file, PNG or JPEG.
    """

    name: str
    picture: bytes


def patch_browser(
    images: Sequence[ShownImage],
    sources: Mapping[int, ShownSource],
    boxes: Sequence[tuple[float, float, float, float]],
    *,
    aspect: float,
    sharp: bool,
) -> str:
    """HTML with its own style and script.

    Args:
        images: at least one.
        sources: of all their patches, by id.
        boxes: top, left, height and width of every patch, in per cent of the picture.
        aspect: width of a picture over its height.
        sharp: whether small pictures are enlarged without smoothing.
    """
    wall = "".join(
        f"<figure>{_cells(_uri(image.picture), boxes, aspect, sharp, image.patches)}"
        f"<figcaption>{escape(image.caption)}</figcaption></figure>"
        for image in images
    )
    table = {str(source): [shown.name, _uri(shown.picture)] for source, shown in sources.items()}
    data = json.dumps(table, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<style>{STYLE}</style><div class="browser"><div class="wall">{wall}</div>'
        f'<div class="beside">{_cells("", boxes, aspect, sharp)}<p></p></div></div>'
        f'<script type="application/json" id="patch-sources">{data}</script><script>{SCRIPT}</script>'
    )


def _cells(
    picture: str,
    boxes: Sequence[tuple[float, float, float, float]],
    aspect: float,
    sharp: bool,
    patches: Sequence[tuple[int, int, float]] | None = None,
) -> str:
    """A picture under a cell for every patch."""
    cells = "".join(
        f'<i style="top:{top:.4g}%;left:{left:.4g}%;height:{height:.4g}%;width:{width:.4g}%"'
        + (f' data-p="{patches[number][0]} {patches[number][1]} {patches[number][2]:.4g}"' if patches else "")
        + "></i>"
        for number, (top, left, height, width) in enumerate(boxes)
    )
    background = f";background-image:url({picture})" if picture else ""
    return f'<div class="cells{" sharp" if sharp else ""}" style="aspect-ratio:{aspect:.4g}{background}">{cells}</div>'


def _uri(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
