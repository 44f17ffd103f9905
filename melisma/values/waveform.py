"""Audio as a value: samples with their sample rate.

Samples are float32 [channel, sample], with amplitudes nominally in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.values.errors import MelismaError

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 384_000
"""Plausible sample rates (chosen: below and at what recorders have)."""
_CANCELLED_DB = 12.0
"""Two sides cancel where their mean is this much weaker than they are: unrelated sides, or one that
is silent, lose 3 dB. Of more channels the mean loses as much more as it does of unrelated ones."""
_CANCELLED_SHARE = 0.2
"""Share of the energy in seconds where they do from which one side alone is taken (chosen)."""


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
        if not LOWEST_RATE_HZ <= self.rate_hz <= HIGHEST_RATE_HZ:
            raise MelismaError(
                f"a sample rate lies between {LOWEST_RATE_HZ} and {HIGHEST_RATE_HZ} Hz, not "
                f"{self.rate_hz}"
            )
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
        """Mean of the channels, or the louder one where they cancel, float32 [sample]."""
        return mix_to_mono(self.samples, self.rate_hz)


def mix_to_mono(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mean of the channels; the loudest one where they cancel each other (antiphase).

    Args:
        samples: float32 [channel, sample].
        rate_hz: Sample rate.

    Returns:
        float32 [sample].
    """
    mean = samples.mean(axis=0)
    if samples.shape[0] < 2 or samples.shape[1] == 0:
        return mean
    starts = np.arange(0, samples.shape[1], rate_hz)
    # Products of float32 do not overflow as float64.
    powers = [np.add.reduceat(np.square(row, dtype=np.float64), starts) for row in (*samples, mean)]
    if not sides_cancel(np.stack(powers[:-1]), powers[-1]):
        return mean
    return samples[int(np.argmax([one.sum() for one in powers[:-1]]))].copy()


def sides_cancel(sides: np.ndarray, mean: np.ndarray) -> bool:
    """Whether channels cancel each other when they are mixed.

    Args:
        sides: Energy of each channel in each second, float64 [channel, second].
        mean: Energy of their mean, float64 [second].
    """
    energy = sides.mean(axis=0)
    unrelated = 2.0 / len(sides)  # the energy of the mean of unrelated channels, 1 for two
    cancelled = mean < energy * unrelated * 10.0 ** (-_CANCELLED_DB / 10.0)
    return bool(energy[cancelled].sum() > _CANCELLED_SHARE * energy.sum())
