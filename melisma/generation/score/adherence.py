"""Adherence of a generated score to its conditioning, measured from the notes.

Inputs: a `Score` and its `ScoreConditioning`. Output: an `AdherenceScore`, whose total ranks
candidates: the sum of the agreements of tempo, key, metre and instruments, plus the similarity of
harmony and repetition to real pieces, minus penalties. The tempo, key and metre events of the score
are ignored: they were fixed before sampling and would agree with themselves.
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

SECOND_KEY_AGREEMENT = 0.5
"""Agreement where the requested key is second or third in the ranking of the estimator."""
EMPTY_BARS_PENALTY = 2.0
"""Penalty of empty bars, times their share."""
SILENT_PARTS_PENALTY = 3.0
"""Penalty of requested programs without notes, times their share."""
FORM_WEIGHT = 1.0
"""Weight of `AdherenceScore.form` in the total."""
REAL_FORM: dict[str, tuple[float, float]] = {
    "pitch_entropy_1": (2.138, 0.319),
    "pitch_entropy_4": (2.615, 0.249),
    "earlier_similarity": (0.366, 0.172),
    "repetition": (0.227, 0.178),
}
"""Mean and standard deviation of fields of `ScoreStructure` over the beginnings of 500 training
pieces, which have some repetition. Measured by `benchmarks/score.py --form --seed 5`."""
MAX_DEVIATIONS = 3.0
"""Standard deviations from the mean of real pieces at which the agreement of a field is 0."""
LOOP_PENALTY = 0.5
"""Penalty of a piece that only repeats itself."""
LOOP_REPETITION = 0.95
"""Least `ScoreStructure.repetition` of such a piece, exclusive (chosen: real pieces are below)."""


@dataclass(frozen=True, kw_only=True)
class AdherenceScore:
    """Adherence of one score to its conditioning; agreements are from 0 to 1."""

    tempo_bpm: float | None
    """Estimated tempo in felt beats per minute; None without notes."""
    tempo_agreement: float
    """Probability that the requested tempo is the felt one."""
    tonality: str | None
    """Estimated key; None without notes or where none is clear."""
    tonality_agreement: float | None
    """None where no key was requested."""
    metre_agreement: float | None
    """None where the metre is not one of `METRES`."""
    instruments_f1: float | None
    """F1 of the instruments; None where none was named."""
    empty_bars: float
    """Share of bars without sounding notes."""
    form: float
    """Similarity of harmony and repetition to real pieces, see `form_agreement`."""
    total: float
    """The number that candidates are ranked by."""

    def shown(self) -> dict[str, float | str | None]:
        """All fields by name, rounded, for output files."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in vars(self).items()
        }


def score_adherence(score: Score, conditioning: ScoreConditioning) -> AdherenceScore:
    """Measures how a score adheres to its conditioning.

    Args:
        score: The generated score; without notes every agreement is 0 or None.
        conditioning: What it was conditioned on.
    """
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
            total=-EMPTY_BARS_PENALTY,
        )
    tempo = measure_score_tempo(score)
    tempo_agreement = tempo_probability(score, conditioning.tempo_bpm)
    estimate = measure_score_tonality(score)
    tonality = None
    if conditioning.tonality is not None and estimate.ranking:
        rank = estimate.ranking.index(conditioning.tonality)
        tonality = 1.0 if rank == 0 else SECOND_KEY_AGREEMENT if rank < 3 else 0.0
    name = f"{conditioning.metre[0]}/{conditioning.metre[1]}"
    metre = None
    if name in METRES:
        evidence = measure_score_metre(score, name)
        metre = 0.5 * float(evidence.agrees) + 0.5 * evidence.downbeat_probability
    instruments = None
    if conditioning.named:
        playing = playing_programs(score, conditioning.bar_beats)
        instruments = match_instruments(conditioning.named, playing).f1
    structure = measure_score_structure(score, conditioning.bar_beats)
    optional = [one for one in (tonality, metre, instruments) if one is not None]
    form = form_agreement(structure)
    loops = structure.repetition > LOOP_REPETITION
    return AdherenceScore(
        tempo_bpm=tempo.bpm,
        tempo_agreement=tempo_agreement,
        tonality=estimate.tonality,
        tonality_agreement=tonality,
        metre_agreement=metre,
        instruments_f1=instruments,
        empty_bars=structure.empty_share,
        form=form,
        total=sum([tempo_agreement, *optional])
        + FORM_WEIGHT * form
        - SILENT_PARTS_PENALTY * _silent_share(score, conditioning.prompt.programs)
        - EMPTY_BARS_PENALTY * structure.empty_share
        - LOOP_PENALTY * loops,
    )


def form_agreement(structure: ScoreStructure) -> float:
    """Similarity of a structure to real pieces, 0 to 1: mean over the fields of `REAL_FORM`."""
    deviations = [
        abs(getattr(structure, name) - mean) / spread for name, (mean, spread) in REAL_FORM.items()
    ]
    return sum(max(1.0 - one / MAX_DEVIATIONS, 0.0) for one in deviations) / len(deviations)


def _silent_share(score: Score, programs: tuple[int, ...]) -> float:
    """Share of the programs without notes."""
    playing = {program_of(track) for track in score.tracks if len(track.notes)}
    return len(set(programs) - playing) / max(len(set(programs)), 1)
