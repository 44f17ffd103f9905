"""Detection of clicks, dropouts, dead silence, clipping and DC offset.

A click is a discontinuity of a few samples: linear prediction (as in Godsill and Rayner, "Digital
audio restoration", 1998, section 5.2) whitens the signal, and a click rises far above the
prediction error on *both* sides, whereas the error of a drum hit stays high after its onset.
A dropout is an abrupt fall from sound to silence with an abrupt, equally loud return. Dead
silence is a long passage below -60 dB inside the piece. Thresholds were set on clean renders of
real scores, where each detector may raise fewer than one false alarm in a hundred pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_toeplitz
from scipy.ndimage import maximum_filter1d
from scipy.signal import lfilter

from melisma.analysis.audio.frames import cell_levels_db, mono_samples, true_runs
from melisma.values import Waveform

RATE_HZ = 24_000
PREDICTION_ORDER = 24
BLOCK_SAMPLES = 2_048
"""Samples that share one predictor (85 ms, over which the signal is stationary enough)."""
CLICK_RATIO = 6.0
"""Ratio of a click's prediction error to the largest one around it. Tuned on clean renders: the
largest ratio of a piece has the median 1.6 and the 99th percentile 3.6; a single sample displaced
by .05 in music that peaks at .7 has the median 6, by .2 11."""
CLICK_FLOOR = 0.004
"""Smallest prediction error that counts (-48 dB; chosen: quieter clicks are inaudible)."""
SILENCE_DB = -60.0
"""Audio below this level counts as silence."""
DEAD_SECONDS = 1.5
"""Silence inside a piece longer than this is dead (chosen: a general pause is shorter)."""
DROPOUT_SECONDS = (0.008, 1.5)
"""Shortest and longest gap that is a dropout; longer ones are dead silence."""
DROPOUT_FALL_DB = 30.0
"""How far the level falls within `EDGE_SECONDS` (released notes decay more slowly)."""
EDGE_SECONDS = 0.004
STEP_SAMPLES = 24
"""Levels are taken every millisecond."""


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """Artefacts detected in one piece; times in seconds from its beginning."""

    clicks: tuple[float, ...]
    dropouts: tuple[tuple[float, float], ...]
    """Start and end of each dropout."""
    dead_silences: tuple[tuple[float, float], ...]
    """Start and end of each dead silence inside the piece; a silent piece is one dead silence."""
    leading_silence_seconds: float
    trailing_silence_seconds: float
    clipped_share: float
    """Share of samples in flat runs at the extreme value."""
    offset: float
    """Mean amplitude."""

    @property
    def dead_silence_seconds(self) -> float:
        """Total length of dead silence."""
        return float(sum(end - start for start, end in self.dead_silences))

    @property
    def is_clean(self) -> bool:
        """Whether there is no click, no dropout and no dead silence."""
        return not (self.clicks or self.dropouts or self.dead_silences)


def _prediction_error(samples: np.ndarray) -> np.ndarray:
    """Linear prediction residual, float64 [sample]."""
    error = np.zeros_like(samples)
    context = np.hanning(2 * BLOCK_SAMPLES)
    padded = np.pad(samples, (BLOCK_SAMPLES // 2 + PREDICTION_ORDER, 2 * BLOCK_SAMPLES))
    for start in range(0, len(samples), BLOCK_SAMPLES):
        offset = start + PREDICTION_ORDER
        block = padded[offset : offset + 2 * BLOCK_SAMPLES] * context
        # An outlier must not influence the predictor: clip it at four times the RMS of the block.
        limit = 4.0 * np.sqrt(np.mean(np.square(block))) + 1e-9
        bounded = np.clip(block, -limit, limit)
        spectrum = np.abs(np.fft.rfft(bounded, 4 * BLOCK_SAMPLES)) ** 2
        correlation = np.fft.irfft(spectrum)[: PREDICTION_ORDER + 1]
        correlation[0] = correlation[0] * (1.0 + 1e-6) + 1e-9
        weights = solve_toeplitz(correlation[:-1], correlation[1:])
        start_sample = start + BLOCK_SAMPLES // 2
        segment = padded[start_sample : start_sample + PREDICTION_ORDER + BLOCK_SAMPLES]
        predicted = lfilter(np.concatenate([[1.0], -weights]), [1.0], segment)
        length = min(BLOCK_SAMPLES, len(samples) - start)
        error[start : start + length] = predicted[PREDICTION_ORDER:][:length]
    return error


def _find_clicks(samples: np.ndarray) -> tuple[float, ...]:
    """Times of isolated discontinuities in seconds, ascending."""
    error = np.abs(_prediction_error(samples))
    cell = 24
    cells = error[: len(error) // cell * cell].reshape(-1, cell)
    if len(cells) < 40:
        return ()
    peaks = cells.max(axis=1)
    # Largest error 2-12 ms before and after; the milliseconds next to the click are left out.
    # At the edges of the piece, where one side is missing, nothing can be detected.
    before = np.full_like(peaks, np.inf)
    after = np.full_like(peaks, np.inf)
    usual = maximum_filter1d(peaks, size=11)
    before[12:] = usual[5:-7]
    after[:-12] = usual[7:-5]
    surrounding = np.maximum(before, after)
    found = np.flatnonzero((peaks > CLICK_RATIO * surrounding) & (peaks > CLICK_FLOOR))
    times: list[float] = []
    for index in found:
        seconds = float(index * cell + int(cells[index].argmax())) / RATE_HZ
        if not times or seconds - times[-1] > 0.005:
            times.append(seconds)
    return tuple(times)


def _find_dropouts(
    levels_db: np.ndarray, runs: list[tuple[int, int]]
) -> tuple[tuple[float, float], ...]:
    """Silent runs with an abrupt beginning and end, as (start, end) in seconds."""
    step_seconds = STEP_SAMPLES / RATE_HZ
    edge = round(EDGE_SECONDS / step_seconds)
    found: list[tuple[float, float]] = []
    for first, last in runs:
        seconds = (last - first) * step_seconds
        if not DROPOUT_SECONDS[0] <= seconds <= DROPOUT_SECONDS[1]:
            continue
        if first < 20 or last + 20 > len(levels_db):
            continue
        # Level 4 ms before the fall and 4 ms after the return: the median over 10 ms.
        before_db = float(np.median(levels_db[first - edge - 10 : first - edge + 1]))
        after_db = float(np.median(levels_db[last + edge - 1 : last + edge + 10]))
        inside_db = float(np.median(levels_db[first:last]))
        fall_db = before_db - inside_db
        similar_level = abs(before_db - after_db) < 15.0
        if fall_db > DROPOUT_FALL_DB and before_db > SILENCE_DB + 15.0 and similar_level:
            found.append((first * step_seconds, last * step_seconds))
    return tuple(found)


def _clipped_share(samples: np.ndarray) -> float:
    """Share of samples in runs of three or more at the piece's extreme value."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < 0.1:
        return 0.0
    flat = np.abs(samples) >= peak * (1.0 - 1e-4)
    runs = np.convolve(flat.astype(np.int64), np.ones(3, dtype=np.int64), mode="valid") == 3
    return float(np.count_nonzero(runs)) / len(samples)


def find_artefacts(waveform: Waveform) -> Artefacts:
    """Detects artefacts; audio of another rate is resampled to 24 kHz first (not for clipping)."""
    samples = mono_samples(waveform, RATE_HZ)
    levels_db = cell_levels_db(samples, STEP_SAMPLES)
    runs = true_runs(levels_db < SILENCE_DB)
    step_seconds = STEP_SAMPLES / RATE_HZ
    steps = len(levels_db)
    all_silent = len(runs) == 1 and runs[0] == (0, steps) and steps > 0
    inside = runs if all_silent else [run for run in runs if run[0] > 0 and run[1] < steps]
    leading = runs[0][1] * step_seconds if runs and runs[0][0] == 0 else 0.0
    trailing = (steps - runs[-1][0]) * step_seconds if runs and runs[-1][1] == steps else 0.0
    return Artefacts(
        clicks=_find_clicks(samples),
        dropouts=_find_dropouts(levels_db, inside),
        dead_silences=tuple(
            (first * step_seconds, last * step_seconds)
            for first, last in inside
            if (last - first) * step_seconds > DEAD_SECONDS
        ),
        leading_silence_seconds=leading,
        trailing_silence_seconds=trailing,
        clipped_share=_clipped_share(waveform.mono.astype(np.float64)),
        offset=float(samples.mean()) if len(samples) else 0.0,
    )
