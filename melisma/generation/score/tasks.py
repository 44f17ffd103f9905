"""Tasks of the score model: a new piece, a continuation, infilling, accompaniment of a melody.

Inputs: the conditioning of a prompt and, except for a new piece, a `Score`. Output: a `ScoreTask`:
the conditioning, completed by measurements of the given score (key, tempo and instruments where the
prompt does not state them), the `ScorePlan` of the model, and a function that merges the sampled
events with the given score. Notes of the given score keep their exact times; only the model's input
is quantized to its grid.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from melisma.analysis.score.key import measure_score_tonality
from melisma.generation.score.given_piece import GivenPiece, join_bars
from melisma.generation.score.prompt_conditioning import ScoreConditioning
from melisma.lm.score.plan import Choice, ScorePlan
from melisma.lm.score.rows import transposed
from melisma.symbolic.events import decode_score, program_of
from melisma.symbolic.instruments import RANGES
from melisma.values import Notes, Score, TempoMap, Track
from melisma.values.attributes import program_family
from melisma.values.errors import MelismaError
from melisma.values.events import (
    BAR,
    BAR_METRES,
    DRUM_PROGRAM,
    PART,
    POSITION,
    TICKS_PER_BEAT,
)

MAX_ACCOMPANYING_PARTS = 4
"""Most parts that accompany a melody where the prompt names no instrument."""
FIRST_PERCUSSIVE_PROGRAM = 112
"""Programs from this one on are percussion and sound effects: used for accompaniments only on
request."""
_FAMILY_VOICES: dict[str, int] = {
    "piano": 8, "electric piano": 8, "harpsichord": 8, "mallets": 4, "organ": 8, "accordion": 6,
    "guitar": 6, "electric guitar": 6, "bass": 2, "strings": 3, "harp": 6, "choir": 4, "brass": 2,
    "reeds": 2, "flutes": 2, "synth": 6, "drums": 5,
}  # fmt: skip
_SECTION_VOICES = 5
VOICES: dict[int, int] = {
    program: _SECTION_VOICES if program in (48, 49, 50, 51, 61, 62, 63) else _FAMILY_VOICES[family]
    for program in range(128)
    for family in [program_family(program, False)]
} | {DRUM_PROGRAM: _FAMILY_VOICES["drums"]}
"""Most notes that start together in one part, by program, as hands and breath allow (chosen; .2 %
of the 462,474 notes of 300 real pieces exceed it)."""
NEIGHBOURING_BARS = 8
"""Bars before and after new ones that these are compared with."""
LEAST_SHARE = 0.25
"""Share of their neighbours' notes below which new bars count as nearly empty (chosen)."""
NEARLY_EMPTY_PENALTY = 20.0
"""Penalty of nearly empty new bars, up to twice as much where they are silent (chosen: more than
adherences differ, so that such candidates rank last, the fullest first)."""
_MELODY_NAME = re.compile(r"melod|voice|vocal|lead|sopran|tune|solo|canto|cantus", re.IGNORECASE)


def _no_penalty(_score: Score) -> float:
    return 0.0


@dataclass(frozen=True, kw_only=True)
class ScoreTask:
    """One piece to sample."""

    conditioning: ScoreConditioning
    """The conditioning of the prompt, completed from the given score."""
    plan: ScorePlan
    finish: Callable[[np.ndarray], Score]
    """Turns the sampled events int [event, 5] into the complete score."""
    penalty: Callable[[Score], float] = _no_penalty
    """What a complete score loses in the ranking of candidates, apart from its adherence."""


def new_piece_task(conditioning: ScoreConditioning) -> ScoreTask:
    """The task of composing a piece from the prompt alone."""
    shift = conditioning.home_shift
    plan = ScorePlan(
        pitch_ranges=shifted_ranges(shift),
        polyphony=VOICES,
        bars=conditioning.bars,
        programs=conditioning.programs,
        choices=conditioning.choices,
        excluded=conditioning.excluded_programs,
        metres=(conditioning.metre_class,),
        tempi=(conditioning.tempo_class,),
    )

    def finish(events: np.ndarray) -> Score:
        tempo = TempoMap(beats=np.zeros(1), bpm=np.array([conditioning.quarter_bpm]))
        return replace(decode_score(transposed(events, -shift)), tempo=tempo)

    return ScoreTask(conditioning=conditioning, plan=plan, finish=finish)


def continuation_task(conditioning: ScoreConditioning, score: Score) -> ScoreTask:
    """The task of continuing a piece after its last bar.

    Args:
        conditioning: Of the prompt; the number of bars is that of the continuation.
        score: The piece to continue, with one note or more.

    Returns:
        The task; its result is the given piece with its continuation.
    """
    encoded = GivenPiece(score)
    completed = _completed_by(
        conditioning, encoded, max(encoded.bars - 16, 0), encoded.bars, _key_of(score)
    )
    tempo = encoded.tempi[-1] if conditioning.prompt.tempo_bpm is None else completed.tempo_class
    shift = completed.home_shift
    plan = ScorePlan(
        pitch_ranges=shifted_ranges(shift),
        polyphony=VOICES,
        bars=completed.bars,
        programs=encoded.programs,
        metres=(completed.metre_class if conditioning.prompt.metre else int(encoded.metres[-1]),),
        tempi=(tempo,),
        before=transposed(encoded.before(encoded.bars), shift),
        silent_parts=_silent_parts(encoded, conditioning),
        bars_done=encoded.first_bar_read(encoded.bars),
    )

    def finish(events: np.ndarray) -> Score:
        sampled = _sampled_bars(transposed(events, -shift), plan)
        start = float(encoded.starts[-1]) / TICKS_PER_BEAT
        key = completed.tonality if conditioning.prompt.tonality is not None else None
        return join_bars(encoded, sampled, start, start, appended=True, tonality=key)

    return ScoreTask(conditioning=completed, plan=plan, finish=finish)


def infilling_task(
    conditioning: ScoreConditioning, score: Score, first_bar: int, last_bar: int
) -> ScoreTask:
    """The task of replacing some bars of a piece.

    Args:
        conditioning: Of the prompt.
        score: The piece, with one note or more.
        first_bar: First bar to replace, counted from 1.
        last_bar: Last bar to replace, inclusive.

    Returns:
        The task; its result is the whole piece with the new bars.

    Raises:
        MelismaError: The piece has no such bars.
    """
    encoded = GivenPiece(score)
    if not 1 <= first_bar <= last_bar <= encoded.bars:
        raise MelismaError(
            f"the piece has {encoded.bars} bars: bars {first_bar} to {last_bar} cannot be filled in"
        )
    first, stop = first_bar - 1, last_bar
    completed = _completed_by(
        conditioning, encoded, max(first - 8, 0), min(stop + 8, encoded.bars), _key_of(score)
    )
    shift, silent = completed.home_shift, _silent_parts(encoded, conditioning)
    plan = ScorePlan(
        pitch_ranges=shifted_ranges(shift),
        polyphony=VOICES,
        bars=stop - first,
        programs=encoded.programs,
        metres=tuple(int(m) for m in encoded.metres[first:stop]),
        tempi=tuple(encoded.tempi[first:stop]),
        before=transposed(encoded.before(first), shift),
        later=transposed(encoded.later(stop), shift),
        silent_parts=silent,
        bars_done=encoded.first_bar_read(first),
    )

    def finish(events: np.ndarray) -> Score:
        sampled = _sampled_bars(transposed(events, -shift), plan)
        edges = encoded.starts / TICKS_PER_BEAT
        first_beat, stop_beat = float(edges[first]), float(edges[stop])
        joined = join_bars(encoded, sampled, first_beat, stop_beat, appended=False)
        remarks = nearly_empty_remarks(*compared_notes(encoded, joined, first, stop, silent))
        return replace(joined, remarks=(*joined.remarks, *remarks))

    def penalty(joined: Score) -> float:
        return nearly_empty_penalty(*compared_notes(encoded, joined, first, stop, silent))

    return ScoreTask(conditioning=completed, plan=plan, finish=finish, penalty=penalty)


def compared_notes(
    encoded: GivenPiece, joined: Score, first: int, stop: int, silent: frozenset[int]
) -> tuple[int, float]:
    """Counts the notes of new bars and of `NEIGHBOURING_BARS` bars on either side.

    Args:
        encoded: The given score.
        joined: The given score with new bars in it.
        first: First new bar, counted from 0.
        stop: Bar after the last new one.
        silent: Numbers of the parts that do not play in the new bars; they are not counted.

    Returns:
        (notes of the new bars, notes of their neighbours in as many beats).
    """
    playing = [group for number, group in enumerate(encoded.groups) if number not in silent]
    starts = [joined.tracks[index].notes.start_beats for group in playing for index in group]
    reach = (max(first - NEIGHBOURING_BARS, 0), min(stop + NEIGHBOURING_BARS, encoded.bars))
    edges = encoded.starts[[reach[0], first, stop, reach[1]]] / TICKS_PER_BEAT
    before, new, after = np.diff(np.searchsorted(np.sort(np.concatenate(starts)), edges - 1e-6))
    beats = np.diff(edges)
    return int(new), float((before + after) * beats[1] / max(beats[0] + beats[2], 1e-6))


def nearly_empty_penalty(new: int, neighbours: float) -> float:
    """Penalty of new bars by the two numbers of `compared_notes`; 0 where they are full enough."""
    least = LEAST_SHARE * neighbours
    return NEARLY_EMPTY_PENALTY * (2.0 - new / least) if new < least else 0.0


def nearly_empty_remarks(new: int, neighbours: float) -> list[str]:
    """A sentence about new bars that are nearly empty, if they are; see `nearly_empty_penalty`."""
    if new >= LEAST_SHARE * neighbours:
        return []
    notes = {0: "no notes", 1: "1 note"}.get(new, f"{new} notes")
    return [
        f"the new bars are nearly empty: they have {notes}, their neighbours about "
        f"{max(round(neighbours), 1)} in the same time; try another seed, or fill in fewer bars"
    ]


def accompaniment_task(conditioning: ScoreConditioning, score: Score) -> ScoreTask:
    """The task of accompanying the melody of a score (see `extract_melody`) with other parts.

    Args:
        conditioning: Of the prompt; its instruments are those of the accompaniment.
        score: A score with one pitched note or more; of its parts only the melody is used.

    Returns:
        The task; its result has the melody as its first track.
    """
    melody = extract_melody(score)
    encoded = GivenPiece(melody)
    completed = _completed_by(
        conditioning, encoded, 0, encoded.bars, _key_of(score), keep_instruments=True
    )
    program = program_of(melody.tracks[0])
    choices = conditioning.choices or tuple(
        Choice(programs=frozenset((p,)), most=conditioning.programs.count(p))
        for p in dict.fromkeys(conditioning.programs)
    )
    if not choices:
        programs = frozenset((*range(FIRST_PERCUSSIVE_PROGRAM), DRUM_PROGRAM))
        programs -= conditioning.excluded_programs
        choices = (Choice(programs=programs, most=MAX_ACCOMPANYING_PARTS),)
    shift = completed.home_shift
    plan = ScorePlan(
        pitch_ranges=shifted_ranges(shift),
        polyphony=VOICES,
        bars=encoded.bars,
        programs=(program,),
        choices=choices,
        excluded=conditioning.excluded_programs,
        metres=tuple(int(m) for m in encoded.metres),
        tempi=tuple(encoded.tempi),
        given=tuple(transposed(notes, shift) for notes in encoded.notes_by_bar()),
        silent_parts=frozenset((0,)),
    )

    def finish(events: np.ndarray) -> Score:
        sampled = decode_score(transposed(events, -shift))
        tracks = (melody.tracks[0], *sampled.tracks[1:])
        return replace(score, tracks=tracks, chords=sampled.chords, metres=melody.metres)

    return ScoreTask(conditioning=completed, plan=plan, finish=finish)


def shifted_ranges(shift: int) -> dict[int, tuple[int, int]]:
    """Lowest and highest MIDI pitch of each program in the model's key, `shift` semitones above the
    sounding pitch."""
    return {
        program: (max(low + shift, 0), min(high + shift, 127))
        for program, (low, high) in RANGES.items()
    }


def extract_melody(score: Score) -> Score:
    """Extracts the melody of a score.

    The track whose name indicates a melody, otherwise that with the highest mean pitch; of notes
    that start together the highest, each cut where the next one starts.

    Returns:
        The score with this monophonic track alone and without chord marks.

    Raises:
        MelismaError: The score has no pitched notes.
    """
    pitched = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    if not pitched:
        raise MelismaError("a score of drums alone has no melody: give one with pitched notes")
    named = [track for track in pitched if _MELODY_NAME.search(track.name)]
    track = max(named or pitched, key=lambda candidate: float(np.mean(candidate.notes.pitch)))
    notes = track.notes
    order = np.lexsort((notes.pitch, notes.start_beats))
    is_highest = np.append(np.diff(notes.start_beats[order]) > 1e-3, True)
    top = order[is_highest]
    start = notes.start_beats[top]
    until = np.append(start[1:], np.inf)
    single = Notes(
        start_beats=start,
        duration_beats=np.minimum(notes.duration_beats[top], np.maximum(until - start, 1e-3)),
        pitch=notes.pitch[top],
        velocity=notes.velocity[top],
    )
    return replace(score, tracks=(replace(track, notes=single),), chords=())


def _silent_parts(encoded: GivenPiece, conditioning: ScoreConditioning) -> frozenset[int]:
    """Numbers of the parts of the given score that do not play in the new bars."""
    excluded = conditioning.excluded_programs
    silent = frozenset(n for n, program in enumerate(encoded.programs) if program in excluded)
    if len(silent) == len(encoded.programs):
        raise MelismaError(
            f"the given piece has no part but those that are excluded "
            f"({', '.join(conditioning.excluded)}): leave one to play the new bars"
        )
    return silent


def _key_of(score: Score) -> str | None:
    return measure_score_tonality(score).tonality


def _completed_by(
    conditioning: ScoreConditioning,
    encoded: GivenPiece,
    first: int,
    stop: int,
    key: str | None,
    *,
    keep_instruments: bool = False,
) -> ScoreConditioning:
    """Completes the conditioning of a prompt from the given score.

    Args:
        conditioning: Of the prompt; what it states takes precedence.
        encoded: The given score.
        first: First bar to measure.
        stop: Bar after the last one to measure.
        key: Key of the whole score, used where these bars have no clear one.
        keep_instruments: Keep the instruments that the prompt names instead of those of the score.
    """
    facts = encoded.facts(first, stop)
    prompt, attributes = conditioning.prompt, dict(conditioning.attributes)
    taken = {"metre"} if prompt.metre is None else set[str]()
    for name in ("style", "density", "dynamics", "register", "articulation", "lead"):
        value = getattr(facts, name)
        if value is not None and name not in attributes:
            attributes[name] = value
            taken.add(name)
    tonality, mode = conditioning.tonality, conditioning.mode
    key = facts.tonality or key
    if prompt.tonality is None and key is not None:
        tonality, mode = key, key.split()[1]
        attributes["tonality"] = tonality
        taken.add("tonality")
    metre = conditioning.metre if prompt.metre else BAR_METRES[int(encoded.metres[stop - 1])]
    name = f"{metre[0]}/{metre[1]}"
    attributes["metre"] = name
    tempo_bpm = prompt.tempo_bpm or facts.tempo_bpm or conditioning.tempo_bpm
    if prompt.tempo_bpm is None and facts.tempo_bpm is not None:
        taken.add("tempo")
    named, families = encoded.programs, facts.families
    if keep_instruments:
        named = conditioning.named
        families = (*families, *conditioning.families)
    else:
        taken.add("instruments")
    completed = dataclasses.replace(
        conditioning,
        tempo_bpm=tempo_bpm,
        metre=metre,
        tonality=tonality,
        mode=mode,
        attributes=attributes,
        families=tuple(dict.fromkeys(families)),
        named=tuple(dict.fromkeys(named)),
    )
    found = {name: value for name, value in completed.shown().items() if name in taken}
    if keep_instruments and facts.families:
        found["instruments"] = ", ".join(facts.families)
    return dataclasses.replace(completed, from_given_piece=found)


def _sampled_bars(events: np.ndarray, plan: ScorePlan) -> Score:
    """The sampled bars alone, moved to beat 0, with every part, even a silent one."""
    body = events[events[:, POSITION] != PART]
    bars = np.flatnonzero(body[:, POSITION] == BAR)
    skipped = int((plan.before[:, POSITION] == BAR).sum()) if len(plan.before) else 0
    stop = skipped + plan.bars
    first = bars[skipped] if skipped < len(bars) else len(body)
    last = bars[stop] if stop < len(bars) else len(body)
    head = events[events[:, POSITION] == PART]
    return decode_score(np.concatenate([head, body[first:last]]))


def named_tracks(score: Score, name_of: Callable[[Track], str]) -> Score:
    """Names the tracks that have no name by `name_of`; tracks of the same name are numbered."""
    counts: dict[str, int] = {}
    tracks = []
    total: dict[str, int] = {}
    for track in score.tracks:
        total[name_of(track)] = total.get(name_of(track), 0) + 1
    for track in score.tracks:
        name = name_of(track)
        counts[name] = counts.get(name, 0) + 1
        numbered = f"{name} {counts[name]}" if total[name] > 1 else name
        tracks.append(track if track.name else replace(track, name=numbered))
    return replace(score, tracks=tuple(tracks))
