"""Fitting a song to another metre or another pace, as arrangers do when a waltz becomes a ballad.

Every change is a piecewise linear map of time that is the same for melody and chords, so the two
stay together: bars are joined, or one beat of each bar is prolonged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from melisma.data.arrange.sheet import Chord, LeadSheet
from melisma.values import Notes

METRE_CHANGES: frozenset[tuple[str, str]] = frozenset(
    [("2/4", "4/4"), ("3/4", "4/4"), ("6/8", "4/4"), ("2/4", "3/4"), ("4/4", "3/4"), ("6/8", "3/4")]
)
"""Pairs of metres, from and to, that `refit` knows."""


def refit(sheet: LeadSheet, metre: str, narrow: bool = False) -> LeadSheet:
    """The song in another metre; `ValueError` where there is no musical way from one to the other.

    2/4 becomes 4/4 by joining bars, 3/4 becomes 4/4 by prolonging a beat in which nothing happens,
    6/8 becomes 4/4 by prolonging the first eighth of each group, 6/8 becomes 3/4 by counting
    eighths as quarters. 4/4 and 2/4 become 3/4 by prolonging the first beat of each half bar, or
    where `narrow` (for calm tunes) by drawing together the emptier half of each bar.
    """
    change = (sheet.metre, metre)
    if sheet.metre == metre:
        return sheet
    if change not in METRE_CHANGES:
        known = sorted(target for source, target in METRE_CHANGES if source == sheet.metre)
        raise ValueError(
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


def settle_chords(song: LeadSheet, cell_beats: float) -> LeadSheet:
    """One chord for each cell of the bar: the one that lasts longest there and bears the tune."""
    cells = round(song.bars * song.bar_beats / cell_beats)
    starts = np.array([chord.start_beat for chord in song.chords])
    ends = np.append(starts[1:], song.bars * song.bar_beats)
    notes = song.melody
    note_ends = notes.start_beats + notes.duration_beats
    chosen: list[Chord] = []
    for cell in range(cells):
        begin, end = cell * cell_beats, (cell + 1) * cell_beats
        here = np.flatnonzero((starts < end - 1e-6) & (ends > begin + 1e-6))
        if not len(here):
            continue
        sung = np.minimum(note_ends, end) - np.maximum(notes.start_beats, begin)
        sung = np.where(sung > 0, sung, 0.0)

        def worth(index: int, begin: float = begin, end: float = end, sung=sung) -> float:
            share = min(ends[index], end) - max(starts[index], begin)
            tones = np.isin(notes.pitch % 12, song.chords[index].pitch_classes)
            return float(share + 0.8 * sung[tones].sum() + 0.1 * (starts[index] <= begin + 1e-6))

        best = song.chords[max((int(index) for index in here), key=worth)]
        if not chosen or (chosen[-1].root, chosen[-1].quality) != (best.root, best.quality):
            chosen.append(replace(best, start_beat=begin))
    chosen[0] = replace(chosen[0], start_beat=0.0)
    return replace(song, chords=tuple(chosen))


def stretch(sheet: LeadSheet, factor: int) -> LeadSheet:
    """The song with every note `factor` times as long, the metre kept: more bars, a calmer tune."""
    return _map_blocks(
        sheet, sheet.metre, sheet.bar_beats, lambda _: ((0.0, 1.0), (0.0, float(factor)))
    )


def halve(sheet: LeadSheet) -> LeadSheet:
    """The song with every note half as long, two bars in one: for tunes in long notes."""
    return _join_bars(sheet, sheet.metre, 0.5)


Anchors = tuple[tuple[float, ...], tuple[float, ...]]


def _map_blocks(
    sheet: LeadSheet, metre: str, block_beats: float, anchors: Callable[[int], Anchors]
) -> LeadSheet:
    """The sheet with each block of beats mapped by its own anchors (from, to)."""
    blocks = round(sheet.bars * sheet.bar_beats / block_beats)
    source: list[float] = []
    target: list[float] = []
    here = 0.0
    for block in range(blocks):
        before, after = anchors(block)
        unit = block_beats / before[-1]
        for one, other in zip(before[:-1], after[:-1], strict=True):
            source.append(block * block_beats + one * unit)
            target.append(here + other * unit if unit != 1.0 else here + other)
        here += after[-1] * unit
    source.append(blocks * block_beats)
    target.append(here)
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
    """Two bars in one; an upbeat bar is put before where phrases mostly begin in odd bars."""
    odd = sum(bar % 2 for bar in sheet.phrase_bars[1:])
    late = (sheet.bar_beats if 2 * odd > len(sheet.phrase_bars) - 1 else 0.0) * factor
    whole = sheet.bars * sheet.bar_beats
    joined = _apply(sheet, metre, np.array([0.0, whole]), np.array([late, late + whole * factor]))
    if late:
        first = replace(joined.chords[0], start_beat=0.0)
        joined = replace(
            joined,
            chords=(first, *joined.chords[1:]),
            phrase_bars=(0, *(bar for bar in joined.phrase_bars if bar > 0)),
        )
    return joined


def _contract(melody: Notes, bar: int) -> Anchors:
    """Which half of a 4/4 bar becomes a single beat: the one in which fewer notes begin."""
    begins = melody.start_beats - 4.0 * bar
    first = int(((begins > -0.01) & (begins < 1.99)).sum())
    second = int(((begins > 1.99) & (begins < 3.99)).sum())
    if first < second:
        return (0.0, 2.0, 4.0), (0.0, 1.0, 3.0)
    return (0.0, 2.0, 4.0), (0.0, 2.0, 3.0)


def _prolong(melody: Notes, bar: int) -> Anchors:
    """Which quarter of a 3/4 bar becomes a half: the first unless quick notes begin within it."""
    begins = melody.start_beats - 3.0 * bar
    crowd = [
        float(((begins > beat + 0.01) & (begins < beat + 0.99)).sum()) + 0.3 * beat
        for beat in range(3)
    ]
    missing = [not (np.abs(begins - beat) < 0.01).any() for beat in range(3)]
    if missing[1] and not missing[0]:
        return (0.0, 2.0, 3.0), (0.0, 3.0 if crowd[2] > 1 else 2.0, 4.0)
    return {
        0: ((0.0, 1.0, 2.0, 3.0), (0.0, 2.0, 3.0, 4.0)),
        1: ((0.0, 1.0, 2.0, 3.0), (0.0, 1.0, 3.0, 4.0)),
        2: ((0.0, 1.0, 2.0, 3.0), (0.0, 1.0, 2.0, 4.0)),
    }[int(np.argmin(crowd))]
