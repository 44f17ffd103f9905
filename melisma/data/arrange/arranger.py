"""From a lead sheet to a band arrangement: metre, tempo, tonality, form, players.

`arrange` reads top to bottom: the song is fitted to the style's metre and pace, a stretch of it is
chosen, it is moved to a random tonality, framed by an introduction and an ending, and handed to the
style's band.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from melisma.data.arrange.accompaniment.balance import balance
from melisma.data.arrange.accompaniment.drums import lay
from melisma.data.arrange.accompaniment.tune import in_register
from melisma.data.arrange.instruments import INSTRUMENTS
from melisma.data.arrange.metre import METRE_CHANGES, halve, refit, settle_chords, stretch
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

_MOST_BARS = 48
_FEWEST_BARS = 16
"""A longer song is cut to a stretch of whole phrases, a shorter one is repeated (chosen)."""
_WIDEST = 26
"""Semitones; tunes that are wider do not fit most instruments."""


def styles_for(sheet: LeadSheet) -> tuple[str, ...]:
    """The styles that suit a song: those whose metre it can take."""
    names = []
    for name, style in STYLES_BY_NAME.items():
        if sheet.metre != style.metre and (sheet.metre, style.metre) not in METRE_CHANGES:
            continue
        names.append(name)
    return tuple(names)


def arrange(
    sheet: LeadSheet, style: str, rng: np.random.Generator, drum_bars: Notes | None = None
) -> Score:
    """The song for a band in one of the first eight `STYLES`, at a constant tempo.

    Track 0 is the lead. Tempo, tonality (mode kept) and line-up come from `rng`. `drum_bars`
    replaces the programmed drums by a recorded groove (percussion keys, beats from a downbeat,
    repeated as long as the song). Raises `ValueError` for an unknown style, and for a song whose
    metre cannot take it or whose tune is wider than any instrument of the style.
    """
    if style not in STYLES_BY_NAME:
        raise ValueError(f'no arranged style "{style}": known are {", ".join(STYLES_BY_NAME)}')
    chosen = STYLES_BY_NAME[style]
    low, high = chosen.tempo_bpm
    tempo_bpm = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    song = _pace(_refit(sheet, chosen, tempo_bpm), chosen, tempo_bpm)
    song = settle_chords(_stretch_of(song, rng), chosen.chord_beats)
    program, shift, melody = _cast(song, chosen, rng)
    plan = _make_plan(song, chosen, melody, shift, tempo_bpm, rng)
    lines = chosen.band(plan, program, rng)
    lines = [line for line in lines if line.rows]
    if drum_bars is not None and len(drum_bars):
        _replace_drums(plan, lines, drum_bars)
    swung = [apply_feel(chosen, line, tempo_bpm) for line in lines]
    numerator = int(chosen.metre[0])
    return Score(
        tracks=tuple(balance([line.track() for line in swung], tempo_bpm)),
        tempo=TempoMap(beats=np.array([0.0]), bpm=np.array([tempo_bpm])),
        metres=(Metre(beat=0.0, numerator=numerator, denominator=4),),
        title=sheet.title,
    )


def _replace_drums(plan: Plan, lines: list[PartWriter], drum_bars: Notes) -> None:
    for line in lines:
        if line.is_drum:
            line.rows = []
            lay(plan, line, drum_bars)


def _refit(sheet: LeadSheet, style: Style, tempo_bpm: float) -> LeadSheet:
    """The song in the style's metre; of two ways to triple metre the one of better pace."""
    song = refit(sheet, style.metre)
    if style.metre == "3/4" and sheet.metre in ("2/4", "4/4"):
        middle = float(np.sqrt(style.notes_a_second[0] * style.notes_a_second[1]))
        if _notes_a_second(song, tempo_bpm) < middle:
            return refit(sheet, style.metre, narrow=True)
    return song


def _pace(song: LeadSheet, style: Style, tempo_bpm: float) -> LeadSheet:
    """The song in longer or shorter note values until its tune suits the tempo."""
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
    """Pace of the tune where it moves: the 70th percentile of notes a bar, as a rate."""
    bars = (song.melody.start_beats / song.bar_beats).astype(int)
    counts = np.bincount(bars, minlength=1)
    return float(np.percentile(counts[counts > 0], 70)) * tempo_bpm / 60.0 / song.bar_beats


def _stretch_of(song: LeadSheet, rng: np.random.Generator) -> LeadSheet:
    """Whole phrases of the song, between the fewest and the most bars; short songs repeat."""
    if song.bars > _MOST_BARS:
        starts = [bar for bar in song.phrase_bars if song.bars - bar >= _MOST_BARS // 2]
        first = 0 if rng.random() < 0.5 else int(rng.choice(starts or [0]))
        ends = [
            bar
            for bar in (*song.phrase_bars, song.bars)
            if first + _FEWEST_BARS <= bar <= first + _MOST_BARS
        ]
        last = max(ends, default=min(first + _MOST_BARS, song.bars))
        song = _bars_of(song, first, last)
    while song.bars < _FEWEST_BARS:
        song = _twice(song)
    return replace(song, phrase_bars=_whole_phrases(song))


def _whole_phrases(song: LeadSheet) -> tuple[int, ...]:
    """Phrases of four bars or more: shorter ones are joined with the next."""
    firsts = [0]
    for bar in song.phrase_bars:
        if bar - firsts[-1] >= 4 and song.bars - bar >= 2:
            firsts.append(bar)
    return tuple(firsts)


def _bars_of(song: LeadSheet, first: int, last: int) -> LeadSheet:
    begin, end = first * song.bar_beats, last * song.bar_beats
    rows = [
        (start - begin, min(duration, end - start), pitch, velocity)
        for start, duration, pitch, velocity in rows_from_notes(song.melody)
        if begin - 1e-6 <= start < end - 1e-6
    ]
    opening = replace(song.chord_at(begin), start_beat=0.0)
    inner = [
        replace(chord, start_beat=chord.start_beat - begin)
        for chord in song.chords
        if begin + 1e-6 < chord.start_beat < end - 1e-6
    ]
    phrases = tuple(bar - first for bar in song.phrase_bars if first <= bar < last)
    return replace(
        song,
        melody=notes_from_rows(rows),
        chords=(opening, *inner),
        bars=last - first,
        phrase_bars=phrases if phrases and phrases[0] == 0 else (0, *phrases),
    )


def _twice(song: LeadSheet) -> LeadSheet:
    late = song.bars * song.bar_beats
    rows = rows_from_notes(song.melody)
    return replace(
        song,
        melody=notes_from_rows(rows + [(row[0] + late, *row[1:]) for row in rows]),
        chords=song.chords
        + tuple(replace(chord, start_beat=chord.start_beat + late) for chord in song.chords),
        bars=2 * song.bars,
        phrase_bars=song.phrase_bars + tuple(bar + song.bars for bar in song.phrase_bars),
    )


def _cast(song: LeadSheet, style: Style, rng: np.random.Generator) -> tuple[int, int, Notes]:
    """Lead program, shift to a random tonality in semitones, and the melody in register.

    Families are drawn evenly among those of the style, times the weights of their programs.
    """
    shift = int(rng.integers(-6, 6))
    span = int(song.melody.pitch.max() - song.melody.pitch.min())
    programs = [
        program
        for program in style.leads
        if INSTRUMENTS[program].high - INSTRUMENTS[program].low >= span + 12
    ] or [p for p in style.leads if INSTRUMENTS[p].high - INSTRUMENTS[p].low >= span + 11]
    if not programs or span > _WIDEST:
        raise ValueError(
            f"the tune spans {span} semitones, at most {_WIDEST} can be arranged: choose another"
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
    """The form: introduction, song in sections, ending."""
    tonality = (song.tonality % 12 + shift) % 12 + (12 if song.is_minor else 0)
    intro = int(rng.choice([0, 1, 2], p=[0.45, 0.1, 0.45]))
    late = intro * song.bar_beats
    chords = [transpose_chord(chord, shift) for chord in song.chords]
    chords = [replace(chord, start_beat=chord.start_beat + late) for chord in chords]
    tonic = _tonic_chord(tonality)
    opening = _intro_chords(intro, tonality, song.bar_beats, chords[0])
    end = (intro + song.bars) * song.bar_beats
    chords = [*opening, *chords]
    if chords[-1].root != tonic.root or chords[-1].quality != tonic.quality:
        chords.append(replace(tonic, start_beat=end))
    rows = [(row[0] + late, *row[1:]) for row in rows_from_notes(melody)]
    rows = _close(rows, end, song.bar_beats, chords[-1])
    return Plan(
        style=style.name,
        melody=notes_from_rows(rows),
        chords=tuple(chords),
        bars=tuple(_make_bars(song, intro, rng)),
        bar_beats=song.bar_beats,
        tonality=tonality,
        tempo_bpm=tempo_bpm,
    )


def _tonic_chord(tonality: int) -> Chord:
    root = tonality % 12
    return Chord(start_beat=0.0, root=root, quality="min" if tonality >= 12 else "maj", bass=root)


def _intro_chords(bars: int, tonality: int, bar_beats: float, first: Chord) -> list[Chord]:
    """I then V7 into a song that begins on its tonic, otherwise the tonic alone."""
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


def _close(rows: Rows, end: float, bar_beats: float, last: Chord) -> Rows:
    """The tune led to a chord tone that is held through the ending bar."""
    start, duration, pitch, velocity = rows[-1]
    if pitch % 12 in last.pitch_classes and start + duration > end - 0.6 and duration >= 1:
        rows[-1] = (start, end + bar_beats - start, pitch, velocity)
        return rows
    tones = [p for p in range(pitch - 4, pitch + 5) if p % 12 in last.pitch_classes]
    goal = min(tones, key=lambda p: (p % 12 != last.root) * 2 + abs(p - pitch))
    return [*rows, (end, bar_beats, goal, velocity)]


def _make_bars(song: LeadSheet, intro: int, rng: np.random.Generator) -> list[Bar]:
    """Bars with sections of about eight bars and the loudness of each."""
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
    for index in range(intro):
        bars.append(_bar(song, index, "intro", 0, index, intro, index == 0, 0.6))
    number = intro
    for phrase, (first, last) in enumerate(pairwise(bounds)):
        section = sections[phrase]
        level = _section_level(shape, section, count)
        for place in range(last - first):
            fresh = place == 0 and (phrase == 0 or sections[phrase - 1] != section)
            growth = 0.04 * place / max(last - first, 1)
            bars.append(
                _bar(song, number, "song", section, place, last - first, fresh, level + growth)
            )
            number += 1
    bars.append(_bar(song, number, "ending", count - 1, 0, 1, True, 0.85))
    return bars


def _bar(
    song: LeadSheet,
    index: int,
    kind: str,
    section: int,
    place: int,
    phrase_bars: int,
    begins: bool,
    intensity: float,
) -> Bar:
    return Bar(
        index=index,
        start_beat=index * song.bar_beats,
        kind=kind,
        section=section,
        place=place,
        phrase_bars=phrase_bars,
        section_begins=begins,
        intensity=min(intensity, 1.0),
    )


def _section_level(shape: str, section: int, count: int) -> float:
    """Loudness of a section, 0.5 to 0.95."""
    where = section / max(count - 1, 1)
    if shape == "build":
        return 0.55 + 0.4 * where
    if shape == "arch":
        return 0.6 + 0.33 * float(np.sin(np.pi * min(max(where, 0.0), 1.0)))
    if shape == "terraces":
        return 0.65 if section % 2 == 0 else 0.88
    return 0.8 + 0.1 * where
