"""Spectrograms in PyTorch: STFT, log-mel and log-frequency, with their filter banks.

Input: sound [batch, sample], float32, nominally in [-1, 1]. Output: [batch, bin, frame].
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FLOOR_POWER = 1e-5
"""Added to magnitudes before the logarithm (-100 dB, below the noise of 16-bit sound)."""


def _hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """The HTK mel scale (Young et al., The HTK Book, 2006, section 5.4)."""
    return 2595.0 * np.log10(1.0 + hz / 700.0)


@functools.lru_cache(maxsize=32)
def mel_filters(
    rate_hz: int, window_samples: int, bins: int, low_hz: float = 0.0, high_hz: float | None = None
) -> Tensor:
    """Mel filter bank (HTK scale).

    A filter narrower than an FFT bin takes the nearest bin, so that no mel band is empty.

    Args:
        rate_hz: Sample rate.
        window_samples: FFT size.
        bins: Mel bands.
        low_hz: Lower edge of the first filter.
        high_hz: Upper edge of the last filter; half the sample rate by default.

    Returns:
        Triangular filters float32 [mel band, window_samples // 2 + 1], each with a sum of 1.
    """
    high_hz = high_hz or rate_hz / 2
    lines_hz = np.arange(window_samples // 2 + 1) * rate_hz / window_samples
    mel_edges = np.linspace(_hz_to_mel(np.array(low_hz)), _hz_to_mel(np.array(high_hz)), bins + 2)
    edges_hz = 700.0 * (10.0 ** (mel_edges / 2595.0) - 1.0)
    return torch.from_numpy(_triangles(lines_hz, edges_hz))


def _triangles(lines_hz: np.ndarray, edges_hz: np.ndarray) -> np.ndarray:
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (lines_hz - low) / np.maximum(centre - low, 1e-9)
    falling = (high - lines_hz) / np.maximum(high - centre, 1e-9)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    for row in np.flatnonzero(weights.sum(axis=1) < 1e-6):
        weights[row, np.abs(lines_hz - edges_hz[row + 1]).argmin()] = 1.0
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=32)
def _window(samples: int) -> Tensor:
    return torch.hann_window(samples, dtype=torch.float32, device="cpu")


def spectrum(sound: Tensor, window_samples: int, hop_samples: int) -> Tensor:
    """Short-time Fourier transform with a Hann window.

    Args:
        sound: [batch, sample].
        window_samples: FFT size.
        hop_samples: Samples from one frame to the next.

    Returns:
        Complex [batch, window_samples // 2 + 1, sample // hop_samples]; frame f is centred on
        sample f * hop_samples.
    """
    padded = F.pad(sound, (window_samples // 2, window_samples // 2))
    window = _window(window_samples).to(sound.device)
    lines = torch.stft(
        padded, window_samples, hop_samples, window=window, center=False, return_complex=True
    )
    return lines[..., : sound.shape[-1] // hop_samples]


def log_mel(
    sound: Tensor,
    *,
    rate_hz: int,
    window_samples: int,
    hop_samples: int,
    bins: int,
    low_hz: float = 0.0,
) -> Tensor:
    """Log-mel spectrogram: natural logarithm of mel magnitudes.

    Args:
        sound: [batch, sample].
        rate_hz: Sample rate.
        window_samples: FFT size.
        hop_samples: Samples from one frame to the next.
        bins: Mel bands.
        low_hz: Lower edge of the first filter.

    Returns:
        [batch, bin, frame].
    """
    lines = spectrum(sound, window_samples, hop_samples)
    magnitude = (lines.real.square() + lines.imag.square()).sqrt()
    filters = mel_filters(rate_hz, window_samples, bins, low_hz).to(sound.device)
    return torch.log(filters @ magnitude + FLOOR_POWER)


# Log-frequency spectrum: long windows where semitones are narrow, short ones where they are wide.
# Each band is analysed at a lower rate, so that its window is always 1024 samples: (upper edge in
# Hz, decimation). At 24 kHz the windows are 341, 171 and 85 ms long.
_BANDS: tuple[tuple[float, int], ...] = ((260.0, 8), (1050.0, 4), (math.inf, 2))
_BAND_WINDOW_SAMPLES = 1024


@functools.lru_cache(maxsize=8)
def _log_frequency_plan(
    rate_hz: int, lowest_hz: float, bins_per_octave: int, octaves: int
) -> tuple[tuple[int, Tensor], ...]:
    """(Decimation, filters [bin, FFT bin]) of each band, from the lowest up."""
    count = bins_per_octave * octaves
    edges_hz = lowest_hz * 2.0 ** (np.arange(-1, count + 1) / bins_per_octave)
    plan, low_hz = [], 0.0
    for high_hz, decimation in _BANDS:
        inside = np.flatnonzero((edges_hz[1:-1] >= low_hz) & (edges_hz[1:-1] < high_hz))
        if len(inside):
            lines = np.arange(_BAND_WINDOW_SAMPLES // 2 + 1)
            lines_hz = lines * rate_hz / decimation / _BAND_WINDOW_SAMPLES
            rows = _interpolating(lines_hz, edges_hz[inside[0] : inside[-1] + 3])
            plan.append((decimation, torch.from_numpy(rows)))
        low_hz = high_hz
    return tuple(plan)


def _interpolating(lines_hz: np.ndarray, edges_hz: np.ndarray) -> np.ndarray:
    """Triangular filters; narrower ones than an FFT bin interpolate linearly between two bins."""
    spacing_hz = lines_hz[1]
    centres = edges_hz[1:-1]
    rows = np.zeros((len(centres), len(lines_hz)), dtype=np.float32)
    triangles = _triangles(lines_hz, edges_hz)
    for row, centre in enumerate(centres):
        if edges_hz[row + 2] - edges_hz[row] >= 2 * spacing_hz:
            rows[row] = triangles[row]
        else:
            position = centre / spacing_hz
            line = int(position)
            rows[row, line], rows[row, line + 1] = line + 1 - position, position - line
    return rows


@functools.lru_cache(maxsize=8)
def _lowpass(decimation: int) -> Tensor:
    """Anti-aliasing filter: a windowed sinc at 0.8 of the new Nyquist frequency, 16 periods long
    (Kaiser, beta 8: -80 dB)."""
    radius = 8 * decimation
    times = torch.arange(-radius, radius + 1, dtype=torch.float64, device="cpu")
    kernel = torch.sinc(times * 0.8 / decimation) * torch.kaiser_window(
        2 * radius + 1, periodic=False, beta=8.0, dtype=torch.float64, device="cpu"
    )
    return (kernel / kernel.sum()).float()[None, None]


def decimate(sound: Tensor, decimation: int) -> Tensor:
    """Low-passes and keeps every `decimation`-th sample: [batch, sample] -> [batch, sample /
    decimation]."""
    kernel = _lowpass(decimation).to(sound.device)
    padded = F.pad(sound, (kernel.shape[-1] // 2, kernel.shape[-1] // 2))
    return F.conv1d(padded[:, None], kernel, stride=decimation)[:, 0]


def log_frequency(
    sound: Tensor,
    *,
    rate_hz: int,
    hop_samples: int,
    lowest_hz: float = 32.703,
    bins_per_octave: int = 36,
    octaves: int = 7,
) -> Tensor:
    """Log-frequency spectrogram: natural logarithm of magnitudes at log-spaced frequencies.

    By default from C1 in thirds of a semitone (64 mel bands do not resolve semitones).

    Args:
        sound: [batch, sample].
        rate_hz: Sample rate.
        hop_samples: A multiple of 8, because low bands are analysed at an eighth of the rate.
        lowest_hz: Frequency of the first bin.
        bins_per_octave: Resolution.
        octaves: Range.

    Returns:
        [batch, bin, frame].
    """
    parts = []
    frames = sound.shape[-1] // hop_samples
    for decimation, filters in _log_frequency_plan(rate_hz, lowest_hz, bins_per_octave, octaves):
        lines = spectrum(
            decimate(sound, decimation), _BAND_WINDOW_SAMPLES, hop_samples // decimation
        )
        power = lines.real.square() + lines.imag.square()
        magnitude = power[..., :frames].sqrt() / (_BAND_WINDOW_SAMPLES / 4)
        parts.append(filters.to(sound.device) @ magnitude)
    return torch.log(torch.cat(parts, dim=1) + FLOOR_POWER)
