"""Ranking of audio candidates by the joint embedding and its attribute heads.

Inputs: the audio of every candidate, of any rate, and the conditioning of its prompt. Outputs: its
cosine similarity to the words, and a score for the ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.prompt import PromptConditioning
from melisma.generation.conditioning.seam import (
    MOST_REST_SECONDS,
    OPENING_SECONDS,
    Pulse,
    beat_continuity,
    beat_grid,
    rest_seconds,
)
from melisma.joint.attributes import BLOCKS
from melisma.sound.resample import resample
from melisma.sound.stored import StoredSound, mono_parts
from melisma.tokenizers import EMBEDDED_SECONDS, WINDOW_SECONDS, AudioTokenizers
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError
from melisma.values.sampling import RANKS
from melisma.values.tokens import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from melisma.values.waveform import Waveform

AGREEMENT_WEIGHT = 0.5
"""Weight of the mean probability of the requested attributes, relative to the cosine similarity."""
ABSENT_WEIGHT = 1.0
"""Weight of the most probable of the families that are to be left out (chosen: one that surely
plays weighs more than all that candidates differ by otherwise)."""
RECEIPT_WEIGHT = 10.0
"""Weight of the receipt's agreement for `rank="receipt"`: so high that the embedding only decides
among candidates of equal agreement."""
PULSE_WEIGHT = 0.3
"""Weight of the pulse of a recording that goes on in its continuation (chosen: candidates differ by
a tenth in similarity)."""
REST_WEIGHT = 0.3
"""Weight of a rest of two seconds or more that a continuation begins with (chosen)."""
RECEIPT_SECONDS = 300.0
"""Receipts of longer pieces are measured on their beginning, so that memory does not grow with the
duration (chosen: tempo and key of five minutes are those of the piece)."""
GOOD_SIMILARITY = 0.24
"""Similarity that 95 % of pieces with the words of *other* pieces stay below; with their own words
they have 0.45 on average. Measured by `benchmarks/similarity_scale.py`."""
SCALES: dict[str, dict[str, object]] = {
    "similarity": {"scale": "cosine", "good_from": GOOD_SIMILARITY},
    "candidates": {"scale": "score", "good_from": None},
}
"""What the two numbers of a receipt are: the cosine of words and sound, -1 to 1, and the score that
candidates of one piece are ranked by, which means nothing beyond the comparison."""
DETECTED_ATTRIBUTES = ("tempo", "tonality", "lead")
"""Attributes that candidates are ranked by where the prompt requests them."""


def check_rank(rank: str) -> None:
    """Raises `MelismaError` unless candidates can be ranked by this, one of `RANKS`."""
    if rank not in RANKS:
        raise MelismaError(f'no ranking "{rank}": known are {", ".join(RANKS)}')


def rank_candidates(
    tokenizers: AudioTokenizers,
    sounds: Sequence[StoredSound],
    conditionings: Sequence[PromptConditioning],
    rank: str,
    context: AudioConditions,
    new_sample: int,
) -> tuple[list[float], list[float]]:
    """Scores candidates.

    Of candidates that continue a recording, those count more that begin without a rest and in which
    its pulse goes on.

    Args:
        tokenizers: The frozen tokenizers.
        sounds: Audio of every candidate.
        conditionings: Conditioning of every candidate.
        rank: One of `RANKS`.
        context: The audio that all candidates were given.
        new_sample: First sample of each that does not belong to the recording that is continued.

    Returns:
        Cosine similarity of audio and words, and score for the ranking, of every candidate.
    """
    similarities, scores = [], []
    continues = len(sounds) > 1 and context.beginning is not None and context.melody is None
    grid = beat_grid(context) if continues else None
    for sound, one in zip(sounds, conditionings, strict=True):
        vectors, rows = embed_sound(tokenizers, sound)
        mean = vectors.mean(axis=0)
        similarity = float(mean @ one.vector / max(float(np.linalg.norm(mean)), 1e-9))
        row = rows.mean(axis=0)
        agreement = [
            _probability(row, name, one.attributes[name])
            for name in DETECTED_ATTRIBUTES
            if name in one.attributes
        ]
        score = similarity + AGREEMENT_WEIGHT * float(np.mean(agreement or [0.0]))
        if one.absent:
            families = families_of(row)
            score -= ABSENT_WEIGHT * max(families[name] for name in one.absent)
        if continues:
            score += _continuity(_opening(sound, new_sample), grid)
        if rank == "receipt":
            from melisma.analysis.receipt import receipt_of_sound  # imports much of scipy

            mono = whole_frames(excerpt(sound))
            receipt = receipt_of_sound(mono, one.reading.stated, families_of(row), one.absent)
            score = RECEIPT_WEIGHT * receipt.agreement + score
        similarities.append(similarity)
        scores.append(score)
    return similarities, scores


def whole_frames(sound: Waveform) -> Waveform:
    """Mixes to mono at the tokenizers' rate and drops an incomplete last frame."""
    mono = resample(sound, SAMPLE_RATE_HZ, 1)
    whole = mono.samples.shape[1] // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    return Waveform(samples=mono.samples[:, :whole], rate_hz=SAMPLE_RATE_HZ)


def excerpt(sound: StoredSound) -> Waveform:
    """What a receipt is measured on: all of it, of a long piece the first `RECEIPT_SECONDS`."""
    stop = min(sound.length, round(RECEIPT_SECONDS * sound.rate_hz))
    return Waveform(samples=sound.read(0, stop), rate_hz=sound.rate_hz)


def embed_sound(tokenizers: AudioTokenizers, sound: StoredSound) -> tuple[np.ndarray, np.ndarray]:
    """Joint embeddings and attributes of the windows of a sound, part by part.

    Args:
        tokenizers: The frozen tokenizers.
        sound: Of any rate and length.

    Returns:
        As `AudioTokenizers.embed_windows`, without the batch.
    """
    vectors, rows = [], []
    for part in mono_parts(sound, SAMPLE_RATE_HZ, EMBEDDED_SECONDS):
        whole = part.shape[1] // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
        if vectors and whole < WINDOW_SECONDS * SAMPLE_RATE_HZ:
            break
        found = tokenizers.embed_windows(torch.from_numpy(part[:, :whole]))
        vectors.append(found[0][0])
        rows.append(found[1][0])
    return np.concatenate(vectors), np.concatenate(rows)


def _continuity(opening: Waveform, grid: Pulse | None) -> float:
    """How well new music continues a recording, as a summand of its score."""
    rest = rest_seconds(opening)
    passed = round(rest * opening.rate_hz)
    playing = Waveform(samples=opening.samples[:, passed:], rate_hz=opening.rate_hz)
    pulse = PULSE_WEIGHT * beat_continuity(playing, grid)
    return pulse - REST_WEIGHT * rest / MOST_REST_SECONDS


def _opening(sound: StoredSound, first: int) -> Waveform:
    """The first seconds of the new music."""
    stop = first + round(OPENING_SECONDS * sound.rate_hz)
    return Waveform(samples=sound.read(first, stop), rate_hz=sound.rate_hz)


def detect_families(tokenizers: AudioTokenizers, sound: StoredSound | Waveform) -> dict[str, float]:
    """Probability of each instrument family in a sound, by the joint embedding's attribute head."""
    stored = StoredSound.of(sound) if isinstance(sound, Waveform) else sound
    _, rows = embed_sound(tokenizers, stored)
    return families_of(rows.mean(axis=0))


def families_of(row: np.ndarray) -> dict[str, float]:
    """Probability of each instrument family in a row of the attribute heads, float32 [150]."""
    return dict(zip(FAMILIES, row[BLOCKS["families"]].tolist(), strict=True))


def _probability(row: np.ndarray, name: str, requested: int) -> float:
    """Probability of a class; for the tempo including the adjacent bins."""
    block = row[BLOCKS[name]]
    if name == "tempo":
        return float(block[max(requested - 1, 0) : requested + 2].sum())
    return float(block[requested])
