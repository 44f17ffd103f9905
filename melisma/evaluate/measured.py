"""Everything that is measured of one piece of sound, once: what all sections of a card draw on.

Enters: a `Waveform`, the judge, the embeddings. Leaves: a `Measured`: numbers by name, words by
name, the judge's probabilities and vector, and the windows of every embedding. Detectors hear the
sound as it is; judge and embeddings make its level even themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from melisma.analysis.artefacts.summary import measure_faults
from melisma.analysis.audio.key import measure_tonality
from melisma.analysis.audio.levels import measure_levels
from melisma.analysis.audio.metre import measure_metre
from melisma.analysis.audio.onsets import find_onsets
from melisma.analysis.audio.tempo import measure_tempo
from melisma.evaluate.models.embeddings import Embedding
from melisma.evaluate.models.judge import Judge
from melisma.sound.loudness import integrated_lufs
from melisma.values import Waveform

SHORTEST_SECONDS = 1.0
"""Shorter sound has no tempo, tonality or timbre to judge (chosen)."""
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is found in one piece."""

    values: Mapping[str, float]
    """Numbers by name; nan where there is none (a piece without a beat has no tempo)."""
    told: Mapping[str, str]
    """Words by name: lead, tonality, metre; empty where there is none."""
    tags: np.ndarray
    """The judge's probability of each of `FAMILIES`, float32 [17]."""
    vector: np.ndarray
    """The judge's embedding of the whole piece, unit, float32 [128]."""
    windows: Mapping[str, np.ndarray]
    """Name of an embedding -> float32 [window, width]."""


def judged_part(waveform: Waveform, seconds: float) -> Waveform:
    """The beginning that is judged; `ValueError` where there is too little, or only silence."""
    samples = waveform.samples[:, : round(seconds * waveform.rate_hz)]
    part = Waveform(samples=samples, rate_hz=waveform.rate_hz)
    if part.seconds < SHORTEST_SECONDS:
        raise ValueError(f"it lasts {part.seconds:.2f} s: judged are pieces of 1 s or more")
    if float(np.abs(samples).max(initial=0.0)) < 1e-4:
        raise ValueError("it is silent: there is nothing to judge")
    return part


def measure_piece(waveform: Waveform, judge: Judge, embeddings: Sequence[Embedding]) -> Measured:
    """Everything about a piece; see `judged_part` for what cannot be judged."""
    verdict = judge.judge_all([waveform])[0]
    tempo, tonality = measure_tempo(waveform), measure_tonality(waveform)
    metre = measure_metre(waveform, tempo.bpm)
    faults = measure_faults(waveform)
    lufs = integrated_lufs(waveform)
    values: dict[str, float | None] = {
        "tempo_judge": verdict.tempo_bpm,
        "tempo_signal": tempo.bpm,
        "loudness_lufs": lufs,
        "onsets_a_second": len(find_onsets(waveform)) / waveform.seconds,
        "level_change_db": measure_levels(waveform).mean_db,
        "beat_variation": None,
        **faults.numbers(),
        "faults": float(len(faults.found())),
    }
    told = {
        "lead": verdict.lead,
        "tonality_judge": verdict.tonality,
        "tonality_signal": tonality.tonality or "",
        "metre": metre.metre or "",
        "faults": ", ".join(faults.found()),
    }
    return Measured(
        values={name: NAN if value is None else float(value) for name, value in values.items()},
        told=told,
        tags=verdict.family_probabilities,
        vector=verdict.embedding,
        windows={one.name: one.embed(waveform) for one in embeddings},
    )
