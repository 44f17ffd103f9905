"""Event tokenizer of scores: `Score` <-> event rows (`values/events.py`) of the score model.

Input: a `Score`. Output: int16 [event, 5], parts first, then bar by bar; within a bar by time, and
at equal times the chord first and then the parts in order. Losses are limited to quantization:

- onsets to 24 ticks per quarter note, durations to `DURATION_TICKS`, velocities to steps of 4;
- one tempo per bar (its mean), in steps of 2.3 %; metres to `BAR_METRES`, where a bar that is
  truncated by the next metre takes the metre of its length;
- of notes of one part with equal onset and pitch, the longest is kept.

After REMI+ (von Rütte et al., FIGARO, 2201.10936, section 3.1): bar, position, tempo, metre,
chord, program, pitch, duration, velocity; but parts are numbered, so that two parts of one program
stay separate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from melisma.values import ChordMark, Metre, Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError
from melisma.values.events import (
    BAR,
    BAR_METRES,
    CHORD,
    CHORD_NAMES,
    DRUM_PROGRAM,
    DURATION_TICKS,
    END,
    FIELD_SIZES,
    FIELDS,
    FIRST_CHORD,
    FIRST_DRUM,
    FIRST_METRE,
    FIRST_PROGRAM,
    FIRST_TEMPO,
    LENGTH,
    MAX_BAR_TICKS,
    MAX_PARTS,
    METRE_TICKS,
    PART,
    PART_FIELD,
    PITCH,
    POSITION,
    TICKS_PER_BEAT,
    VELOCITY,
    duration_class,
    event_ticks,
    tempo_class,
    tempo_class_bpm,
)

MAX_BARS = 20_000
"""Maximum bars of one score (chosen: ten hours); a longer one is taken for damaged."""
_PREFERRED = (4, 8, 16, 2)
"""Order of preference of the denominators for a bar of a given length."""
_BY_LENGTH = {
    length: next(
        index
        for denominator in _PREFERRED
        for index, metre in enumerate(BAR_METRES)
        if metre[1] == denominator and METRE_TICKS[index] == length
    )
    for length in sorted(set(METRE_TICKS.tolist()))
}
_LENGTHS = np.array(list(_BY_LENGTH))


def encode_score(score: Score, *, ended: bool = True) -> np.ndarray:
    """Encodes a score as events.

    Args:
        score: The score.
        ended: Whether to append the end event.

    Returns:
        int16 [event, 5].

    Raises:
        MelismaError: More than `MAX_PARTS` parts (see `join_parts`) or `MAX_BARS` bars.
    """
    if len(score.tracks) > MAX_PARTS:
        raise MelismaError(
            f"the score has {len(score.tracks)} parts, at most {MAX_PARTS} are read: "
            "leave some out, or join those of one instrument"
        )
    starts, metres = bars_of(score)
    rows = [_part_rows(score), _bar_rows(score, starts, metres)]
    times = [np.full(len(rows[0]), -1), starts]
    for number, track in enumerate(score.tracks):
        tick, row = _note_rows(track, number)
        rows.append(row)
        times.append(tick)
    tick, row = _chord_rows(score, int(starts[-1] + METRE_TICKS[metres[-1]]))
    rows.append(row)
    times.append(tick)
    table, ticks = np.concatenate(rows), np.concatenate(times)
    bar = np.searchsorted(starts, ticks, side="right") - 1
    played = table[:, POSITION] == 0
    table[played, POSITION] = (ticks - starts[np.maximum(bar, 0)])[played]
    # Parts, then in each bar: the bar itself, then by time; chords before notes.
    first = np.where(table[:, POSITION] == PART, -2, np.where(table[:, POSITION] == BAR, -1, ticks))
    group = np.where(table[:, PART_FIELD] == CHORD, -1, table[:, PART_FIELD])
    order = np.lexsort((table[:, PITCH], group, first, bar))
    table = table[order]
    if ended:
        table = np.concatenate([table, _absent(1)])
        table[-1, POSITION] = END
    return table.astype(np.int16)


def bars_of(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Bars of a score up to its last note.

    Returns:
        (first tick, index into `BAR_METRES`) of every bar, int64 [bar] each.

    Raises:
        MelismaError: The score has more than `MAX_BARS` bars.
    """
    end = _end_tick(score)
    marks = [(round(m.beat * TICKS_PER_BEAT), m) for m in score.metres]
    starts: list[int] = []
    metres: list[int] = []
    at = 0
    for index, (_, metre) in enumerate(marks):
        stop = marks[index + 1][0] if index + 1 < len(marks) else end
        length = max(round(metre.bar_beats * TICKS_PER_BEAT), 6)
        while at < min(stop, end):
            last = index + 1 < len(marks) and at + length > stop
            for piece in _split(stop - at if last else length):
                name = (metre.numerator, metre.denominator)
                kept = BAR_METRES.index(name) if name in BAR_METRES else -1
                if kept < 0 or METRE_TICKS[kept] != piece:
                    kept = _nearest(piece)
                starts.append(at)
                metres.append(kept)
                at += int(METRE_TICKS[kept])
            if len(starts) > MAX_BARS:
                raise MelismaError(f"the score has more than {MAX_BARS} bars: give a shorter one")
    return np.array(starts), np.array(metres)


def _end_tick(score: Score) -> int:
    """Tick at which the last note ends; 1 for a score without notes.

    A duration counts as the shorter of what is given and its class, so that no empty bar is opened
    by rounding alone; decoding truncates what its class has in excess.
    """
    ends = [1]
    for track in score.tracks:
        if len(track.notes):
            start, length = _grid_times(track.notes)
            classes = np.array(DURATION_TICKS)[duration_class(length)]
            ends.append(int((start + np.minimum(length, classes)).max()))
    return max(ends)


def _grid_times(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """(onset, duration) in ticks, rounded, int64 [note]."""
    start = np.round(notes.start_beats * TICKS_PER_BEAT).astype(np.int64)
    length = np.round(notes.duration_beats * TICKS_PER_BEAT).astype(np.int64)
    return start, np.maximum(length, 1)


def _nearest(ticks: int) -> int:
    return _BY_LENGTH[int(_LENGTHS[np.abs(_LENGTHS - ticks).argmin()])]


def _split(ticks: int) -> list[int]:
    """Splits a bar's length into lengths of at most `MAX_BAR_TICKS`."""
    count = -(-ticks // MAX_BAR_TICKS)
    if count == 1:
        return [ticks]
    each = -(-ticks // count // TICKS_PER_BEAT) * TICKS_PER_BEAT
    return [each] * (count - 1) + [max(ticks - each * (count - 1), 6)]


def _absent(count: int) -> np.ndarray:
    return np.tile(np.array(FIELD_SIZES), (count, 1))


def _part_rows(score: Score) -> np.ndarray:
    rows = _absent(len(score.tracks))
    rows[:, POSITION] = PART
    rows[:, PART_FIELD] = np.arange(len(rows))
    rows[:, PITCH] = [FIRST_PROGRAM + program_of(track) for track in score.tracks]
    return rows


def program_of(track: Track) -> int:
    """General MIDI program of a track, `DRUM_PROGRAM` for any drum kit."""
    return DRUM_PROGRAM if track.is_drum else track.program


def _bar_rows(score: Score, starts: np.ndarray, metres: np.ndarray) -> np.ndarray:
    stops = starts + METRE_TICKS[metres]
    seconds = score.tempo.seconds(np.append(starts, stops[-1]) / TICKS_PER_BEAT)
    # A bar without duration would need an infinite tempo: it gets the fastest class.
    minutes = np.maximum(np.diff(seconds), 1e-9) / 60.0
    bpm = np.diff(np.append(starts, stops[-1])) / TICKS_PER_BEAT / minutes
    rows = _absent(len(starts))
    rows[:, POSITION] = BAR
    rows[:, PITCH] = FIRST_METRE + metres
    rows[:, LENGTH] = [FIRST_TEMPO + tempo_class(one) for one in bpm]
    return rows


def _note_rows(track: Track, number: int) -> tuple[np.ndarray, np.ndarray]:
    notes = track.notes
    tick, length = _grid_times(notes)
    order = np.lexsort((-length, notes.pitch, tick))
    same = (np.diff(tick[order]) == 0) & (np.diff(notes.pitch[order]) == 0)
    kept = order[np.concatenate([[True], ~same])] if len(order) else order
    rows = _absent(len(kept))
    rows[:, POSITION] = 0
    rows[:, PART_FIELD] = number
    rows[:, PITCH] = notes.pitch[kept] + (FIRST_DRUM if track.is_drum else 0)
    rows[:, LENGTH] = duration_class(length[kept])
    rows[:, VELOCITY] = notes.velocity[kept] // 4
    return tick[kept], rows


def _chord_rows(score: Score, end: int) -> tuple[np.ndarray, np.ndarray]:
    ticks = np.array([round(c.beat * TICKS_PER_BEAT) for c in score.chords], dtype=np.int64)
    inside = ticks < end
    names = [CHORD_NAMES.index(chord.name) for chord in score.chords]
    rows = _absent(len(ticks))
    rows[:, POSITION] = 0
    rows[:, PART_FIELD] = CHORD
    rows[:, PITCH] = FIRST_CHORD + np.array(names, dtype=np.int64)
    return ticks[inside], rows[inside]


def decode_score(rows: np.ndarray, title: str = "") -> Score:
    """Decodes events to a score whose first bar begins at beat 0.

    Parts without notes are omitted, notes of undeclared parts are ignored, and notes are truncated
    at the end of the last bar.

    Args:
        rows: Events, int [event, 5].
        title: Title of the score.

    Raises:
        MelismaError: The rows are no valid events or hold no bar.
    """
    table = np.asarray(rows, dtype=np.int64)
    if table.ndim != 2 or table.shape[1] != FIELDS:
        raise MelismaError(f"events have {FIELDS} fields, these have the shape {table.shape}")
    if (table < 0).any() or (table > np.array(FIELD_SIZES)).any():
        raise MelismaError("a field of an event lies outside its vocabulary")
    is_bar = table[:, POSITION] == BAR
    if not is_bar.any():
        raise MelismaError("these events hold no bar: a score has one or more")
    ticks, _ = event_ticks(table)
    beats = ticks / TICKS_PER_BEAT
    sounding = table[:, POSITION] < MAX_BAR_TICKS
    return Score(
        tracks=tuple(_tracks(table, beats, sounding, _stop_beat(table, beats))),
        tempo=_tempo(table[is_bar], beats[is_bar]),
        metres=_metres(table[is_bar], beats[is_bar]),
        title=title,
        chords=tuple(
            ChordMark(beat=float(beats[i]), name=CHORD_NAMES[int(table[i, PITCH]) - FIRST_CHORD])
            for i in np.flatnonzero(sounding & (table[:, PART_FIELD] == CHORD))
        ),
    )


def _stop_beat(table: np.ndarray, beats: np.ndarray) -> float:
    """End of the last bar in beats."""
    last = int(np.flatnonzero(table[:, POSITION] == BAR)[-1])
    return float(beats[last] + METRE_TICKS[table[last, PITCH] - FIRST_METRE] / TICKS_PER_BEAT)


def _tracks(
    table: np.ndarray, beats: np.ndarray, sounding: np.ndarray, stop_beat: float
) -> list[Track]:
    tracks = []
    for declared in table[table[:, POSITION] == PART]:
        mine = np.flatnonzero(sounding & (table[:, PART_FIELD] == declared[PART_FIELD]))
        if not len(mine):
            continue
        program = int(declared[PITCH]) - FIRST_PROGRAM
        drum = program == DRUM_PROGRAM
        pitch = table[mine, PITCH] - (FIRST_DRUM if drum else 0)
        order = np.lexsort((pitch, beats[mine]))
        mine = mine[order]
        notes = Notes(
            start_beats=beats[mine],
            duration_beats=np.minimum(
                np.array(DURATION_TICKS)[table[mine, LENGTH]] / TICKS_PER_BEAT,
                stop_beat - beats[mine],
            ),
            pitch=pitch[order],
            velocity=np.maximum(table[mine, VELOCITY] * 4 + 2, 1),
        )
        tracks.append(Track(notes=notes, program=0 if drum else program, is_drum=drum))
    return tracks


def _tempo(bars: np.ndarray, beats: np.ndarray) -> TempoMap:
    tempi = bars[:, LENGTH] - FIRST_TEMPO
    new = np.concatenate([[True], np.diff(tempi) != 0])
    return TempoMap(beats=beats[new], bpm=np.array([tempo_class_bpm(int(t)) for t in tempi[new]]))


def _metres(bars: np.ndarray, beats: np.ndarray) -> tuple[Metre, ...]:
    metres = bars[:, PITCH] - FIRST_METRE
    new = np.flatnonzero(np.concatenate([[True], np.diff(metres) != 0]))
    return tuple(
        Metre(beat=float(beats[i]), numerator=BAR_METRES[m][0], denominator=BAR_METRES[m][1])
        for i in new
        for m in [int(metres[i])]
    )


def group_parts(score: Score, most: int = MAX_PARTS) -> tuple[tuple[int, ...], ...]:
    """Which tracks make up each part when the number of parts is reduced, see `join_parts`.

    Returns:
        Indices of the tracks of every part, that whose name it gets first; tracks without notes
        and those that are dropped are in none.
    """
    groups = [(i,) for i, track in enumerate(score.tracks) if len(track.notes)]
    while len(groups) > most:
        sizes = [sum(len(score.tracks[i].notes) for i in group) for group in groups]
        programs = [program_of(score.tracks[group[0]]) for group in groups]
        for least in np.argsort(sizes, kind="stable").tolist():
            kin = [i for i in range(len(groups)) if i != least and programs[i] == programs[least]]
            if kin:
                other = min(kin, key=lambda i: sizes[i])
                groups[other] += groups[least]
                del groups[least]
                break
        else:
            del groups[int(np.argmin(sizes))]
    return tuple(groups)


def join_parts(score: Score, most: int = MAX_PARTS) -> Score:
    """Reduces the number of parts of a score.

    Parts of the same program are joined, those with the fewest notes first; if that is not
    sufficient, the parts with the fewest notes are dropped.

    Args:
        score: The score.
        most: Maximum number of parts.
    """
    groups = group_parts(score, most)
    tracks = tuple(_joined([score.tracks[i] for i in group]) for group in groups)
    return replace(score, tracks=tracks)


def _joined(tracks: list[Track]) -> Track:
    if len(tracks) == 1:
        return tracks[0]
    columns = [
        np.concatenate([getattr(track.notes, name) for track in tracks])
        for name in ("start_beats", "duration_beats", "pitch", "velocity")
    ]
    order = np.lexsort((columns[2], columns[0]))
    start, duration, pitch, velocity = (column[order] for column in columns)
    notes = Notes(start_beats=start, duration_beats=duration, pitch=pitch, velocity=velocity)
    return replace(tracks[0], notes=notes)
