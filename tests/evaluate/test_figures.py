"""Rows of the table, written and read again."""

from pathlib import Path

import pytest

from melisma.evaluate.metrics.figures import (
    HEADER,
    figure_of,
    markdown_row,
    markdown_table,
    read_figures,
    write_figures,
)
from melisma.evaluate.metrics.statistics import Interval
from melisma.values.errors import MelismaError

FIGURE = figure_of(
    "stated tonality",
    Interval(value=0.5, low=0.4, high=0.6, count=200),
    chance=1 / 24,
    ceiling=0.8,
    command="python benchmarks/adherence.py",
    details={"seed": 0.0},
)


def test_a_row_has_the_columns_of_the_header() -> None:
    row = markdown_row(FIGURE)
    assert row.count("|") == HEADER.splitlines()[0].count("|")
    assert "0.400 to 0.600" in row
    assert "0.625" in row  # of the ceiling
    assert markdown_table([FIGURE]).splitlines()[-1] == row


def test_figures_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "results" / "x.json"
    write_figures(path, [FIGURE])
    assert read_figures(path) == [FIGURE]


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[{"colour": 1}]')
    with pytest.raises(MelismaError, match="holds no figures"):
        read_figures(path)


def test_no_ceiling_means_no_share() -> None:
    bare = figure_of("speed", Interval(value=2.0, low=1.9, high=2.1, count=5), unit="s")
    assert bare.share_of_ceiling is None
    assert "2.00 s" in markdown_row(bare)
