"""The piano roll of a score is a picture, in rows that begin at bar lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from melisma.analysis.plots.piano_roll import (
    MAX_ROWS,
    bar_lines,
    plot_piano_roll,
    row_edges,
    score_figure,
)
from melisma.analysis.plots.spectrogram import plot_sound
from melisma.analysis.plots.titles import title_line
from melisma.values import Metre, Notes, Score, TempoMap, Track, Waveform
from melisma.values.errors import MelismaError


def a_score(beats: int, is_drum: bool = False, metre: tuple[int, int] = (3, 4)) -> Score:
    notes = Notes(
        start_beats=np.arange(beats, dtype=np.float64),
        duration_beats=np.ones(beats),
        pitch=np.full(beats, 60),
        velocity=np.full(beats, 80),
    )
    return Score(
        tracks=(
            Track(notes=notes, program=40, is_drum=False),
            Track(notes=notes, program=0, is_drum=is_drum),
        ),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 90.0)),
        metres=(Metre(beat=0.0, numerator=metre[0], denominator=metre[1]),),
    )


def test_rows_begin_at_bar_lines_and_cover_the_piece() -> None:
    score = a_score(200)
    edges = row_edges(score)
    assert edges[0] == 0.0
    assert edges[-1] == pytest.approx(200.0)
    assert set(edges[1:-1]) <= set(bar_lines(score))
    assert len(row_edges(a_score(5_000))) - 1 <= MAX_ROWS + 1


def test_a_change_of_metre_moves_the_bar_lines() -> None:
    score = a_score(12)
    changed = Score(
        tracks=score.tracks,
        tempo=score.tempo,
        metres=(*score.metres, Metre(beat=6.0, numerator=2, denominator=4)),
    )
    assert bar_lines(changed).tolist() == [0.0, 3.0, 6.0, 8.0, 10.0]


def test_a_png_is_written_with_drums_and_without(tmp_path: Path) -> None:
    for is_drum in (False, True):
        path = tmp_path / f"{is_drum}.png"
        plot_piano_roll(a_score(20, is_drum), path, "cost: $5 a_b ^ \\ {")
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


def test_every_note_is_plotted_once_though_the_last_row_is_longer() -> None:
    score = a_score(201)
    widths = np.diff(row_edges(score))
    assert widths[-1] > widths[0]
    figure = score_figure(score, "rows")
    plotted = sum(
        len(lines.get_segments())
        for axes in figure.axes
        for lines in axes.collections
        if isinstance(lines, LineCollection)
    )
    assert plotted == 2 * 201
    assert len({np.ptp(axes.get_xlim()) for axes in figure.axes}) == 1


def test_a_score_without_notes_is_refused(tmp_path: Path) -> None:
    empty = Score(tracks=(), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 90.0)))
    with pytest.raises(MelismaError, match="has none"):
        plot_piano_roll(empty, tmp_path / "x.png", "nothing")


@pytest.mark.filterwarnings("error")
def test_titles_have_no_letters_that_the_font_lacks(tmp_path: Path) -> None:
    for title in (
        "café 🎻🎻 waltz",
        "忧伤的钢琴曲",
        "$x_1$ \\frac",
        "a\tb\x07c",
        "\ud800",
        "नमस्ते",
        "",
    ):
        plot_piano_roll(a_score(8), tmp_path / "roll.png", title)
        wave = Waveform(samples=np.zeros((1, 9_000)), rate_hz=24_000)
        plot_sound(wave, tmp_path / "sound.png", title)
    assert title_line("café 🎻🎻 waltz", 40) == "café … waltz"
    assert title_line("x" * 50, 40) == "x" * 39 + "…"


def test_the_tempo_is_in_beats_of_the_metre() -> None:
    figure = score_figure(a_score(12, metre=(6, 8)), "a jig")
    assert "60 bpm (dotted quarter), 6/8" in figure.get_suptitle()
