"""Bass parts: sustained roots, root and fifth, rhythmic patterns, walking bass.

Each function fills a `PartWriter`; all of them play the root (or the notated bass note) at every
chord change. Walking bass follows the usual practice (Levine 1995, "The Jazz Theory Book"): root on
the change, then chord or scale tones, and a half step, whole step or the dominant into the next.
"""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.plan import Bar, PartWriter, Plan, Span, parse_pattern
from melisma.data.arrange.sheet import QUALITIES


def nearest_pitch(pitch_class: int, around: int, low: int, high: int) -> int:
    """The pitch of a pitch class nearest to another pitch, in a range of at least an octave."""
    choices = [pitch for pitch in range(low, high + 1) if pitch % 12 == pitch_class % 12]
    return min(choices, key=lambda pitch: (abs(pitch - around), pitch))


def fifth_of(span: Span) -> int:
    """Pitch class of the chord's fifth (perfect, diminished or augmented)."""
    return (span.chord.root + QUALITIES[span.chord.quality][2]) % 12


def _level(bar: Bar, loudness: float) -> float:
    return loudness * (0.6 + 0.4 * bar.intensity)


def patterned(
    plan: Plan,
    line: PartWriter,
    patterns: dict[str, str] | str,
    loudness: float,
    low: int = 28,
    high: int = 47,
    length: float = 0.95,
) -> PartWriter:
    """Write a bass part from rhythmic patterns of one bar.

    The first hit after a chord change always plays the root.

    Args:
        plan: The arrangement.
        line: Part to which the notes are added.
        patterns: Pattern strings of "root", "fifth" and "octave"; a single string is the root's.
        loudness: Velocity of an accent at full intensity.
        low: Lowest MIDI pitch.
        high: Highest MIDI pitch.
        length: Factor on the notated durations.

    Returns:
        `line`.
    """
    parts = {"root": patterns} if isinstance(patterns, str) else patterns
    previous = (low + high) // 2
    rooted_index = -1
    for bar in plan.bars:
        events = sorted(
            (start, duration, level, part)
            for part, pattern in parts.items()
            for start, duration, level in parse_pattern(pattern, plan.bar_beats)
        )
        for start, duration, level, part in events:
            beat = bar.start_beat + start
            index = plan.chord_index(beat)
            span = plan.spans[index]
            root = nearest_pitch(span.chord.root, (previous + low + 7) // 2, low, low + 12)
            pitch = root
            if index == rooted_index or part == "octave":
                if part == "fifth":
                    fifth = nearest_pitch(fifth_of(span), root, low, high)
                    pitch = fifth
                elif part == "octave":
                    pitch = root + 12
            rooted_index = index
            previous = root
            duration = min(duration, span.end_beat - beat)
            line.add(beat, duration * length, pitch, _level(bar, loudness) * level)
    return _add_missing_roots(plan, line, loudness, low)


def _add_missing_roots(plan: Plan, line: PartWriter, loudness: float, low: int) -> PartWriter:
    """Add the root at chords of at least a beat that begin without a bass note."""
    starts = np.array([row[0] for row in line.rows])
    for span in plan.spans:
        if span.end_beat - span.start_beat < 0.99:
            continue
        delays = starts - span.start_beat
        if ((delays > -0.02) & (delays < 0.3)).any():
            continue
        bar = plan.bar_at(span.start_beat)
        inside = starts[(starts > span.start_beat) & (starts < span.end_beat)]
        until = float(inside.min()) if len(inside) else span.end_beat
        for position, row in enumerate(line.rows):
            if row[0] < span.start_beat < row[0] + row[1]:
                line.rows[position] = (row[0], span.start_beat - row[0], row[2], row[3])
        pitch = nearest_pitch(span.chord.root, low + 7, low, low + 12)
        line.add(
            span.start_beat, (until - span.start_beat) * 0.95, pitch, 0.9 * _level(bar, loudness)
        )
    return line


def sustained(
    plan: Plan,
    line: PartWriter,
    loudness: float,
    low: int = 28,
    high: int = 45,
    inversions: bool = False,
) -> PartWriter:
    """Write one long note per chord; with `inversions`, the bass note of the source."""
    previous = (low + high) // 2
    for span in plan.spans:
        bar = plan.bar_at(span.start_beat)
        pitch_class = span.chord.bass if inversions and bar.kind == "song" else span.chord.root
        pitch = nearest_pitch(pitch_class, previous, low, high)
        start = span.start_beat
        while start < span.end_beat - 0.05:
            until = min(span.end_beat, (start // plan.bar_beats + 1) * plan.bar_beats)
            line.add(start, (until - start) * 0.97, pitch, _level(plan.bar_at(start), loudness))
            start = until
        previous = (pitch + (low + high) // 2) // 2
    return line


def alternating(
    plan: Plan,
    line: PartWriter,
    beats: tuple[float, ...],
    loudness: float,
    low: int = 29,
    high: int = 48,
) -> PartWriter:
    """Alternate root and fifth on the given beats of each bar (waltz: (0,); march: (0, 2)).

    The fifth is below the root if the range allows it, as for tubas and double basses.
    """
    previous_index, turn = -1, 0
    for bar in plan.bars:
        beats_to_play = [bar.start_beat + beat for beat in beats]
        changes = [
            span.start_beat
            for span in plan.spans
            if bar.start_beat <= span.start_beat < bar.start_beat + plan.bar_beats
        ]
        beats_to_play = sorted({*beats_to_play, *changes})
        for number, beat in enumerate(beats_to_play):
            index = plan.chord_index(beat)
            span = plan.spans[index]
            turn = 0 if index != previous_index else turn + 1
            previous_index = index
            root = nearest_pitch(span.chord.root, low + 8, low, high)
            fifth = nearest_pitch(fifth_of(span), root - 5, low, high)
            pitch = root if turn % 2 == 0 else fifth
            until = (
                beats_to_play[number + 1]
                if number + 1 < len(beats_to_play)
                else beat + plan.bar_beats
            )
            length = min(until - beat, 1.0, span.end_beat - beat) * 0.85
            line.add(beat, length, pitch, _level(bar, loudness) * (1.0 if number == 0 else 0.9))
    return line


def walking(
    plan: Plan,
    line: PartWriter,
    rng: np.random.Generator,
    loudness: float,
    low: int = 28,
    high: int = 52,
) -> PartWriter:
    """Write a walking bass: four quarters per bar (swing)."""
    previous = 40
    for span in plan.spans:
        count = max(round(span.end_beat - span.start_beat), 1)
        root = nearest_pitch(span.chord.root, previous, low, high)
        goal = nearest_pitch(span.following.root, root, low, high)
        tones = _walking_pitches(plan, span, root, goal, count, rng, low, high)
        for number, pitch in enumerate(tones):
            beat = span.start_beat + number
            bar = plan.bar_at(beat)
            accent = 1.0 if beat % 2 == 0 else 1.06
            if bar.kind == "ending":
                line.add(beat, span.end_beat - beat, root, loudness)
                break
            line.add(beat, 0.92, pitch, _level(bar, loudness) * accent)
            previous = pitch
    return line


def _step_weight(pitch: int, current: int, goal: int, remaining: int) -> float:
    """Weight of the next walking note: prefers steps, and pitches that can reach the goal."""
    overdue = max(abs(goal - pitch) - 3 * remaining, 0)
    return float(np.exp(-0.28 * abs(pitch - current) - 0.5 * overdue))


def _walking_pitches(
    plan: Plan,
    span: Span,
    root: int,
    goal: int,
    count: int,
    rng: np.random.Generator,
    low: int,
    high: int,
) -> list[int]:
    """Pitch for each beat of a chord, from its root towards the next root."""
    scale = plan.scale | set(span.chord.pitch_classes)
    tones = set(span.chord.pitch_classes)
    pitches = [root]
    while len(pitches) < count:
        remaining = count - len(pitches)
        current = pitches[-1]
        if remaining == 1:
            choices = [goal - 1, goal + 1, goal - 2, goal + 2, goal + 7, goal - 5]
            weights = [3.0, 2.5, 1.5, 1.5, 1.0, 1.0]
            options = [
                (pitch, weight / (1 + 0.25 * abs(pitch - current)))
                for pitch, weight in zip(choices, weights, strict=True)
                if pitch != current
                and low <= pitch <= high
                and (abs(pitch - goal) != 2 or pitch % 12 in scale)
            ]
        else:
            strong = len(pitches) % 2 == 0
            options = [
                (pitch, _step_weight(pitch, current, goal, remaining))
                for pitch in range(max(low, current - 7), min(high, current + 7) + 1)
                if pitch != current
                and pitch % 12 in (tones if strong else tones | scale)
                and (pitch % 12 in tones or abs(pitch - current) <= 2)
                and pitch not in pitches[-2:]
            ]
        if not options:
            options = [(root, 1.0)]
        total = sum(weight for _, weight in options)
        choice = int(rng.choice(len(options), p=[weight / total for _, weight in options]))
        pitches.append(options[choice][0])
    return pitches
