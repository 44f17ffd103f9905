"""Conversion of a song to another metre or pace, e.g. of a waltz into a ballad.

Every conversion is a piecewise linear map of time, applied to melody and chords alike so that they
stay aligned: bars are joined, or one beat of each bar is lengthened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from melisma.data.arrange.sheet import Chord, LeadSheet
from melisma.values import Notes
from melisma.values.errors import MelismaError

METRE_CHANGES: frozenset[tuple[str, str]] = frozenset(
    [("2/4", "4/4"), ("3/4", "4/4"), ("6/8", "4/4"), ("2/4", "3/4"), ("4/4", "3/4"), ("6/8", "3/4")]
)
"""Conversions that `refit` supports: (from, to)."""


def refit(sheet: LeadSheet, metre: str, narrow: bool = False) -> LeadSheet:
    """Convert a song to another metre.

    2/4 becomes 4/4 by joining bars; 3/4 becomes 4/4 by lengthening a beat without inner onsets; 6/8
    becomes 4/4 by lengthening the first eighth of each group; 6/8 becomes 3/4 by counting eighths
    as quarters. 4/4 and 2/4 become 3/4 by lengthening the first beat of each half bar or, if
    `narrow`, by shortening the half of each bar with fewer onsets.

    Args:
        sheet: The song.
        metre: One of `METRES`.
        narrow: For slow melodies in 2/4 and 4/4: shorten bars of four beats to three.

    Returns:
        The converted song.

    Raises:
        MelismaError: If there is no conversion between the metres.
    """
    change = (sheet.metre, metre)
    if sheet.metre == metre:
        return sheet
    if change not in METRE_CHANGES:
        known = sorted(target for source, target in METRE_CHANGES if source == sheet.metre)
        raise MelismaError(
            f"a song in {sheet.metre} cannot be fitted to {metre}: it can become "
            f"{' or '.join(known)}"
        )
    if change == ("2/4", "4/4"):
        return _join_bars(sheet, "4/4")
    if change == ("6/8", "3/4"):
        return _map_blocks(sheet, "3/4", 1.5, lambda _: ((0.0, 1.5), (0.0, 3.0)))
    if change == ("6/8", "4/4"):
        return _map_blocks(
            sheet, "4/4", 1.5, lambda _: ((0.0, 0.5, 1.0, 1.5), (0.0, 1.0, 1.5, 2.0))
        )
    if change == ("3/4", "4/4"):
        return _map_blocks(sheet, "4/4", 3.0, lambda bar: _prolong(sheet.melody, bar))
    if narrow:
        common = sheet if sheet.metre == "4/4" else _join_bars(sheet, "4/4")
        return _map_blocks(common, "3/4", 4.0, lambda bar: _contract(common.melody, bar))
    return _map_blocks(sheet, "3/4", 2.0, lambda _: ((0.0, 1.0, 2.0), (0.0, 2.0, 3.0)))


def simplify_chords(song: LeadSheet, cell_beats: float) -> LeadSheet:
    """Keep one chord per cell: the one that lasts longest and fits the melody best.

    Args:
        song: The song.
        cell_beats: Length of a cell in beats.

    Returns:
        The song with chord changes at cell boundaries only.
    """
    cells = round(song.bars * song.bar_beats / cell_beats)
    starts = np.array([chord.start_beat for chord in song.chords])
    ends = np.append(starts[1:], song.bars * song.bar_beats)
    notes = song.melody
    note_ends = notes.start_beats + notes.duration_beats
    chosen: list[Chord] = []
    for cell in range(cells):
        begin, end = cell * cell_beats, (cell + 1) * cell_beats
        sounding = np.flatnonzero((starts < end - 1e-6) & (ends > begin + 1e-6))
        if not len(sounding):
            continue
        overlap = np.minimum(note_ends, end) - np.maximum(notes.start_beats, begin)
        overlap = np.where(overlap > 0, overlap, 0.0)

        def score(index: int, begin: float = begin, end: float = end, overlap=overlap) -> float:
            share = min(ends[index], end) - max(starts[index], begin)
            tones = np.isin(notes.pitch % 12, song.chords[index].pitch_classes)
            return float(share + 0.8 * overlap[tones].sum() + 0.1 * (starts[index] <= begin + 1e-6))

        best = song.chords[max((int(index) for index in sounding), key=score)]
        if not chosen or (chosen[-1].root, chosen[-1].quality) != (best.root, best.quality):
            chosen.append(replace(best, start_beat=begin))
    chosen[0] = replace(chosen[0], start_beat=0.0)
    return replace(song, chords=tuple(chosen))


def stretch(sheet: LeadSheet, factor: int) -> LeadSheet:
    """Lengthen all notes by `factor` in the same metre: more bars, a slower melody."""
    return _map_blocks(
        sheet, sheet.metre, sheet.bar_beats, lambda _: ((0.0, 1.0), (0.0, float(factor)))
    )


def halve(sheet: LeadSheet) -> LeadSheet:
    """Halve all note values, so that two bars become one: for melodies in long notes."""
    return _join_bars(sheet, sheet.metre, 0.5)


Anchors = tuple[tuple[float, ...], tuple[float, ...]]


def _map_blocks(
    sheet: LeadSheet, metre: str, block_beats: float, anchors: Callable[[int], Anchors]
) -> LeadSheet:
    """Map each block of beats piecewise linearly by its own anchors (from, to)."""
    blocks = round(sheet.bars * sheet.bar_beats / block_beats)
    source: list[float] = []
    target: list[float] = []
    position = 0.0
    for block in range(blocks):
        before, after = anchors(block)
        unit = block_beats / before[-1]
        for before_beat, after_beat in zip(before[:-1], after[:-1], strict=True):
            source.append(block * block_beats + before_beat * unit)
            target.append(position + after_beat * unit if unit != 1.0 else position + after_beat)
        position += after[-1] * unit
    source.append(blocks * block_beats)
    target.append(position)
    return _apply(sheet, metre, np.array(source), np.array(target))


def _apply(sheet: LeadSheet, metre: str, source: np.ndarray, target: np.ndarray) -> LeadSheet:
    melody = sheet.melody
    starts = np.interp(melody.start_beats, source, target)
    ends = np.interp(melody.start_beats + melody.duration_beats, source, target)
    chords = tuple(
        replace(chord, start_beat=float(np.interp(chord.start_beat, source, target)))
        for chord in sheet.chords
    )
    moved = replace(sheet, metre=metre)
    lines = np.interp(np.array(sheet.phrase_bars) * sheet.bar_beats, source, target)
    phrases = sorted({int(line / moved.bar_beats + 1e-6) for line in lines})
    return replace(
        moved,
        melody=replace(melody, start_beats=starts, duration_beats=np.maximum(ends - starts, 0.05)),
        chords=chords,
        bars=int(np.ceil(target[-1] / moved.bar_beats - 1e-6)),
        phrase_bars=tuple(phrases),
    )


def _join_bars(sheet: LeadSheet, metre: str, factor: float = 1.0) -> LeadSheet:
    """Join pairs of bars; if most phrases begin in odd bars, an empty bar is inserted first."""
    odd = sum(bar % 2 for bar in sheet.phrase_bars[1:])
    offset = (sheet.bar_beats if 2 * odd > len(sheet.phrase_bars) - 1 else 0.0) * factor
    total = sheet.bars * sheet.bar_beats
    joined = _apply(
        sheet, metre, np.array([0.0, total]), np.array([offset, offset + total * factor])
    )
    if offset:
        first = replace(joined.chords[0], start_beat=0.0)
        joined = replace(
            joined,
            chords=(first, *joined.chords[1:]),
            phrase_bars=(0, *(bar for bar in joined.phrase_bars if bar > 0)),
        )
    return joined


def _contract(melody: Notes, bar: int) -> Anchors:
    """Anchors that shorten the half of a 4/4 bar with fewer onsets to a single beat."""
    begins = melody.start_beats - 4.0 * bar
    first = int(((begins > -0.01) & (begins < 1.99)).sum())
    second = int(((begins > 1.99) & (begins < 3.99)).sum())
    if first < second:
        return (0.0, 2.0, 4.0), (0.0, 1.0, 3.0)
    return (0.0, 2.0, 4.0), (0.0, 2.0, 3.0)


def _prolong(melody: Notes, bar: int) -> Anchors:
    """Anchors that double one quarter of a 3/4 bar: the first unless quick notes begin in it."""
    begins = melody.start_beats - 3.0 * bar
    density = [
        float(((begins > beat + 0.01) & (begins < beat + 0.99)).sum()) + 0.3 * beat
        for beat in range(3)
    ]
    has_no_onset = [not (np.abs(begins - beat) < 0.01).any() for beat in range(3)]
    if has_no_onset[1] and not has_no_onset[0]:
        return (0.0, 2.0, 3.0), (0.0, 3.0 if density[2] > 1 else 2.0, 4.0)
    return {
        0: ((0.0, 1.0, 2.0, 3.0), (0.0, 2.0, 3.0, 4.0)),
        1: ((0.0, 1.0, 2.0, 3.0), (0.0, 1.0, 3.0, 4.0)),
        2: ((0.0, 1.0, 2.0, 3.0), (0.0, 1.0, 2.0, 4.0)),
    }[int(np.argmin(density))]
