"""Lead part and its answers: phrasing, doubling, ornaments, fills in the rests of the melody.

Input: the melody of the plan. Output: parts in the register of the instrument, with velocities that
follow the phrase (an arch, metrical accents, pitch height: simplified rules of Friberg, Bresin and
Sundberg 2006, "Overview of the KTH rule system for musical performance").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from melisma.data.arrange.instruments import INSTRUMENTS, fit_octave
from melisma.data.arrange.plan import PartWriter, Plan
from melisma.values import Notes


@dataclass(frozen=True, kw_only=True)
class LeadExpression:
    """How the lead plays the melody."""

    loudness: float = 96.0
    """Velocity of a normal note at full intensity."""
    legato: float = 0.95
    """Factor on the notated duration."""
    doubling: str = "none"
    """"none", "octave" (above) or "thirds" (a chord or scale third or sixth below)."""
    graces: float = 0.0
    """Probability that a note on a beat gets a grace note from below."""
    anticipation: float = 0.0
    """Probability that a note on beat 1 or 3 is played an eighth early (bossa, swing)."""
    sustain_short: bool = True
    """Whether notes of plucked and struck leads last until the next one."""


def in_register(melody: Notes, program: int, shift: int) -> Notes:
    """Transpose a melody, and move it by octaves into the register of an instrument.

    Args:
        melody: The melody.
        program: General MIDI program.
        shift: Transposition in semitones.

    Returns:
        The transposed melody.

    Raises:
        MelismaError: If it is too wide for the instrument.
    """
    pitches = [int(pitch) + shift for pitch in melody.pitch]
    return replace(melody, pitch=np.array(pitches) + fit_octave(pitches, INSTRUMENTS[program]))


def lead(
    plan: Plan, line: PartWriter, expression: LeadExpression, rng: np.random.Generator
) -> PartWriter:
    """Write the lead part.

    Args:
        plan: The arrangement.
        line: Part to which the notes are added.
        expression: How to play the melody.
        rng: Random generator; chooses anticipations and grace notes.

    Returns:
        `line`.
    """
    instrument = INSTRUMENTS[line.program]
    starts = _anticipated(plan, expression, rng)
    ends = plan.melody.start_beats + plan.melody.duration_beats
    median_pitch = float(np.median(plan.melody.pitch))
    for index, pitch in enumerate(plan.melody.pitch):
        start = starts[index]
        following = starts[index + 1] if index + 1 < len(starts) else np.inf
        end = min(float(ends[index]), following)
        if not instrument.sustains and expression.sustain_short and following - end < 1.0:
            end = min(following, start + 4.0)
        length = max((end - start) * expression.legato, 0.1)
        velocity = _velocity(plan, float(plan.melody.start_beats[index]), int(pitch), median_pitch)
        velocity *= expression.loudness
        line.add(start, length, int(pitch), velocity)
        beat = float(plan.melody.start_beats[index])
        if rng.random() < expression.graces and beat % 1.0 < 1e-6 and end - start >= 0.9:
            _grace(plan, line, start, int(pitch), velocity)
        if expression.doubling == "octave" and pitch + 12 <= instrument.high:
            line.add(start, length, int(pitch) + 12, velocity * 0.82)
        elif expression.doubling == "thirds":
            lower = _lower_voice(plan, beat, float(ends[index]), int(pitch))
            if lower is not None and lower >= instrument.low:
                line.add(start, length, lower, velocity * 0.8)
    return line


def _anticipated(plan: Plan, expression: LeadExpression, rng: np.random.Generator) -> list[float]:
    """Start of each note in beats, some an eighth early if the previous note allows it."""
    starts = [float(start) for start in plan.melody.start_beats]
    for index in range(1, len(starts)):
        strong = starts[index] % 2.0 < 1e-6
        has_space = (
            starts[index] - starts[index - 1] >= 0.99 and plan.melody.duration_beats[index] >= 1
        )
        if strong and has_space and rng.random() < expression.anticipation:
            starts[index] -= 0.5
    return starts


def _velocity(plan: Plan, beat: float, pitch: int, median_pitch: float) -> float:
    bar = plan.bar_at(beat)
    beat_in_bar = beat - bar.start_beat
    phrase_progress = (bar.bar_in_phrase + beat_in_bar / plan.bar_beats) / bar.phrase_bars
    arch = 0.9 + 0.1 * np.sin(np.pi * min(max(phrase_progress, 0.0), 1.0))
    accent = 1.0 if beat_in_bar < 1e-6 else 0.96 if beat_in_bar % 1.0 < 1e-6 else 0.9
    height = 1.0 + 0.006 * min(max(pitch - median_pitch, -10), 10)
    return float((0.66 + 0.34 * bar.intensity) * arch * accent * height)


def _grace(plan: Plan, line: PartWriter, start: float, pitch: int, velocity: float) -> None:
    lower = pitch - 1 if (pitch - 1) % 12 in plan.scale else pitch - 2
    if start >= 0.09 and lower >= INSTRUMENTS[line.program].low:
        line.add(start - 0.08, 0.09, lower, velocity * 0.7)


def _lower_voice(plan: Plan, start: float, end: float, pitch: int) -> int | None:
    """A third, sixth or fourth below a melody note: a chord tone, or a scale tone if short."""
    chord = plan.chords[plan.chord_index(start)]
    passing = end - start < 0.9
    for interval in (3, 4, 9, 8, 5):
        pitch_class = (pitch - interval) % 12
        if pitch_class in chord.pitch_classes or (
            passing and interval < 5 and pitch_class in plan.scale
        ):
            return pitch - interval
    return None


def melody_rests(plan: Plan, shortest_beats: float = 2.0) -> list[tuple[float, float]]:
    """Rests of the melody of at least `shortest_beats`, [start, end) in beats."""
    rests = []
    ends = np.maximum.accumulate(plan.melody.start_beats + plan.melody.duration_beats)
    for end, start in zip(ends[:-1], plan.melody.start_beats[1:], strict=True):
        begin = np.ceil(float(end) * 2 - 0.02) / 2
        if float(start) - begin >= shortest_beats:
            rests.append((float(begin), float(start)))
    return rests


_MOTIFS: tuple[tuple[tuple[float, float, int], ...], ...] = (
    ((0.0, 0.5, 0), (0.5, 0.5, 1), (1.0, 0.5, 2), (1.5, 1.0, 4)),
    ((0.0, 0.5, 4), (0.5, 0.5, 2), (1.0, 0.5, 1), (1.5, 1.0, 0)),
    ((0.0, 1.0, 2), (1.0, 0.5, 3), (1.5, 0.5, 2), (2.0, 1.0, 0)),
    ((0.0, 0.5, 0), (0.5, 0.5, 2), (1.0, 0.5, 1), (1.5, 0.5, 3), (2.0, 1.0, 2)),
    ((0.5, 0.5, 4), (1.0, 0.5, 5), (1.5, 0.5, 4), (2.0, 0.5, 2), (2.5, 0.75, 0)),
    ((0.0, 0.25, 0), (0.25, 0.25, 1), (0.5, 0.5, 2), (1.0, 0.5, 4), (1.5, 1.0, 2)),
    ((0.0, 1.0, 0), (1.0, 1.0, 2)),
    ((0.0, 0.5, 4), (1.0, 0.5, 4), (1.5, 0.75, 2)),
)
"""Answers: start and length in beats, and scale steps above the lowest tone (chosen: common figures
of accompanists; the first and last tones are moved to the nearest chord tone)."""


def answer(plan: Plan, line: PartWriter, rng: np.random.Generator, loudness: float) -> PartWriter:
    """Write short answers in the rests of the melody, from two random motifs per song."""
    instrument = INSTRUMENTS[line.program]
    chosen_motifs = rng.permutation(len(_MOTIFS))[:2]
    scale = [
        pitch for pitch in range(instrument.low, instrument.high + 1) if pitch % 12 in plan.scale
    ]
    for begin, end in melody_rests(plan):
        if plan.bar_at(begin).kind == "ending" or rng.random() < 0.2:
            continue
        start = float(np.ceil(begin - 1e-6))
        motif = _MOTIFS[int(chosen_motifs[int(rng.integers(2))])]
        lowest = instrument.centre + int(rng.integers(-5, 3))
        step_index = int(np.argmin([abs(pitch - lowest) for pitch in scale]))
        notes = [note for note in motif if start + note[0] + note[1] <= end - 0.2]
        for index, (delay, length, step) in enumerate(notes):
            pitch = scale[min(step_index + step, len(scale) - 1)]
            if index in (0, len(notes) - 1):
                tones = plan.chords[plan.chord_index(start + delay)].pitch_classes
                chord_tones = [p for p in range(pitch - 3, pitch + 4) if p % 12 in tones]
                chord_tones = [
                    p for p in chord_tones if instrument.low <= p <= instrument.high
                ] or [pitch]
                pitch = min(chord_tones, key=lambda p, goal=pitch: abs(p - goal))
            level = loudness * (0.7 + 0.3 * plan.bar_at(start).intensity)
            line.add(start + delay, length * 0.92, pitch, level * (1.0 if index == 0 else 0.92))
    return line


def counter_line(plan: Plan, line: PartWriter, loudness: float, from_section: int) -> PartWriter:
    """Write a counter-melody in long notes: mostly guide tones (third, seventh), moving by step.

    Args:
        plan: The arrangement.
        line: Part to which the notes are added.
        loudness: Velocity at full intensity.
        from_section: First section in which it plays.

    Returns:
        `line`.
    """
    instrument = INSTRUMENTS[line.program]
    median_pitch = int(np.median(plan.melody.pitch))
    current = median_pitch - 9 if median_pitch - 9 > instrument.low + 3 else median_pitch + 8
    current = centre = min(max(current, instrument.low + 4), instrument.high - 4)
    for span in plan.spans:
        bar = plan.bar_at(span.start_beat)
        if bar.section < from_section and bar.kind != "ending":
            continue
        melody_classes = {
            p % 12
            for p, beats in plan.melody_between(span.start_beat, span.end_beat)
            if beats >= 0.4
        }
        tones = span.chord.pitch_classes
        options = [
            pitch
            for pitch in range(
                max(instrument.low, current - 7), min(instrument.high, current + 7) + 1
            )
            if pitch % 12 in tones and (pitch + 1) % 12 not in melody_classes
        ]
        if not options:
            continue
        guide = {tones[1], tones[-1]}
        current = min(
            options,
            key=lambda pitch: abs(pitch - current) - 1.5 * (pitch % 12 in guide)
            + 1.5 * (pitch % 12 in melody_classes)
            + 0.15 * abs(pitch - centre),
        )  # fmt: skip
        velocity = loudness * (0.6 + 0.4 * bar.intensity)
        line.add(span.start_beat, (span.end_beat - span.start_beat) * 0.96, current, velocity)
    return line
