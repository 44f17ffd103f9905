"""Piano roll plots: the notes of a score over its bars, one colour per instrument.

Long pieces continue in further rows, like systems on a page; drums are a strip below each row.
Input: a `Score`. Output: a PNG file or a matplotlib figure.
"""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from melisma.analysis.plots.titles import title_line
from melisma.files import write_bytes
from melisma.symbolic.instruments import instrument_name
from melisma.values import Score, Track
from melisma.values.attributes import PITCH_NAMES
from melisma.values.errors import MelismaError
from melisma.values.score_prompt import beat_name, felt_beat

ROW_BEATS = 64.0
"""Approximate quarter notes per row (rows hold whole bars; chosen: sixteenths stay distinct)."""
MAX_ROWS = 8
"""Longer pieces get longer rows instead."""
_WIDTH_INCHES = 12.0
_ROW_INCHES = 2.3
_DRUM_INCHES = 0.5
_DOTS_PER_INCH = 130
_LONGEST_TITLE = 110
_COLOURS = (
    "#1f5fa8", "#d1495b", "#2a9d5c", "#e08a1e", "#7a4fa3", "#1fa3a8", "#a86a3d", "#d070b0",
    "#6b7a1f", "#4a4a4a",
)  # fmt: skip
"""Colours assigned to the instruments in turn, in the order of the tracks."""
_DRUM_COLOUR = "#333333"


def bar_lines(score: Score) -> np.ndarray:
    """Start of each bar by the metres of the score, in beats, float64 [bar]."""
    end = max(score.end_beats, 1e-6)
    stops = [metre.beat for metre in score.metres[1:]] + [end]
    lines = [
        np.arange(metre.beat, min(stop, end) - 1e-6, metre.bar_beats)
        for metre, stop in zip(score.metres, stops, strict=True)
    ]
    return np.unique(np.concatenate(lines))


def row_edges(score: Score) -> np.ndarray:
    """Starts of the rows and end of the last one, in beats, float64 [row + 1]; at bar lines."""
    lines = bar_lines(score)
    end = max(score.end_beats, float(lines[-1]) + 1e-3)
    length = max(ROW_BEATS, end / MAX_ROWS)
    edges = [0.0]
    while end - edges[-1] > 1.25 * length:
        fitting = lines[(lines > edges[-1] + 1e-6) & (lines <= edges[-1] + length + 1e-6)]
        edges.append(float(fitting[-1]) if len(fitting) else edges[-1] + length)
    return np.array([*edges, end])


def _instrument_of(track: Track) -> str:
    return instrument_name(track.program, track.is_drum)


def _colours(score: Score) -> dict[str, str]:
    """Colour of each pitched instrument, in the order of the tracks."""
    names = dict.fromkeys(_instrument_of(track) for track in score.tracks if not track.is_drum)
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}


def plot_piano_roll(score: Score, path: Path, title: str) -> None:
    """Writes a piano roll as a PNG file, atomically.

    Raises:
        MelismaError: for a score without notes.
        OSError: if the file cannot be written.
    """
    stream = io.BytesIO()
    score_figure(score, title).savefig(stream, format="png", dpi=_DOTS_PER_INCH)
    write_bytes(Path(path), stream.getvalue())


def score_figure(score: Score, title: str) -> Figure:
    """The piano roll as a matplotlib figure.

    Raises:
        MelismaError: for a score without notes.
    """
    if not any(len(track.notes) for track in score.tracks):
        raise MelismaError("a piano roll needs notes, but the score has none")
    edges = row_edges(score)
    rows = len(edges) - 1
    drums = any(track.is_drum and len(track.notes) for track in score.tracks)
    pitched = any(not track.is_drum and len(track.notes) for track in score.tracks)
    heights = [_ROW_INCHES] * pitched + [_DRUM_INCHES] * drums
    figure = Figure(figsize=(_WIDTH_INCHES, rows * sum(heights) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title_line(title, _LONGEST_TITLE)}\n{_subtitle(score)}", fontsize=10)
    grid = figure.subplots(rows * len(heights), 1, squeeze=False, height_ratios=heights * rows)
    axes = iter(grid[:, 0])
    colours = _colours(score)
    widest = float(np.diff(edges).max())
    for first, last in pairwise(edges.tolist()):
        row_axes = [next(axes) for _ in heights]
        if pitched:
            _plot_notes(row_axes[0], score, colours, first, last)
        if drums:
            _plot_drums(row_axes[-1], score, first, last)
        for panel in row_axes:  # a beat is equally wide in all rows
            panel.set_xlim(first, first + widest)
    grid[-1, 0].set_xlabel("bar")
    _add_legend(figure, colours, drums)
    return figure


def _subtitle(score: Score) -> str:
    """Tempo in beats of the first metre, metre and length."""
    first = (score.metres[0].numerator, score.metres[0].denominator) if score.metres else (4, 4)
    bpm = score.tempo.bpm / felt_beat(first)
    tempo = f"{bpm[0]:.0f} bpm" if len(bpm) == 1 else f"{bpm.min():.0f}-{bpm.max():.0f} bpm"
    if felt_beat(first) != 1.0:
        tempo += f" ({beat_name(first)})"
    metres = list(dict.fromkeys(f"{m.numerator}/{m.denominator}" for m in score.metres))
    metre = ", ".join(metres[:4]) + (" ..." if len(metres) > 4 else "")
    return f"{tempo}, {metre}, {len(bar_lines(score))} bars, {score.seconds:.0f} s"


def _plot_bar_lines(axes: Axes, score: Score, first: float, stop: float, numbers: bool) -> None:
    lines = bar_lines(score)
    shown = np.flatnonzero((lines >= first - 1e-6) & (lines < stop - 1e-6))
    for index in shown:
        axes.axvline(lines[index], color="#999999", linewidth=0.5, zorder=0)
    step = max(1, len(shown) // 16)
    ticks = shown[::step]
    labels = [str(index + 1) for index in ticks] if numbers else [""] * len(ticks)
    axes.set_xticks(lines[ticks], labels, fontsize=7)


def _plot_notes(
    axes: Axes, score: Score, colours: dict[str, str], first: float, stop: float
) -> None:
    """Plots the pitched notes of one row."""
    pitches = np.concatenate([t.notes.pitch for t in score.tracks if not t.is_drum])
    low, high = int(pitches.min()) - 2, int(pitches.max()) + 2
    for octave in range(0, 128, 12):
        axes.axhline(octave, color="#dddddd", linewidth=0.5, zorder=0)
    thickness = float(np.clip(72.0 * _ROW_INCHES * 0.7 / (high - low), 1.2, 6.0))
    for track in score.tracks:
        if track.is_drum:
            continue
        lines = _segments(track, first, stop)
        shade = 0.35 + 0.65 * _velocities(track, first, stop) / 127.0
        axes.add_collection(
            LineCollection(
                list(lines),
                colors=[(colours[_instrument_of(track)], float(alpha)) for alpha in shade],
                linewidths=thickness,
                capstyle="butt",
            )
        )
    axes.set_ylim(low, high)
    ticks = [pitch for pitch in range(0, 128, 12) if low <= pitch <= high]
    axes.set_yticks(ticks, [f"{PITCH_NAMES[p % 12]}{p // 12 - 1}" for p in ticks], fontsize=7)
    _plot_bar_lines(axes, score, first, stop, numbers=True)


def _visible(track: Track, first: float, stop: float) -> np.ndarray:
    notes = track.notes
    return (notes.start_beats < stop) & (notes.start_beats + notes.duration_beats > first)


def _segments(track: Track, first: float, stop: float) -> np.ndarray:
    """One horizontal line per visible note, (beat, pitch) of both ends, float64 [note, 2, 2]."""
    shown = _visible(track, first, stop)
    start = track.notes.start_beats[shown]
    # Slightly shorter than notated, so that repeated notes stay separate.
    end = start + np.maximum(track.notes.duration_beats[shown] * 0.95, 0.05)
    pitch = track.notes.pitch[shown].astype(np.float64)
    return np.stack([np.stack([start, pitch], axis=1), np.stack([end, pitch], axis=1)], axis=1)


def _velocities(track: Track, first: float, stop: float) -> np.ndarray:
    return track.notes.velocity[_visible(track, first, stop)]


def _plot_drums(axes: Axes, score: Score, first: float, stop: float) -> None:
    """Plots the drum hits of one row; each key in use has a line, the lowest at the bottom."""
    drums = [track.notes for track in score.tracks if track.is_drum]
    keys = np.unique(np.concatenate([notes.pitch for notes in drums]))
    for notes in drums:
        shown = (notes.start_beats >= first) & (notes.start_beats < stop)
        height = np.searchsorted(keys, notes.pitch[shown])
        axes.scatter(notes.start_beats[shown], height, s=4, marker="|", color=_DRUM_COLOUR)
    axes.set_ylim(-0.7, len(keys) - 0.3)
    axes.set_yticks([])
    axes.set_ylabel("drums", fontsize=7, rotation=0, ha="right", va="center")
    _plot_bar_lines(axes, score, first, stop, numbers=False)


def _add_legend(figure: Figure, colours: dict[str, str], drums: bool) -> None:
    handles = [
        Line2D([], [], color=colour, linewidth=4, label=name) for name, colour in colours.items()
    ]
    if drums:
        handles.append(Line2D([], [], color=_DRUM_COLOUR, marker="|", linewidth=0, label="drums"))
    figure.legend(
        handles=handles[:18], loc="outside lower center", ncols=6, fontsize=7, frameon=False
    )
