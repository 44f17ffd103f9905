"""Bass lines: held roots, root and fifth, eighths, octaves, the bossa figure, walking.

Each function fills a `Line`; all of them put the root (or the written bass note) under every
change of chord. Walking follows the usual practice (Levine 1995, "The Jazz Theory Book"): root on
the change, chord or scale tones on the way, a half or whole step or the dominant into the next.
"""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.plan import Bar, PartWriter, Plan, Span, hits
from melisma.data.arrange.sheet import QUALITIES


def near(pitch_class: int, around: int, low: int, high: int) -> int:
    """The pitch of a class nearest to another pitch, within a range of an octave or more."""
    choices = [pitch for pitch in range(low, high + 1) if pitch % 12 == pitch_class % 12]
    return min(choices, key=lambda pitch: (abs(pitch - around), pitch))


def fifth_of(span: Span) -> int:
    """Pitch class of the chord's fifth (diminished or augmented as the chord has it)."""
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
    """A rhythm per bar for the root, and optionally one each for the fifth and the octave.

    `patterns` maps "root", "fifth", "octave" to pattern strings; a string alone is the root's. At
    a change of chord any first hit becomes the root, so harmony is always grounded.
    """
    parts = {"root": patterns} if isinstance(patterns, str) else patterns
    before = (low + high) // 2
    grounded = -1
    for bar in plan.bars:
        events = sorted(
            (start, duration, level, part)
            for part, pattern in parts.items()
            for start, duration, level in hits(pattern, plan.bar_beats)
        )
        for start, duration, level, part in events:
            beat = bar.start_beat + start
            index = plan.chord_index(beat)
            span = plan.spans[index]
            root = near(span.chord.root, (before + low + 7) // 2, low, low + 12)
            pitch = root
            if index == grounded or part == "octave":
                if part == "fifth":
                    fifth = near(fifth_of(span), root, low, high)
                    pitch = fifth
                elif part == "octave":
                    pitch = root + 12
            grounded = index
            before = root
            duration = min(duration, span.end_beat - beat)
            line.add(beat, duration * length, pitch, _level(bar, loudness) * level)
    return _ground(plan, line, loudness, low)


def _ground(plan: Plan, line: PartWriter, loudness: float, low: int) -> PartWriter:
    """Adds the root where a chord that lasts a beat or more begins without a bass note."""
    starts = np.array([row[0] for row in line.rows])
    for span in plan.spans:
        if span.end_beat - span.start_beat < 0.99:
            continue
        late = starts - span.start_beat
        if ((late > -0.02) & (late < 0.3)).any():
            continue
        bar = plan.bar_at(span.start_beat)
        inside = starts[(starts > span.start_beat) & (starts < span.end_beat)]
        until = float(inside.min()) if len(inside) else span.end_beat
        for position, row in enumerate(line.rows):
            if row[0] < span.start_beat < row[0] + row[1]:
                line.rows[position] = (row[0], span.start_beat - row[0], row[2], row[3])
        pitch = near(span.chord.root, low + 7, low, low + 12)
        line.add(
            span.start_beat, (until - span.start_beat) * 0.95, pitch, 0.9 * _level(bar, loudness)
        )
    return line


def held(
    plan: Plan,
    line: PartWriter,
    loudness: float,
    low: int = 28,
    high: int = 45,
    inversions: bool = False,
) -> PartWriter:
    """One long note per chord, with the source's own bass where `inversions`."""
    before = (low + high) // 2
    for span in plan.spans:
        bar = plan.bar_at(span.start_beat)
        pitch_class = span.chord.bass if inversions and bar.kind == "song" else span.chord.root
        pitch = near(pitch_class, before, low, high)
        start = span.start_beat
        while start < span.end_beat - 0.05:
            until = min(span.end_beat, (start // plan.bar_beats + 1) * plan.bar_beats)
            line.add(start, (until - start) * 0.97, pitch, _level(plan.bar_at(start), loudness))
            start = until
        before = (pitch + (low + high) // 2) // 2
    return line


def alternating(
    plan: Plan,
    line: PartWriter,
    beats: tuple[float, ...],
    loudness: float,
    low: int = 29,
    high: int = 48,
) -> PartWriter:
    """Oom: root and fifth by turns on the given beats of each bar (waltz: (0,); march: (0, 2)).

    The fifth lies below the root where the range allows it, as tubas and double basses play.
    """
    before_index, turn = -1, 0
    for bar in plan.bars:
        moments = [bar.start_beat + beat for beat in beats]
        changes = [
            span.start_beat
            for span in plan.spans
            if bar.start_beat <= span.start_beat < bar.start_beat + plan.bar_beats
        ]
        moments = sorted({*moments, *changes})
        for number, beat in enumerate(moments):
            index = plan.chord_index(beat)
            span = plan.spans[index]
            turn = 0 if index != before_index else turn + 1
            before_index = index
            root = near(span.chord.root, low + 8, low, high)
            fifth = near(fifth_of(span), root - 5, low, high)
            pitch = root if turn % 2 == 0 else fifth
            until = moments[number + 1] if number + 1 < len(moments) else beat + plan.bar_beats
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
    """Four quarters to the bar (swing)."""
    before = 40
    for span in plan.spans:
        count = max(round(span.end_beat - span.start_beat), 1)
        root = near(span.chord.root, before, low, high)
        goal = near(span.following.root, root, low, high)
        tones = _walk(plan, span, root, goal, count, rng, low, high)
        for number, pitch in enumerate(tones):
            beat = span.start_beat + number
            bar = plan.bar_at(beat)
            accent = 1.0 if beat % 2 == 0 else 1.06
            if bar.kind == "ending":
                line.add(beat, span.end_beat - beat, root, loudness)
                break
            line.add(beat, 0.92, pitch, _level(bar, loudness) * accent)
            before = pitch
    return line


def _ease(pitch: int, here: int, goal: int, left: int) -> float:
    """Weight of the next note of a walk: steps before leaps, and in reach of the goal in time."""
    overdue = max(abs(goal - pitch) - 3 * left, 0)
    return float(np.exp(-0.28 * abs(pitch - here) - 0.5 * overdue))


def _walk(
    plan: Plan,
    span: Span,
    root: int,
    goal: int,
    count: int,
    rng: np.random.Generator,
    low: int,
    high: int,
) -> list[int]:
    """Pitches for each beat of a chord, from the root towards the next root."""
    scale = plan.scale | set(span.chord.pitch_classes)
    tones = set(span.chord.pitch_classes)
    pitches = [root]
    while len(pitches) < count:
        left = count - len(pitches)
        here = pitches[-1]
        if left == 1:
            choices = [goal - 1, goal + 1, goal - 2, goal + 2, goal + 7, goal - 5]
            weights = [3.0, 2.5, 1.5, 1.5, 1.0, 1.0]
            options = [
                (pitch, weight / (1 + 0.25 * abs(pitch - here)))
                for pitch, weight in zip(choices, weights, strict=True)
                if pitch != here
                and low <= pitch <= high
                and (abs(pitch - goal) != 2 or pitch % 12 in scale)
            ]
        else:
            strong = len(pitches) % 2 == 0
            options = [
                (pitch, _ease(pitch, here, goal, left))
                for pitch in range(max(low, here - 7), min(high, here + 7) + 1)
                if pitch != here
                and pitch % 12 in (tones if strong else tones | scale)
                and (pitch % 12 in tones or abs(pitch - here) <= 2)
                and pitch not in pitches[-2:]
            ]
        if not options:
            options = [(root, 1.0)]
        total = sum(weight for _, weight in options)
        pick = int(rng.choice(len(options), p=[weight / total for _, weight in options]))
        pitches.append(options[pick][0])
    return pitches
