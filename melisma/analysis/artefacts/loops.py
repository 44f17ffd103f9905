"""Detection of stuck loops: a segment of a tenth of a second to a bar that repeats literally.

A mel spectrogram in decibels, one frame per 10 ms, is compared with itself at every lag (the
diagonals of the self-similarity matrix of Foote, "Visualizing music and audio using
self-similarity", 1999). A *stuck* loop differs from musical *repetition* in three measured ways:

- It is literal. Real loops, drum machines included, recur with other tails, reverberation and
  neighbours: rendered music differs from itself by 1.7 dB at its best lag, one piece in ten by less
  than .8 dB; a loop of tokens or samples by .1 to .5 dB.
- It occurs at least four times and lasts a second or more.
- It changes within its period. A sustained chord is equally similar at every lag, so it has no
  period and is ignored; so is a repeated codec frame, which sounds like a sustained chord.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from melisma.analysis.audio.frames import (
    level_db,
    magnitude_frames,
    mel_filters,
    mono_samples,
    true_runs,
)
from melisma.values import Waveform

RATE_HZ = 24_000
HOP_SAMPLES = 240
FRAMES_PER_SECOND = RATE_HZ / HOP_SAMPLES
WINDOW_SAMPLES = 1_024
BANDS = 40
RANGE_DB = 55.0
"""Floor of the bands below the loudest of the piece: differences below it are inaudible."""
SILENT_DB = 45.0
"""Frames whose loudest band is this far below the loudest of the piece are silent."""
MIN_PERIOD_FRAMES = 6
"""Shortest period: shorter ones vanish within a window and are perceived as a low tone."""
MIN_REPEATS = 4
"""Minimum number of occurrences (chosen: threefold repetition is common in music)."""
MIN_SECONDS = 1.0
LITERAL_DB = 0.6
"""Mean distance of bands one period apart below which audio counts as the same (chosen between the
two ranges above)."""
MOVEMENT_DB = 1.0
"""Minimum standard deviation of bands within a period; a sustained chord has less (chosen)."""
LITERAL_SHARE = 0.35
"""Maximum distance one period apart as a share of that deviation (chosen)."""


@dataclass(frozen=True, kw_only=True)
class StuckLoop:
    """The longest stuck loop; zeros where there is none."""

    start_seconds: float
    end_seconds: float
    period_seconds: float
    """Length of the repeated segment."""
    share: float
    """Share of the piece that the loop takes up."""

    @property
    def is_stuck(self) -> bool:
        """Whether there is a stuck loop."""
        return self.share > 0.0


_NO_LOOP = StuckLoop(start_seconds=0.0, end_seconds=0.0, period_seconds=0.0, share=0.0)


def _mel_spectrogram_db(waveform: Waveform) -> np.ndarray:
    """Bands in decibels, floored at `RANGE_DB` below the loudest, float32 [frame, band]."""
    samples = mono_samples(waveform, RATE_HZ)
    magnitudes = magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES)
    bands = level_db(magnitudes @ mel_filters(RATE_HZ, WINDOW_SAMPLES, BANDS, 60.0, 11_000.0))
    return np.maximum(bands, bands.max(initial=-200.0) - RANGE_DB).astype(np.float32)


def _movement_db(segment: np.ndarray, lag: int) -> float:
    """Standard deviation of bands within a period, averaged over periods and bands."""
    periods = segment[: len(segment) // lag * lag].reshape(-1, lag, segment.shape[1])
    return float(periods.std(axis=1).mean())


def _longest_literal_repeat(
    spectrogram: np.ndarray, silent: np.ndarray, lag: int
) -> tuple[int, int] | None:
    """First frame and last + 1 of the longest segment that repeats literally with this period."""
    distance = np.abs(spectrogram[lag:] - spectrogram[:-lag]).mean(axis=1)
    distance[silent[lag:] & silent[:-lag]] = RANGE_DB
    # Averaged over a period: an attack between two frames differs more than the tone after it.
    mean = uniform_filter1d(distance, lag, mode="nearest")
    least = max(MIN_REPEATS * lag, round(MIN_SECONDS * FRAMES_PER_SECOND))
    longest: tuple[int, int] | None = None
    for first, last in true_runs(mean < LITERAL_DB):
        # Each mean covers half a period on both sides, and the frames one lag later.
        begin, end = max(first - lag // 2, 0), min(last + lag // 2, len(distance))
        if end + lag - begin < least or (longest and end + lag - begin <= np.ptp(longest)):
            continue
        movement = _movement_db(spectrogram[begin : end + lag], lag)
        same = float(distance[first:last].mean())
        if movement > MOVEMENT_DB and same < LITERAL_SHARE * movement:
            longest = (begin, end + lag)
    return longest


def find_stuck_loop(waveform: Waveform) -> StuckLoop:
    """The longest segment in which the audio repeats literally, and its period.

    Periods range from .06 s to a quarter of the piece; of several of similar length (within 20 %)
    the shortest period is returned.
    """
    spectrogram = _mel_spectrogram_db(waveform)
    loudest = spectrogram.max(axis=1)
    if len(spectrogram) < MIN_SECONDS * FRAMES_PER_SECOND or np.ptp(spectrogram) < 1.0:
        return _NO_LOOP
    silent = loudest < loudest.max() - SILENT_DB
    candidates: list[tuple[int, int, int]] = []
    for lag in range(MIN_PERIOD_FRAMES, len(spectrogram) // MIN_REPEATS + 1):
        segment = _longest_literal_repeat(spectrogram, silent, lag)
        if segment is not None:
            candidates.append((lag, *segment))
    if not candidates:
        return _NO_LOOP
    longest_frames = max(last - first for _, first, last in candidates)
    lag, first, last = next(
        candidate for candidate in candidates if candidate[2] - candidate[1] >= 0.8 * longest_frames
    )
    end_seconds = min(last / FRAMES_PER_SECOND, waveform.seconds)
    start_seconds = first / FRAMES_PER_SECOND
    return StuckLoop(
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        period_seconds=lag / FRAMES_PER_SECOND,
        share=(end_seconds - start_seconds) / waveform.seconds,
    )
