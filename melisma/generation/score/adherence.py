"""How a score keeps to what was asked, as measured from its notes.

Enters: a `Score` and what was asked. Leaves: `Kept`. The tempo, key and metre events of the file
are never looked at: they were settled, and would agree with themselves. Candidates are ranked by
the sum of what was asked for and is kept, and by whether the piece is built like real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from melisma.analysis.score.instruments import match_instruments, playing_programs
from melisma.analysis.score.key import measure_score_tonality
from melisma.analysis.score.metre import measure_score_metre
from melisma.analysis.score.structure import ScoreStructure, measure_score_structure
from melisma.analysis.score.tempo import measure_score_tempo, tempo_probability
from melisma.generation.score.prompt_conditioning import ScoreConditioning
from melisma.symbolic.events import program_of
from melisma.values import Score
from melisma.values.attributes import METRES

NEAR_SHARE = 0.5
"""What a tonality that is only second or third in the ranking is worth."""
EMPTY_PRICE = 2.0
"""Price of empty bars, by their share."""
SILENT_PRICE = 3.0
"""Price of players that were set exactly and have no note, by their share."""
FORM_SHARE = 1.0
"""What being built like real pieces is worth."""
REAL_FORM: dict[str, tuple[float, float]] = {
    "pitch_entropy_1": (2.138, 0.319),
    "pitch_entropy_4": (2.615, 0.249),
    "earlier_similarity": (0.366, 0.172),
    "repetition": (0.227, 0.178),
}
"""Mean and spread of figures of `ScoreStructure` over 500 openings of training pieces: neither all
repetition nor none. Measured by `benchmarks/score.py --form --seed 5`."""
FAR = 3.0
"""So many spreads from the mean of real pieces a figure is worth nothing."""
LOOP_PRICE = 0.5
"""Price of a piece that only repeats itself."""
STUCK_REPETITION = 0.95
"""Share of repeated figures from which on a piece is stuck (chosen: real pieces stay below)."""


@dataclass(frozen=True, kw_only=True)
class AdherenceScore:
    """What was measured of one score."""

    tempo_bpm: float | None
    """Felt, from the notes alone."""
    tempo_agreement: float
    """Probability that the felt tempo is the one asked for."""
    tonality: str | None
    tonality_agreement: float | None
    """None where none was asked for."""
    metre_agreement: float | None
    """None where the metre is not among those that are told apart."""
    instruments_f1: float | None
    """None where no instrument was named."""
    empty_bars: float
    """Share of bars in which nothing sounds."""
    form: float
    """How near harmony and repetition are to those of real pieces, 0 to 1."""
    total: float
    """What candidates are ranked by."""

    def shown(self) -> dict[str, float | str | None]:
        """For receipts, rounded."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in vars(self).items()
        }


def score_adherence(score: Score, asked: ScoreConditioning) -> AdherenceScore:
    """Measures a score against what was asked; a score without notes keeps to nothing."""
    if not any(len(track.notes) for track in score.tracks):
        return AdherenceScore(
            tempo_bpm=None,
            tempo_agreement=0.0,
            tonality=None,
            tonality_agreement=None,
            metre_agreement=None,
            instruments_f1=None,
            empty_bars=1.0,
            form=0.0,
            total=-EMPTY_PRICE,
        )
    tempo = measure_score_tempo(score)
    tempo_agreement = tempo_probability(score, asked.tempo_bpm)
    estimate = measure_score_tonality(score)
    tonality = None
    if asked.tonality is not None and estimate.ranking:
        place = estimate.ranking.index(asked.tonality)
        tonality = 1.0 if place == 0 else NEAR_SHARE if place < 3 else 0.0
    name = f"{asked.metre[0]}/{asked.metre[1]}"
    metre = None
    if name in METRES:
        evidence = measure_score_metre(score, name)
        metre = 0.5 * float(evidence.agrees) + 0.5 * evidence.downbeat_probability
    players = None
    if asked.named:
        players = match_instruments(asked.named, playing_programs(score, asked.bar_beats)).f1
    structure = measure_score_structure(score, asked.bar_beats)
    parts = [tempo_agreement, *(one for one in (tonality, metre, players) if one is not None)]
    form = form_agreement(structure)
    stuck = structure.repetition > STUCK_REPETITION
    return AdherenceScore(
        tempo_bpm=tempo.bpm,
        tempo_agreement=tempo_agreement,
        tonality=estimate.tonality,
        tonality_agreement=tonality,
        metre_agreement=metre,
        instruments_f1=players,
        empty_bars=structure.empty_share,
        form=form,
        total=sum(parts)
        + FORM_SHARE * form
        - SILENT_PRICE * _silent_share(score, asked.prompt.programs)
        - EMPTY_PRICE * structure.empty_share
        - LOOP_PRICE * stuck,
    )


def form_agreement(structure: ScoreStructure) -> float:
    """How near the figures of `REAL_FORM` are to those of real pieces, 0 to 1."""
    far = [
        abs(getattr(structure, name) - mean) / spread for name, (mean, spread) in REAL_FORM.items()
    ]
    return sum(max(1.0 - one / FAR, 0.0) for one in far) / len(far)


def _silent_share(score: Score, programs: tuple[int, ...]) -> float:
    """Share of the programs that play nothing."""
    playing = {program_of(track) for track in score.tracks if len(track.notes)}
    return len(set(programs) - playing) / max(len(set(programs)), 1)
