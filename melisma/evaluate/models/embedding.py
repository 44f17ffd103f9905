"""Base class of embeddings of sound: windows of a piece -> vectors, for Fréchet distances.

Input: a `Waveform` of any rate, one or two channels, any length above 0. It is mixed to mono (mean
of the channels), resampled (soxr, high quality) and normalised to `LEVEL_LUFS` as a whole; silence
stays silence. Output: float32 [window, width], windows in order; the first starts at the beginning
of the piece, each of the others a hop later, as many as fit. Sound shorter than a window is one
window padded with silence; a tail shorter than a hop is ignored.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from typing import final

import numpy as np

from melisma.sound.loudness import integrated_lufs
from melisma.sound.resample import mono_samples
from melisma.values import Waveform
from melisma.values.errors import MelismaError

LEVEL_LUFS = -20.0
"""Level of the input of every embedding (the median of the renders that the music tower was trained
on; nothing is clamped, so peaks may exceed 1)."""
WINDOW_SECONDS = 5.0
HOP_SECONDS = 2.5
"""Windows of our own embeddings (chosen: three in ten seconds, so that each piece has a covariance.
The music tower was trained on ten seconds, the judge on ten and on shorter crops; over 60 clips the
cosine of the first five seconds to the whole is .92 and .97, to other clips .03 and .10, and the
mean over all clips moves by a sixth and a third of the difference between halves of the clips)."""


class Embedding(ABC):
    """A frozen encoder of sound. Callers use `embed`; subclasses define `embed_windows`."""

    kind: str
    """Its class in the fingerprint; must not change with the name of the Python class."""
    name: str
    """Short and stable: "music", "judge", "signal" or "hub:..."."""
    rate_hz: int
    window_seconds: float
    hop_seconds: float
    width: int
    """Dimensions of a vector."""

    @property
    @abstractmethod
    def weights_fingerprint(self) -> str:
        """Fingerprint of the weights or constants that the vectors depend on."""

    @abstractmethod
    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        """Embeds windows that are prepared already.

        Args:
            windows: Mono sound at the embedding's rate and level, float32 [window, sample].

        Returns:
            float32 [window, width].
        """

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with anything that the vectors depend on."""
        hashed = [
            self.kind, self.rate_hz, self.window_seconds, self.hop_seconds, self.width,
            LEVEL_LUFS, self.weights_fingerprint,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(hashed).encode()).hexdigest()[:12]

    @final
    def embed(self, waveform: Waveform) -> np.ndarray:
        """Embeds a piece: float32 [window, width]. Raises `MelismaError` for an empty waveform."""
        windows = self._windows(waveform)
        vectors = self.embed_windows(windows)
        assert vectors.shape == (len(windows), self.width)
        return vectors.astype(np.float32)

    def _windows(self, waveform: Waveform) -> np.ndarray:
        mono = mono_samples(waveform, self.rate_hz)
        if not len(mono):
            raise MelismaError("there is no sound to embed: the piece is empty")
        lufs = integrated_lufs(Waveform(samples=mono[None], rate_hz=self.rate_hz))
        gain = 0.0 if lufs is None else 10.0 ** ((LEVEL_LUFS - lufs) / 20.0)
        samples = (mono * gain).astype(np.float32)
        length = round(self.window_seconds * self.rate_hz)
        hop = round(self.hop_seconds * self.rate_hz)
        samples = np.pad(samples, (0, max(length - len(samples), 0)))
        return np.lib.stride_tricks.sliding_window_view(samples, length)[::hop].copy()
