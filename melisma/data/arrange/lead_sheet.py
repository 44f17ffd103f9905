"""Extraction of a lead sheet from a score: melody, bars, chords and phrases.

Input: a `Score` (voice with piano, a hymn in parts, a melody with accompaniment). Output: a
`LeadSheet`, or None if the song is unsuitable for an arrangement (too short, changing metre, no
clear melody, harmony that simple chords do not explain).
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from melisma.data.arrange.harmony import find_chords, find_tonality, span_profiles
from melisma.data.arrange.sheet import Chord, LeadSheet, notes_from_rows, rows_from_notes
from melisma.values import Notes, Score, Track

_VOICE_NAME = re.compile(
    r"voice|vocal|sing|gesang|chant|canto|voce|voix|sopran|discant|g[łl]os|[śs]piew|melod|cantus",
    re.IGNORECASE,
)
_MIN_BARS = 8
_MIN_NOTES = 24
_MIN_NOTE_BEATS = 0.11
"""Shorter notes are written-out ornaments and are removed from the melody."""
_MIN_CHORD_TONES = 0.82
_MIN_MELODY_FIT = 0.8
"""Smallest share of notes, and of accented melody notes, that are chord tones (chosen: rejects the
lowest tenth of 120 songs, whose bars or harmony looked most doubtful)."""
_MAX_FOREIGN = 0.22
"""Largest share of time of chords with two or more tones outside the key: songs that modulate
beyond secondary dominants are incoherent without their own accompaniment (chosen)."""
_MAX_CHROMATIC = 0.2
_MAX_LEAPS = 0.15
_MAX_NOTES_PER_BEAT = 1.9
_MAX_SPAN = 26
"""Limits of a singable melody: share of notes outside the scale, share of leaps beyond a fifth,
pace, and range in semitones (chosen: beyond, it is an instrumental figure)."""
_RARE = ("dim", "dim7", "m7b5", "aug", "sus4", "maj7")
_MAX_RARE = 0.35
"""Largest share of chords of rare qualities: more indicate unreliable chords."""

_METRES: dict[tuple[int, int], tuple[str, float]] = {
    (2, 4): ("2/4", 1.0),
    (3, 4): ("3/4", 1.0),
    (4, 4): ("4/4", 1.0),
    (2, 2): ("4/4", 1.0),
    (4, 2): ("4/4", 0.5),
    (3, 2): ("3/4", 0.5),
    (3, 8): ("3/4", 2.0),
    (6, 8): ("6/8", 1.0),
    (6, 4): ("6/8", 0.5),
    (12, 8): ("6/8", 1.0),
}
"""Metre of the lead sheet, and factor on the beats, for each time signature."""
_BAR_BEATS = {"2/4": 2.0, "3/4": 3.0, "4/4": 4.0, "6/8": 3.0}


def read_lead_sheet(score: Score) -> LeadSheet | None:
    """Extract the lead sheet of a song.

    Args:
        score: The song.

    Returns:
        The lead sheet; None if the song is unsuitable.
    """
    section = _longest_section(score)
    if section is None:
        return None
    start, end, metre, factor = section
    pitched = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    lead = _find_melody_track(pitched)
    if lead is None:
        return None
    melody = _monophonic(_cut(pitched[lead].notes, start, end, factor))
    if melody is None:
        return None
    others = [
        _cut(track.notes, start, end, factor)
        for index, track in enumerate(pitched)
        if index != lead
    ]
    all_notes = _join([melody, *others])
    if not any(len(other) for other in others):
        return None
    bar_beats = _BAR_BEATS[metre]
    best: tuple[float, float] | None = None
    for offset, strength in _find_downbeats(all_notes, bar_beats):
        _, _, likelihood = _harmonise(
            _shift(melody, -offset % bar_beats), _shift(all_notes, -offset % bar_beats), metre
        )
        beats = float(all_notes.start_beats.max()) + 1.0
        plausibility = likelihood / beats + 0.35 * strength + (0.02 if offset == 0.0 else 0.0)
        if best is None or plausibility > best[0]:
            best = (plausibility, -offset % bar_beats)
    assert best is not None
    return _build(score.title, _shift(melody, best[1]), _shift(all_notes, best[1]), metre)


def _harmonise(
    melody: Notes, all_notes: Notes, metre: str
) -> tuple[list[Chord], np.ndarray, float]:
    """Chords, the pitch class profile of all notes float64 [12], and the log-likelihood."""
    ends = all_notes.start_beats + all_notes.duration_beats
    edges, costs, span_bars = _spans(metre, int(np.ceil(ends.max() / _BAR_BEATS[metre])))
    profiles = span_profiles(all_notes, edges)
    doubled = replace(profiles, weight=profiles.weight + span_profiles(melody, edges).weight)
    chords, likelihood = find_chords(doubled, edges, costs, span_bars)
    return chords, doubled.weight.sum(axis=0), likelihood


def _chord_tone_share(all_notes: Notes, chords: list[Chord]) -> float:
    """Share of notes, weighted by length, that are tones of the chord at their onset."""
    tones = np.zeros((len(chords), 12))
    for row, chord in zip(tones, chords, strict=True):
        row[list(chord.pitch_classes)] = 1.0
    starts = np.array([chord.start_beat for chord in chords])
    index = np.searchsorted(starts, all_notes.start_beats + 1e-6, side="right") - 1
    weight = np.minimum(all_notes.duration_beats, 2.0)
    inside = tones[np.maximum(index, 0), all_notes.pitch % 12]
    return float((weight * inside).sum() / max(weight.sum(), 1e-9))


def _build(title: str, melody: Notes, all_notes: Notes, metre: str) -> LeadSheet | None:
    """Build the lead sheet of notes whose first bar begins at beat 0; None if unsuitable."""
    bar_beats = _BAR_BEATS[metre]
    bars = int(np.ceil((all_notes.start_beats + all_notes.duration_beats).max() / bar_beats))
    chords, profile, _ = _harmonise(melody, all_notes, metre)
    if _chord_tone_share(all_notes, chords) < _MIN_CHORD_TONES:
        return None
    tonality, _ = find_tonality(profile)
    sheet = LeadSheet(
        title=title,
        melody=melody,
        chords=tuple(chords),
        tonality=tonality,
        metre=metre,
        bars=bars,
        phrase_bars=(0,),
    )
    sheet = _without_empty_bars(sheet)
    if sheet is None or melody_fit(sheet) < _MIN_MELODY_FIT:
        return None
    sheet = _correct_tonality(sheet)
    if not _is_simple(sheet):
        return None
    return replace(sheet, phrase_bars=_find_phrases(sheet))


def _is_simple(sheet: LeadSheet) -> bool:
    """Whether the melody is singable and the harmony stays close to the key."""
    tonic = sheet.tonality % 12
    steps = (0, 2, 3, 5, 7, 8, 10, 11) if sheet.is_minor else (0, 2, 4, 5, 7, 9, 11)
    scale = {(tonic + step) % 12 for step in steps}
    pitch = sheet.melody.pitch
    total_beats = sheet.bars * sheet.bar_beats
    ends = [*(chord.start_beat for chord in sheet.chords[1:]), total_beats]
    foreign = sum(
        end - chord.start_beat
        for chord, end in zip(sheet.chords, ends, strict=True)
        if len(set(chord.pitch_classes) - scale) >= 2
    )
    return (
        foreign / total_beats <= _MAX_FOREIGN
        and float(np.mean([int(p) % 12 not in scale for p in pitch])) <= _MAX_CHROMATIC
        and float(np.mean(np.abs(np.diff(pitch)) > 7)) <= _MAX_LEAPS
        and len(pitch) / total_beats <= _MAX_NOTES_PER_BEAT
        and int(pitch.max() - pitch.min()) <= _MAX_SPAN
        and float(np.mean([chord.quality in _RARE for chord in sheet.chords])) <= _MAX_RARE
    )


def _correct_tonality(sheet: LeadSheet) -> LeadSheet:
    """Switch to the relative key if the last chord is its tonic: songs end on their tonic."""
    last = sheet.chords[-1]
    tonic, minor = sheet.tonality % 12, sheet.is_minor
    third_is_minor = last.quality in ("min", "min7")
    relative = (tonic + 3) % 12 if minor else (tonic + 9) % 12
    if last.root == relative and third_is_minor != minor:
        return replace(sheet, tonality=relative + (0 if minor else 12))
    return sheet


def _longest_section(score: Score) -> tuple[float, float, str, float] | None:
    """Start and end beat, metre and beat factor of the longest section in one supported metre."""
    end = score.end_beats
    if end <= 0:
        return None
    merged: list[tuple[float, int, int]] = []
    for metre in sorted(score.metres, key=lambda metre: metre.beat):
        if not merged or merged[-1][1:] != (metre.numerator, metre.denominator):
            merged.append((metre.beat, metre.numerator, metre.denominator))
    sections = []
    for index, (beat, numerator, denominator) in enumerate(merged):
        until = merged[index + 1][0] if index + 1 < len(merged) else end
        if (numerator, denominator) in _METRES:
            sections.append((until - beat, beat, until, (numerator, denominator)))
    if not sections:
        return None
    length, start, until, signature = max(sections)
    metre_name, factor = _METRES[signature]
    if length * factor < _MIN_BARS * _BAR_BEATS[metre_name]:
        return None
    return start, until, metre_name, factor


def _find_melody_track(tracks: list[Track]) -> int | None:
    """Index of the melody track: the vocal part, otherwise the highest monophonic part."""
    if len(tracks) < 2:
        return None
    voices = [
        index
        for index, track in enumerate(tracks)
        if track.program in (52, 53, 54) or _VOICE_NAME.search(track.name)
    ]
    candidates = voices or list(range(len(tracks)))
    candidates = [
        index
        for index in candidates
        if len(tracks[index].notes) >= _MIN_NOTES and _overlap(tracks[index].notes) < 0.15
    ]
    if not candidates:
        return None
    busiest = max(len(tracks[index].notes) for index in candidates)
    candidates = [i for i in candidates if len(tracks[i].notes) >= 0.4 * busiest]
    return max(candidates, key=lambda index: float(np.median(tracks[index].notes.pitch)))


def _overlap(notes: Notes) -> float:
    """Share of notes that start while an earlier note still sounds."""
    if len(notes) < 2:
        return 0.0
    ends = np.maximum.accumulate(notes.start_beats + notes.duration_beats)
    return float(np.mean(notes.start_beats[1:] < ends[:-1] - 0.1))


def _cut(notes: Notes, start: float, end: float, factor: float) -> Notes:
    """Notes that start in [start, end), moved to beat 0 and scaled by the factor."""
    inside = (notes.start_beats >= start - 1e-6) & (notes.start_beats < end - 1e-6)
    begins = notes.start_beats[inside] - start
    lengths = np.minimum(notes.duration_beats[inside], end - start - begins)
    return Notes(
        start_beats=begins * factor,
        duration_beats=np.maximum(lengths * factor, 0.02),
        pitch=notes.pitch[inside],
        velocity=notes.velocity[inside],
    )


def _shift(notes: Notes, beats: float) -> Notes:
    return replace(notes, start_beats=notes.start_beats + beats)


def _join(parts: list[Notes]) -> Notes:
    return notes_from_rows([row for part in parts for row in rows_from_notes(part)])


def _monophonic(notes: Notes) -> Notes | None:
    """Monophonic top line without ornaments; None if too few notes remain."""
    rows = [row for row in rows_from_notes(notes) if row[1] >= _MIN_NOTE_BEATS]
    line: list[tuple[float, float, int, int]] = []
    for start, duration, pitch, velocity in rows:
        grid = round(start * 24) / 24
        if line and grid - line[-1][0] < 0.05:
            line[-1] = (line[-1][0], max(duration, line[-1][1]), pitch, velocity)
            continue
        if line and line[-1][0] + line[-1][1] > grid:
            before = line[-1]
            line[-1] = (before[0], grid - before[0], before[2], before[3])
        line.append((grid, duration, pitch, velocity))
    if len(line) < _MIN_NOTES:
        return None
    return notes_from_rows(line)


def _find_downbeats(notes: Notes, bar_beats: float) -> list[tuple[float, float]]:
    """Find likely positions of the first bar line.

    File converters put a pickup bar at beat 0, so bar lines are estimated anew: low and long notes
    begin there and (checked by the caller) the harmony changes there.

    Returns:
        Up to four offsets in beats, each with its strength (0 to 1).
    """
    low = float(np.percentile(notes.pitch, 25))
    strength = np.minimum(notes.duration_beats, 2.0) * np.where(notes.pitch <= low, 2.0, 1.0)
    candidates = np.arange(0.0, bar_beats, 0.5)
    phase = notes.start_beats % bar_beats
    scores = []
    for candidate in candidates:
        distance = np.abs(phase - candidate)
        distance = np.minimum(distance, bar_beats - distance)
        scores.append(float(strength[distance < 0.02].sum()))
    order = np.argsort(scores)[::-1]
    offsets = {0, *(int(index) for index in order[:3])}
    return [(float(candidates[i]), scores[i] / max(max(scores), 1e-9)) for i in sorted(offsets)]


def _spans(metre: str, bars: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of the spans in beats, cost of a chord change at the start of each, and its bar."""
    positions = {
        "4/4": ((0.0, 0.5), (1.0, 3.4), (2.0, 1.2), (3.0, 3.4)),
        "3/4": ((0.0, 0.5), (1.0, 3.6), (2.0, 2.4)),
        "2/4": ((0.0, 0.5), (1.0, 1.7)),
        "6/8": ((0.0, 0.5), (1.5, 1.4)),
    }[metre]
    bar_beats = _BAR_BEATS[metre]
    starts = [bar * bar_beats + new_bar for bar in range(bars) for new_bar, _ in positions]
    costs = [cost for _ in range(bars) for _, cost in positions]
    span_bars = [bar for bar in range(bars) for _ in positions]
    return np.array([*starts, bars * bar_beats]), np.array(costs), np.array(span_bars)


def melody_fit(sheet: LeadSheet) -> float:
    """Share of the melody notes at the start and middle of bars that are chord tones."""
    half = {"4/4": 2.0, "3/4": 3.0, "2/4": 2.0, "6/8": 1.5}[sheet.metre]
    is_chord_tone = [
        int(pitch) % 12 in sheet.chord_at(float(start)).pitch_classes
        for start, pitch in zip(sheet.melody.start_beats, sheet.melody.pitch, strict=True)
        if abs(start / half - round(start / half)) < 0.02
    ]
    return float(np.mean(is_chord_tone)) if is_chord_tone else 0.0


def _without_empty_bars(sheet: LeadSheet) -> LeadSheet | None:
    """Remove interludes: of consecutive bars without melody at most the first stays.

    Returns None if too little remains.
    """
    bar_beats = sheet.bar_beats
    ends = sheet.melody.start_beats + sheet.melody.duration_beats
    has_melody = np.zeros(sheet.bars, dtype=bool)
    for start, end in zip(sheet.melody.start_beats, ends, strict=True):
        first, last = int(start / bar_beats + 1e-6), int(np.ceil(end / bar_beats - 1e-6))
        has_melody[first : min(last, sheet.bars)] = True
    kept_bars: list[int] = []
    for bar in range(sheet.bars):
        started, ended = has_melody[:bar].any(), not has_melody[bar:].any()
        if has_melody[bar] or (started and not ended and has_melody[bar - 1]):
            kept_bars.append(bar)
    if len(kept_bars) < _MIN_BARS:
        return None
    new_bar = {bar: index for index, bar in enumerate(kept_bars)}
    rows = []
    for start, duration, pitch, velocity in rows_from_notes(sheet.melody):
        bar = int(start / bar_beats + 1e-6)
        if bar in new_bar:
            rows.append((start + (new_bar[bar] - bar) * bar_beats, duration, pitch, velocity))
    if len(rows) < max(_MIN_NOTES, 0.9 * len(kept_bars)):
        return None
    chords: list[Chord] = []
    for bar in kept_bars:
        begin = bar * bar_beats
        inside = [c for c in sheet.chords if begin + 1e-6 < c.start_beat < begin + bar_beats - 1e-6]
        for chord in [replace(sheet.chord_at(begin), start_beat=begin), *inside]:
            moved = replace(chord, start_beat=chord.start_beat + (new_bar[bar] - bar) * bar_beats)
            same = chords and (chords[-1].root, chords[-1].quality) == (chord.root, chord.quality)
            if not same:
                chords.append(moved)
    melody = notes_from_rows(rows)
    return replace(sheet, melody=melody, chords=tuple(chords), bars=len(kept_bars))


def _find_phrases(sheet: LeadSheet) -> tuple[int, ...]:
    """First bars of phrases: prefers phrases of four bars, and pauses before the bar line."""
    pause = np.zeros(sheet.bars + 1)
    starts = sheet.melody.start_beats
    ends = starts + sheet.melody.duration_beats
    for bar in range(1, sheet.bars):
        line = bar * sheet.bar_beats
        before = np.flatnonzero(starts < line - 0.01)
        if not len(before):
            continue
        last = before[-1]
        following = starts[last + 1] if last + 1 < len(starts) else line + sheet.bar_beats
        gap = following - ends[last]
        pause[bar] = min(gap, 1.0) + 0.4 * min(following - starts[last], 3.0)
    length_score = {2: -0.8, 3: -0.6, 4: 0.8, 5: -0.7, 6: -0.3, 7: -0.9, 8: 0.5}
    best = np.full(sheet.bars + 1, -np.inf)
    best[0] = 0.0
    back = np.zeros(sheet.bars + 1, dtype=np.int64)
    for bar in range(1, sheet.bars + 1):
        for length in range(1, 9):
            if length <= bar:
                value = best[bar - length] + length_score.get(length, -1.5) + pause[bar]
                if value > best[bar]:
                    best[bar], back[bar] = value, bar - length
    firsts: list[int] = []
    bar = sheet.bars
    while bar > 0:
        bar = int(back[bar])
        firsts.append(bar)
    return tuple(reversed(firsts))
