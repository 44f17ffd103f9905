"""Which of several candidates is nearest to the words: what the joint embedding and its heads hear.

Enters: sound of every candidate, of any rate, and what was asked. Leaves: its cosine with the
words, and a score that ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from melisma.generation.conditioning.audio import at_rate
from melisma.generation.conditioning.prompt import PromptConditioning
from melisma.joint.attributes import BLOCKS
from melisma.tokenizers import AudioTokenizers
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from melisma.values.waveform import Waveform

RANKS = ("words", "receipt")
"""How candidates may be ranked."""
AGREEMENT_WEIGHT = 0.5
"""Weight of heard attributes beside the similarity of the vectors, when candidates are ranked."""
RECEIPT_WEIGHT = 10.0
"""Weight of the receipt where it ranks: the embedding decides among those that agree alike."""
DETECTED_ATTRIBUTES = ("tempo", "tonality", "lead")
"""Attributes that candidates are ranked by, where the prompt asks for them."""


def check_ranking(best_of: int, rank: str) -> None:
    """`ValueError` says what is allowed."""
    if best_of < 1:
        raise MelismaError(f"best-of is at least 1, not {best_of}")
    if rank not in RANKS:
        raise MelismaError(f'no ranking "{rank}": known are {", ".join(RANKS)}')


def rank_candidates(
    ears: AudioTokenizers,
    sounds: Sequence[Waveform],
    asked: Sequence[PromptConditioning],
    rank: str,
) -> tuple[list[float], list[float]]:
    """(cosine of words and sound, score for the ranking) of every candidate."""
    similarities, scores = [], []
    for sound, one in zip(sounds, asked, strict=True):
        heard = whole_frames(sound)
        vectors, rows = ears.embed_windows(torch.from_numpy(heard.samples))
        mean = vectors[0].mean(axis=0)
        similarity = float(mean @ one.vector / max(float(np.linalg.norm(mean)), 1e-9))
        row = rows[0].mean(axis=0)
        agreement = [
            _heard(row, name, one.attributes[name])
            for name in DETECTED_ATTRIBUTES
            if name in one.attributes
        ]
        score = similarity + AGREEMENT_WEIGHT * float(np.mean(agreement or [0.0]))
        if rank == "receipt":
            from melisma.analysis.receipt import receipt_of_sound  # it needs much of scipy

            receipt = receipt_of_sound(heard, one.reading.stated, families_of(row))
            score = RECEIPT_WEIGHT * receipt.agreement + score
        similarities.append(similarity)
        scores.append(score)
    return similarities, scores


def whole_frames(sound: Waveform) -> Waveform:
    """Mono at the ears' rate, its last frame left out where it is not whole."""
    mono = at_rate(sound, SAMPLE_RATE_HZ, 1)
    whole = mono.samples.shape[1] // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    return Waveform(samples=mono.samples[:, :whole], rate_hz=SAMPLE_RATE_HZ)


def detect_families(ears: AudioTokenizers, sound: Waveform) -> dict[str, float]:
    """Probability of each family of instruments sounding, by the joint embedding's head."""
    _, rows = ears.embed_windows(torch.from_numpy(whole_frames(sound).samples))
    return families_of(rows[0].mean(axis=0))


def families_of(row: np.ndarray) -> dict[str, float]:
    """Probabilities of the families from a row of the attribute heads [150]."""
    return dict(zip(FAMILIES, row[BLOCKS["families"]].tolist(), strict=True))


def _heard(row: np.ndarray, name: str, wanted: int) -> float:
    """Probability with which a class is heard; a tempo may lie one bin beside."""
    block = row[BLOCKS[name]]
    if name == "tempo":
        return float(block[max(wanted - 1, 0) : wanted + 2].sum())
    return float(block[wanted])
