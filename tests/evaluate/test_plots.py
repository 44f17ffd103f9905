"""Drawings are whole SVG, put numbers where they belong, and let no name out of its quotes."""

import math
import re
from xml.etree import ElementTree

import pytest

from melisma.evaluate.report.plots import (
    BAR_WIDTH,
    MOST_CLASSES,
    frechet_plot,
    histogram,
    interval_bar,
    number,
    percent,
    render_plot,
    share_bars,
    short_number,
    value_range,
)

EVIL = "</title><script>alert(1)</script>\" onload='x'"


def parts(svg: str, name: str, kind: str) -> list[ElementTree.Element]:
    """Elements of a class; the SVG must be well-formed."""
    found = ElementTree.fromstring(svg).iter(name)
    return [one for one in found if kind in one.get("class", "").split()]


def place(svg: str, name: str, kind: str, attribute: str) -> float:
    return float(parts(svg, name, kind)[0].get(attribute, "nan"))


def test_numbers_as_people_read_them() -> None:
    assert [number(x) for x in (0.12345, 1.234, 12.345, 123.45, 1234.5)] == [
        "0.123", "1.23", "12.35", "123.5", "1234",
    ]  # fmt: skip
    assert number(-1.5, "dB") == "\N{MINUS SIGN}1.50 dB"
    assert number(0.00002) == "2.0e-05"
    assert number(None) == number(math.nan) == "not known"
    assert short_number(1.0) == "1"
    assert short_number(0.5) == "0.500"
    assert percent(0.914) == "91\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([0.3, 0.9], (0.0, 1.0)), ([0.0, 2.0], (0.0, 2.12)), ([], (0.0, 1.0)), ([0.0], (0.0, 1.0))],
)
def test_axes_begin_at_zero_where_nothing_is_below(
    numbers: list[float], expected: tuple[float, float]
) -> None:
    assert value_range(numbers) == pytest.approx(expected)


def test_axes_of_changes_reach_as_far_down_as_up() -> None:
    assert value_range([0.5, -0.1], around_zero=True) == pytest.approx((-0.53, 0.53))
    low, high = value_range([-20.0, -10.0])
    assert low < -20.0
    assert -10.0 < high < 0.0


def test_a_bar_has_its_marks_in_order() -> None:
    svg = interval_bar(
        0.5, low=0.4, high=0.6, chance=0.1, ceiling=0.9, goals={"C + 5F": 0.7, "none": math.nan}
    )
    chance = place(svg, "circle", "chance", "cx")
    low, high = (place(svg, "line", "whisker", end) for end in ("x1", "x2"))
    value = place(svg, "circle", "dot", "cx")
    ceiling = place(svg, "line", "ceiling", "x1")
    assert 0 < chance < low < value < high < ceiling < BAR_WIDTH
    assert value == pytest.approx(BAR_WIDTH / 2, abs=0.1)
    assert len(parts(svg, "path", "goal")) == 1
    assert "value 0.500, from 0.400, to 0.600, chance 0.100, ceiling 0.900, C + 5F 0.700" in svg


def test_a_bar_without_value_is_empty_and_one_alone_has_a_dot() -> None:
    assert interval_bar(math.nan, low=0.1) == ""
    assert len(parts(interval_bar(0.0), "circle", "dot")) == 1
    changed = interval_bar(-1.0, low=-2.0, high=0.5, around_zero=True)
    assert place(changed, "line", "zero", "x1") == pytest.approx(BAR_WIDTH / 2, abs=0.1)


def test_the_extrapolated_distance_stands_at_the_left() -> None:
    sizes = [25, 30, 40, 50, 75, 100]
    svg = frechet_plot(sizes, [1.0 + 20.0 / n for n in sizes], 1.0, 20.0, "distance")
    points = parts(svg, "circle", "point")
    dot = parts(svg, "circle", "dot")[0]
    assert len(points) == 6
    assert all(float(dot.get("cx", "0")) < float(p.get("cx", "0")) for p in points)
    assert all(float(dot.get("cy", "0")) > float(p.get("cy", "0")) for p in points)
    shown = [one.text for one in ElementTree.fromstring(svg).iter("text")]
    assert "∞" in shown
    assert "100" in shown


def test_classes_that_come_too_often_are_marked() -> None:
    svg = share_bars(
        ["piano", "harp", EVIL],
        [0.8, 0.0, 0.2],
        [0.3, 0.5, 0.2],
        [0.3, -0.7, -0.1],
        [0.7, -0.3, 0.1],
        "lead",
    )
    names = [one.text or "" for one in parts(svg, "text", "sure")]
    assert names == ["+ piano", "\N{MINUS SIGN} harp"]
    assert len(parts(svg, "rect", "pale")) == 1
    widths = [float(one.get("width", "0")) for one in parts(svg, "rect", "share")]
    assert widths[0] == pytest.approx(4.0 * widths[2], rel=0.02)
    assert "<script" not in svg


def test_many_classes_are_counted_and_sure_ones_stay() -> None:
    count = 24
    high = [0.5] * (count - 1) + [-0.01]
    svg = share_bars(
        [f"class {n}" for n in range(count)],
        [0.05] * count,
        [0.05] * count,
        [-0.5] * count,
        high,
        "many",
    )
    assert len(parts(svg, "rect", "share")) == MOST_CLASSES
    assert f"and {count - MOST_CLASSES} more" in svg
    assert "class 23" in svg


def test_a_histogram_has_a_bar_a_class() -> None:
    svg = histogram([0.0, 1.0, 2.0, 3.0], [1, 2, 1], "levels", reference=[1, 1, 2], unit="dB")
    heights = [float(one.get("height", "0")) for one in parts(svg, "rect", "share")]
    assert heights[1] == pytest.approx(2.0 * heights[0], rel=0.02)
    assert len(parts(svg, "polyline", "outline")) == 1


def test_plots_of_a_card_are_rendered_by_their_kind() -> None:
    data = {"kind": "histogram", "edges": [0, 1, 2], "counts": [3, 4], "title": EVIL}
    svg = render_plot(data)
    assert len(parts(svg, "rect", "share")) == 2
    assert not re.search(r"<script|onload='", svg)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "cube"},
        {"kind": "frechet", "sizes": [0], "distances": [1.0], "value": 1.0, "slope": 1.0},
        {"kind": "frechet", "sizes": [10], "distances": [None], "value": 1.0, "slope": 1.0},
        {"kind": "lines", "series": [{"x": ["a"], "y": [1]}], "x_name": "", "y_name": ""},
        {"kind": "shares", "classes": ["a"], "outputs": [], "corpus": [], "low": [], "high": []},
        {"kind": "histogram", "edges": [], "counts": []},
    ],
)
def test_incomplete_data_are_not_rendered(data: dict[str, object]) -> None:
    assert render_plot(data) == ""
