"""Arranger: lead sheet -> band arrangement (metre, tempo, key, form, instruments).

`arrange` fits the song to the metre and pace of the style, selects some of its bars, transposes it
to a random key, adds an introduction and an ending, and lets the style write all parts.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from melisma.data.arrange.accompaniment.balance import balance
from melisma.data.arrange.accompaniment.drums import play_recorded
from melisma.data.arrange.accompaniment.tune import in_register
from melisma.data.arrange.instruments import INSTRUMENTS
from melisma.data.arrange.metre import METRE_CHANGES, halve, refit, simplify_chords, stretch
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.sheet import (
    Chord,
    LeadSheet,
    notes_from_rows,
    rows_from_notes,
    transpose_chord,
)
from melisma.data.arrange.style import Style, apply_feel
from melisma.data.arrange.styles import STYLES_BY_NAME
from melisma.values import Metre, Notes, Score, TempoMap
from melisma.values.attributes import program_family
from melisma.values.errors import MelismaError

_MAX_BARS = 48
_MIN_BARS = 16
"""A longer song is cut to some of its phrases, a shorter one is repeated (chosen)."""
_MAX_SPAN = 26
"""Semitones; wider melodies do not fit most instruments."""


def styles_for(sheet: LeadSheet) -> tuple[str, ...]:
    """Styles whose metre a song can be fitted to."""
    names = []
    for name, style in STYLES_BY_NAME.items():
        if sheet.metre != style.metre and (sheet.metre, style.metre) not in METRE_CHANGES:
            continue
        names.append(name)
    return tuple(names)


def arrange(
    sheet: LeadSheet, style: str, rng: np.random.Generator, drum_bars: Notes | None = None
) -> Score:
    """Arrange a song for a band.

    Args:
        sheet: The song.
        style: One of the first eight `STYLES`.
        rng: Random generator; chooses tempo, key (the mode is kept) and instruments.
        drum_bars: A recorded groove that replaces the programmed drums: percussion keys, beats
            from a downbeat; repeated to the length of the song.

    Returns:
        The arrangement at a constant tempo; track 0 is the lead.

    Raises:
        MelismaError: If the style is unknown, the metre of the song cannot be fitted to it, or the
            melody is too wide for the instruments of the style.
    """
    if style not in STYLES_BY_NAME:
        raise MelismaError(f'no arranged style "{style}": known are {", ".join(STYLES_BY_NAME)}')
    chosen = STYLES_BY_NAME[style]
    low, high = chosen.tempo_bpm
    tempo_bpm = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    song = _fit_pace(_refit(sheet, chosen, tempo_bpm), chosen, tempo_bpm)
    song = simplify_chords(_select_bars(song, rng), chosen.chord_beats)
    program, shift, melody = _choose_lead(song, chosen, rng)
    plan = _make_plan(song, chosen, melody, shift, tempo_bpm, rng)
    lines = chosen.band(plan, program, rng)
    lines = [line for line in lines if line.rows]
    if drum_bars is not None and len(drum_bars):
        _replace_drums(plan, lines, drum_bars)
    parts = [apply_feel(chosen, line, tempo_bpm) for line in lines]
    numerator = int(chosen.metre[0])
    return Score(
        tracks=tuple(balance([line.track() for line in parts], tempo_bpm)),
        tempo=TempoMap(beats=np.array([0.0]), bpm=np.array([tempo_bpm])),
        metres=(Metre(beat=0.0, numerator=numerator, denominator=4),),
        title=sheet.title,
    )


def _replace_drums(plan: Plan, lines: list[PartWriter], drum_bars: Notes) -> None:
    for line in lines:
        if line.is_drum:
            line.rows = []
            play_recorded(plan, line, drum_bars)


def _refit(sheet: LeadSheet, style: Style, tempo_bpm: float) -> LeadSheet:
    """Fit the song to the metre of the style; of two ways to triple metre, by the better pace."""
    song = refit(sheet, style.metre)
    if style.metre == "3/4" and sheet.metre in ("2/4", "4/4"):
        middle = float(np.sqrt(style.notes_a_second[0] * style.notes_a_second[1]))
        if _notes_a_second(song, tempo_bpm) < middle:
            return refit(sheet, style.metre, narrow=True)
    return song


def _fit_pace(song: LeadSheet, style: Style, tempo_bpm: float) -> LeadSheet:
    """Double or halve the note values until the pace of the melody suits the style."""
    slowest, fastest = style.notes_a_second
    for _ in range(2):
        rate = _notes_a_second(song, tempo_bpm)
        if rate > fastest:
            song = stretch(song, 2)
        elif rate < slowest and style.metre == "4/4" and len(song.chords) <= 1.4 * song.bars:
            song = halve(song)
        else:
            break
    return song


def _notes_a_second(song: LeadSheet, tempo_bpm: float) -> float:
    """Pace of the melody in notes per second: the 70th percentile of notes per (non-empty) bar."""
    bars = (song.melody.start_beats / song.bar_beats).astype(int)
    counts = np.bincount(bars, minlength=1)
    return float(np.percentile(counts[counts > 0], 70)) * tempo_bpm / 60.0 / song.bar_beats


def _select_bars(song: LeadSheet, rng: np.random.Generator) -> LeadSheet:
    """Select consecutive whole phrases of a long song, or repeat a short one."""
    if song.bars > _MAX_BARS:
        starts = [bar for bar in song.phrase_bars if song.bars - bar >= _MAX_BARS // 2]
        first = 0 if rng.random() < 0.5 else int(rng.choice(starts or [0]))
        ends = [
            bar
            for bar in (*song.phrase_bars, song.bars)
            if first + _MIN_BARS <= bar <= first + _MAX_BARS
        ]
        last = max(ends, default=min(first + _MAX_BARS, song.bars))
        song = _cut_bars(song, first, last)
    while song.bars < _MIN_BARS:
        song = _repeat(song)
    return replace(song, phrase_bars=_whole_phrases(song))


def _whole_phrases(song: LeadSheet) -> tuple[int, ...]:
    """First bars of phrases of at least four bars; shorter ones are joined with the next."""
    firsts = [0]
    for bar in song.phrase_bars:
        if bar - firsts[-1] >= 4 and song.bars - bar >= 2:
            firsts.append(bar)
    return tuple(firsts)


def _cut_bars(song: LeadSheet, first: int, last: int) -> LeadSheet:
    begin, end = first * song.bar_beats, last * song.bar_beats
    rows = [
        (start - begin, min(duration, end - start), pitch, velocity)
        for start, duration, pitch, velocity in rows_from_notes(song.melody)
        if begin - 1e-6 <= start < end - 1e-6
    ]
    first_chord = replace(song.chord_at(begin), start_beat=0.0)
    inner = [
        replace(chord, start_beat=chord.start_beat - begin)
        for chord in song.chords
        if begin + 1e-6 < chord.start_beat < end - 1e-6
    ]
    phrases = tuple(bar - first for bar in song.phrase_bars if first <= bar < last)
    return replace(
        song,
        melody=notes_from_rows(rows),
        chords=(first_chord, *inner),
        bars=last - first,
        phrase_bars=phrases if phrases and phrases[0] == 0 else (0, *phrases),
    )


def _repeat(song: LeadSheet) -> LeadSheet:
    offset = song.bars * song.bar_beats
    rows = rows_from_notes(song.melody)
    return replace(
        song,
        melody=notes_from_rows(rows + [(row[0] + offset, *row[1:]) for row in rows]),
        chords=song.chords
        + tuple(replace(chord, start_beat=chord.start_beat + offset) for chord in song.chords),
        bars=2 * song.bars,
        phrase_bars=song.phrase_bars + tuple(bar + song.bars for bar in song.phrase_bars),
    )


def _choose_lead(song: LeadSheet, style: Style, rng: np.random.Generator) -> tuple[int, int, Notes]:
    """Choose the lead instrument and the key.

    The probability of a family is the square root of the total weight of its programs.

    Returns:
        Program of the lead, transposition in semitones, and the melody in its register.
    """
    shift = int(rng.integers(-6, 6))
    span = int(song.melody.pitch.max() - song.melody.pitch.min())
    programs = [
        program
        for program in style.leads
        if INSTRUMENTS[program].high - INSTRUMENTS[program].low >= span + 12
    ] or [p for p in style.leads if INSTRUMENTS[p].high - INSTRUMENTS[p].low >= span + 11]
    if not programs or span > _MAX_SPAN:
        raise MelismaError(
            f"the melody spans {span} semitones, at most {_MAX_SPAN} can be arranged: "
            "choose another"
        )
    families: dict[str, list[int]] = {}
    for program in programs:
        families.setdefault(program_family(program, False), []).append(program)
    totals = np.array([sum(style.leads[p] for p in members) for members in families.values()])
    weights = np.sqrt(totals)
    members = list(families.values())[int(rng.choice(len(weights), p=weights / weights.sum()))]
    inner = np.array([style.leads[program] for program in members])
    program = int(rng.choice(members, p=inner / inner.sum()))
    return program, shift, in_register(song.melody, program, shift)


def _make_plan(
    song: LeadSheet,
    style: Style,
    melody: Notes,
    shift: int,
    tempo_bpm: float,
    rng: np.random.Generator,
) -> Plan:
    """Plan the form: introduction, song in sections, ending."""
    tonality = (song.tonality % 12 + shift) % 12 + (12 if song.is_minor else 0)
    intro_bars = int(rng.choice([0, 1, 2], p=[0.45, 0.1, 0.45]))
    offset = intro_bars * song.bar_beats
    chords = [transpose_chord(chord, shift) for chord in song.chords]
    chords = [replace(chord, start_beat=chord.start_beat + offset) for chord in chords]
    tonic = _tonic_chord(tonality)
    first_chords = _intro_chords(intro_bars, tonality, song.bar_beats, chords[0])
    end = (intro_bars + song.bars) * song.bar_beats
    chords = [*first_chords, *chords]
    if chords[-1].root != tonic.root or chords[-1].quality != tonic.quality:
        chords.append(replace(tonic, start_beat=end))
    rows = [(row[0] + offset, *row[1:]) for row in rows_from_notes(melody)]
    rows = _end_melody(rows, end, song.bar_beats, chords[-1])
    return Plan(
        style=style.name,
        melody=notes_from_rows(rows),
        chords=tuple(chords),
        bars=tuple(_plan_bars(song, intro_bars, rng)),
        bar_beats=song.bar_beats,
        tonality=tonality,
        tempo_bpm=tempo_bpm,
    )


def _tonic_chord(tonality: int) -> Chord:
    root = tonality % 12
    return Chord(start_beat=0.0, root=root, quality="min" if tonality >= 12 else "maj", bass=root)


def _intro_chords(bars: int, tonality: int, bar_beats: float, first: Chord) -> list[Chord]:
    """I and V7 before a song that begins on its tonic, otherwise the tonic alone."""
    tonic, root = _tonic_chord(tonality), (tonality % 12 + 7) % 12
    fifth = Chord(start_beat=0.0, root=root, quality="7", bass=root)
    if bars == 0:
        return []
    if first.root != tonic.root:
        return [tonic]
    if bars == 1:
        return [fifth]
    return [tonic, replace(fifth, start_beat=bar_beats)]


Rows = list[tuple[float, float, int, int]]


def _end_melody(rows: Rows, end: float, bar_beats: float, last: Chord) -> Rows:
    """End the melody on a chord tone that is held through the ending bar."""
    start, duration, pitch, velocity = rows[-1]
    if pitch % 12 in last.pitch_classes and start + duration > end - 0.6 and duration >= 1:
        rows[-1] = (start, end + bar_beats - start, pitch, velocity)
        return rows
    tones = [p for p in range(pitch - 4, pitch + 5) if p % 12 in last.pitch_classes]
    goal = min(tones, key=lambda p: (p % 12 != last.root) * 2 + abs(p - pitch))
    return [*rows, (end, bar_beats, goal, velocity)]


def _plan_bars(song: LeadSheet, intro_bars: int, rng: np.random.Generator) -> list[Bar]:
    """Group the bars into sections of about eight bars, and set the intensity of each."""
    bounds = [*song.phrase_bars, song.bars]
    sections: list[int] = []
    filled = 0
    for first, last in pairwise(bounds):
        if not sections:
            sections.append(0)
        elif filled >= 6:
            sections.append(sections[-1] + 1)
            filled = 0
        else:
            sections.append(sections[-1])
        filled += last - first
    count = sections[-1] + 1
    shape = str(rng.choice(["build", "arch", "terraces", "full"]))
    bars: list[Bar] = []
    for index in range(intro_bars):
        bars.append(_bar(song, index, "intro", 0, index, intro_bars, index == 0, 0.6))
    number = intro_bars
    for phrase, (first, last) in enumerate(pairwise(bounds)):
        section = sections[phrase]
        level = _section_level(shape, section, count)
        for position in range(last - first):
            begins_section = position == 0 and (phrase == 0 or sections[phrase - 1] != section)
            growth = 0.04 * position / max(last - first, 1)
            bars.append(
                _bar(
                    song,
                    number,
                    "song",
                    section,
                    position,
                    last - first,
                    begins_section,
                    level + growth,
                )
            )
            number += 1
    bars.append(_bar(song, number, "ending", count - 1, 0, 1, True, 0.85))
    return bars


def _bar(
    song: LeadSheet,
    index: int,
    kind: str,
    section: int,
    position: int,
    phrase_bars: int,
    begins: bool,
    intensity: float,
) -> Bar:
    return Bar(
        index=index,
        start_beat=index * song.bar_beats,
        kind=kind,
        section=section,
        bar_in_phrase=position,
        phrase_bars=phrase_bars,
        section_begins=begins,
        intensity=min(intensity, 1.0),
    )


def _section_level(shape: str, section: int, count: int) -> float:
    """Intensity of a section, 0.5 to 0.95."""
    relative = section / max(count - 1, 1)
    if shape == "build":
        return 0.55 + 0.4 * relative
    if shape == "arch":
        return 0.6 + 0.33 * float(np.sin(np.pi * min(max(relative, 0.0), 1.0)))
    if shape == "terraces":
        return 0.65 if section % 2 == 0 else 0.88
    return 0.8 + 0.1 * relative
