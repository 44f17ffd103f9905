"""Pitch salience: a harmonic sum over whitened spectra.

Input: mono audio at 12 kHz, float32 [sample]. Outputs: salience float32 [frame, pitch], 100 frames
per second, about 0 for noise and .5 for a clear voice; and levels in decibels [frame].

The salience of a pitch adds the energy at the pitch and its prime harmonics and subtracts the
energy between them (the kernel of SWIPE', Camacho and Harris, "A sawtooth waveform inspired pitch
estimator for speech and music", 2008, section III). Two changes let one method track both a hum and
the lead of a mix: lobes are as narrow as the window allows, where SWIPE's are a quarter of the
pitch wide; and the local mean of the spectrum is subtracted first, which suppresses breath and
drums and preserves a whistle.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from melisma.sound.spectra import spectrum

RATE_HZ = 12_000
"""Sample rate of the analysis (chosen: covers a whistle of 4 kHz and its surroundings)."""
HOP_SAMPLES = 120
TRACK_RATE_HZ = RATE_HZ // HOP_SAMPLES
"""Frames per second."""
STEP = 0.2
"""Pitch resolution in semitones; the path is interpolated in between."""
PITCHES = np.arange(31.0, 109.0 + 1e-9, STEP)
"""Candidate MIDI pitches: 49 Hz to 4.4 kHz."""

_PITCH_HZ = 440.0 * 2.0 ** ((PITCHES - 69.0) / 12.0)
_WINDOWS = ((2_048, 90.0), (1_024, 200.0), (512, 700.0))
"""Window lengths in samples (171, 85 and 43 ms) and the pitch in Hz that uses this window alone;
pitches in between interpolate (section III.G of SWIPE: eight periods are best)."""
_PRIMES = (1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
"""Harmonics of the kernel: with all of them, subharmonics (half, third) would be salient, too."""
_MAX_HARMONIC_HZ = 5_500.0
_COMPRESSION = 0.75
"""Exponent of the magnitude (measured: the best of .5, .75 and 1 for hums in noise)."""
_VALLEY = 0.5
"""Depth of the valleys between harmonics (measured; SWIPE has 1, which hurts in mixes)."""
_LOBE_LINES, _LOBE_RATIO = 2.0, 2.0 ** (60.0 / 1_200.0) - 1.0
"""Half width of a lobe: two lines (the window's main lobe), and 60 cents for vibrato."""
_LOCAL_MEAN_HZ = 300.0
"""Half width of the local mean of the spectrum (chosen)."""
_MIN_MAGNITUDE = 1e-4
"""Regularization of the spectrum's norm: quieter spectra have no salience (-80 dB for a peak
sample of 1)."""


def salience(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes pitch salience; frame f is centred on second f / 100.

    Args:
        sound: Mono audio at 12 kHz, float [sample], with a peak near 1.

    Returns:
        (salience float32 [frame, pitch], levels in decibels float32 [frame]).
    """
    batch = torch.from_numpy(np.array(sound, dtype=np.float32))[None]

    strengths = torch.zeros(
        len(sound) // HOP_SAMPLES, len(PITCHES), dtype=torch.float32, device="cpu"
    )
    levels = torch.zeros(len(strengths), dtype=torch.float32, device="cpu")
    for (window, _), share in zip(_WINDOWS, _shares(), strict=True):
        kernel, density = _kernel(window)
        magnitude = spectrum(batch, window, HOP_SAMPLES)[0].abs().T / (window / 4)
        lines = _subtract_local_mean(magnitude.pow(_COMPRESSION), window)
        norm = (lines.square() @ density).sqrt()[:, None] + _MIN_MAGNITUDE
        rows = torch.from_numpy(np.flatnonzero(share > 0))
        part = torch.from_numpy(share[share > 0]).float()
        strengths[:, rows] += part * (lines @ kernel[rows].T) / norm
        if window == 1_024:
            levels = 10.0 * magnitude.square().sum(dim=1).clamp(min=1e-20).log10()
    return strengths.numpy(), levels.numpy()


def _subtract_local_mean(lines: Tensor, window: int) -> Tensor:
    """Spectra [frame, line] minus their local mean, clamped at 0."""
    reach = int(_LOCAL_MEAN_HZ * window / RATE_HZ)
    padded = F.pad(lines[None], (reach + 1, reach), mode="reflect")[0]
    total = padded.cumsum(dim=1)
    local_mean = (total[:, 2 * reach + 1 :] - total[:, : -2 * reach - 1]) / (2 * reach + 1)
    return (lines - local_mean).clamp(min=0.0)


def _shares() -> list[np.ndarray]:
    """Weight of every window for each pitch, float64 [pitch] each; they sum to 1."""
    centres = np.log2([hz for _, hz in _WINDOWS])
    return [np.interp(np.log2(_PITCH_HZ), centres, row) for row in np.eye(len(_WINDOWS))]


@functools.lru_cache(maxsize=4)
def _kernel(window: int) -> tuple[Tensor, Tensor]:
    """(kernel of each pitch [pitch, line], width of each line on the ERB scale [line], Glasberg and
    Moore 1990)."""
    line_hz = RATE_HZ / window
    lines_hz = np.arange(window // 2 + 1) * line_hz
    density = np.gradient(21.4 * np.log10(1.0 + lines_hz / 229.0))
    kernel = np.zeros((len(PITCHES), len(lines_hz)))
    for row, hz in enumerate(_PITCH_HZ):
        ratio = lines_hz / hz
        for harmonic in _PRIMES:
            if harmonic > 1 and harmonic * hz > _MAX_HARMONIC_HZ:
                break
            distance_hz = np.abs(lines_hz - harmonic * hz)
            half_hz = np.hypot(_LOBE_LINES * line_hz, harmonic * hz * _LOBE_RATIO)
            half_hz = min(half_hz, max(hz / 4, 1.5 * line_hz))
            inside = distance_hz < half_hz
            lobe = np.cos(np.pi / 2 * np.minimum(distance_hz / half_hz, 1))
            kernel[row] += np.where(inside, lobe, 0)
            offset = np.abs(ratio - harmonic)
            valley = (offset >= 0.25) & (offset < 0.75) & ~inside
            kernel[row, valley] += _VALLEY * 0.5 * np.cos(2 * np.pi * ratio[valley])
        kernel[row] *= (ratio >= 0.25) / np.sqrt(np.maximum(lines_hz, line_hz))
        kernel[row] *= density / np.sqrt(np.maximum(kernel[row], 0.0) ** 2 @ density)
    return torch.from_numpy(kernel).float(), torch.from_numpy(density).float()
