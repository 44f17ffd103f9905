"""The report of a card, or of two, as a self-contained HTML page.

One HTML file, readable wide and on a phone, light and dark: the verdict in plain words, every
figure with its interval, chance and ceiling plotted beside it, the plots, what could not be
measured, every piece in a sortable table, and the protocol. Plots are the values of `Card.plots`,
each a mapping as described in `plots.py`, with `title` and optionally `section` (one of
`card.SECTIONS`; Quality by default).

Input: `Card`s. Output: HTML.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melisma.evaluate.report.card import SECTIONS, Card, PieceRow
from melisma.evaluate.report.page import (
    FIGURE_HEADS,
    LEGEND,
    Cell,
    facts,
    figure_row,
    interval_words,
    notes,
    page,
    paragraph,
    scrolling,
    section,
    table_heads,
    table_row,
)
from melisma.evaluate.report.plots import interval_bar, number, render_plot, short_number
from melisma.evaluate.report.verdict import GoalLine, verdict_of
from melisma.files.atomic import write_bytes

if TYPE_CHECKING:
    from melisma.evaluate.report.comparison import ComparedCards, Difference

PROTOCOL_NAMES: Mapping[str, str] = {
    "subject": "Judged",
    "reference": "Reference set",
    "reference_hash": "Its fingerprint",
    "prompts": "Prompts",
    "prompts_hash": "Their fingerprint",
    "embeddings": "Embeddings",
    "judge": "Judge",
    "rate_hz": "Sampling rate (Hz)",
    "level": "Level",
    "seconds": "Length judged (s)",
    "count": "Pieces",
    "seed": "Seed",
    "repeats": "Bootstrap samples",
    "version": "Version of the protocol",
}
"""Fields of `Protocol` and their names on the page."""
CAPTIONS: Mapping[str, str] = {
    "frechet": "The dashed line extrapolates to infinitely many pieces (∞).",
    "shares": "Bars: outputs. Vertical marks: the corpus. + significantly too often, "
    "\N{MINUS SIGN} significantly too seldom (95 %, all classes together).",
    "histogram": "Bars: outputs. Outline, where there is one: real music.",
}
CHANGE_HEADS = ("what", "first", "second", "change", "95 %", "", "second is", "n")
ORDER = ("worse", "better", "changed", "no difference")
"""Order in which differences are listed."""


def write_report(path: Path, card: Card) -> None:
    """Writes the page of a card, atomically; the folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, report_page(card).encode("utf-8"))


def report_page(card: Card) -> str:
    """The page of a card, as HTML."""
    others = {row.section: row.section for row in card.rows if row.section not in SECTIONS}
    names = {**SECTIONS, **others}
    sections = {name: _figures(card, name, title) for name, title in names.items()}
    tail = {
        "notes": section("notes", "What could not be measured", [notes(card.notes)]),
        "pieces": section("pieces", "Pieces", [_pieces(card)]),
        "protocol": section("protocol", "Protocol", [facts(_protocol(card))]),
        "made": section("made", "Made by", [facts(card.made_by)]),
    }
    links = {**names, "notes": "Not measured", "pieces": "Pieces", "protocol": "Protocol"}
    full = {name for name, part in {**sections, **tail}.items() if part}
    return page(
        card.title,
        [
            paragraph("Evaluation by Melisma", "eyebrow"),
            f"<h1>{escape(card.title)}</h1>",
            facts(card.judged),
            _verdict(card),
            _navigation({name: title for name, title in links.items() if name in full}),
            LEGEND if card.rows else "",
            *sections.values(),
            *tail.values(),
        ],
    )


def _navigation(links: Mapping[str, str]) -> str:
    inside = "".join(f'<a href="#{escape(n)}">{escape(title)}</a> ' for n, title in links.items())
    return f'<nav aria-label="Sections">{inside}</nav>'


def _verdict(card: Card) -> str:
    verdict = verdict_of(card)
    lines = "".join(_goal(line) for line in verdict.goals)
    return (
        '<div class="verdict">'
        + paragraph(verdict.headline, "headline")
        + (f"<ul>{lines}</ul>" if lines else "")
        + "".join(paragraph(sentence) for sentence in verdict.sentences)
        + "</div>"
    )


def _goal(line: GoalLine) -> str:
    kind = "unsure" if not line.sure else "met" if line.met else "missed"
    sign = {"unsure": "~", "met": "✓", "missed": "✗"}[kind]
    return (
        f'<li class="{kind}"><span class="sign" aria-hidden="true">{sign}</span>'
        f"{escape(line.words)}</li>"
    )


def _figures(card: Card, name: str, title: str) -> str:
    """One section: its figures, then its plots."""
    rows = [figure_row(row.figure, row.better, row.goals) for row in card.section(name)]
    table = scrolling(title, "figures", table_heads(FIGURE_HEADS), rows) if rows else ""
    plots = [
        _plot(data)
        for data in card.plots.values()
        if isinstance(data, Mapping) and data.get("section", "quality") == name
    ]
    grid = f'<div class="plots">{"".join(plots)}</div>' if any(plots) else ""
    return section(name, title, [table, grid])


def _plot(data: Mapping[str, Any]) -> str:
    plot = render_plot(data)
    title = str(data.get("title", ""))
    if not plot:
        failure = paragraph("This plot cannot be rendered.")
        return f"<figure><h3>{escape(title)}</h3>{failure}</figure>"
    caption = str(data.get("caption", "")) or CAPTIONS.get(str(data["kind"]), "")
    return (
        f"<figure><h3>{escape(title)}</h3>{plot}<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _protocol(card: Card) -> dict[str, str]:
    fields = {}
    for field in dataclasses.fields(card.protocol):
        value = getattr(card.protocol, field.name)
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} ({hash_})" for name, hash_ in value.items())
        elif isinstance(value, float):
            value = f"{value:g}"
        fields[PROTOCOL_NAMES.get(field.name, field.name)] = str(value)
    return fields


def _pieces(card: Card) -> str:
    """The table of all pieces, with a column for every figure that is a mean over pieces."""
    if not card.pieces:
        return ""
    keys = list(dict.fromkeys(key for piece in card.pieces for key in piece.values))
    names = {row.key: row.figure.what for row in card.rows}
    heads = [_head(name, "", name) for name in ("piece", "prompt")]
    heads += [_head(key.replace("_", " "), "n", names.get(key, key)) for key in keys]
    heads.append(_head("found", "", "what was found, in words"))
    rows = [_piece(piece, keys) for piece in card.pieces]
    hint = paragraph("Press the name of a column to sort by it.", "soft")
    return hint + scrolling("All pieces", "pieces", "".join(heads), rows)


def _head(name: str, kind: str, title: str) -> str:
    given = f' class="{kind}"' if kind else ""
    return (
        f'<th{given} scope="col"><button type="button" title="{escape(title)}">{escape(name)}'
        "</button></th>"
    )


def _piece(piece: PieceRow, keys: Sequence[str]) -> str:
    cells = [
        f'<td class="piece">{escape(piece.name)}</td>',
        f'<td class="words">{escape(piece.prompt)}</td>',
    ]
    for key in keys:
        value = piece.values.get(key, math.nan)
        known = math.isfinite(value)
        cells.append(
            f'<td class="n" data-v="{value if known else ""}">'
            f"{short_number(value) if known else ''}</td>"
        )
    texts = "; ".join(f"{name.replace('_', ' ')}: {text}" for name, text in piece.texts.items())
    return f'<tr>{"".join(cells)}<td class="texts">{escape(texts)}</td></tr>'


def write_comparison(path: Path, first: Card, second: Card, compared: ComparedCards) -> None:
    """Writes the comparison of two cards, as `write_report`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, comparison_page(first, second, compared).encode("utf-8"))


def comparison_page(first: Card, second: Card, compared: ComparedCards) -> str:
    """The comparison of two cards as HTML: every difference, its interval and its verdict."""
    found = sorted(compared.differences, key=lambda one: ORDER.index(one.verdict))
    counts = {word: sum(one.verdict == word for one in found) for word in ORDER}
    heads = table_heads(CHANGE_HEADS)
    title = f"{first.title} and {second.title}"
    table = scrolling("Differences", "figures", heads, [_difference(one) for one in found])
    return page(
        title,
        [
            paragraph("Comparison by Melisma", "eyebrow"),
            f"<h1>{escape(title)}</h1>",
            _both(first, second),
            f'<div class="verdict">{paragraph(_headline(counts, compared.pairs), "headline")}'
            + "".join(
                paragraph(f"{word.capitalize()}: {'; '.join(names)}.")
                for word in ("better", "worse")
                if (names := [one.what for one in found if one.verdict == word])
            )
            + "</div>",
            LEGEND_OF_CHANGE,
            section("differences", "Differences", [table if found else ""]),
            section("notes", "What could not be compared", [notes(compared.notes)]),
            section("protocol", "Protocol", [facts(_protocol(first))]),
        ],
    )


LEGEND_OF_CHANGE = """<div class="legend" aria-hidden="true">
<span><svg width="34" height="16"><line class="whisker" x1="3" y1="8" x2="31" y2="8"/><circle
 class="dot" cx="17" cy="8" r="4"/></svg>second minus first, 95 % by pairs</span>
<span><svg width="6" height="16"><line class="zero" x1="3" y1="0" x2="3" y2="16"/></svg>no
 change</span>
</div>"""


def _both(first: Card, second: Card) -> str:
    """What was judged, side by side."""
    sides = [{"title": card.title, **card.judged} for card in (first, second)]
    rows = [
        table_row(escape(name), [Cell(side.get(name, ""), head, "") for side, head in named])
        for name in dict.fromkeys([*sides[0], *sides[1]])
        for named in [list(zip(sides, ("first", "second"), strict=True))]
    ]
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("", "first", "second"))
    return scrolling("What was judged", "figures judged", heads, rows)


def _headline(counts: Mapping[str, int], pairs: int) -> str:
    words = f"Over {pairs} pairs the second is better in {counts['better']}, worse in"
    words += f" {counts['worse']}; {counts['no difference']} show no significant difference"
    return words + (f", {counts['changed']} changed." if counts["changed"] else ".")


def _difference(one: Difference) -> str:
    change = one.change
    bar = interval_bar(change.value, low=change.low, high=change.high, around_zero=True)
    sign = "+" if change.value > 0 else ""
    cells = [
        Cell(number(one.before), "first"),
        Cell(number(one.after), "second"),
        Cell(sign + number(change.value), "change", "n value"),
        Cell(interval_words(change.low, change.high), "95 %"),
        Cell("", "", "bar", svg=bar),
        Cell(one.verdict, "second is", "n verdict-word"),
        Cell(str(change.count), "n"),
    ]
    return table_row(escape(one.what), cells, one.verdict.split()[0])
