"""Chord accompaniment: chord tones, voicings, voice leading, and rhythms.

Voicings are chosen greedily: each is the closest to the previous one that avoids the melody (no
semitone below a sustained melody note, top voice below the melody if possible). The rhythm comes
from one pattern per bar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from melisma.data.arrange.plan import Bar, PartWriter, Plan, Span, parse_pattern
from melisma.data.arrange.sheet import QUALITIES

Voicing = tuple[int, ...]


def chord_colour(plan: Plan, span: Span, richness: int) -> tuple[int, ...]:
    """Choose the tones of a chord.

    Tones a semitone below a melody note that sounds for long are omitted or suspended.

    Args:
        plan: The arrangement.
        span: The chord and its time range.
        richness: 0: triads and notated sevenths; 1: adds sevenths; 2: adds ninths.

    Returns:
        Pitch classes, usually the root first, then third, fifth, seventh, ninth.
    """
    chord = span.chord
    melody_notes: dict[int, float] = {}
    for pitch, beats in plan.melody_between(span.start_beat, span.end_beat):
        melody_notes[pitch % 12] = melody_notes.get(pitch % 12, 0.0) + beats
    sustained = {pitch_class for pitch_class, beats in melody_notes.items() if beats >= 0.45}
    steps = list(QUALITIES[chord.quality])
    degree = (chord.root - plan.tonality) % 12
    if richness >= 1:
        steps = _with_seventh(
            chord.quality, degree, plan.tonality >= 12, steps, sustained, chord.root
        )
    if richness >= 2 and chord.quality in ("maj", "min", "7", "maj7", "min7"):
        ninth = (chord.root + 2) % 12
        if ninth in plan.scale and (ninth + 1) % 12 not in sustained:
            steps.append(2)
    tones: list[int] = []
    for step in steps:
        tone = (chord.root + step) % 12
        if (tone + 1) % 12 in sustained and tone not in sustained and step != 0:
            if step == 4 and chord.quality in ("7", "maj"):
                tones.append((chord.root + 5) % 12)
            continue
        tones.append(tone)
    return tuple(dict.fromkeys(tones)) or chord.pitch_classes


def _with_seventh(
    quality: str, degree: int, minor: bool, steps: list[int], sustained: set[int], root: int
) -> list[int]:
    """Semitones of a triad with the seventh or sixth that is usual in jazz."""
    if quality == "maj":
        if degree == 7:
            return [0, 4, 7, 10]
        root_held = root % 12 in sustained
        return [0, 4, 7, 9] if root_held or (minor and degree == 10) else [0, 4, 7, 11]
    if quality == "min":
        return (
            [0, 3, 7, 9]
            if minor and degree == 0 and (root + 9) % 12 in sustained
            else [0, 3, 7, 10]
        )
    if quality == "dim":
        return [0, 3, 6, 10] if degree in (11, 2) else [0, 3, 6, 9]
    return steps


def voicings(
    plan: Plan, low: int, high: int, voices: int, richness: int = 0, rootless: bool = False
) -> list[Voicing]:
    """Choose a voicing for each chord of the plan.

    Args:
        plan: The arrangement.
        low: Lowest MIDI pitch.
        high: Highest MIDI pitch; both are lowered if the melody is lower.
        voices: Number of voices.
        richness: See `chord_colour`.
        rootless: Whether to omit the root of chords of four or more tones.

    Returns:
        Ascending pitches of each chord.
    """
    low, high = _below_melody(plan, low, high)
    result: list[Voicing] = []
    previous: Voicing | None = None
    for span in plan.spans:
        tones = chord_colour(plan, span, richness)
        if rootless and len(tones) > 3:
            tones = tones[1:]
        melody_notes = plan.melody_between(span.start_beat, span.end_beat)
        ceiling = min((pitch for pitch, beats in melody_notes if beats >= 0.3), default=high + 12)
        melody_pitches = {pitch for pitch, beats in melody_notes if beats >= 0.3}
        previous = _best_voicing(tones, low, high, voices, previous, ceiling, melody_pitches)
        result.append(previous)
    return result


def _below_melody(plan: Plan, low: int, high: int) -> tuple[int, int]:
    """The range moved below the melody; unchanged for low melodies (cello, trombone)."""
    middle = int(np.median(plan.melody.pitch))
    if middle < 61:
        return low, high
    down = min(max(high - middle - 2, 0), max(low - 48, 0))
    return low - down, high - down


def _best_voicing(
    tones: Sequence[int],
    low: int,
    high: int,
    voices: int,
    previous: Voicing | None,
    ceiling: int,
    melody_pitches: set[int],
) -> Voicing:
    pitches = [pitch for pitch in range(low, high + 1) if pitch % 12 in tones]
    count = min(voices, len(pitches))
    essential = tones if len(tones) <= voices else tones[1:4]
    choices = np.array(list(combinations(pitches, count)))
    classes = choices % 12
    cost = sum((4.0 * (classes != tone).all(axis=1) for tone in essential), np.zeros(len(choices)))
    gaps = np.diff(choices, axis=1)
    cost += (1.5 * (gaps == 1) + 0.4 * np.maximum(gaps - 9, 0)).sum(axis=1)
    cost += 2.0 * ((choices[:, :-1] < 52) & (gaps < 4)).sum(axis=1)
    cost += 0.35 * np.maximum(choices[:, -1] - ceiling + 1, 0)
    for melody_pitch in melody_pitches:
        cost += 3.0 * np.isin(melody_pitch - choices, (1, 13, -1, -13)).sum(axis=1)
    off_centre = np.abs(choices.mean(axis=1) - (low + high) / 2)
    if previous is None:
        cost += 0.4 * off_centre
    else:
        moves = np.abs(choices[:, :, None] - np.array(previous)).min(axis=2) ** 1.2
        top = np.abs(choices[:, -1] - previous[-1])
        cost += 0.5 * (moves.sum(axis=1) + 0.5 * top) + 0.08 * off_centre
    return tuple(int(pitch) for pitch in choices[int(np.argmin(cost))])


def comp(
    plan: Plan,
    line: PartWriter,
    chords: list[Voicing],
    pattern: Callable[[Bar], str],
    loudness: float,
    anticipate: bool = False,
    part: slice = slice(None),
) -> PartWriter:
    """Play the voicings in the rhythm of `pattern(bar)`.

    Args:
        plan: The arrangement.
        line: Part to which the notes are added.
        chords: Voicing of each chord.
        pattern: Rhythm of each bar, see `plan.parse_pattern`.
        loudness: Velocity of an accent at full intensity.
        anticipate: Whether a hit on the last eighth before a change plays the next chord.
        part: Which voices to play.

    Returns:
        `line`.
    """
    for bar in plan.bars:
        for start, length, level in parse_pattern(pattern(bar), plan.bar_beats):
            beat = bar.start_beat + start
            index = plan.chord_index(beat)
            end = plan.spans_ends[index]
            if anticipate and end - beat <= 0.5 + 1e-6 and index + 1 < len(chords):
                index += 1
            elif beat + length > end:
                remainder = beat + length - end
                if remainder >= 0.9 and index + 1 < len(chords):
                    _play_voicing(
                        plan, line, end, remainder, chords[index + 1][part], loudness * level
                    )
                length = end - beat
            _play_voicing(plan, line, beat, length, chords[index][part], loudness * level)
    return line


def _play_voicing(
    plan: Plan, line: PartWriter, beat: float, length: float, voicing: Voicing, loudness: float
) -> None:
    intensity = plan.bar_at(beat).intensity
    top = len(voicing) - 1
    for voice, pitch in enumerate(voicing):
        weight = 1.0 if voice == top else 0.92
        line.add(beat, length * 0.96, pitch, loudness * weight * (0.55 + 0.45 * intensity))


def pad(
    plan: Plan, line: PartWriter, chords: list[Voicing], loudness: float, from_section: int
) -> PartWriter:
    """Sustain each voicing for the duration of its chord; common tones are tied."""
    sounding: dict[int, tuple[float, float]] = {}
    for span, voicing in zip(plan.spans, chords, strict=True):
        bar = plan.bar_at(span.start_beat)
        silent = bar.section < from_section and bar.kind != "ending"
        for pitch in list(sounding):
            if silent or pitch not in voicing:
                start, velocity = sounding.pop(pitch)
                line.add(start, span.start_beat - start, pitch, velocity)
        if silent:
            continue
        for pitch in voicing:
            velocity = loudness * (0.55 + 0.45 * bar.intensity)
            if (
                pitch in sounding
                and span.start_beat - sounding[pitch][0] > 2 * plan.bar_beats - 0.1
            ):
                start, old = sounding.pop(pitch)
                line.add(start, span.start_beat - start, pitch, old)
            sounding.setdefault(pitch, (span.start_beat, velocity))
    for pitch, (start, velocity) in sounding.items():
        line.add(start, plan.end_beat - start, pitch, velocity)
    return line


def arpeggio(
    plan: Plan,
    line: PartWriter,
    chords: list[Voicing],
    order: Callable[[Bar], Sequence[int]],
    step_beats: float,
    loudness: float,
    ring: bool = True,
) -> PartWriter:
    """Write arpeggios.

    Args:
        plan: The arrangement.
        line: Part to which the notes are added.
        chords: Voicing of each chord.
        order: Order of the voices in each bar, repeated as needed; negative: rest, beyond the
            voicing: an octave higher.
        step_beats: Distance of the notes in beats.
        loudness: Velocity of an accent at full intensity.
        ring: Whether notes last up to four steps.

    Returns:
        `line`.
    """
    for bar in plan.bars:
        voice_order = order(bar)
        count = round(plan.bar_beats / step_beats)
        for step in range(count):
            beat = bar.start_beat + step * step_beats
            voice = voice_order[step % len(voice_order)]
            if voice < 0:
                continue
            index = plan.chord_index(beat)
            voicing = chords[index]
            pitch = voicing[voice % len(voicing)] + 12 * (voice // len(voicing))
            end = min(plan.spans_ends[index], bar.start_beat + plan.bar_beats)
            length = min(end - beat, 4 * step_beats) if ring else step_beats * 0.9
            accent = 1.0 if step == 0 else 0.88 if beat % 1.0 < 1e-6 else 0.78
            line.add(beat, length, pitch, loudness * accent * (0.55 + 0.45 * bar.intensity))
    return line
