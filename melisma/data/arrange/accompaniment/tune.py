"""The lead and what answers it: phrasing, doubling, ornaments, fills in the singer's breaths.

Enters: the plan's melody; leaves: lines in the register of the instrument, with velocities that
follow the phrase (an arch, metric accents, height: the rules of Friberg, Bresin and Sundberg 2006,
"Overview of the KTH rule system for musical performance", in their simplest form).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from melisma.data.arrange.instruments import INSTRUMENTS, fit_octave
from melisma.data.arrange.plan import PartWriter, Plan
from melisma.values import Notes


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How the lead plays."""

    loudness: float = 96.0
    """Velocity of a normal note at full intensity."""
    legato: float = 0.95
    """Share of its written length that a note sounds."""
    doubling: str = "none"
    """"none", "octave" (above) or "thirds" (a chord or scale third or sixth below)."""
    graces: float = 0.0
    """Probability that an accented note gets a grace note from below."""
    anticipation: float = 0.0
    """Probability that a note on beat 1 or 3 comes an eighth early (bossa, swing)."""
    sustain_short: bool = True
    """Whether plucked and struck leads let notes ring to the next one."""


def in_register(melody: Notes, program: int, shift: int) -> Notes:
    """The melody moved by `shift` semitones and then by octaves into an instrument's register.

    Raises `ValueError` where it is too wide.
    """
    pitches = [int(pitch) + shift for pitch in melody.pitch]
    return replace(melody, pitch=np.array(pitches) + fit_octave(pitches, INSTRUMENTS[program]))


def lead(plan: Plan, line: PartWriter, manner: Manner, rng: np.random.Generator) -> PartWriter:
    """The melody as the lead plays it."""
    instrument = INSTRUMENTS[line.program]
    starts = _anticipated(plan, manner, rng)
    ends = plan.melody.start_beats + plan.melody.duration_beats
    middle = float(np.median(plan.melody.pitch))
    for index, pitch in enumerate(plan.melody.pitch):
        start = starts[index]
        following = starts[index + 1] if index + 1 < len(starts) else np.inf
        end = min(float(ends[index]), following)
        if not instrument.sustains and manner.sustain_short and following - end < 1.0:
            end = min(following, start + 4.0)
        length = max((end - start) * manner.legato, 0.1)
        velocity = _velocity(plan, float(plan.melody.start_beats[index]), int(pitch), middle)
        velocity *= manner.loudness
        line.add(start, length, int(pitch), velocity)
        beat = float(plan.melody.start_beats[index])
        if rng.random() < manner.graces and beat % 1.0 < 1e-6 and end - start >= 0.9:
            _grace(plan, line, start, int(pitch), velocity)
        if manner.doubling == "octave" and pitch + 12 <= instrument.high:
            line.add(start, length, int(pitch) + 12, velocity * 0.82)
        elif manner.doubling == "thirds":
            second = _companion(plan, beat, float(ends[index]), int(pitch))
            if second is not None and second >= instrument.low:
                line.add(start, length, second, velocity * 0.8)
    return line


def _anticipated(plan: Plan, manner: Manner, rng: np.random.Generator) -> list[float]:
    """Start of each note, some an eighth early where the note before leaves room."""
    starts = [float(start) for start in plan.melody.start_beats]
    for index in range(1, len(starts)):
        strong = starts[index] % 2.0 < 1e-6
        roomy = starts[index] - starts[index - 1] >= 0.99 and plan.melody.duration_beats[index] >= 1
        if strong and roomy and rng.random() < manner.anticipation:
            starts[index] -= 0.5
    return starts


def _velocity(plan: Plan, beat: float, pitch: int, middle: float) -> float:
    bar = plan.bar_at(beat)
    place = beat - bar.start_beat
    through = (bar.place + place / plan.bar_beats) / bar.phrase_bars
    arch = 0.9 + 0.1 * np.sin(np.pi * min(max(through, 0.0), 1.0))
    accent = 1.0 if place < 1e-6 else 0.96 if place % 1.0 < 1e-6 else 0.9
    height = 1.0 + 0.006 * min(max(pitch - middle, -10), 10)
    return float((0.66 + 0.34 * bar.intensity) * arch * accent * height)


def _grace(plan: Plan, line: PartWriter, start: float, pitch: int, velocity: float) -> None:
    lower = pitch - 1 if (pitch - 1) % 12 in plan.scale else pitch - 2
    if start >= 0.09 and lower >= INSTRUMENTS[line.program].low:
        line.add(start - 0.08, 0.09, lower, velocity * 0.7)


def _companion(plan: Plan, start: float, end: float, pitch: int) -> int | None:
    """A third or sixth below a melody note from the chord, or in passing the scale."""
    chord = plan.chords[plan.chord_index(start)]
    passing = end - start < 0.9
    for interval in (3, 4, 9, 8, 5):
        pitch_class = (pitch - interval) % 12
        if pitch_class in chord.pitch_classes or (
            passing and interval < 5 and pitch_class in plan.scale
        ):
            return pitch - interval
    return None


def gaps(plan: Plan, shortest_beats: float = 2.0) -> list[tuple[float, float]]:
    """Breaths of the tune, [start, end) in beats, that are long enough for an answer."""
    found = []
    ends = np.maximum.accumulate(plan.melody.start_beats + plan.melody.duration_beats)
    for end, start in zip(ends[:-1], plan.melody.start_beats[1:], strict=True):
        begin = np.ceil(float(end) * 2 - 0.02) / 2
        if float(start) - begin >= shortest_beats:
            found.append((float(begin), float(start)))
    return found


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
"""Answers: start, length in beats and step of the scale above the lowest tone (chosen: common
figures of accompanists; the first and last tones are moved to the nearest chord tone)."""


def answer(plan: Plan, line: PartWriter, rng: np.random.Generator, loudness: float) -> PartWriter:
    """Short answers in the breaths of the tune: one of a few motifs, two of them in a song."""
    instrument = INSTRUMENTS[line.program]
    favourites = rng.permutation(len(_MOTIFS))[:2]
    ladder = [
        pitch for pitch in range(instrument.low, instrument.high + 1) if pitch % 12 in plan.scale
    ]
    for begin, end in gaps(plan):
        if plan.bar_at(begin).kind == "ending" or rng.random() < 0.2:
            continue
        start = float(np.ceil(begin - 1e-6))
        motif = _MOTIFS[int(favourites[int(rng.integers(2))])]
        bottom = instrument.centre + int(rng.integers(-5, 3))
        rung = int(np.argmin([abs(pitch - bottom) for pitch in ladder]))
        kept = [note for note in motif if start + note[0] + note[1] <= end - 0.2]
        for number, (late, length, step) in enumerate(kept):
            pitch = ladder[min(rung + step, len(ladder) - 1)]
            if number in (0, len(kept) - 1):
                tones = plan.chords[plan.chord_index(start + late)].pitch_classes
                near = [p for p in range(pitch - 3, pitch + 4) if p % 12 in tones]
                near = [p for p in near if instrument.low <= p <= instrument.high] or [pitch]
                pitch = min(near, key=lambda p, goal=pitch: abs(p - goal))
            level = loudness * (0.7 + 0.3 * plan.bar_at(start).intensity)
            line.add(start + late, length * 0.92, pitch, level * (1.0 if number == 0 else 0.92))
    return line


def counter_line(plan: Plan, line: PartWriter, loudness: float, from_section: int) -> PartWriter:
    """A second voice in long notes: guide tones (third, seventh) that move by step."""
    instrument = INSTRUMENTS[line.program]
    middle = int(np.median(plan.melody.pitch))
    here = middle - 9 if middle - 9 > instrument.low + 3 else middle + 8
    here = centre = min(max(here, instrument.low + 4), instrument.high - 4)
    for span in plan.spans:
        bar = plan.bar_at(span.start_beat)
        if bar.section < from_section and bar.kind != "ending":
            continue
        sung = {
            p % 12
            for p, beats in plan.melody_between(span.start_beat, span.end_beat)
            if beats >= 0.4
        }
        tones = span.chord.pitch_classes
        options = [
            pitch
            for pitch in range(max(instrument.low, here - 7), min(instrument.high, here + 7) + 1)
            if pitch % 12 in tones and (pitch + 1) % 12 not in sung
        ]
        if not options:
            continue
        guide = {tones[1], tones[-1]}
        here = min(
            options,
            key=lambda pitch: abs(pitch - here) - 1.5 * (pitch % 12 in guide)
            + 1.5 * (pitch % 12 in sung)
            + 0.15 * abs(pitch - centre),
        )  # fmt: skip
        velocity = loudness * (0.6 + 0.4 * bar.intensity)
        line.add(span.start_beat, (span.end_beat - span.start_beat) * 0.96, here, velocity)
    return line
