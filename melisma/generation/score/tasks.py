"""What to draw of a score: a new piece, one that goes on, a gap to fill, a tune to accompany.

Enters: a prompt as it was asked, and perhaps a `Score` to begin from. Leaves: a `ScoreTask`: the
`ScorePlan` for the model, what the given music itself tells (its tonality, tempo and players, where
the prompt does not say otherwise), and how what is drawn joins what was given. The notes that were
given stay as they were written, to the last tick; only what the model reads is on its grid.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from melisma.analysis.labels.chords import chord_marks
from melisma.analysis.labels.facts import score_facts
from melisma.analysis.score.key import measure_score_tonality
from melisma.generation.score.prompt_conditioning import ScoreConditioning
from melisma.lm.score.plan import Choice, ScorePlan
from melisma.lm.score.rows import is_note, transposed
from melisma.symbolic.events import bars_of, decode_score, encode_score, join_parts, program_of
from melisma.symbolic.instruments import RANGES
from melisma.values import ChordMark, Facts, Metre, Notes, Score, TempoMap, Track
from melisma.values.attributes import program_family
from melisma.values.errors import MelismaError
from melisma.values.events import (
    BAR,
    BAR_METRES,
    DRUM_PROGRAM,
    FIRST_TEMPO,
    LENGTH,
    METRE_TICKS,
    PART,
    POSITION,
    TICKS_PER_BEAT,
    tempo_class,
)

MOST_EVENTS_BEFORE = 260
"""Events of the bars before that the model is told (chosen: it learned from windows of 450)."""
MOST_EVENTS_LATER = 120
MOST_ACCOMPANISTS = 4
"""Parts beside a tune where the words name none."""
LAST_INSTRUMENT = 112
"""Programs from here on are noises and drums that accompany nobody unasked."""
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
"""Notes that one part begins together at most, by program: hands and breath set limits (chosen; of
462,474 notes of 300 real pieces .2 % lie beyond)."""
_MELODY_NAME = re.compile(r"melod|voice|vocal|lead|sopran|tune|solo|canto|cantus", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ScoreTask:
    """One piece to draw."""

    asked: ScoreConditioning
    """What the model is told, after the given music had its say."""
    plan: ScorePlan
    finish: Callable[[np.ndarray], Score]
    """From the events that were drawn to the whole score."""


def new_piece(asked: ScoreConditioning) -> ScoreTask:
    """A piece from nothing but the prompt."""
    shift = asked.home_shift
    plan = ScorePlan(
        pitch_ranges=reach_of(shift),
        polyphony=VOICES,
        bars=asked.bars,
        programs=asked.programs,
        choices=asked.choices,
        metres=(asked.metre_class,),
        tempi=(asked.tempo_class,),
    )

    def finish(events: np.ndarray) -> Score:
        score = decode_score(transposed(events, -shift))
        tempo = TempoMap(beats=np.zeros(1), bpm=np.array([asked.quarter_bpm]))
        return replace(score, tempo=tempo)

    return ScoreTask(asked=asked, plan=plan, finish=finish)


def continued(asked: ScoreConditioning, given: Score) -> ScoreTask:
    """More of a piece, from the bar after its last."""
    whole = _Whole(given)
    heard = _told_by(asked, whole, max(whole.bars - 16, 0), whole.bars, _key_of(given))
    tempo = whole.tempi[-1] if asked.prompt.tempo_bpm is None else heard.tempo_class
    shift = heard.home_shift
    plan = ScorePlan(
        pitch_ranges=reach_of(shift),
        polyphony=VOICES,
        bars=heard.bars,
        programs=whole.programs,
        metres=(heard.metre_class if asked.prompt.metre else int(whole.metres[-1]),),
        tempi=(tempo,),
        before=transposed(whole.before(whole.bars), shift),
        bars_done=whole.first_told(whole.bars),
    )

    def finish(events: np.ndarray) -> Score:
        drawn = _drawn_score(transposed(events, -shift), plan)
        start = float(whole.starts[-1]) / TICKS_PER_BEAT
        return _joined(whole, drawn, start, start, keep_tail=True)

    return ScoreTask(asked=heard, plan=plan, finish=finish)


def infilled(asked: ScoreConditioning, given: Score, first_bar: int, last_bar: int) -> ScoreTask:
    """The bars `first_bar` to `last_bar` (counted from 1) of a piece anew.

    `ValueError` where the piece has no such bars.
    """
    whole = _Whole(given)
    if not 1 <= first_bar <= last_bar <= whole.bars:
        raise MelismaError(
            f"the piece has {whole.bars} bars: bars {first_bar} to {last_bar} cannot be filled in"
        )
    first, stop = first_bar - 1, last_bar
    heard = _told_by(asked, whole, max(first - 8, 0), min(stop + 8, whole.bars), _key_of(given))
    shift = heard.home_shift
    plan = ScorePlan(
        pitch_ranges=reach_of(shift),
        polyphony=VOICES,
        bars=stop - first,
        programs=whole.programs,
        metres=tuple(int(m) for m in whole.metres[first:stop]),
        tempi=tuple(whole.tempi[first:stop]),
        before=transposed(whole.before(first), shift),
        later=transposed(whole.later(stop), shift),
        bars_done=whole.first_told(first),
    )

    def finish(events: np.ndarray) -> Score:
        drawn = _drawn_score(transposed(events, -shift), plan)
        edges = whole.starts / TICKS_PER_BEAT
        return _joined(whole, drawn, float(edges[first]), float(edges[stop]), keep_tail=False)

    return ScoreTask(asked=heard, plan=plan, finish=finish)


def accompanied(asked: ScoreConditioning, given: Score) -> ScoreTask:
    """Other parts for a tune: the leading part of the given score, its highest notes."""
    tune = tune_of(given)
    whole = _Whole(tune)
    heard = _told_by(asked, whole, 0, whole.bars, _key_of(given), keep_players=True)
    program = program_of(tune.tracks[0])
    choices = asked.choices or tuple(
        Choice(programs=frozenset((p,)), most=asked.programs.count(p))
        for p in dict.fromkeys(asked.programs)
    )
    if not choices:
        anyone = frozenset((*range(LAST_INSTRUMENT), DRUM_PROGRAM))
        choices = (Choice(programs=anyone, most=MOST_ACCOMPANISTS),)
    shift = heard.home_shift
    plan = ScorePlan(
        pitch_ranges=reach_of(shift),
        polyphony=VOICES,
        bars=whole.bars,
        programs=(program,),
        choices=choices,
        metres=tuple(int(m) for m in whole.metres),
        tempi=tuple(whole.tempi),
        given=tuple(transposed(notes, shift) for notes in whole.notes_by_bar()),
        silent_parts=frozenset((0,)),
    )

    def finish(events: np.ndarray) -> Score:
        drawn = decode_score(transposed(events, -shift))
        others = drawn.tracks[1:]
        return replace(
            given, tracks=(tune.tracks[0], *others), chords=drawn.chords, metres=tune.metres
        )

    return ScoreTask(asked=heard, plan=plan, finish=finish)


def reach_of(shift: int) -> dict[int, tuple[int, int]]:
    """Ranges of the instruments where the model draws, `shift` semitones from where they sound."""
    return {
        program: (max(low + shift, 0), min(high + shift, 127))
        for program, (low, high) in RANGES.items()
    }


def tune_of(score: Score) -> Score:
    """The score with one part of one voice: the tune.

    A track that is named as a melody, else the highest pitched one; of notes that sound together
    the highest. Raises `ValueError` where nothing is pitched.
    """
    pitched = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    if not pitched:
        raise MelismaError("there is no tune in a score of drums alone: give one with pitches")
    named = [track for track in pitched if _MELODY_NAME.search(track.name)]
    track = max(named or pitched, key=lambda one: float(np.mean(one.notes.pitch)))
    notes = track.notes
    order = np.lexsort((notes.pitch, notes.start_beats))
    last_of_moment = np.append(np.diff(notes.start_beats[order]) > 1e-3, True)
    top = order[last_of_moment]
    start = notes.start_beats[top]
    until = np.append(start[1:], np.inf)
    single = Notes(
        start_beats=start,
        duration_beats=np.minimum(notes.duration_beats[top], np.maximum(until - start, 1e-3)),
        pitch=notes.pitch[top],
        velocity=notes.velocity[top],
    )
    return replace(score, tracks=(replace(track, notes=single),), chords=())


class _Whole:
    """A given score and its bars as events."""

    def __init__(self, score: Score) -> None:
        self.score = join_parts(score)
        if not self.score.tracks:
            raise MelismaError("the score holds no note: give one with notes in it")
        self.score = replace(self.score, chords=chord_marks(self.score))
        rows = encode_score(self.score, ended=False).astype(np.int64)
        self._body = rows[rows[:, POSITION] != PART]
        starts, self.metres = bars_of(self.score)
        self.starts = np.append(starts, starts[-1] + METRE_TICKS[self.metres[-1]])
        """First tick of every bar, and the tick after the last."""
        self._edges = np.append(np.flatnonzero(self._body[:, POSITION] == BAR), len(self._body))
        lines = self._body[self._edges[:-1]]
        self.tempi = [int(tempo) - FIRST_TEMPO for tempo in lines[:, LENGTH]]

    @property
    def bars(self) -> int:
        return len(self.metres)

    @property
    def programs(self) -> tuple[int, ...]:
        return tuple(program_of(track) for track in self.score.tracks)

    def first_told(self, stop: int) -> int:
        """The first of the bars before `stop` that the model is told."""
        first = stop
        while first > 0 and self._edges[stop] - self._edges[first - 1] <= MOST_EVENTS_BEFORE:
            first -= 1
        return min(first, max(stop - 1, 0))

    def before(self, stop: int) -> np.ndarray:
        """Events of the last bars before a bar."""
        return self._body[self._edges[self.first_told(stop)] : self._edges[stop]]

    def later(self, first: int) -> np.ndarray:
        """Events of the first bars from a bar on."""
        stop = first
        while stop < self.bars and self._edges[stop + 1] - self._edges[first] <= MOST_EVENTS_LATER:
            stop += 1
        return self._body[self._edges[first] : self._edges[stop]]

    def notes_by_bar(self) -> tuple[np.ndarray, ...]:
        """The notes of every bar."""
        parts = [self._body[a:b] for a, b in zip(self._edges, self._edges[1:], strict=False)]
        return tuple(part[is_note(part)] for part in parts)

    def facts(self, first: int, stop: int) -> Facts:
        """What is true of a stretch of bars."""
        beats = self.starts[[first, stop]] / TICKS_PER_BEAT
        return score_facts(self.score, float(beats[0]), float(beats[1]))


def _key_of(score: Score) -> str | None:
    return measure_score_tonality(score).tonality


def _told_by(
    asked: ScoreConditioning,
    whole: _Whole,
    first: int,
    stop: int,
    key: str | None,
    *,
    keep_players: bool = False,
) -> ScoreConditioning:
    """What was asked, completed by what the given music itself tells; `key` is that of all that was
    given, for stretches that leave theirs open."""
    facts = whole.facts(first, stop)
    prompt, attributes = asked.prompt, dict(asked.attributes)
    for name in ("style", "density", "dynamics", "register", "articulation", "lead"):
        value = getattr(facts, name)
        if value is not None and name not in attributes:
            attributes[name] = value
    tonality, mode = asked.tonality, asked.mode
    key = facts.tonality or key
    if prompt.tonality is None and key is not None:
        tonality, mode = key, key.split()[1]
        attributes["tonality"] = tonality
    metre = asked.metre if prompt.metre else BAR_METRES[int(whole.metres[stop - 1])]
    name = f"{metre[0]}/{metre[1]}"
    attributes["metre"] = name
    felt = prompt.tempo_bpm or facts.tempo_bpm or asked.tempo_bpm
    named = asked.named if keep_players else tuple(dict.fromkeys(whole.programs))
    families = tuple(dict.fromkeys((*facts.families, *(asked.families if keep_players else ()))))
    return dataclasses.replace(
        asked,
        tempo_bpm=felt,
        metre=metre,
        tonality=tonality,
        mode=mode,
        attributes=attributes,
        families=families,
        named=named,
    )


def _drawn_score(events: np.ndarray, plan: ScorePlan) -> Score:
    """The bars that were drawn, from beat 0 on; every part there, also where it is silent."""
    body = events[events[:, POSITION] != PART]
    bars = np.flatnonzero(body[:, POSITION] == BAR)
    skipped = int((plan.before[:, POSITION] == BAR).sum()) if len(plan.before) else 0
    stop = skipped + plan.bars
    first = bars[skipped] if skipped < len(bars) else len(body)
    last = bars[stop] if stop < len(bars) else len(body)
    head = events[events[:, POSITION] == PART]
    return decode_score(np.concatenate([head, body[first:last]]))


def _joined(
    whole: _Whole, drawn: Score, start_beat: float, stop_beat: float, *, keep_tail: bool
) -> Score:
    """The given score with what was drawn in the place of [start, stop), or after its end."""
    fresh = _by_part(whole, drawn)
    tracks = []
    for number, track in enumerate(whole.score.tracks):
        notes = track.notes
        kept = np.ones(len(notes), bool)
        if not keep_tail:
            kept = (notes.start_beats < start_beat - 1e-6) | (notes.start_beats >= stop_beat - 1e-6)
        tracks.append(replace(track, notes=_merged(notes, kept, fresh.get(number), start_beat)))
    score = whole.score
    tempo, metres = score.tempo, score.metres
    if keep_tail:
        tempo = _longer(score.tempo, drawn.tempo, start_beat)
        late = [replace(m, beat=m.beat + start_beat) for m in drawn.metres]
        metres = _metres((*(m for m in score.metres if m.beat < start_beat - 1e-6), *late))
    chords = [c for c in score.chords if not start_beat - 1e-6 <= c.beat < stop_beat - 1e-6]
    chords += [ChordMark(beat=c.beat + start_beat, name=c.name) for c in drawn.chords]
    return replace(
        score,
        tracks=tuple(tracks),
        tempo=tempo,
        metres=metres,
        chords=tuple(sorted(chords, key=lambda chord: chord.beat)),
    )


def _by_part(whole: _Whole, drawn: Score) -> dict[int, Notes]:
    """Drawn notes by the number of their part: decoding leaves out silent parts, in order."""
    found: dict[int, Notes] = {}
    free = list(range(len(whole.programs)))
    for track in drawn.tracks:
        number = next(n for n in free if whole.programs[n] == program_of(track))
        found[number] = track.notes
        free = [n for n in free if n > number]
    return found


def _merged(notes: Notes, kept: np.ndarray, fresh: Notes | None, start_beat: float) -> Notes:
    columns = {
        name: [getattr(notes, name)[kept]]
        for name in ("start_beats", "duration_beats", "pitch", "velocity")
    }
    if fresh is not None:
        for name, parts in columns.items():
            shift = start_beat if name == "start_beats" else 0
            parts.append(getattr(fresh, name) + shift)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.lexsort((joined["pitch"], joined["start_beats"]))
    return Notes(**{name: column[order] for name, column in joined.items()})


def _longer(before: TempoMap, after: TempoMap, start_beat: float) -> TempoMap:
    """One tempo map, then another; a tempo of the same class goes on exactly."""
    kept = before.beats < start_beat - 1e-6
    bpm = after.bpm.copy()
    same = np.array([tempo_class(one) == tempo_class(float(before.bpm[kept][-1])) for one in bpm])
    bpm[same] = before.bpm[kept][-1]
    beats = np.concatenate([before.beats[kept], after.beats + start_beat])
    tempi = np.concatenate([before.bpm[kept], bpm])
    new = np.concatenate([[True], np.diff(tempi) != 0])
    return TempoMap(beats=beats[new], bpm=tempi[new])


def _metres(metres: tuple[Metre, ...]) -> tuple[Metre, ...]:
    """Without marks that change nothing."""
    kept: list[Metre] = []
    for metre in metres:
        last = kept[-1] if kept else None
        if last is None or (last.numerator, last.denominator) != (
            metre.numerator,
            metre.denominator,
        ):
            kept.append(metre)
    return tuple(kept)


def named_tracks(score: Score, names: Callable[[Track], str]) -> Score:
    """Tracks without a name get one; several of one instrument are numbered."""
    counts: dict[str, int] = {}
    tracks = []
    total: dict[str, int] = {}
    for track in score.tracks:
        total[names(track)] = total.get(names(track), 0) + 1
    for track in score.tracks:
        name = names(track)
        counts[name] = counts.get(name, 0) + 1
        numbered = f"{name} {counts[name]}" if total[name] > 1 else name
        tracks.append(track if track.name else replace(track, name=numbered))
    return replace(score, tracks=tuple(tracks))
