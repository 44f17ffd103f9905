"""Chroma features that condition MusicGen's melody models (Copet et al., 2306.05284, section 2.3).

Input: a `Waveform`. Output: float32 [frame, 12], C first, 7.8125 frames per second: windows of
2^14 samples with a hop of 2^12, of mono audio at 32 kHz; the power of each spectral line is
distributed over the pitch classes around it (Ellis, "Chroma feature analysis and synthesis", 2007),
and the strongest class of a frame is 1, all others 0. No source is separated first: a voice may be
the melody.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from melisma.melody.tune import TRACK_RATE_HZ, Tune, extract_tune
from melisma.sound.repair import repaired
from melisma.sound.resample import mono_samples
from melisma.values import Waveform
from melisma.values.errors import MelismaError

RATE_HZ = 32_000
WINDOW_SAMPLES = 2**14
HOP_SAMPLES = 2**12
CLASSES = 12
_CENTRE_OCTAVE, _OCTAVE_SPREAD = 5.0, 2.0
"""Centre and spread in octaves of the Gaussian weight of spectral lines: five octaves above A0
(880 Hz), as by Ellis."""
_SILENT_SHARE = 1e-6
"""A frame below this fraction of the loudest frame's power is silent (-60 dB)."""
_MIN_PEAK = 1e-6
"""Minimum divisor of the normalization by a frame's strongest class (as in the reference)."""
_MIN_SOUNDING = 0.1
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
    """Chroma of audio, one-hot unless `soft`. Audio shorter than a window is centred in one.

    Args:
        waveform: The audio.
        voice: The audio is a single hum, whistle, voice or instrument: the class is that of its
            note (by `extract_tune`), where the spectrum's strongest class is often an overtone's.
        soft: Return all classes, scaled to a maximum of 1.
        exact: Treat silent frames as the reference implementation does (C, or the strongest noise);
            otherwise they are all zeros, no class.
        seconds: Duration to analyse from the beginning; None for all.

    Returns:
        float32 [frame, 12].

    Raises:
        MelismaError: No samples, `voice` and `exact` together, or errors of `extract_tune`.
    """
    if voice and exact:
        raise MelismaError("a tracked voice has no exact chroma: leave out voice or exact")
    if seconds is not None and not seconds > 0:
        raise MelismaError(f"the duration to analyse is above 0 s, not {seconds}")
    samples = waveform.samples.shape[1]
    if seconds is not None:
        samples = round(min(seconds * waveform.rate_hz, samples))
    if samples == 0:
        raise MelismaError("the sound holds no sample: give one that lasts")
    if voice:
        chroma = _voice_chroma(waveform, samples)
    else:
        part, _ = repaired(replace(waveform, samples=waveform.samples[:, :samples]))
        chroma = _spectral_chroma(mono_samples(part, RATE_HZ), exact)
    if soft:
        return chroma / np.maximum(chroma.max(axis=1, keepdims=True), _MIN_PEAK)
    one_hot = np.eye(CLASSES, dtype=np.float32)[chroma.argmax(axis=1)]
    return one_hot if exact else one_hot * (chroma.max(axis=1, keepdims=True) > 0)


def chroma_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Mean cosine similarity of the chroma of two pieces, frame by frame.

    The published metric (2306.05284, section 4.1: .66 with melody conditioning, .10 without) uses
    one-hot frames, `chroma_of(..., exact=True)`; soft chroma gives higher values, near .5 for
    unrelated pieces. The longer piece is truncated. Frames that are silent in both are skipped,
    frames that are silent in one count 0.

    Args:
        one: Chroma [frame, 12].
        other: Chroma [frame, 12].

    Returns:
        Similarity, 1 where all frames agree.

    Raises:
        MelismaError: Another shape, or all frames are silent.
    """
    for chroma in (one, other):
        if chroma.ndim != 2 or chroma.shape[1] != CLASSES:
            raise MelismaError(f"chroma has the shape [frame, 12], not {list(chroma.shape)}")
    frames = min(len(one), len(other))
    rows = [chroma[:frames].astype(np.float64) for chroma in (one, other)]
    lengths = [np.linalg.norm(row, axis=1) for row in rows]
    counts = (lengths[0] > 0) | (lengths[1] > 0)
    if not counts.any():
        raise MelismaError("nothing is to be compared: no frame of either chroma has a class")
    cosines = (rows[0] * rows[1]).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    return float(cosines[counts].mean())


@functools.lru_cache(maxsize=1)
def chroma_filters() -> Tensor:
    """Chroma filter bank, float32 [12, WINDOW_SAMPLES // 2 + 1].

    Gaussians in semitones, a semitone wide, or as wide as the line where lines are farther apart;
    each line's weights have unit L2 norm before its octave weight. Line 0 is placed an octave and a
    half below line 1.
    """
    lines_hz = np.arange(1, WINDOW_SAMPLES) * RATE_HZ / WINDOW_SAMPLES
    semitone = CLASSES * np.log2(lines_hz / 27.5)
    semitone = np.concatenate([[semitone[0] - 1.5 * CLASSES], semitone])
    width = np.append(np.maximum(np.diff(semitone), 1.0), 1.0)
    half = CLASSES / 2
    distance = (semitone - np.arange(CLASSES)[:, None] + half) % CLASSES - half
    weights = np.exp(-0.5 * (2.0 * distance / width) ** 2)
    weights /= np.linalg.norm(weights, axis=0)
    weights *= np.exp(-0.5 * ((semitone / CLASSES - _CENTRE_OCTAVE) / _OCTAVE_SPREAD) ** 2)
    # Semitones count from A, classes from C.
    return torch.from_numpy(np.roll(weights, -3, axis=0)[:, : WINDOW_SAMPLES // 2 + 1]).float()


def _spectral_chroma(sound: np.ndarray, exact: bool) -> np.ndarray:
    """Audio at 32 kHz -> power of each class, float32 [frame, 12]; silence is 0 unless `exact`."""
    parts = list(_block_chroma(torch.from_numpy(np.array(sound, dtype=np.float32))))
    chroma = torch.cat(parts).numpy()
    if not exact:
        power = chroma.sum(axis=1, keepdims=True)
        chroma = chroma * (power > _SILENT_SHARE * max(float(power.max()), 1e-9))
    return chroma


def _block_chroma(sound: Tensor) -> Iterator[Tensor]:
    """Chroma of successive blocks, [frame, 12] each, so that long audio takes little memory."""
    missing = max(WINDOW_SAMPLES - len(sound), 0)
    half = WINDOW_SAMPLES // 2
    sound = F.pad(sound, (missing // 2, missing - missing // 2))
    frames = F.pad(sound[None], (half, half), mode="reflect")[0].unfold(
        0, WINDOW_SAMPLES, HOP_SAMPLES
    )
    window = torch.hann_window(WINDOW_SAMPLES, dtype=torch.float32, device="cpu")
    for block in frames.split(_BLOCK_FRAMES):
        lines = torch.fft.rfft(block * window)
        power = lines.real.square() + lines.imag.square()
        yield power @ chroma_filters().T / window.square().sum()


def chroma_of_tune(tune: Tune, seconds: float) -> np.ndarray:
    """Chroma of a tune, as `chroma_of` has it of a voice.

    Args:
        tune: A melody found in sound, or that of a score.
        seconds: Duration from the beginning.

    Returns:
        float32 [frame, 12], one-hot, zeros where the tune rests.

    Raises:
        MelismaError: The duration is not above 0.
    """
    if not seconds > 0:
        raise MelismaError(f"the duration of a chroma is above 0 s, not {seconds}")
    chroma = _tune_chroma(tune, round(min(seconds, tune.seconds) * RATE_HZ))
    one_hot = np.eye(CLASSES, dtype=np.float32)[chroma.argmax(axis=1)]
    return one_hot * (chroma.max(axis=1, keepdims=True) > 0)


def _voice_chroma(waveform: Waveform, samples: int) -> np.ndarray:
    """Chroma of the tune of a voice, [frame, 12]; see `_tune_chroma`."""
    tune = extract_tune(waveform, seconds=samples / waveform.rate_hz)
    return _tune_chroma(tune, round(samples * RATE_HZ / waveform.rate_hz))


def _tune_chroma(tune: Tune, resampled: int) -> np.ndarray:
    """Hann-weighted fraction of each window that each class of the tune fills, float32 [frame, 12];
    `resampled`: number of samples at `RATE_HZ`."""
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
    centres_seconds = np.arange(1 + resampled // HOP_SAMPLES) * HOP_SAMPLES / RATE_HZ
    frames = np.minimum(np.round(centres_seconds * TRACK_RATE_HZ).astype(int), len(shares) - 1)
    chroma = shares[frames]
    return (chroma * (chroma.sum(axis=1, keepdims=True) >= _MIN_SOUNDING)).astype(np.float32)
