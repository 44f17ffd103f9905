"""A given piece and new bars: what the model reads of it, and how both are joined.

Input: a `Score`. Output: its events for the score model, and the whole score with sampled bars in
it or after it. The model reads at most `MAX_PARTS` parts, quantized, without text and controllers;
all that it does not read stays as it was given.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from melisma.analysis.labels.chords import chord_marks
from melisma.analysis.labels.facts import score_facts
from melisma.lm.score.rows import is_note
from melisma.symbolic.events import bars_of, encode_score, group_parts, join_parts, program_of
from melisma.symbolic.midi.writing import key_signature
from melisma.values import ChordMark, Facts, Metre, Notes, Score, TempoMap
from melisma.values.errors import MelismaError
from melisma.values.events import (
    BAR,
    FIRST_TEMPO,
    LENGTH,
    METRE_TICKS,
    PART,
    POSITION,
    TICKS_PER_BEAT,
    tempo_class,
)
from melisma.values.score import PITCH_BEND, Controls, KeySignature

MAX_EVENTS_BEFORE = 260
"""Most events of the preceding bars that the model reads (chosen: its training windows have 450
events)."""
MAX_EVENTS_LATER = 120
"""Most events of the following bars that the model reads."""
FADERS = (7, 11)
"""Controllers of loudness: volume and expression."""
FADED = 0.5
"""Share of its median below which a fader is taken for the end of a fade-out (chosen)."""
STRAIGHT = 8_192
"""Pitch bend that bends nothing."""


class GivenPiece:
    """A given score, what the model reads of it, and its events bar by bar."""

    def __init__(self, score: Score) -> None:
        self.whole = score
        """The score with all that the model does not read."""
        self.groups = group_parts(score)
        """Which of its tracks make up each part that the model reads."""
        self.score = join_parts(score)
        if not self.score.tracks:
            raise MelismaError("the score has no notes: give one with notes")
        self.score = replace(self.score, chords=chord_marks(self.score))
        rows = encode_score(self.score, ended=False).astype(np.int64)
        self._body = rows[rows[:, POSITION] != PART]
        starts, self.metres = bars_of(self.score)
        self.starts = np.append(starts, starts[-1] + METRE_TICKS[self.metres[-1]])
        """First tick of every bar, then the end of the last bar."""
        self._edges = np.append(np.flatnonzero(self._body[:, POSITION] == BAR), len(self._body))
        lines = self._body[self._edges[:-1]]
        self.tempi = [int(tempo) - FIRST_TEMPO for tempo in lines[:, LENGTH]]

    @property
    def bars(self) -> int:
        return len(self.metres)

    @property
    def programs(self) -> tuple[int, ...]:
        return tuple(program_of(track) for track in self.score.tracks)

    def first_bar_read(self, stop: int) -> int:
        """Index of the first bar before `stop` that the model reads."""
        first = stop
        while first > 0 and self._edges[stop] - self._edges[first - 1] <= MAX_EVENTS_BEFORE:
            first -= 1
        return min(first, max(stop - 1, 0))

    def before(self, stop: int) -> np.ndarray:
        """Events of the bars before bar `stop` that the model reads, int64 [event, 5]."""
        return self._body[self._edges[self.first_bar_read(stop)] : self._edges[stop]]

    def later(self, first: int) -> np.ndarray:
        """Events of the bars from bar `first` on that the model reads, int64 [event, 5]."""
        stop = first
        while stop < self.bars and self._edges[stop + 1] - self._edges[first] <= MAX_EVENTS_LATER:
            stop += 1
        return self._body[self._edges[first] : self._edges[stop]]

    def notes_by_bar(self) -> tuple[np.ndarray, ...]:
        """Notes of every bar, int64 [note, 5]."""
        parts = [self._body[a:b] for a, b in zip(self._edges, self._edges[1:], strict=False)]
        return tuple(part[is_note(part)] for part in parts)

    @property
    def unread(self) -> tuple[int, ...]:
        """Tracks with notes that the model does not read, because there are too many."""
        read = {i for group in self.groups for i in group}
        tracks = enumerate(self.whole.tracks)
        return tuple(i for i, track in tracks if len(track.notes) and i not in read)

    def facts(self, first: int, stop: int) -> Facts:
        """Facts measured from the bars `first` to before `stop`."""
        beats = self.starts[[first, stop]] / TICKS_PER_BEAT
        return score_facts(self.score, float(beats[0]), float(beats[1]))


def join_bars(
    piece: GivenPiece,
    sampled: Score,
    start_beat: float,
    stop_beat: float,
    *,
    appended: bool,
    tonality: str | None = None,
) -> Score:
    """The given score with the sampled bars in place of [start, stop), or appended at `start`.

    Everything else of the given score stays: its text, signatures, controllers, and the parts that
    the model does not read.

    Args:
        piece: The given score.
        sampled: The sampled bars, from beat 0 on.
        start_beat: Where they begin.
        stop_beat: Where what follows them begins.
        appended: Whether they follow the score instead of replacing bars.
        tonality: Key of appended bars where the prompt states one.
    """
    new_notes = _notes_by_part(piece, sampled)
    score = piece.whole
    tracks = list(score.tracks)
    for number, group in enumerate(piece.groups):
        for index in group:
            notes = tracks[index].notes
            keep = np.ones(len(notes), bool)
            if not appended:
                keep = (notes.start_beats < start_beat - 1e-6) | (
                    notes.start_beats >= stop_beat - 1e-6
                )
            new = new_notes.get(number) if index == group[0] else None
            controls = tracks[index].controls
            if appended and new is not None:
                controls = restored_controls(controls, start_beat)
            merged = _merged_notes(notes, keep, new, start_beat)
            tracks[index] = replace(tracks[index], notes=merged, controls=controls)
    tempo, metres, keys = score.tempo, score.metres, score.keys
    if appended:
        tempo = _joined_tempi(score.tempo, sampled.tempo, start_beat)
        added = [replace(m, beat=m.beat + start_beat) for m in sampled.metres]
        earlier = (m for m in score.metres if m.beat < start_beat - 1e-6)
        metres = _without_repeats((*earlier, *added))
        keys = _joined_keys(score.keys, tonality, start_beat)
    chords = score.chords
    if chords:  # a piece without chord symbols gets none
        outside = [c for c in chords if not start_beat - 1e-6 <= c.beat < stop_beat - 1e-6]
        outside += [ChordMark(beat=c.beat + start_beat, name=c.name) for c in sampled.chords]
        chords = tuple(sorted(outside, key=lambda chord: chord.beat))
    return replace(
        score,
        tracks=tuple(tracks),
        tempo=tempo,
        metres=metres,
        keys=keys,
        chords=chords,
        remarks=(*score.remarks, *_unread_remarks(piece)),
    )


def _unread_remarks(piece: GivenPiece) -> list[str]:
    """A sentence about the parts that the model does not read, if there are any."""
    count = len(piece.unread)
    if not count:
        return []
    notes = sum(len(piece.whole.tracks[i].notes) for i in piece.unread)
    parts = "1 part" if count == 1 else f"{count} parts"
    return [
        f"the model reads at most {len(piece.groups)} parts: {parts} with {notes} notes "
        f"{'was' if count == 1 else 'were'} kept as given, and no new notes were written for "
        f"{'it' if count == 1 else 'them'}"
    ]


def restored_controls(controls: Controls, beat: float) -> Controls:
    """Controllers at a beat where new notes follow: a piece that fades out does not stay silent,
    and a bent pitch is straight again.

    Args:
        controls: Of a part.
        beat: Where the new notes begin; later changes are dropped.
    """
    kept = controls.beats < beat
    numbers, values = controls.number[kept], controls.value[kept]
    added: list[tuple[int, int]] = []
    for number in (*FADERS, PITCH_BEND):
        mine = values[numbers == number]
        if not len(mine):
            continue
        usual = STRAIGHT if number == PITCH_BEND else int(np.median(mine))
        is_off = mine[-1] != usual if number == PITCH_BEND else mine[-1] < FADED * usual
        if is_off:
            added.append((number, usual))
    return Controls(
        beats=np.append(controls.beats[kept], np.full(len(added), beat)),
        number=np.append(numbers, np.array([n for n, _ in added], np.int64)),
        value=np.append(values, np.array([v for _, v in added], np.int64)),
    )


def _joined_keys(
    keys: tuple[KeySignature, ...], tonality: str | None, start_beat: float
) -> tuple[KeySignature, ...]:
    """The key signatures before a beat, and that of a key from there on, if it is another one."""
    keys = tuple(key for key in keys if key.beat < start_beat - 1e-6)
    if tonality is None or not keys:
        return keys
    sharps, minor = key_signature(tonality)
    last = keys[-1]
    if (last.sharps - sharps) % 12 == 0 and last.is_minor == bool(minor):
        return keys
    return (*keys, KeySignature(beat=start_beat, sharps=sharps, is_minor=bool(minor)))


def _notes_by_part(encoded: GivenPiece, sampled: Score) -> dict[int, Notes]:
    """Sampled notes by part number: decoding omits silent parts but keeps the order."""
    found: dict[int, Notes] = {}
    free = list(range(len(encoded.programs)))
    for track in sampled.tracks:
        number = next(n for n in free if encoded.programs[n] == program_of(track))
        found[number] = track.notes
        free = [n for n in free if n > number]
    return found


def _merged_notes(notes: Notes, keep: np.ndarray, new: Notes | None, start_beat: float) -> Notes:
    """The notes in the mask `keep` and new ones, moved to `start_beat`, in order."""
    columns = {
        name: [getattr(notes, name)[keep]]
        for name in ("start_beats", "duration_beats", "pitch", "velocity")
    }
    if new is not None:
        for name, parts in columns.items():
            shift = start_beat if name == "start_beats" else 0
            parts.append(getattr(new, name) + shift)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.lexsort((joined["pitch"], joined["start_beats"]))
    return Notes(**{name: column[order] for name, column in joined.items()})


def _joined_tempi(before: TempoMap, after: TempoMap, start_beat: float) -> TempoMap:
    """Appends a tempo map at a beat; the exact tempo continues where its class is unchanged."""
    earlier = before.beats < start_beat - 1e-6
    bpm = after.bpm.copy()
    last = float(before.bpm[earlier][-1])
    bpm[np.array([tempo_class(one) == tempo_class(last) for one in bpm])] = last
    beats = np.concatenate([before.beats[earlier], after.beats + start_beat])
    tempi = np.concatenate([before.bpm[earlier], bpm])
    changes = np.concatenate([[True], np.diff(tempi) != 0])
    return TempoMap(beats=beats[changes], bpm=tempi[changes])


def _without_repeats(metres: tuple[Metre, ...]) -> tuple[Metre, ...]:
    """The time signatures without those that repeat the one before."""
    changes: list[Metre] = []
    for metre in metres:
        last = changes[-1] if changes else None
        if last is None or (last.numerator, last.denominator) != (
            metre.numerator,
            metre.denominator,
        ):
            changes.append(metre)
    return tuple(changes)
