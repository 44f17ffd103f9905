"""Sound as a value: samples with their rate.

Enters and leaves: float32 arrays of shape [channel, sample], amplitudes nominally in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """A stretch of sound.

    Raises `ValueError` where the array is not a finite float array of rank 2 with one or two
    channels, because sound often comes from outside.
    """

    samples: np.ndarray
    """Amplitudes, float32 [channel, sample]."""
    rate_hz: int
    """Samples per second of each channel."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[0] not in (1, 2):
            raise ValueError(
                f"a waveform has the shape [channel, sample] with 1 or 2 channels, "
                f"but this one has {list(self.samples.shape)}"
            )
        if not 1_000 <= self.rate_hz <= 384_000:
            raise ValueError(f"a sample rate lies between 1000 and 384000 Hz, not {self.rate_hz}")
        if self.samples.dtype != np.float32:
            object.__setattr__(self, "samples", self.samples.astype(np.float32))
        if not np.isfinite(self.samples).all():
            raise ValueError("the waveform holds amplitudes that are not finite numbers")

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples.shape[1] / self.rate_hz

    @property
    def mono(self) -> np.ndarray:
        """The mean of the channels, float32 [sample]."""
        return self.samples.mean(axis=0)
