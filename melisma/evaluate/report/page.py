"""The frame of a report: one HTML file without external resources.

Style and script are inline, and the content security policy allows only these, the script by its
hash; there are no fonts, images or addresses. Everything that comes from a card is escaped where it
is inserted.

Input: parts of a page as HTML, words as text. Output: HTML.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from melisma.evaluate.metrics.figures import Figure
from melisma.evaluate.report.plots import interval_bar, number, percent

BETTER: Mapping[str, str] = {"higher": "higher is better", "lower": "lower is better"}
LEGEND = """<div class="legend" aria-hidden="true">
<span><svg width="34" height="16"><line class="whisker" x1="3" y1="8" x2="31" y2="8"/><circle
 class="dot" cx="17" cy="8" r="4"/></svg>value, 95 % interval</span>
<span><svg width="10" height="16"><circle class="chance" cx="5" cy="8" r="3"/></svg>chance</span>
<span><svg width="6" height="16"><line class="ceiling" x1="3" y1="0" x2="3" y2="16"/></svg>ceiling:
 what real music gets</span>
<span><svg width="12" height="10"><path class="goal" d="M2 2h8l-4 6z"/></svg>goal</span>
</div>"""
FIGURE_HEADS = ("what", "value", "95 %", "", "chance", "ceiling", "of ceiling", "n")


def _resource(name: str) -> str:
    return resources.files("melisma.evaluate.report").joinpath(name).read_text("utf-8")


def page(title: str, body: Sequence[str]) -> str:
    """A whole page around its parts."""
    style, script = _resource("report.css"), _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def section(name: str, title: str, parts: Sequence[str]) -> str:
    """A section of a page with its heading; an empty string without content."""
    inside = "\n".join(part for part in parts if part)
    if not inside:
        return ""
    return f'<section id="{escape(name)}">\n<h2>{escape(title)}</h2>\n{inside}\n</section>'


def paragraph(words: str, kind: str = "") -> str:
    """One paragraph; `kind` is its class."""
    given = f' class="{escape(kind)}"' if kind else ""
    return f"<p{given}>{escape(words)}</p>"


def facts(pairs: Mapping[str, str]) -> str:
    """A list of names and their values; empty values are left out."""
    rows = [
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs.items() if text
    ]
    return f"<dl>{''.join(rows)}</dl>" if rows else ""


def notes(sentences: Sequence[str]) -> str:
    """A list of sentences."""
    rows = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">{rows}</ul>' if rows else ""


def scrolling(label: str, kind: str, heads: str, rows: Sequence[str]) -> str:
    """A table that scrolls horizontally, also by keyboard; `heads` and `rows` are HTML."""
    return (
        f'<div class="scroll {kind}" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def interval_words(low: float | None, high: float | None) -> str:
    """ "low to high"; empty without an interval."""
    if low is None or high is None:
        return ""
    return f"{number(low)} to {number(high)}"


def _details(figure: Figure) -> str:
    """The details of a figure in one line; only the outcome in words where there is one."""
    if isinstance(outcome := figure.details.get("outcome"), str):
        return outcome
    parts = [
        f"{name}: {value}" if isinstance(value, str) else f"{name} {number(value)}"
        for name, value in figure.details.items()
        if value != "" and name != "sentence"  # which is part of the verdict
    ]
    return " · ".join(parts)


def figure_row(figure: Figure, better: str, goals: Mapping[str, float]) -> str:
    """One figure as a row of a table with `FIGURE_HEADS`."""
    small = [BETTER.get(better, ""), _details(figure)]
    small += [f"goal {name}: {number(goal)}" for name, goal in goals.items()]
    under = "".join(f"<small>{escape(words)}</small>" for words in small if words)
    bar = interval_bar(
        figure.value,
        low=figure.low,
        high=figure.high,
        chance=figure.chance,
        ceiling=figure.ceiling,
        goals=goals,
    )
    share = figure.share_of_ceiling
    cells = [
        Cell(number(figure.value, figure.unit), "value", "n value"),
        Cell(interval_words(figure.low, figure.high), "95 %"),
        Cell("", "", "bar", svg=bar),
        Cell("" if figure.chance is None else number(figure.chance), "chance"),
        Cell("" if figure.ceiling is None else number(figure.ceiling), "ceiling"),
        Cell("" if share is None or better != "higher" else percent(share), "of ceiling"),
        Cell(str(figure.count) if figure.count else "", "n"),
    ]
    return table_row(f"{escape(figure.what)}{under}", cells)


@dataclass(frozen=True)
class Cell:
    """One cell of a table of figures."""

    words: str
    head: str
    """Name of its column, repeated where a narrow screen shows the row as a block."""
    kind: str = "n"
    svg: str = ""
    """An image in place of words."""


def table_row(what: str, cells: Sequence[Cell], kind: str = "") -> str:
    """One row; `what` is HTML."""
    tail = "".join(
        f'<td class="{cell.kind}" data-head="{escape(cell.head)}">'
        f"{cell.svg or escape(cell.words)}</td>"
        for cell in cells
    )
    return f'<tr class="{kind}"><td class="what">{what}</td>{tail}</tr>'


def table_heads(names: Sequence[str]) -> str:
    """The heads of a table of figures; the first and the nameless are left-aligned."""
    return "".join(
        f'<th{"" if index == 0 or not name else " class=n"} scope="col">{escape(name)}</th>'
        for index, name in enumerate(names)
    )
