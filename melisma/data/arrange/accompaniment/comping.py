"""Chords under the tune: which tones, how they are voiced, and how one moves to the next.

Voicings are chosen by dynamic descent: each is the nearest one to the one before that keeps its
distance from the melody (no semitone under a held melody note, top voice below the tune where
there is room). The rhythm comes from a pattern per bar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from melisma.data.arrange.plan import Bar, PartWriter, Plan, Span, hits
from melisma.data.arrange.sheet import QUALITIES

Voicing = tuple[int, ...]


def chord_colour(plan: Plan, span: Span, richness: int) -> tuple[int, ...]:
    """Pitch classes to play over a chord, the root first and then by importance.

    Richness 0 keeps to triads and written sevenths, 1 makes sevenths, 2 adds ninths. Tones a
    semitone below a melody note that is held over the chord are left out or suspended.
    """
    chord = span.chord
    heard: dict[int, float] = {}
    for pitch, beats in plan.melody_between(span.start_beat, span.end_beat):
        heard[pitch % 12] = heard.get(pitch % 12, 0.0) + beats
    held = {pitch_class for pitch_class, beats in heard.items() if beats >= 0.45}
    steps = list(QUALITIES[chord.quality])
    degree = (chord.root - plan.tonality) % 12
    if richness >= 1:
        steps = _with_seventh(chord.quality, degree, plan.tonality >= 12, steps, held, chord.root)
    if richness >= 2 and chord.quality in ("maj", "min", "7", "maj7", "min7"):
        ninth = (chord.root + 2) % 12
        if ninth in plan.scale and (ninth + 1) % 12 not in held:
            steps.append(2)
    kept: list[int] = []
    for step in steps:
        tone = (chord.root + step) % 12
        if (tone + 1) % 12 in held and tone not in held and step != 0:
            if step == 4 and chord.quality in ("7", "maj"):
                kept.append((chord.root + 5) % 12)
            continue
        kept.append(tone)
    return tuple(dict.fromkeys(kept)) or chord.pitch_classes


def _with_seventh(
    quality: str, degree: int, minor: bool, steps: list[int], held: set[int], root: int
) -> list[int]:
    """The steps of a triad with a seventh (or sixth) as jazz players add it."""
    if quality == "maj":
        if degree == 7:
            return [0, 4, 7, 10]
        root_held = root % 12 in held
        return [0, 4, 7, 9] if root_held or (minor and degree == 10) else [0, 4, 7, 11]
    if quality == "min":
        return [0, 3, 7, 9] if minor and degree == 0 and (root + 9) % 12 in held else [0, 3, 7, 10]
    if quality == "dim":
        return [0, 3, 6, 10] if degree in (11, 2) else [0, 3, 6, 9]
    return steps


def voicings(
    plan: Plan, low: int, high: int, voices: int, richness: int = 0, rootless: bool = False
) -> list[Voicing]:
    """One voicing for each chord of the plan, ascending pitches between low and high."""
    low, high = _below_the_tune(plan, low, high)
    result: list[Voicing] = []
    before: Voicing | None = None
    for span in plan.spans:
        tones = chord_colour(plan, span, richness)
        if rootless and len(tones) > 3:
            tones = tones[1:]
        heard = plan.melody_between(span.start_beat, span.end_beat)
        ceiling = min((pitch for pitch, beats in heard if beats >= 0.3), default=high + 12)
        sung = {pitch for pitch, beats in heard if beats >= 0.3}
        before = _best_voicing(tones, low, high, voices, before, ceiling, sung)
        result.append(before)
    return result


def _below_the_tune(plan: Plan, low: int, high: int) -> tuple[int, int]:
    """The range moved down under the tune; around a low one (cello, trombone) it stays."""
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
    before: Voicing | None,
    ceiling: int,
    sung: set[int],
) -> Voicing:
    pitches = [pitch for pitch in range(low, high + 1) if pitch % 12 in tones]
    wanted = min(voices, len(pitches))
    essential = tones if len(tones) <= voices else tones[1:4]
    choices = np.array(list(combinations(pitches, wanted)))
    classes = choices % 12
    cost = sum((4.0 * (classes != tone).all(axis=1) for tone in essential), np.zeros(len(choices)))
    gaps = np.diff(choices, axis=1)
    cost += (1.5 * (gaps == 1) + 0.4 * np.maximum(gaps - 9, 0)).sum(axis=1)
    cost += 2.0 * ((choices[:, :-1] < 52) & (gaps < 4)).sum(axis=1)
    cost += 0.35 * np.maximum(choices[:, -1] - ceiling + 1, 0)
    for tune in sung:
        cost += 3.0 * np.isin(tune - choices, (1, 13, -1, -13)).sum(axis=1)
    off_centre = np.abs(choices.mean(axis=1) - (low + high) / 2)
    if before is None:
        cost += 0.4 * off_centre
    else:
        moves = np.abs(choices[:, :, None] - np.array(before)).min(axis=2) ** 1.2
        top = np.abs(choices[:, -1] - before[-1])
        cost += 0.5 * (moves.sum(axis=1) + 0.5 * top) + 0.08 * off_centre
    return tuple(int(pitch) for pitch in choices[int(np.argmin(cost))])


def comp(
    plan: Plan,
    line: PartWriter,
    chosen: list[Voicing],
    pattern: Callable[[Bar], str],
    loudness: float,
    anticipate: bool = False,
    part: slice = slice(None),
) -> PartWriter:
    """Plays the voicings in the rhythm of `pattern(bar)`.

    Args:
        loudness: velocity of an accent at full intensity.
        anticipate: whether a hit on the last eighth before a change takes the coming chord.
        part: which voices play.
    """
    for bar in plan.bars:
        for start, length, level in hits(pattern(bar), plan.bar_beats):
            beat = bar.start_beat + start
            index = plan.chord_index(beat)
            end = plan.spans_ends[index]
            if anticipate and end - beat <= 0.5 + 1e-6 and index + 1 < len(chosen):
                index += 1
            elif beat + length > end:
                rest = beat + length - end
                if rest >= 0.9 and index + 1 < len(chosen):
                    _strike(plan, line, end, rest, chosen[index + 1][part], loudness * level)
                length = end - beat
            _strike(plan, line, beat, length, chosen[index][part], loudness * level)
    return line


def _strike(
    plan: Plan, line: PartWriter, beat: float, length: float, voicing: Voicing, loudness: float
) -> None:
    intensity = plan.bar_at(beat).intensity
    top = len(voicing) - 1
    for place, pitch in enumerate(voicing):
        weight = 1.0 if place == top else 0.92
        line.add(beat, length * 0.96, pitch, loudness * weight * (0.55 + 0.45 * intensity))


def pad(
    plan: Plan, line: PartWriter, chosen: list[Voicing], loudness: float, from_section: int
) -> PartWriter:
    """Holds each voicing for its chord; common tones are tied over."""
    ringing: dict[int, tuple[float, float]] = {}
    for span, voicing in zip(plan.spans, chosen, strict=True):
        bar = plan.bar_at(span.start_beat)
        silent = bar.section < from_section and bar.kind != "ending"
        for pitch in list(ringing):
            if silent or pitch not in voicing:
                start, velocity = ringing.pop(pitch)
                line.add(start, span.start_beat - start, pitch, velocity)
        if silent:
            continue
        for pitch in voicing:
            velocity = loudness * (0.55 + 0.45 * bar.intensity)
            if pitch in ringing and span.start_beat - ringing[pitch][0] > 2 * plan.bar_beats - 0.1:
                start, old = ringing.pop(pitch)
                line.add(start, span.start_beat - start, pitch, old)
            ringing.setdefault(pitch, (span.start_beat, velocity))
    for pitch, (start, velocity) in ringing.items():
        line.add(start, plan.end_beat - start, pitch, velocity)
    return line


def broken(
    plan: Plan,
    line: PartWriter,
    chosen: list[Voicing],
    order: Callable[[Bar], Sequence[int]],
    step_beats: float,
    loudness: float,
    ring: bool = True,
) -> PartWriter:
    """Arpeggios: one voice after the other in the given order, which starts again at each bar."""
    for bar in plan.bars:
        places = order(bar)
        count = round(plan.bar_beats / step_beats)
        for number in range(count):
            beat = bar.start_beat + number * step_beats
            place = places[number % len(places)]
            if place < 0:
                continue
            index = plan.chord_index(beat)
            voicing = chosen[index]
            pitch = voicing[place % len(voicing)] + 12 * (place // len(voicing))
            end = min(plan.spans_ends[index], bar.start_beat + plan.bar_beats)
            length = min(end - beat, 4 * step_beats) if ring else step_beats * 0.9
            accent = 1.0 if number == 0 else 0.88 if beat % 1.0 < 1e-6 else 0.78
            line.add(beat, length, pitch, loudness * accent * (0.55 + 0.45 * bar.intensity))
    return line
