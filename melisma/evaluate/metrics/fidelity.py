"""Fidelity of a codec (ViSQOL, onset F1, log-mel distance, SI-SDR), and its use of the codebooks.

ViSQOL in audio mode (Chinen et al., "ViSQOL v3", 2004.09584) comes from the PyPI package
`visqol-python`, Opus from the command `opusenc`; both serve measurement only and are looked up
when they are called.
"""

from __future__ import annotations

import importlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from melisma.analysis.audio.frames import level_db, magnitude_frames, mel_filters, mono_samples
from melisma.analysis.audio.onsets import find_onsets, score_onsets
from melisma.values import TokenGrid, Waveform
from melisma.values.errors import MelismaError

VISQOL_RATE_HZ = 48_000
"""The rate of ViSQOL's audio mode."""

MEL_RATE_HZ = 24_000
MEL_WINDOW_SAMPLES = 1_024
MEL_HOP_SAMPLES = 256
MEL_BANDS = 80
MEL_FLOOR = 1e-4
"""Magnitude that counts as silence (-80 dB below full scale)."""

Scorer = Callable[[np.ndarray, np.ndarray], float]
"""(reference, degraded), float64 [sample] at 48 kHz -> mean opinion score."""


def visqol_scorer() -> Scorer:
    """Loads ViSQOL's audio mode; `MelismaError` where the package is missing."""
    try:
        package = importlib.import_module("visqol")
    except ImportError as error:
        raise MelismaError(
            "ViSQOL is not installed: `pip install visqol-python` brings it"
        ) from error
    api = package.VisqolApi()
    api.create(mode="audio")

    def score(reference: np.ndarray, degraded: np.ndarray) -> float:
        measured = api.measure_from_arrays(reference, degraded, sample_rate=VISQOL_RATE_HZ)
        return float(measured.moslqo)

    return score


def at_visqol_rate(waveform: Waveform) -> np.ndarray:
    """Mono float64 [sample] at 48 kHz."""
    return mono_samples(waveform, VISQOL_RATE_HZ)


def opinion_score(original: Waveform, coded: Waveform, scorer: Scorer) -> float:
    """Predicted mean opinion score of a reconstruction, both cut to the common length."""
    reference, degraded = at_visqol_rate(original), at_visqol_rate(coded)
    length = min(len(reference), len(degraded))
    return scorer(reference[:length], degraded[:length])


def onset_ratio(truth_seconds: np.ndarray, original: Waveform, coded: Waveform) -> float:
    """Onset F1 in the reconstruction over onset F1 in the original.

    Args:
        truth_seconds: True onsets, float64 [onset].
        original: The original sound.
        coded: Its reconstruction.

    Returns:
        The ratio; nan where F1 is 0 in the original.
    """
    before = score_onsets(truth_seconds, find_onsets(original)).f1
    after = score_onsets(truth_seconds, find_onsets(coded)).f1
    return after / before if before > 0 else float("nan")


def code_with_opus(waveform: Waveform, kilobits: float) -> tuple[Waveform, float]:
    """The sound after `opusenc --hard-cbr` at `kilobits` kbit/s, and the file's actual bitrate in
    kbit/s; `MelismaError` where opusenc or a decoder for it is missing."""
    if shutil.which("opusenc") is None:
        raise MelismaError("opusenc is not installed: the system package opus-tools brings it")
    with tempfile.TemporaryDirectory() as folder:
        source, coded = Path(folder) / "in.wav", Path(folder) / "out.opus"
        soundfile.write(source, waveform.samples.T, waveform.rate_hz, subtype="PCM_16")
        command = ["opusenc", "--quiet", "--hard-cbr", "--bitrate", f"{kilobits:g}"]
        subprocess.run([*command, str(source), str(coded)], check=True, capture_output=True)
        size_bits = 8 * coded.stat().st_size
        samples, rate_hz = soundfile.read(coded, dtype="float32", always_2d=True)
    return Waveform(samples=samples.T, rate_hz=rate_hz), size_bits / waveform.seconds / 1000.0


def log_mel_distance(original: Waveform, coded: Waveform) -> float:
    """Mean distance of 80 log-mel bands in dB, cut to the common length; 0 for a copy.

    The L1 loss of EnCodec's and DAC's training (2210.13438, 2306.06546) at one resolution: 43 ms
    windows, 40 Hz to 12 kHz, levels clamped at -80 dB below full scale. It ignores phase. Raises
    `MelismaError` for empty sound.
    """
    first, second = _common_length(original, coded)
    filters = mel_filters(MEL_RATE_HZ, MEL_WINDOW_SAMPLES, MEL_BANDS, 40.0, MEL_RATE_HZ / 2)
    before, after = (
        level_db(np.maximum(magnitudes @ filters, MEL_FLOOR))
        for magnitudes in (
            magnitude_frames(sound, MEL_WINDOW_SAMPLES, MEL_HOP_SAMPLES)
            for sound in (first, second)
        )
    )
    return float(np.abs(before - after).mean())


def si_sdr_db(original: Waveform, coded: Waveform) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., "SDR - half-baked or well
    done?", 1811.02508, section 2.2), cut to the common length and not aligned.

    Infinite for a scaled copy, minus infinity for silence or uncorrelated sound, nan where the
    original is silent. It depends on phase, which a codec at a low bitrate need not preserve: low
    values may sound good.
    """
    target, estimate = _common_length(original, coded)
    energy = float(target @ target)
    if energy == 0.0:
        return math.nan
    projection = (float(estimate @ target) / energy) * target
    signal, distortion = (
        float(projection @ projection),
        float(np.square(estimate - projection).sum()),
    )
    if signal == 0.0:
        return -math.inf
    return 10.0 * math.log10(signal / distortion) if distortion > 0.0 else math.inf


def _common_length(original: Waveform, coded: Waveform) -> tuple[np.ndarray, np.ndarray]:
    """Mono float64 [sample] at 24 kHz of both, cut to the common length."""
    first, second = mono_samples(original, MEL_RATE_HZ), mono_samples(coded, MEL_RATE_HZ)
    length = min(len(first), len(second))
    if length == 0:
        raise MelismaError("there is no sound to compare")
    return first[:length], second[:length]


@dataclass(frozen=True, kw_only=True)
class LevelUse:
    """Use of the codebook of one level of a codec."""

    used: float
    """Share of the entries that occur, 0 to 1."""
    entropy_bits: float
    """Entropy of one token by its frequency, with Miller and Madow's correction."""
    capacity_bits: float
    """Largest possible entropy: log2 of the vocabulary."""
    tokens: int
    """Number of tokens counted; with few an entry may be missing by chance."""


def code_use(grids: Sequence[TokenGrid]) -> list[LevelUse]:
    """Codebook use of each level over all grids, which share a vocabulary and a number of levels.

    The entropy of counts is biased by about -(used entries - 1) / (2 tokens) nats (Miller, "Note
    on the bias of information estimates", 1955), which is corrected, up to the capacity. Raises
    `MelismaError` for no grid, or grids that differ.
    """
    if not grids or len({(len(grid.tokens), grid.vocabulary) for grid in grids}) != 1:
        raise MelismaError("give one grid or more, all with the same levels and vocabulary")
    vocabulary = grids[0].vocabulary
    found = []
    for level in range(len(grids[0].tokens)):
        tokens = np.concatenate([grid.tokens[level] for grid in grids])
        counts = np.bincount(tokens, minlength=vocabulary)
        shares = counts[counts > 0] / len(tokens)
        entropy = -(shares * np.log(shares)).sum() + (len(shares) - 1) / (2 * len(tokens))
        found.append(
            LevelUse(
                used=len(shares) / vocabulary,
                entropy_bits=min(float(entropy) / math.log(2.0), math.log2(vocabulary)),
                capacity_bits=math.log2(vocabulary),
                tokens=len(tokens),
            )
        )
    return found


def nominal_kilobits(uses: Sequence[LevelUse], frame_rate_hz: float) -> float:
    """Bitrate in kbit/s without entropy coding."""
    return frame_rate_hz * sum(use.capacity_bits for use in uses) / 1000.0


def entropy_kilobits(uses: Sequence[LevelUse], frame_rate_hz: float) -> float:
    """Estimated bitrate in kbit/s after an order-0 entropy coder, which knows the frequency of each
    token but no context."""
    return frame_rate_hz * sum(use.entropy_bits for use in uses) / 1000.0
