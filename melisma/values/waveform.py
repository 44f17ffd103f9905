"""Audio as a value: samples with their sample rate.

Samples are float32 [channel, sample], with amplitudes nominally in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.values.errors import MelismaError


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """Audio samples with one or two channels.

    Raises: MelismaError: The array is not a finite array of rank 2 with one or two channels, or the
        rate is implausible; checked because audio often comes from untrusted files.
    """

    samples: np.ndarray
    """Amplitudes, float32 [channel, sample]."""
    rate_hz: int
    """Samples per second of each channel."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[0] not in (1, 2):
            raise MelismaError(
                f"a waveform has the shape [channel, sample] with 1 or 2 channels, "
                f"but this one has {list(self.samples.shape)}"
            )
        if not 1_000 <= self.rate_hz <= 384_000:
            raise MelismaError(f"a sample rate lies between 1000 and 384000 Hz, not {self.rate_hz}")
        if self.samples.dtype != np.float32:
            object.__setattr__(self, "samples", self.samples.astype(np.float32))
        if not np.isfinite(self.samples).all():
            raise MelismaError("the waveform holds amplitudes that are not finite numbers")

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples.shape[1] / self.rate_hz

    @property
    def mono(self) -> np.ndarray:
        """Mean of the channels, float32 [sample]."""
        return self.samples.mean(axis=0)
