"""The chroma that MusicGen's melody models are told (Copet et al., 2306.05284, section 2.3).

Enters: a `Waveform`. Leaves: float32 [frame, 12], C first, 7.8125 frames a second: windows of
2^14 samples, 2^12 apart, of mono sound at 32 kHz; the power of each line is given to the pitch
classes around it (Ellis, "Chroma feature analysis and synthesis", 2007), and the strongest class
of a frame is 1, all others 0. No part of the sound is taken away first: a voice may be the melody.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn import functional as F

from melisma.melody.tune import TRACK_RATE_HZ, extract_tune
from melisma.values import Waveform

RATE_HZ = 32_000
WINDOW_SAMPLES = 2**14
HOP_SAMPLES = 2**12
CLASSES = 12
_CENTRE_OCTAVE, _OCTAVE_SPREAD = 5.0, 2.0
"""Lines count most five octaves above A0 (880 Hz), Gaussian (the weights of Ellis)."""
_SILENT_SHARE = 1e-6
"""A frame with so little of the loudest frame's power is silent (-60 dB)."""
_LEAST_PEAK = 1e-6
"""Frames whose strongest class has less are divided by this (as in the reference)."""
_LEAST_SOUNDING = 0.1
"""A window of which the tune fills less is silent (chosen)."""
_BLOCK_FRAMES = 64


def chroma_of(
    waveform: Waveform,
    *,
    voice: bool = False,
    soft: bool = False,
    exact: bool = False,
    seconds: float | None = None,
) -> np.ndarray:
    """Chroma of the first `seconds` of the sound, or of all: float32 [frame, 12], one class each.

    `voice`: the sound is one hum, whistle, voice or instrument, and the class is that of its note
    (`extract_tune`, whose errors apply), where the spectrum's strongest class is often an
    overtone's. `soft`: all classes, the strongest 1. Silent frames are zeros, which is no class;
    with `exact` they are what the reference makes of them: C, or what noise there is. Short sound
    stands in the middle of one window. Raises `ValueError` for sound without samples, and for
    `voice` and `exact` together.
    """
    if voice and exact:
        raise ValueError("a tracked voice has no exact chroma: leave out voice or exact")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"the part of the sound to hear lasts longer than {seconds} s")
    wanted = waveform.samples.shape[1]
    if seconds is not None:
        wanted = round(min(seconds * waveform.rate_hz, wanted))
    if wanted == 0:
        raise ValueError("the sound holds no sample: give one that lasts")
    if voice:
        chroma = _voice_chroma(waveform, wanted)
    else:
        mono = waveform.samples[:, :wanted].mean(axis=0)
        chroma = _spectral_chroma(soxr.resample(mono, waveform.rate_hz, RATE_HZ), exact)
    if soft:
        return chroma / np.maximum(chroma.max(axis=1, keepdims=True), _LEAST_PEAK)
    one_hot = np.eye(CLASSES, dtype=np.float32)[chroma.argmax(axis=1)]
    return one_hot if exact else one_hot * (chroma.max(axis=1, keepdims=True) > 0)


def chroma_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Mean cosine of the chroma of two pieces [frame, 12], frame by frame; 1 where all agree.

    The published measure (2306.05284, section 4.1: .66 for pieces told a melody, .10 without)
    takes one class a frame, `chroma_of(..., exact=True)`; soft chroma lies higher, and near .5
    for pieces that share nothing. The longer piece is cut. Frames silent in both do not count,
    frames silent in one count 0. Raises `ValueError` for other shapes and where no frame counts.
    """
    for chroma in (one, other):
        if chroma.ndim != 2 or chroma.shape[1] != CLASSES:
            raise ValueError(f"chroma has the shape [frame, 12], not {list(chroma.shape)}")
    frames = min(len(one), len(other))
    rows = [chroma[:frames].astype(np.float64) for chroma in (one, other)]
    lengths = [np.linalg.norm(row, axis=1) for row in rows]
    counts = (lengths[0] > 0) | (lengths[1] > 0)
    if not counts.any():
        raise ValueError("nothing is to be compared: no frame of either chroma has a class")
    cosines = (rows[0] * rows[1]).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    return float(cosines[counts].mean())


@functools.lru_cache(maxsize=1)
def chroma_filters() -> Tensor:
    """Share of every line in each class, float32 [12, WINDOW_SAMPLES // 2 + 1].

    Gaussians in semitones, a semitone wide or as wide as the line where lines lie farther apart;
    each line's shares have a sum of squares of 1 before the weight of its octave. Line 0 is taken
    to lie an octave and a half below line 1.
    """
    lines_hz = np.arange(1, WINDOW_SAMPLES) * RATE_HZ / WINDOW_SAMPLES
    place = CLASSES * np.log2(lines_hz / 27.5)
    place = np.concatenate([[place[0] - 1.5 * CLASSES], place])
    width = np.append(np.maximum(np.diff(place), 1.0), 1.0)
    half = CLASSES / 2
    away = (place - np.arange(CLASSES)[:, None] + half) % CLASSES - half
    shares = np.exp(-0.5 * (2.0 * away / width) ** 2)
    shares /= np.linalg.norm(shares, axis=0)
    shares *= np.exp(-0.5 * ((place / CLASSES - _CENTRE_OCTAVE) / _OCTAVE_SPREAD) ** 2)
    # Places count from A, classes from C.
    return torch.from_numpy(np.roll(shares, -3, axis=0)[:, : WINDOW_SAMPLES // 2 + 1]).float()


def _spectral_chroma(sound: np.ndarray, exact: bool) -> np.ndarray:
    """Sound at 32 kHz -> power of each class, float32 [frame, 12]; silence is 0 unless `exact`."""
    parts = list(_block_chroma(torch.from_numpy(np.ascontiguousarray(sound, dtype=np.float32))))
    chroma = torch.cat(parts).numpy()
    if not exact:
        power = chroma.sum(axis=1, keepdims=True)
        chroma = chroma * (power > _SILENT_SHARE * max(float(power.max()), 1e-9))
    return chroma


def _block_chroma(sound: Tensor) -> Iterator[Tensor]:
    """Chroma of the frames in turn, [frame, 12], so that long sound takes little memory."""
    lacking = max(WINDOW_SAMPLES - len(sound), 0)
    half = WINDOW_SAMPLES // 2
    sound = F.pad(sound, (lacking // 2, lacking - lacking // 2))
    frames = F.pad(sound[None], (half, half), mode="reflect")[0].unfold(
        0, WINDOW_SAMPLES, HOP_SAMPLES
    )
    window = torch.hann_window(WINDOW_SAMPLES)
    for block in frames.split(_BLOCK_FRAMES):
        lines = torch.fft.rfft(block * window)
        power = lines.real.square() + lines.imag.square()
        yield power @ chroma_filters().T / window.square().sum()


def _voice_chroma(waveform: Waveform, wanted: int) -> np.ndarray:
    """How much of each window a class of the tune fills, Hann-weighted, float32 [frame, 12]."""
    tune = extract_tune(waveform, seconds=wanted / waveform.rate_hz)
    sounding = np.zeros((len(tune.times) + 1, CLASSES))
    for note in tune.notes:
        first, last = (
            round(seconds * TRACK_RATE_HZ) for seconds in (note.onset_seconds, note.offset_seconds)
        )
        sounding[first:last, note.pitch % 12] = 1.0
    window = np.hanning(round(WINDOW_SAMPLES / RATE_HZ * TRACK_RATE_HZ)) ** 2
    shares = np.stack(
        [np.convolve(column, window / window.sum(), "same") for column in sounding.T], axis=1
    )
    samples = round(wanted * RATE_HZ / waveform.rate_hz)
    centres_seconds = np.arange(1 + samples // HOP_SAMPLES) * HOP_SAMPLES / RATE_HZ
    places = np.minimum(np.round(centres_seconds * TRACK_RATE_HZ).astype(int), len(shares) - 1)
    chroma = shares[places]
    return (chroma * (chroma.sum(axis=1, keepdims=True) >= _LEAST_SOUNDING)).astype(np.float32)
