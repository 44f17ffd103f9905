"""Rendering of a report: Jinja templates, and the rows of its tables of figures.

A report is one HTML file without external resources. Style and script are inline, and the content
security policy allows only these, the script by its hash; there are no fonts, images or addresses.
The templates in `templates` escape every value; only the SVG of `plots.py` is inserted as it is.

Input: values of a template. Output: HTML.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from melisma.evaluate.metrics.figures import Figure
from melisma.evaluate.report.plots import interval_bar, number, percent, short_number

BETTER: Mapping[str, str] = {"higher": "higher is better", "lower": "lower is better"}
FIGURE_HEADS = ("what", "value", "95 %", "", "chance", "ceiling", "of ceiling", "n")


@dataclass(frozen=True)
class Cell:
    """One cell of a table of figures."""

    words: str
    head: str
    """Name of its column, repeated where a narrow screen shows the row as a block."""
    kind: str = "n"
    svg: Markup | None = None
    """An image in place of words."""


@dataclass(frozen=True)
class FigureRow:
    """One row of a table of figures."""

    what: str
    cells: Sequence[Cell]
    small: Sequence[str] = ()
    """Lines in small print below `what`."""
    kind: str = ""
    """Its class in the style sheet."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("melisma.evaluate.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short_number"] = short_number
    return environment


def render(template: str, **values: object) -> str:
    """A whole page.

    Args:
        template: Name of a template in `templates`.
        values: What the template names.

    Returns:
        HTML.
    """
    environment = _environment()
    assert environment.loader is not None
    style, _, _ = environment.loader.get_source(environment, "report.css")
    script, _, _ = environment.loader.get_source(environment, "report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    page = environment.get_template(template)
    return page.render(style=Markup(style), script=Markup(script), digest=digest, **values)


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


def figure_row(figure: Figure, better: str, goals: Mapping[str, float]) -> FigureRow:
    """One figure as a row of a table with `FIGURE_HEADS`."""
    small = [BETTER.get(better, ""), _details(figure)]
    small += [f"goal {name}: {number(goal)}" for name, goal in goals.items()]
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
        Cell("", "", "bar", svg=Markup(bar)),
        Cell("" if figure.chance is None else number(figure.chance), "chance"),
        Cell("" if figure.ceiling is None else number(figure.ceiling), "ceiling"),
        Cell("" if share is None or better != "higher" else percent(share), "of ceiling"),
        Cell(str(figure.count) if figure.count else "", "n"),
    ]
    return FigureRow(figure.what, cells, small=[words for words in small if words])
