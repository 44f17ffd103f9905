"""Sample rate conversion (soxr, high quality) and mixing to mono.

Input: audio of any sample rate. Output: the same audio at another rate. Audio that has the rate
already passes through unchanged, to the bit. Mixing to mono always comes before resampling.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import DTypeLike

from melisma.values.waveform import Waveform, mix_to_mono


def resample(waveform: Waveform, rate_hz: int, channels: int | None = None) -> Waveform:
    """Resamples a waveform and, where asked to, changes its number of channels.

    Args:
        waveform: Of any rate.
        rate_hz: Sample rate of the result.
        channels: Number of channels of the result; where the waveform has another number, its
            channels are mixed (`mix_to_mono`) and the mix is repeated. None: as many as it has.

    Returns:
        The waveform at `rate_hz`, with contiguous samples.
    """
    samples = waveform.samples
    if channels is not None and samples.shape[0] != channels:
        samples = np.repeat(mix_to_mono(samples, waveform.rate_hz)[None], channels, axis=0)
    samples = resample_samples(samples, waveform.rate_hz, rate_hz)
    return Waveform(samples=np.ascontiguousarray(samples, dtype=np.float32), rate_hz=rate_hz)


def mono_samples(waveform: Waveform, rate_hz: int, dtype: DTypeLike = np.float32) -> np.ndarray:
    """The channels mixed to one (`mix_to_mono`), resampled.

    Args:
        waveform: Of any rate.
        rate_hz: Sample rate of the result.
        dtype: float32 or float64: precision of the resampling and of the result. The mix is made
            in float32.

    Returns:
        `dtype` [sample].
    """
    return resample_samples(waveform.mono.astype(dtype), waveform.rate_hz, rate_hz)


def resample_samples(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resamples an array.

    Args:
        samples: float32 or float64 [sample] or [channel, sample].
        from_hz: Its sample rate.
        to_hz: Sample rate of the result.

    Returns:
        Array of the same rank and dtype; `samples` itself where the rates are equal.
    """
    if from_hz == to_hz:
        return samples
    return soxr.resample(samples.T, from_hz, to_hz, quality="HQ").T
