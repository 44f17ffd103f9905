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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from melisma.evaluate.report.card import SECTIONS, Card, PieceRow
from melisma.evaluate.report.page import (
    FIGURE_HEADS,
    Cell,
    FigureRow,
    figure_row,
    interval_words,
    render,
)
from melisma.evaluate.report.plots import interval_bar, number, render_plot
from melisma.evaluate.report.verdict import verdict_of
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
SIDES = ("first", "second")
ORDER = ("worse", "better", "changed", "no difference")
"""Order in which differences are listed."""


def write_report(path: Path, card: Card) -> None:
    """Writes the page of a card, atomically; the folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, report_page(card).encode("utf-8"))


def report_page(card: Card) -> str:
    """The page of a card, as HTML."""
    others = {row.section: row.section for row in card.rows if row.section not in SECTIONS}
    sections = [_section(card, name, title) for name, title in {**SECTIONS, **others}.items()]
    sections = [section for section in sections if section.rows or section.plots]
    pieces, protocol = _pieces(card), _protocol(card)
    links = {section.name: section.title for section in sections}
    tail = {
        "notes": ("Not measured", card.notes),
        "pieces": ("Pieces", pieces.rows),
        "protocol": ("Protocol", any(protocol.values())),
    }
    links |= {name: title for name, (title, content) in tail.items() if content}
    return render(
        "report.html.j2",
        title=card.title,
        card=card,
        verdict=verdict_of(card),
        sections=sections,
        links=links,
        figure_heads=FIGURE_HEADS,
        pieces=pieces,
        protocol=protocol,
    )


@dataclass(frozen=True)
class ReportPlot:
    """A plot with its title and caption; without an image where it cannot be rendered."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class ReportSection:
    """Figures and plots of one section of a card."""

    name: str
    title: str
    rows: Sequence[FigureRow]
    plots: Sequence[ReportPlot]


def _section(card: Card, name: str, title: str) -> ReportSection:
    rows = [figure_row(row.figure, row.better, row.goals) for row in card.section(name)]
    plots = [
        _plot(data)
        for data in card.plots.values()
        if isinstance(data, Mapping) and data.get("section", "quality") == name
    ]
    return ReportSection(name, title, rows, plots)


def _plot(data: Mapping[str, Any]) -> ReportPlot:
    svg = render_plot(data)
    caption = str(data.get("caption", "")) or CAPTIONS.get(str(data.get("kind", "")), "")
    return ReportPlot(str(data.get("title", "")), Markup(svg), caption)


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


@dataclass(frozen=True)
class PieceHead:
    """Head of a column of the table of pieces."""

    name: str
    tooltip: str
    numeric: bool = False


@dataclass(frozen=True)
class PieceLine:
    """One line of the table of pieces."""

    name: str
    prompt: str
    values: Sequence[float | None]
    texts: str


@dataclass(frozen=True)
class PieceTable:
    """All pieces, with a column for every figure that is a mean over pieces."""

    heads: Sequence[PieceHead]
    rows: Sequence[PieceLine]


def _pieces(card: Card) -> PieceTable:
    keys = list(dict.fromkeys(key for piece in card.pieces for key in piece.values))
    names = {row.key: row.figure.what for row in card.rows}
    heads = [PieceHead(name, name) for name in ("piece", "prompt")]
    heads += [PieceHead(key.replace("_", " "), names.get(key, key), numeric=True) for key in keys]
    heads.append(PieceHead("found", "what was found, in words"))
    return PieceTable(heads, [_piece(piece, keys) for piece in card.pieces])


def _piece(piece: PieceRow, keys: Sequence[str]) -> PieceLine:
    found = [piece.values.get(key, math.nan) for key in keys]
    values = [value if math.isfinite(value) else None for value in found]
    texts = "; ".join(f"{name.replace('_', ' ')}: {text}" for name, text in piece.texts.items())
    return PieceLine(piece.name, piece.prompt, values, texts)


def write_comparison(path: Path, first: Card, second: Card, compared: ComparedCards) -> None:
    """Writes the comparison of two cards, as `write_report`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, comparison_page(first, second, compared).encode("utf-8"))


def comparison_page(first: Card, second: Card, compared: ComparedCards) -> str:
    """The comparison of two cards as HTML: every difference, its interval and its verdict."""
    found = sorted(compared.differences, key=lambda one: ORDER.index(one.verdict))
    counts = {word: sum(one.verdict == word for one in found) for word in ORDER}
    return render(
        "comparison.html.j2",
        title=f"{first.title} and {second.title}",
        judged=_both(first, second),
        headline=_headline(counts, compared.pairs),
        better=[one.what for one in found if one.verdict == "better"],
        worse=[one.what for one in found if one.verdict == "worse"],
        heads=CHANGE_HEADS,
        differences=[_difference(one) for one in found],
        notes=compared.notes,
        protocol=_protocol(first),
    )


def _both(first: Card, second: Card) -> list[FigureRow]:
    """What was judged, side by side."""
    sides = [{"title": card.title, **card.judged} for card in (first, second)]
    return [
        FigureRow(
            name,
            [Cell(side.get(name, ""), head, "") for side, head in zip(sides, SIDES, strict=True)],
        )
        for name in dict.fromkeys([*sides[0], *sides[1]])
    ]


def _headline(counts: Mapping[str, int], pairs: int) -> str:
    words = f"Over {pairs} pairs the second is better in {counts['better']}, worse in"
    words += f" {counts['worse']}; {counts['no difference']} show no significant difference"
    return words + (f", {counts['changed']} changed." if counts["changed"] else ".")


def _difference(one: Difference) -> FigureRow:
    change = one.change
    bar = interval_bar(change.value, low=change.low, high=change.high, around_zero=True)
    sign = "+" if change.value > 0 else ""
    cells = [
        Cell(number(one.before), "first"),
        Cell(number(one.after), "second"),
        Cell(sign + number(change.value), "change", "n value"),
        Cell(interval_words(change.low, change.high), "95 %"),
        Cell("", "", "bar", svg=Markup(bar)),
        Cell(one.verdict, "second is", "n verdict-word"),
        Cell(str(change.count), "n"),
    ]
    return FigureRow(one.what, cells, kind=one.verdict.split()[0])
