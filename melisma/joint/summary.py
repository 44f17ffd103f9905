"""Fixed-length summary features of a window of audio: statistics of timbre, harmony and rhythm.

Input: audio [batch, sample] at 24 kHz, one second or longer (training uses ten).
Output: float32 [batch, 420], in blocks named by `SUMMARY_BLOCKS`:

* `level`, `spread`, `rise`: over time, the mean and standard deviation of 64 log-mel bands, and
  the mean rise from frame to frame (attacks; decaying and sustained sounds differ here);
* `chroma`: energy of the 12 pitch classes in three registers, each summing to one;
* `tempogram`: autocorrelation of the onset strength, in the lowest 8 bands (below about 400 Hz)
  and in the others, at 96 lags whose tempi are log-spaced from 40 to 220 bpm, so that a change of
  tempo is a shift (Grosche and Mueller, Tempogram Toolbox, 2011).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from melisma.sound.spectra import mel_filters, spectrum
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ

MELS = 64
TEMPO_LAGS = 96
MIN_BPM, MAX_BPM = 40.0, 220.0
ONSET_BANDS = 2
REGISTERS_HZ: tuple[tuple[float, float], ...] = ((60.0, 250.0), (250.0, 1000.0), (1000.0, 4200.0))
"""Edges of the chroma's registers: bass, middle, treble (chosen)."""

MEL_WINDOW, MEL_HOP = 1024, 240
"""43 ms windows at 100 Hz: onsets need the rate, timbre the window."""
CHROMA_WINDOW, CHROMA_HOP = 8192, 2400
"""341 ms windows resolve semitones from about 100 Hz up; 10 Hz is enough for a mean."""
ONSET_RATE_HZ = SAMPLE_RATE_HZ / MEL_HOP

SUMMARY_BLOCKS: tuple[tuple[str, int], ...] = (
    ("level", MELS),
    ("spread", MELS),
    ("rise", MELS),
    ("chroma", 12 * len(REGISTERS_HZ)),
    ("tempogram", ONSET_BANDS * TEMPO_LAGS),
)
SUMMARY_WIDTH = sum(width for _, width in SUMMARY_BLOCKS)


def summary_block(name: str) -> slice:
    """Slice of a block of `SUMMARY_BLOCKS` in a summary."""
    widths = dict(SUMMARY_BLOCKS)
    names = list(widths)
    start = sum(widths[one] for one in names[: names.index(name)])
    return slice(start, start + widths[name])


@functools.lru_cache(maxsize=1)
def _chroma_filters() -> Tensor:
    """Chroma filter bank [register * 12, line] (A4 = 440 Hz, equal temperament).

    Each spectral line of a register contributes to its nearest pitch class, with a weight that
    falls off (Gaussian) with the distance from the centre of the semitone.
    """
    lines_hz = np.arange(CHROMA_WINDOW // 2 + 1) * SAMPLE_RATE_HZ / CHROMA_WINDOW
    rows = np.zeros((len(REGISTERS_HZ), 12, len(lines_hz)), dtype=np.float32)
    pitches = 69.0 + 12.0 * np.log2(np.maximum(lines_hz, 1.0) / 440.0)
    for register, (low_hz, high_hz) in enumerate(REGISTERS_HZ):
        for line in np.flatnonzero((lines_hz >= low_hz) & (lines_hz < high_hz)):
            nearest = round(pitches[line])
            offset = pitches[line] - nearest
            rows[register, nearest % 12, line] = math.exp(-0.5 * (offset / 0.2) ** 2)
    return torch.from_numpy(rows.reshape(-1, len(lines_hz)))


def _chroma(sound: Tensor) -> Tensor:
    """[batch, sample] -> [batch, 36]."""
    power = spectrum(sound, CHROMA_WINDOW, CHROMA_HOP).abs().square()
    level = power.mean(dim=1, keepdim=True)
    magnitude = (power / (level + 1e-8)).sqrt() * (level / (level + 1e-6)).sqrt()
    peaks = magnitude * (
        magnitude >= F.max_pool1d(magnitude.transpose(1, 2), 3, 1, 1).transpose(1, 2)
    )
    folded = (_chroma_filters().to(sound.device) @ peaks).mean(dim=-1)
    folded = folded.unflatten(1, (len(REGISTERS_HZ), 12))
    return (folded / (folded.sum(dim=-1, keepdim=True) + 1e-6)).flatten(1)


@functools.lru_cache(maxsize=1)
def _lags() -> tuple[Tensor, Tensor, int]:
    """(lower lag in frames, interpolation weight of the next) of each tempo, and number of lags."""
    tempi_bpm = MIN_BPM * (MAX_BPM / MIN_BPM) ** (
        (torch.arange(TEMPO_LAGS, dtype=torch.float32, device="cpu") + 0.5) / TEMPO_LAGS
    )
    lags = 60.0 * ONSET_RATE_HZ / tempi_bpm
    lower = lags.floor()
    return lower.long(), lags - lower, int(lower.max()) + 2


def _tempogram(mel: Tensor) -> Tensor:
    """Log-mel [batch, 64, frame] -> [batch, 192]."""
    rise = (mel[..., 1:] - mel[..., :-1]).clamp(min=0.0)
    split = MELS // 8
    strength = torch.stack([rise[:, :split].mean(1), rise[:, split:].mean(1)], dim=1)
    strength = strength - F.avg_pool1d(strength, 101, 1, 50, count_include_pad=False)
    lower, share, count = _lags()
    length = strength.shape[-1]
    size = 1 << (length + count).bit_length()
    lines = torch.fft.rfft(strength, size)
    correlation = torch.fft.irfft(lines.abs().square(), size)[..., :count]
    overlap = (length - torch.arange(count, device=mel.device, dtype=torch.float32)).clamp(
        min=1
    ) / length
    correlation = correlation / overlap
    scaled = correlation / (correlation[..., :1] + 1e-4)
    lower, share = lower.to(mel.device), share.to(mel.device)
    at_lags = scaled[..., lower] * (1 - share) + scaled[..., lower + 1] * share
    return at_lags.flatten(1)


@torch.no_grad()
def summarise(sound: Tensor) -> Tensor:
    """Computes summary features.

    Args:
        sound: Audio [batch, sample] at 24 kHz.

    Returns:
        float32 [batch, 420], see `SUMMARY_BLOCKS`.

    Raises:
        MelismaError: Another shape, or less than one second.
    """
    if sound.dim() != 2 or sound.shape[1] < SAMPLE_RATE_HZ:
        raise MelismaError(
            f"a summary needs sound of the shape [batch, sample] and at least {SAMPLE_RATE_HZ} "
            f"samples, not {list(sound.shape)}"
        )
    sound = sound.float()
    magnitude = spectrum(sound, MEL_WINDOW, MEL_HOP).abs()
    filters = mel_filters(SAMPLE_RATE_HZ, MEL_WINDOW, MELS, 30.0).to(sound.device)
    mel = torch.log(filters @ magnitude + 1e-4)
    rise = (mel[..., 2:] - mel[..., :-2]).clamp(min=0.0).mean(dim=-1)
    return torch.cat(
        [mel.mean(dim=-1), mel.std(dim=-1), rise, _chroma(sound), _tempogram(mel)], dim=1
    )
