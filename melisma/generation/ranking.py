"""Ranking of audio candidates by the joint embedding and its attribute heads.

Inputs: the audio of every candidate, of any rate, and the conditioning of its prompt. Outputs: its
cosine similarity to the words, and a score for the ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from melisma.generation.conditioning.prompt import PromptConditioning
from melisma.joint.attributes import BLOCKS
from melisma.sound.resample import resample
from melisma.tokenizers import AudioTokenizers
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from melisma.values.waveform import Waveform

RANKS = ("words", "receipt")
"""Criteria that candidates can be ranked by."""
AGREEMENT_WEIGHT = 0.5
"""Weight of the mean probability of the requested attributes, relative to the cosine similarity."""
RECEIPT_WEIGHT = 10.0
"""Weight of the receipt's agreement for `rank="receipt"`: so high that the embedding only decides
among candidates of equal agreement."""
DETECTED_ATTRIBUTES = ("tempo", "tonality", "lead")
"""Attributes that candidates are ranked by where the prompt requests them."""


def check_ranking(best_of: int, rank: str) -> None:
    """Checks the parameters of a ranking.

    Raises:
        MelismaError: `best_of` is below 1, or `rank` is not one of `RANKS`.
    """
    if best_of < 1:
        raise MelismaError(f"best-of is at least 1, not {best_of}")
    if rank not in RANKS:
        raise MelismaError(f'no ranking "{rank}": known are {", ".join(RANKS)}')


def rank_candidates(
    tokenizers: AudioTokenizers,
    sounds: Sequence[Waveform],
    conditionings: Sequence[PromptConditioning],
    rank: str,
) -> tuple[list[float], list[float]]:
    """Scores candidates.

    Args:
        tokenizers: The frozen tokenizers.
        sounds: Audio of every candidate.
        conditionings: Conditioning of every candidate.
        rank: One of `RANKS`.

    Returns:
        Cosine similarity of audio and words, and score for the ranking, of every candidate.
    """
    similarities, scores = [], []
    for sound, one in zip(sounds, conditionings, strict=True):
        mono = whole_frames(sound)
        vectors, rows = tokenizers.embed_windows(torch.from_numpy(mono.samples))
        mean = vectors[0].mean(axis=0)
        similarity = float(mean @ one.vector / max(float(np.linalg.norm(mean)), 1e-9))
        row = rows[0].mean(axis=0)
        agreement = [
            _probability(row, name, one.attributes[name])
            for name in DETECTED_ATTRIBUTES
            if name in one.attributes
        ]
        score = similarity + AGREEMENT_WEIGHT * float(np.mean(agreement or [0.0]))
        if rank == "receipt":
            from melisma.analysis.receipt import receipt_of_sound  # imports much of scipy

            receipt = receipt_of_sound(mono, one.reading.stated, families_of(row))
            score = RECEIPT_WEIGHT * receipt.agreement + score
        similarities.append(similarity)
        scores.append(score)
    return similarities, scores


def whole_frames(sound: Waveform) -> Waveform:
    """Mixes to mono at the tokenizers' rate and drops an incomplete last frame."""
    mono = resample(sound, SAMPLE_RATE_HZ, 1)
    whole = mono.samples.shape[1] // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    return Waveform(samples=mono.samples[:, :whole], rate_hz=SAMPLE_RATE_HZ)


def detect_families(tokenizers: AudioTokenizers, sound: Waveform) -> dict[str, float]:
    """Probability of each instrument family in a sound, by the joint embedding's attribute head."""
    _, rows = tokenizers.embed_windows(torch.from_numpy(whole_frames(sound).samples))
    return families_of(rows[0].mean(axis=0))


def families_of(row: np.ndarray) -> dict[str, float]:
    """Probability of each instrument family in a row of the attribute heads, float32 [150]."""
    return dict(zip(FAMILIES, row[BLOCKS["families"]].tolist(), strict=True))


def _probability(row: np.ndarray, name: str, requested: int) -> float:
    """Probability of a class; for the tempo including the adjacent bins."""
    block = row[BLOCKS[name]]
    if name == "tempo":
        return float(block[max(requested - 1, 0) : requested + 2].sum())
    return float(block[requested])
