"""Measurement of one piece of sound: everything that the sections of a card need, measured once.

Input: a `Waveform`, the judge and the embeddings. Output: a `Measured`: numbers by name, texts by
name, the judge's probabilities and embedding, and the windows of every embedding. Detectors get the
sound at its own level; the judge and the embeddings normalise the level themselves.
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
from melisma.evaluate.models.embedding import Embedding
from melisma.evaluate.models.judge import Judge
from melisma.sound.loudness import integrated_lufs
from melisma.sound.repair import repaired
from melisma.values import Waveform
from melisma.values.errors import MelismaError

SHORTEST_SECONDS = 1.0
"""Shorter sound has no tempo, key or timbre to judge (chosen)."""
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measurements of one piece of sound."""

    values: Mapping[str, float]
    """Numbers by name; nan where there is none (a piece without a beat has no tempo)."""
    texts: Mapping[str, str]
    """Findings in words by name: lead, key, metre, faults; empty where there is none."""
    tags: np.ndarray
    """The judge's probability of each of `FAMILIES`, float32 [17]."""
    vector: np.ndarray
    """The judge's embedding of the whole piece, unit, float32 [128]."""
    windows: Mapping[str, np.ndarray]
    """Name of an embedding -> float32 [window, width]."""


def judged_part(waveform: Waveform, seconds: float) -> Waveform:
    """The excerpt at the beginning of a piece that is judged.

    Args:
        waveform: The whole piece.
        seconds: Length of the excerpt; a shorter piece is taken whole.

    Raises:
        MelismaError: If it is shorter than `SHORTEST_SECONDS`, or silent.
    """
    samples = waveform.samples[:, : round(seconds * waveform.rate_hz)]
    part = Waveform(samples=samples, rate_hz=waveform.rate_hz)
    if part.seconds < SHORTEST_SECONDS:
        raise MelismaError(f"it lasts {part.seconds:.2f} s: judged are pieces of 1 s or more")
    clean, _ = repaired(part)
    if float(np.abs(clean.samples).max(initial=0.0)) < 1e-4:
        raise MelismaError("it is silent: there is nothing to judge")
    return part


def measure_piece(waveform: Waveform, judge: Judge, embeddings: Sequence[Embedding]) -> Measured:
    """Measures a piece with detectors, the judge and every embedding.

    Args:
        waveform: One second or more, not silent (see `judged_part`). A DC offset is removed first.
        judge: The independent evaluation model.
        embeddings: Those whose windows are stored, by name.
    """
    waveform, _ = repaired(waveform)
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
    texts = {
        "lead": verdict.lead,
        "tonality_judge": verdict.tonality,
        "tonality_signal": tonality.tonality or "",
        "metre": metre.metre or "",
        "faults": ", ".join(faults.found()),
    }
    return Measured(
        values={name: NAN if value is None else float(value) for name, value in values.items()},
        texts=texts,
        tags=verdict.family_probabilities,
        vector=verdict.embedding,
        windows={one.name: one.embed(waveform) for one in embeddings},
    )
