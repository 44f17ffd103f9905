"""Discrete tokens as a value: a grid [level, frame], its rate and its tokenizer's fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.values.errors import MelismaError

FRAME_RATE_HZ = 25
"""Frames per second of semantic and acoustic tokens (chosen: one rate for all stages)."""

SAMPLE_RATE_HZ = 24_000
"""Sample rate of the audio that the tokenizers encode (SoundStream, section III)."""

SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FRAME_RATE_HZ
"""Audio samples per frame of tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """Tokens [level, frame] of one tokenizer."""

    tokens: np.ndarray
    """Integers in [0, vocabulary), int64 [level, frame]."""
    vocabulary: int
    """Size of each level's codebook."""
    frame_rate_hz: float
    """Frames per second."""
    fingerprint: str
    """Fingerprint of the tokenizer that produced the tokens; no other can decode them."""

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2:
            raise MelismaError(
                f"a token grid has the shape [level, frame], not {list(self.tokens.shape)}"
            )
        if not np.issubdtype(self.tokens.dtype, np.integer):
            raise MelismaError(f"tokens are integers, not {self.tokens.dtype}")
        if self.tokens.size and not (
            int(self.tokens.min()) >= 0 and int(self.tokens.max()) < self.vocabulary
        ):
            raise MelismaError(f"a token lies outside the vocabulary of {self.vocabulary}")
        object.__setattr__(self, "tokens", self.tokens.astype(np.int64))

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.tokens.shape[1] / self.frame_rate_hz
