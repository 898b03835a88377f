"""Building blocks of one self-contained HTML page: no network, no external file, light and dark."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

STYLE = """
:root { --text: #1b1f24; --soft: #57606a; --line: #d8dee4; --page: #ffffff; --card: #f6f8fa; --link: #0b5cad;
        --yes: #0b5cad; --no: #57606a; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --soft: #9da7b3; --line: #343b44; --page: #0f1318; --card: #191f27; --link: #6cb6ff;
          --yes: #6cb6ff; --no: #9da7b3; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 3.5rem; }
body { margin: 0; background: var(--page); color: var(--text);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
nav { position: sticky; top: 0; z-index: 1; background: var(--page); border-bottom: 1px solid var(--line); }
nav div, main, header { max-width: 75rem; margin: 0 auto; padding: 0 1.5rem; }
nav div { display: flex; gap: 1.4rem; padding-top: .6rem; padding-bottom: .6rem; overflow-x: auto; font-size: .92rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
nav a { white-space: nowrap; }
header { padding-top: 2rem; padding-bottom: 1rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2rem 0 .5rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
section:first-child h2 { margin-top: 0; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; } .soft { color: var(--soft); font-size: .92rem; }
.lead { font-size: 1.12rem; border-left: 4px solid var(--yes); padding: .1rem 0 .1rem 1rem; margin: 1rem 0; }
.missing { background: var(--card); border: 1px dashed var(--line); border-radius: 6px; padding: .7rem 1rem; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; background: white; border-radius: 6px; padding: 8px; display: block;
             border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .4rem; max-width: 46rem; }
.table { overflow: auto; max-height: 44rem; border: 1px solid var(--line); border-radius: 6px; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; line-height: 1.4;
        font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: var(--card); text-align: right; cursor: pointer; font-weight: 600;
     vertical-align: bottom; }
th, td { padding: .3rem .55rem; border-bottom: 1px solid var(--line); }
td { text-align: right; white-space: nowrap; } tr:last-child td { border-bottom: 0; }
th.word, td.word { text-align: left; } td.yes { color: var(--yes); font-weight: 600; } td.no { color: var(--no); }
th::after { position: absolute; right: .05em; bottom: .3rem; }
th[aria-sort=ascending]::after { content: "\\2191"; } th[aria-sort=descending]::after { content: "\\2193"; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem; overflow: auto;
      max-height: 30rem; font-size: .85rem; line-height: 1.45; }
code { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; font-size: .9em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; } summary { cursor: pointer; color: var(--link); }
@media print { nav { display: none; } .table { max-height: none; } figure, tr { break-inside: avoid; } }
"""

SCRIPT = """
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const down = head.getAttribute("aria-sort") !== "descending";
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => { const x = value(a), y = value(b);
    if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, {numeric: true}) : x - y;
    return down ? -order : order; };
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...[...body.rows].sort(compare));
};
"""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what is shown.
        value: what the column is sorted by; None puts the row last.
        word: words are aligned left, numbers right.
        mark: "yes" or "no" colours a verdict.
    """

    text: str
    value: str | float | None
    word: bool = False
    mark: str = ""

    def html(self) -> str:
        """The ``td`` element."""
        classes = " ".join(filter(None, ("word" if self.word else "", self.mark)))
        sort_key = "" if self.value is None else str(self.value)
        return f'<td class="{classes}" data-value="{escape(sort_key)}">{escape(self.text)}</td>'


def number(value: float, digits: int = 4) -> Cell:
    """A number with so many decimals (integers with none); empty where it is not finite."""
    if not math.isfinite(value):
        return Cell("", None)
    return Cell(str(value) if isinstance(value, int) else decimals(value, digits), value)


def p_value(p: float) -> Cell:
    """A p-value with four decimals; of smaller ones that they are smaller."""
    return Cell("< 0.0001", p) if p < 5e-5 else number(p)


def interval(low: float, high: float, digits: int = 4) -> Cell:
    """Both ends of an interval; sorted by the lower."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return Cell("", None)
    return Cell(f"{decimals(low, digits)} to {decimals(high, digits)}", low)


def decimals(value: float, digits: int = 4) -> str:
    """A number as text, with a true minus sign, and without a sign where it rounds to zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def word(text: str, mark: str = "") -> Cell:
    """A cell of text."""
    return Cell(text, text, word=True, mark=mark)


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table that is sorted by a click on a column's head."""
    words = [bool(rows) and cell.word for cell in (rows[0] if rows else [])]
    heads = "".join(
        f'<th class="{"word" if is_word else ""}">{escape(name)}</th>'
        for name, is_word in zip(header, words or [False] * len(header), strict=True)
    )
    body = "\n".join("<tr>" + "".join(cell.html() for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def paragraph(text: str, kind: Literal["", "lead", "soft", "missing"] = "", *, code: str = "") -> str:
    """A paragraph of plain text, which may end in a command to type."""
    words = escape(text).replace(" %", "&nbsp;%")
    return f'<p class="{kind}">{words}{f" <code>{escape(code)}</code>" if code else ""}</p>'


def picture(png: bytes, caption: str) -> str:
    """A PNG within the page, its caption below and read out in its place."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A list of names and values."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs) + "</dl>"


def folded(title: str, html: str) -> str:
    """HTML behind a line to click on."""
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def listing(text: str) -> str:
    """Text with its line breaks, in a typewriter face."""
    return f"<pre><code>{escape(text)}</code></pre>"


def page(title: str, opening: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole document.

    Args:
        title: of the document and its first heading.
        opening: HTML below the heading.
        sections: heading and HTML of each.
    """
    anchors = [f"s{i}" for i in range(len(sections))]
    links = "".join(
        f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, (heading, _) in zip(anchors, sections, strict=True)
    )
    body = "\n".join(
        f'<section id="{anchor}"><h2>{escape(heading)}</h2>\n{html}</section>'
        for anchor, (heading, html) in zip(anchors, sections, strict=True)
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><nav><div>{links}</div></nav>
<header><h1>{escape(title)}</h1>{opening}</header>
<main>{body}</main>
<script>{SCRIPT}</script></body>
</html>
"""
