"""Melodies between sound and notation: a hummed tune becomes a score, a score becomes a tune.

A hum has no bar lines. Its tempo is the one at which the intervals between its onsets are multiples
of simple parts of a beat (of sixteenths; of eighths in compound metres), the more so the simpler;
the onsets are then placed on that grid, each relative to the one before, so that a voice that slows
down or hurries loses no beat. Where tempo or metre are given, they are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from melisma.generation.score.tasks import extract_melody
from melisma.melody import Tune, TuneNote
from melisma.symbolic.instruments import INSTRUMENTS, RANGES
from melisma.values import Metre, Notes, Score, TempoMap, Track
from melisma.values.attributes import PITCH_NAMES, program_family
from melisma.values.errors import MelismaError
from melisma.values.score_prompt import felt_beat

LOWEST_BPM, HIGHEST_BPM = 50.0, 170.0
"""Felt tempi that are considered where none is given (chosen)."""
USUAL_BPM, TEMPO_SPREAD_OCTAVES = 100.0, 0.45
"""Centre and spread of the tempi that people hum at, log-normal (chosen)."""
_GIVEN_SPREAD_OCTAVES = 0.15
"""The same around a given tempo, which the hum may miss a little."""
_LEVEL_WEIGHTS = (1.0, 0.8, 0.5)
"""Weight of intervals that are whole beats, simple parts of one, and parts of these (chosen)."""
_PRIOR_WEIGHT = 0.25
_LARGEST_LAG = 4
"""Intervals to the next onsets, up to this many on, are looked at."""
_PLACE_COSTS = (0.0, 0.7, 3.0)
"""Negative log of how often notes begin on a beat, on a simple part of one and between, relative to
the beat (chosen, on tunes with unsteady onsets, with the next two)."""
_JITTER_SECONDS, _DRIFT = 0.04, 0.05
"""Deviation of a sung onset, and of the tempo from one note to the next (chosen)."""
_UPBEAT = 2.0
"""How much rarer a tune begins between beats than a note of it (chosen)."""
_NO_STEP_COST = 2.0
"""Of two notes in one place, of which one goes (chosen)."""
_VELOCITY = 84
_PIANO, _FIRST_EFFECT = 0, 112
"""The program of a tune that no requested instrument can play; programs from the second one on are
percussion and effects, which play no tune."""
TRACK_RATE_HZ = 100.0
"""Frames per second of the pitch track of a tune that is made of notes."""


@dataclass(frozen=True, kw_only=True)
class HummedMelody:
    """A tune in notation, and what was found."""

    score: Score
    tempo_bpm: float
    """Felt beats per minute."""
    tempo_measured: bool
    """Whether the tempo was measured of the tune, not given."""
    remarks: tuple[str, ...] = ()
    """Sentences on what was amiss with the recording."""

    @property
    def words(self) -> str:
        """The notes that were found, for a summary."""
        notes = self.score.tracks[0].notes
        names = [f"{PITCH_NAMES[pitch % 12]}{pitch // 12 - 1}" for pitch in notes.pitch.tolist()]
        shown = " ".join(names[:12]) + (" ..." if len(names) > 12 else "")
        bpm = f"{self.tempo_bpm:.0f} bpm" + (" (measured)" if self.tempo_measured else "")
        return f"{len(names)} note{'s' * (len(names) != 1)}: {shown}; {bpm}"


def score_of_tune(
    tune: Tune,
    *,
    tempo_bpm: float | None = None,
    metre: tuple[int, int] | None = None,
    programs: Sequence[int] = (),
) -> HummedMelody:
    """Notates a tune: one track on the grid of its beat, from the first bar on.

    Args:
        tune: With one note or more.
        tempo_bpm: Felt beats per minute; measured where None.
        metre: Time signature (numerator, denominator); 4/4 where None.
        programs: Programs that are requested; the first that can play every note gets the tune, a
            piano where there is none.

    Raises:
        MelismaError: The tune has no note.
    """
    if not tune.notes:
        raise MelismaError("the tune has no note: hum, sing, whistle or play one")
    metre = metre or (4, 4)
    beat = felt_beat(metre)
    parts = 3 if abs(beat % 1.0 - 0.5) < 1e-9 and beat > 1 else 2
    onsets = np.array([note.onset_seconds for note in tune.notes])
    pulse_bpm = _tempo_of(onsets, parts, tempo_bpm)
    grid_per_beat = 2 * parts
    starts = _on_grid(onsets, pulse_bpm, parts)
    keep = np.append(True, np.diff(starts) > 0)
    lengths = np.array([note.offset_seconds - note.onset_seconds for note in tune.notes])
    steps = np.maximum(np.round(lengths * pulse_bpm / 60.0 * grid_per_beat), 1.0)
    starts, steps = starts[keep], steps[keep]
    room = np.append(np.diff(starts), np.inf)
    steps = np.where(room - steps <= 1, room, steps)  # a breath is no rest
    steps = np.minimum(steps, room)
    unit = beat / grid_per_beat
    notes = Notes(
        start_beats=starts * unit,
        duration_beats=steps * unit,
        pitch=np.array([note.pitch for note in tune.notes], np.int64)[keep],
        velocity=np.full(len(starts), _VELOCITY, np.int64),
    )
    bpm = tempo_bpm or pulse_bpm
    program = _program_of(notes.pitch, programs)
    return HummedMelody(
        score=Score(
            tracks=(Track(notes=notes, program=program or _PIANO, is_drum=False, name="melody"),),
            tempo=TempoMap(beats=np.zeros(1), bpm=np.array([bpm * beat])),
            metres=(Metre(beat=0.0, numerator=metre[0], denominator=metre[1]),),
        ),
        tempo_bpm=float(bpm),
        tempo_measured=tempo_bpm is None,
        remarks=_unplayable(programs) if program is None else (),
    )


def _program_of(pitches: np.ndarray, programs: Sequence[int]) -> int | None:
    """The first of some programs that can play all pitches, int64 [note]; None without one."""
    for program in programs:
        low, high = RANGES.get(program, (0, 127))
        if _plays_tunes(program) and low <= pitches.min() and pitches.max() <= high:
            return program
    return None


def _plays_tunes(program: int) -> bool:
    return program < _FIRST_EFFECT and program_family(program, is_drum=False) != "drums"


def _unplayable(programs: Sequence[int]) -> tuple[str, ...]:
    """A sentence on why no requested instrument has the tune, if one was requested."""
    names = [INSTRUMENTS[program] for program in programs if _plays_tunes(program)]
    if not names:
        return ()
    return (f"the tune lies outside the range of {' and of '.join(names)}: a piano plays it",)


def _tempo_of(onsets_seconds: np.ndarray, parts: int, near_bpm: float | None) -> float:
    """The felt tempo in bpm whose beat divides the intervals between onsets best.

    Args:
        onsets_seconds: float64 [note].
        parts: Simple parts of a beat, 2 or 3.
        near_bpm: A tempo that it lies near; None: anywhere between the limits.
    """
    centre = near_bpm or USUAL_BPM
    spread = _GIVEN_SPREAD_OCTAVES if near_bpm else TEMPO_SPREAD_OCTAVES
    intervals = [
        onsets_seconds[lag:] - onsets_seconds[:-lag]
        for lag in range(1, min(_LARGEST_LAG, len(onsets_seconds) - 1) + 1)
    ]
    if not intervals:
        return float(centre)
    low, high = (0.8 * centre, 1.25 * centre) if near_bpm else (LOWEST_BPM, HIGHEST_BPM)
    bpm = np.arange(low, high + 0.25, 0.25)
    beats = np.concatenate(intervals)[:, None] * bpm / 60.0
    fit = sum(
        weight * np.cos(2.0 * np.pi * beats * level).mean(axis=0)
        for weight, level in zip(_LEVEL_WEIGHTS, (1, parts, 2 * parts), strict=True)
    )
    prior = -0.5 * (np.log2(bpm / centre) / spread) ** 2
    return float(bpm[int(np.argmax(fit + _PRIOR_WEIGHT * prior))])


def _on_grid(onsets_seconds: np.ndarray, pulse_bpm: float, parts: int) -> np.ndarray:
    """Onsets -> whole grid steps, ascending, float64 [note], by the likeliest path.

    A step between two notes costs by how far the interval that was sung lies from it, a place by
    how rare it is in a beat; so an unsteady note is corrected by those after it, and drift costs
    little.

    Args:
        onsets_seconds: float64 [note].
        pulse_bpm: Felt tempo.
        parts: Simple parts of a beat, 2 or 3; a step is half of one.
    """
    size = 2 * parts
    steps_a_second = pulse_bpm / 60.0 * size
    places = np.full(size, _PLACE_COSTS[2])
    places[::2] = _PLACE_COSTS[1]
    places[0] = _PLACE_COSTS[0]
    cost, came = _UPBEAT * places, []
    for interval in np.diff(onsets_seconds) * steps_a_second:
        nearest = int(np.round(interval))
        steps = np.arange(max(0, nearest - size // 2), nearest + size // 2 + 1)
        variance = 2 * (_JITTER_SECONDS * steps_a_second) ** 2 + (_DRIFT * interval) ** 2
        moves = (interval - steps) ** 2 / (2 * variance) + _NO_STEP_COST * (steps == 0)
        # total[place, step]: of arriving at a place by a step.
        before = (np.arange(size)[:, None] - steps) % size
        total = cost[before] + moves
        best = total.argmin(axis=1)
        came.append(steps[best])
        cost = total[np.arange(size), best] + places
    place, path = int(cost.argmin()), []
    for steps_to in reversed(came):
        path.append(int(steps_to[place]))
        place = (place - path[-1]) % size
    return np.cumsum([float(place), *reversed(path)])


def with_tempo_and_metre(
    score: Score, *, tempo_bpm: float | None, metre: tuple[int, int] | None
) -> Score:
    """A given melody at another tempo or in another metre; its notes keep their beats.

    Args:
        score: The melody.
        tempo_bpm: Felt beats per minute; None: as written.
        metre: Time signature; None: as written.
    """
    if metre is not None:
        score = replace(score, metres=(Metre(beat=0.0, numerator=metre[0], denominator=metre[1]),))
    if tempo_bpm is not None:
        first = score.metres[0]
        quarter_bpm = tempo_bpm * felt_beat((first.numerator, first.denominator))
        score = replace(score, tempo=TempoMap(beats=np.zeros(1), bpm=np.array([quarter_bpm])))
    return score


def tune_of_score(score: Score) -> Tune:
    """The melody of a score as a tune, as `extract_tune` finds it in sound.

    Args:
        score: With one pitched note or more; see `extract_melody` for what is its melody.

    Raises:
        MelismaError: The score has no pitched note.
    """
    notes = extract_melody(score).tracks[0].notes
    onsets = score.tempo.seconds(notes.start_beats)
    offsets = score.tempo.seconds(notes.start_beats + notes.duration_beats)
    pitches = np.full(max(int(np.ceil(offsets.max() * TRACK_RATE_HZ)), 1), np.nan)
    found: list[TuneNote] = []
    for onset, offset, pitch in zip(
        onsets.tolist(), offsets.tolist(), notes.pitch.tolist(), strict=True
    ):
        found.append(TuneNote(onset_seconds=onset, offset_seconds=offset, pitch=pitch))
        pitches[int(onset * TRACK_RATE_HZ) : max(int(offset * TRACK_RATE_HZ), 1)] = pitch
    return Tune(
        times=np.arange(len(pitches)) / TRACK_RATE_HZ,
        pitches=pitches,
        rate_hz=TRACK_RATE_HZ,
        notes=tuple(found),
        tuning_cents=0.0,
    )
