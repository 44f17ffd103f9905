"""How much of the sound a codec keeps: ViSQOL, and onsets found again.

ViSQOL in audio mode (Chinen et al., "ViSQOL v3", 2004.09584) comes from the PyPI package
`visqol-python`, Opus from the command `opusenc`; both serve measurement only and are looked for
when they are called.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from melisma.measure import find_onsets, score_onsets
from melisma.values import Waveform

VISQOL_RATE_HZ = 48_000
"""The rate of ViSQOL's audio mode."""

Scorer = Callable[[np.ndarray, np.ndarray], float]
"""(reference, degraded), float64 [sample] at 48 kHz -> mean opinion score."""


def visqol_scorer() -> Scorer:
    """ViSQOL's audio mode; `ValueError` where the package is missing."""
    try:
        package = importlib.import_module("visqol")
    except ImportError as error:
        raise ValueError(
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
    samples = waveform.mono.astype(np.float64)
    if waveform.rate_hz == VISQOL_RATE_HZ:
        return samples
    return np.asarray(soxr.resample(samples, waveform.rate_hz, VISQOL_RATE_HZ))


def opinion_score(original: Waveform, coded: Waveform, scorer: Scorer) -> float:
    """Mean opinion score of a reconstruction, cut to the common length."""
    reference, degraded = at_visqol_rate(original), at_visqol_rate(coded)
    length = min(len(reference), len(degraded))
    return scorer(reference[:length], degraded[:length])


def onset_ratio(truth_seconds: np.ndarray, original: Waveform, coded: Waveform) -> float:
    """F1 of onsets found in the reconstruction over F1 in the original, both against the truth;
    nan where the detector finds nothing right in the original."""
    before = score_onsets(truth_seconds, find_onsets(original)).f1
    after = score_onsets(truth_seconds, find_onsets(coded)).f1
    return after / before if before > 0 else float("nan")


def code_with_opus(waveform: Waveform, kilobits: float) -> tuple[Waveform, float]:
    """The sound after `opusenc --hard-cbr`, and the file's real bitrate in kbit/s.

    Raises `ValueError` where opusenc or a decoder for it is missing.
    """
    if shutil.which("opusenc") is None:
        raise ValueError("opusenc is not installed: the system package opus-tools brings it")
    with tempfile.TemporaryDirectory() as folder:
        source, coded = Path(folder) / "in.wav", Path(folder) / "out.opus"
        soundfile.write(source, waveform.samples.T, waveform.rate_hz, subtype="PCM_16")
        command = ["opusenc", "--quiet", "--hard-cbr", "--bitrate", f"{kilobits:g}"]
        subprocess.run([*command, str(source), str(coded)], check=True, capture_output=True)
        size_bits = 8 * coded.stat().st_size
        samples, rate_hz = soundfile.read(coded, dtype="float32", always_2d=True)
    return Waveform(samples=samples.T, rate_hz=rate_hz), size_bits / waveform.seconds / 1000.0
