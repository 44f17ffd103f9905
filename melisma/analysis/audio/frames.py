"""Framing, spectra and filter banks: the shared front end of the audio detectors.

Input: a `Waveform` of any sample rate. Output: mono float64 samples at a chosen rate, magnitude
spectra [frame, bin], band energies [frame, band]. Pure numpy: these detectors evaluate the
generator, so they share no code with its spectra.
"""

from __future__ import annotations

import numpy as np

from melisma.sound import resample
from melisma.values import Waveform


def mono_samples(waveform: Waveform, rate_hz: int) -> np.ndarray:
    """The mean of the channels, resampled to `rate_hz`: float64 [sample]."""
    return resample.mono_samples(waveform, rate_hz, np.float64)


def magnitude_frames(samples: np.ndarray, window_samples: int, hop_samples: int) -> np.ndarray:
    """Magnitude spectrogram with a Hann window.

    Args:
        samples: float64 [sample].
        window_samples: length of the window and of the FFT.
        hop_samples: distance of neighbouring frames.

    Returns:
        float32 [frame, bin]; frame i is centred on sample i * hop. A full-scale sine has a
        magnitude of about 1 in its bin.
    """
    # Reflected edges: a truncated ending must not look like a burst of noise.
    mode = "reflect" if len(samples) > window_samples + hop_samples else "constant"
    padded = np.pad(samples, (window_samples // 2, window_samples // 2 + hop_samples), mode=mode)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_samples)[::hop_samples]
    frames = frames[: len(samples) // hop_samples + 1]
    window = np.hanning(window_samples + 1)[:-1]
    spectrum = np.abs(np.fft.rfft(frames * window, axis=1)) * (2.0 / window.sum())
    return spectrum.astype(np.float32)


def mel_filters(
    rate_hz: int, window_samples: int, bands: int, low_hz: float, high_hz: float
) -> np.ndarray:
    """Triangular mel filter bank (O'Shaughnessy's formula).

    Args:
        rate_hz: sample rate.
        window_samples: FFT length.
        bands: number of filters.
        low_hz: lower edge of the first filter.
        high_hz: upper edge of the last filter.

    Returns:
        float32 [bin, band]. Each filter has peak 1; a filter narrower than a bin takes the nearest
        bin.
    """

    def mel(hz: np.ndarray) -> np.ndarray:
        return 2595.0 * np.log10(1.0 + hz / 700.0)

    edges = np.linspace(mel(np.array(low_hz)), mel(np.array(high_hz)), bands + 2)
    edges_hz = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    bins_hz = np.fft.rfftfreq(window_samples, 1.0 / rate_hz)
    filters = np.zeros((len(bins_hz), bands), dtype=np.float32)
    for band in range(bands):
        left, centre, right = edges_hz[band : band + 3]
        rising = (bins_hz - left) / (centre - left)
        falling = (right - bins_hz) / (right - centre)
        filters[:, band] = np.clip(np.minimum(rising, falling), 0.0, None)
        filters[np.argmin(np.abs(bins_hz - centre)), band] = 1.0
    return filters


def level_db(amplitude: np.ndarray) -> np.ndarray:
    """Amplitudes in decibels below full scale, floored at -200 dB."""
    return 20.0 * np.log10(np.maximum(np.abs(amplitude), 1e-10))


def cell_levels_db(samples: np.ndarray, cell_samples: int) -> np.ndarray:
    """RMS level of each complete block of `cell_samples` samples in decibels, float64 [cell]."""
    cells = samples[: len(samples) // cell_samples * cell_samples].reshape(-1, cell_samples)
    return level_db(np.sqrt(np.mean(np.square(cells), axis=1)))


def true_runs(true: np.ndarray) -> list[tuple[int, int]]:
    """Runs of True in a bool [position], as (first, last + 1)."""
    change = np.diff(np.concatenate([[0], true.astype(np.int8), [0]]))
    first, last = (np.flatnonzero(change == sign).tolist() for sign in (1, -1))
    return list(zip(first, last, strict=True))


def autocorrelation(rows: np.ndarray) -> np.ndarray:
    """Unbiased autocorrelation of zero-mean rows, float64 [row, lag]; 1 at lag 0.

    Lags beyond three quarters of the length, where few samples overlap, stay biased towards 0.
    """
    length = rows.shape[1]
    size = 2 ** int(np.ceil(np.log2(2 * length)))
    power = np.abs(np.fft.rfft(rows, size, axis=1)) ** 2
    raw = np.fft.irfft(power, size, axis=1)[:, :length]
    unbiased = raw / np.maximum(np.arange(length, 0, -1), length // 4)
    return unbiased / (unbiased[:, :1] + 1e-9)
