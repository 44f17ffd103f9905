"""Plots of a report as SVG: bars of figures, distances, shares, histograms.

Every function takes numbers and returns one `<svg>` as text, small and without a library. Colours
are classes of `report.css`, so that a plot follows the reader's light or dark setting. Names come
from files and prompts and are escaped here. A plot is 360 units wide: the width of a phone, where
its letters keep their size.

Input: numbers, or the data of a plot of a card (a mapping of JSON values with its `kind`):

- "frechet": `sizes`, `distances`, `value`, `slope` (see `frechet.FrechetInfinity`);
- "shares": `classes`, `outputs`, `corpus`, `low`, `high` (see `bias.AttributeBias`);
- "histogram": `edges`, `counts`, optionally `reference` (counts of real music) and `unit`.

Output: SVG.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH = 360
BAR_WIDTH, BAR_HEIGHT = 168, 24
"""Size of the bar beside a figure."""
PLOT_HEIGHT = 220
ROW_HEIGHT = 24
LABEL_WIDTH = 132
"""Width of the names of classes, about twenty letters."""
MOST_CLASSES = 12
"""Largest number of classes that are plotted; the others are counted (chosen: legible)."""
_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 50, 12, 10, 40
_PADDING = 5.0


def number(value: float | None, unit: str = "") -> str:
    """A number rounded to about three digits, with its unit; "not known" where it is not finite."""
    if value is None or not math.isfinite(value):
        return "not known"
    size = abs(value)
    if size and size < 0.001:
        digits = f"{size:.1e}"
    else:
        digits = f"{size:.{3 if size < 1 else 2 if size < 20 else 1 if size < 1000 else 0}f}"
    sign = "\N{MINUS SIGN}" if value < 0 else ""
    return f"{sign}{digits} {unit}".rstrip()


def short_number(value: float) -> str:
    """As `number`, but whole numbers (0 and 1, counts) without decimals."""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else number(value)


def percent(share: float) -> str:
    """A share in percent, e.g. "91 %"."""
    return f"{share:.0%}".replace("%", "\N{NO-BREAK SPACE}%").replace("-", "\N{MINUS SIGN}")


def value_range(numbers: Sequence[float], around_zero: bool = False) -> tuple[float, float]:
    """Limits of the axis for numbers: 0 to 1 for shares, from 0 where none is negative, otherwise
    around all of them; with `around_zero` symmetric around 0."""
    known = [one for one in numbers if math.isfinite(one)] or [0.0]
    low, high = min(known), max(known)
    if around_zero:
        far = 1.06 * max(-low, high, 0.0) or 1.0
        return -far, far
    if low >= 0.0:
        if 0.2 < high <= 1.0:
            return 0.0, 1.0
        return 0.0, high * 1.06 or 1.0
    padding = 0.06 * max(high - low, 1e-9)
    return low - padding, high + padding


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear axis: numbers -> coordinates."""

    low: float
    high: float
    start: float
    """Coordinate of `low`."""
    stop: float
    """Coordinate of `high`."""

    def position(self, value: float) -> str:
        """The coordinate of a number, clamped to the axis, as SVG text."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return f"{self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start):.1f}"

    def ticks(self, most: int = 5) -> list[float]:
        """Up to about `most` round numbers within the axis."""
        found = MaxNLocator(nbins=most).tick_values(self.low, self.high)
        return [float(one) for one in found if self.low - 1e-9 <= one <= self.high + 1e-9]


def _text(x: str, y: str, words: str, anchor: str = "start", kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(kind: str, x1: str, y1: str, x2: str, y2: str) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _svg(kind: str, width: int, height: int, words: str, parts: Sequence[str]) -> str:
    """One `<svg>`; its words are read by screen readers."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(words)}"><title>{escape(words)}</title>'
        f"{''.join(parts)}</svg>"
    )


def interval_bar(
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    chance: float | None = None,
    ceiling: float | None = None,
    goals: Mapping[str, float] | None = None,
    around_zero: bool = False,
) -> str:
    """Plots one figure on a line: a dot for the value, a whisker for its interval, an open circle
    for chance, a tall mark for the ceiling, a triangle for each goal. Empty where the value is not
    finite."""
    if not math.isfinite(value):
        return ""
    goals = goals or {}
    marks = {"value": value, "from": low, "to": high, "chance": chance, "ceiling": ceiling, **goals}
    known = {name: one for name, one in marks.items() if one is not None and math.isfinite(one)}
    first, last = value_range(list(known.values()), around_zero)
    axis = Axis(low=first, high=last, start=_PADDING, stop=BAR_WIDTH - _PADDING)
    middle = f"{BAR_HEIGHT / 2:g}"
    parts = [_line("rail", axis.position(axis.low), middle, axis.position(axis.high), middle)]
    if axis.low < 0.0 <= axis.high:
        parts.append(
            _line("zero", axis.position(0.0), "4", axis.position(0.0), f"{BAR_HEIGHT - 4}")
        )
    if "ceiling" in known:
        x = axis.position(known["ceiling"])
        parts.append(_line("ceiling", x, "2", x, f"{BAR_HEIGHT - 2}"))
    for name in goals:
        if name in known:
            x = float(axis.position(known[name]))
            parts.append(f'<path class="goal" d="M{x - 4:.1f} 1h8l-4 6z"/>')
    if "chance" in known:
        x = axis.position(known["chance"])
        parts.append(f'<circle class="chance" cx="{x}" cy="{middle}" r="3"/>')
    if "from" in known and "to" in known:
        a, b = axis.position(known["from"]), axis.position(known["to"])
        parts.append(_line("whisker", a, middle, b, middle))
    parts.append(f'<circle class="dot" cx="{axis.position(value)}" cy="{middle}" r="4"/>')
    words = ", ".join(f"{name} {number(one)}" for name, one in known.items())
    return _svg("bar", BAR_WIDTH, BAR_HEIGHT, words, parts)


def _frame(x: Axis, y: Axis, x_name: str, y_name: str, x_ticks: Mapping[float, str]) -> list[str]:
    """Grid, tick labels and names of the axes."""
    bottom, right = PLOT_HEIGHT - _MARGIN_BOTTOM, f"{WIDTH - _MARGIN_RIGHT}"
    parts = []
    for tick in y.ticks():
        position = y.position(tick)
        parts.append(_line("grid", f"{_MARGIN_LEFT}", position, right, position))
        parts.append(_text(f"{_MARGIN_LEFT - 6}", f"{float(position) + 4:.1f}", f"{tick:g}", "end"))
    for tick, label in x_ticks.items():
        position = x.position(tick)
        parts.append(_line("rail", position, f"{bottom}", position, f"{bottom + 4}"))
        parts.append(_text(position, f"{bottom + 17}", label, "middle"))
    parts.append(_line("rail", f"{_MARGIN_LEFT}", f"{bottom}", right, f"{bottom}"))
    middle = f"{(_MARGIN_LEFT + WIDTH - _MARGIN_RIGHT) / 2:g}"
    parts.append(_text(middle, f"{PLOT_HEIGHT - 5}", x_name, "middle", "name"))
    height = (bottom + _MARGIN_TOP) / 2
    parts.append(
        f'<text class="name" transform="translate(11 {height:g}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_name)}</text>'
    )
    return parts


def _axes(xs: Sequence[float], ys: Sequence[float], *, x_from: float | None) -> tuple[Axis, Axis]:
    low, high = min(ys), max(ys)
    padding = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    bottom = 0.0 if 0.0 <= low < 0.5 * high else low - padding
    x = Axis(
        low=min(xs) if x_from is None else x_from,
        high=max(xs),
        start=_MARGIN_LEFT,
        stop=WIDTH - _MARGIN_RIGHT,
    )
    y = Axis(low=bottom, high=high + padding, start=PLOT_HEIGHT - _MARGIN_BOTTOM, stop=_MARGIN_TOP)
    return x, y


def frechet_plot(
    sizes: Sequence[int], distances: Sequence[float], value: float, slope: float, title: str
) -> str:
    """Plots distances over 1/n with the line to infinitely many pieces, the large dot at the
    left."""
    inverse = [1.0 / size for size in sizes]
    right = max(inverse) * 1.04
    x, y = _axes([0.0, right], [*distances, value, value + slope * right], x_from=0.0)
    ticks = {0.0: "∞"}
    for size in sorted(sizes, reverse=True):  # labels that are too close would overlap
        if float(x.position(1.0 / size)) - float(x.position(max(ticks))) >= 34.0:
            ticks[1.0 / size] = str(size)
    parts = _frame(x, y, "pieces (even steps of 1/n)", "distance", ticks)
    parts.append(
        _line(
            "fit",
            x.position(0.0),
            y.position(value),
            x.position(right),
            y.position(value + slope * right),
        )
    )
    for at, distance in zip(inverse, distances, strict=True):
        parts.append(
            f'<circle class="point" cx="{x.position(at)}" cy="{y.position(distance)}" r="3"/>'
        )
    parts.append(f'<circle class="dot" cx="{x.position(0.0)}" cy="{y.position(value)}" r="5"/>')
    words = f"{title}: {number(value)} for infinitely many pieces"
    return _svg("plot", WIDTH, PLOT_HEIGHT, words, parts)


def share_bars(
    classes: Sequence[str],
    outputs: Sequence[float],
    corpus: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    title: str,
) -> str:
    """Plots a bar for the outputs' share of each class and a mark for the corpus; classes that are
    significantly too frequent or too rare have a + or a - before their names."""
    significant = [a > 0.0 or b < 0.0 for a, b in zip(low, high, strict=True)]
    order = sorted(
        range(len(classes)), key=lambda i: (-significant[i], -max(outputs[i], corpus[i]))
    )[:MOST_CLASSES]
    order.sort()
    top = max([*(max(outputs[i], corpus[i]) for i in order), 1e-9])
    axis = Axis(low=0.0, high=top, start=LABEL_WIDTH, stop=WIDTH - 46)
    parts, labels = [], []
    for row, i in enumerate(order):
        y = row * ROW_HEIGHT
        sign = "+ " if low[i] > 0.0 else "\N{MINUS SIGN} " if high[i] < 0.0 else ""
        label = sign + _short(classes[i])
        parts.append(
            _text(
                f"{LABEL_WIDTH - 8}",
                f"{y + 16}",
                label,
                "end",
                "sure" if significant[i] else "label",
            )
        )
        width = float(axis.position(outputs[i])) - LABEL_WIDTH
        kind = "share" if significant[i] else "share pale"
        parts.append(
            f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{y + 5}" width="{width:.1f}" height="14"/>'
        )
        x = axis.position(corpus[i])
        parts.append(_line("ceiling", x, f"{y + 2}", x, f"{y + 22}"))
        end = max(float(axis.position(outputs[i])), float(x)) + 6
        parts.append(_text(f"{end:.1f}", f"{y + 16}", percent(outputs[i])))
        labels.append(f"{classes[i]} {percent(outputs[i])} (corpus {percent(corpus[i])})")
    height = len(order) * ROW_HEIGHT
    left = len(classes) - len(order)
    if left:
        parts.append(_text("0", f"{height + 16}", f"and {left} more, rarer or as expected"))
        height += ROW_HEIGHT
    return _svg("plot", WIDTH, height, f"{title}: {', '.join(labels)}", parts)


def _short(name: str, most: int = 19) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    title: str,
    *,
    reference: Sequence[float] | None = None,
    unit: str = "",
) -> str:
    """Plots shares of pieces between edges; real music as a stepped outline."""
    shares = np.asarray(counts, dtype=np.float64) / max(float(np.sum(counts)), 1.0)
    real = np.asarray(reference or [], dtype=np.float64)
    real = real / max(float(real.sum()), 1.0)
    x, y = _axes(edges, [0.0, *shares, *real, 1e-6], x_from=None)
    parts = _frame(x, y, unit, "share of pieces", {one: f"{one:g}" for one in x.ticks()})
    for share, start, stop in zip(shares, edges[:-1], edges[1:], strict=True):
        left, top = float(x.position(start)), float(y.position(float(share)))
        width = max(float(x.position(stop)) - left - 1.0, 0.5)
        parts.append(
            f'<rect class="share" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{float(y.position(0.0)) - top:.1f}"/>'
        )
    if len(real):
        steps = [
            f"{x.position(at)},{y.position(float(share))}"
            for share, start, stop in zip(real, edges[:-1], edges[1:], strict=True)
            for at in (start, stop)
        ]
        parts.append(f'<polyline class="outline" points="{" ".join(steps)}"/>')
    return _svg("plot", WIDTH, PLOT_HEIGHT, f"{title}: {len(counts)} classes", parts)


def render_plot(data: Mapping[str, Any]) -> str:
    """Renders a card's plot by its kind; empty where the kind is unknown or the data are incomplete
    (cards are files, which may be edited)."""
    title = str(data.get("title", ""))
    try:
        if data["kind"] == "frechet":
            return frechet_plot(
                data["sizes"], data["distances"], data["value"], data["slope"], title
            )
        if data["kind"] == "shares":
            return share_bars(
                [str(name) for name in data["classes"]],
                data["outputs"],
                data["corpus"],
                data["low"],
                data["high"],
                title,
            )
        if data["kind"] == "histogram":
            return histogram(
                data["edges"],
                data["counts"],
                title,
                reference=data.get("reference"),
                unit=str(data.get("unit", "")),
            )
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return ""
    return ""
