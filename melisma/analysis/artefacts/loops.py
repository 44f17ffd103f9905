"""Sound that is stuck: the same stretch, from a tenth of a second to a bar, again and again.

A picture of mel bands in decibels, a frame each 10 ms, is compared with itself one lag later
(Foote, "Visualizing music and audio using self-similarity", 1999, read along the diagonals). What
is *stuck* differs from what *repeats* in three ways, all measured:

- It is literal. Real loops, drum machines too, come back with other tails, rooms and neighbours:
  rendered music lies 1.7 dB from itself at its best lag, one piece in ten below .8 dB; a loop of
  tokens or samples .1 to .5 dB.
- It comes at least four times and lasts a second or more.
- It moves within its period. A held chord is as near to itself at every lag, so nothing goes
  round, and it is left alone; so is one frame of a codec that is held, which sounds like one.
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
"""Bands so far below the loudest of the piece are raised to there: nobody hears how they differ."""
SILENT_DB = 45.0
"""Frames whose loudest band lies so far below the loudest of the piece are silence."""
SHORTEST_FRAMES = 6
"""Shortest period: shorter ones vanish within a window and sound as a low tone."""
LEAST_REPEATS = 4
"""So often at least is the stretch heard (chosen: three times is a figure of speech in music)."""
LEAST_SECONDS = 1.0
LITERAL_DB = 0.6
"""Mean distance of bands one period apart below which the sound is the same (chosen between the
two ranges above)."""
MOVEMENT_DB = 1.0
"""Least standard deviation of bands within a period; a held chord has less (chosen)."""
LITERAL_SHARE = 0.35
"""Largest distance one period apart as a share of that movement (chosen)."""


@dataclass(frozen=True, kw_only=True)
class StuckLoop:
    """The longest stretch that is stuck; zeros where nothing is."""

    start_seconds: float
    end_seconds: float
    period_seconds: float
    """Length of what comes again."""
    share: float
    """Stretch over the length of the piece."""

    @property
    def is_stuck(self) -> bool:
        """Whether there is such a stretch."""
        return self.share > 0.0


_NOTHING = StuckLoop(start_seconds=0.0, end_seconds=0.0, period_seconds=0.0, share=0.0)


def _picture(waveform: Waveform) -> np.ndarray:
    """Bands in decibels, raised to `RANGE_DB` below the loudest, float32 [frame, band]."""
    samples = mono_samples(waveform, RATE_HZ)
    magnitudes = magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES)
    bands = level_db(magnitudes @ mel_filters(RATE_HZ, WINDOW_SAMPLES, BANDS, 60.0, 11_000.0))
    return np.maximum(bands, bands.max(initial=-200.0) - RANGE_DB).astype(np.float32)


def _movement_db(stretch: np.ndarray, lag: int) -> float:
    """Standard deviation of bands within a period, the mean over periods and bands."""
    periods = stretch[: len(stretch) // lag * lag].reshape(-1, lag, stretch.shape[1])
    return float(periods.std(axis=1).mean())


def _stuck_at(picture: np.ndarray, silent: np.ndarray, lag: int) -> tuple[int, int] | None:
    """First frame and last + 1 of the longest stretch that is stuck with this period."""
    distance = np.abs(picture[lag:] - picture[:-lag]).mean(axis=1)
    distance[silent[lag:] & silent[:-lag]] = RANGE_DB
    # A period at once, since an attack between two frames differs more than the tone after it.
    mean = uniform_filter1d(distance, lag, mode="nearest")
    least = max(LEAST_REPEATS * lag, round(LEAST_SECONDS * FRAMES_PER_SECOND))
    longest: tuple[int, int] | None = None
    for first, last in true_runs(mean < LITERAL_DB):
        # Each mean speaks for half a period on both sides of it, and for its partner a lag later.
        begin, end = max(first - lag // 2, 0), min(last + lag // 2, len(distance))
        if end + lag - begin < least or (longest and end + lag - begin <= np.ptp(longest)):
            continue
        movement = _movement_db(picture[begin : end + lag], lag)
        same = float(distance[first:last].mean())
        if movement > MOVEMENT_DB and same < LITERAL_SHARE * movement:
            longest = (begin, end + lag)
    return longest


def find_stuck_loop(waveform: Waveform) -> StuckLoop:
    """The longest stretch in which the sound repeats literally, and its period.

    Periods from .06 s to a quarter of the piece; of several that fit about as long, the shortest.
    """
    picture = _picture(waveform)
    loudest = picture.max(axis=1)
    if len(picture) < LEAST_SECONDS * FRAMES_PER_SECOND or np.ptp(picture) < 1.0:
        return _NOTHING
    silent = loudest < loudest.max() - SILENT_DB
    found: list[tuple[int, int, int]] = []
    for lag in range(SHORTEST_FRAMES, len(picture) // LEAST_REPEATS + 1):
        stretch = _stuck_at(picture, silent, lag)
        if stretch is not None:
            found.append((lag, *stretch))
    if not found:
        return _NOTHING
    most = max(last - first for _, first, last in found)
    lag, first, last = next(one for one in found if one[2] - one[1] >= 0.8 * most)
    end_seconds = min(last / FRAMES_PER_SECOND, waveform.seconds)
    start_seconds = first / FRAMES_PER_SECOND
    return StuckLoop(
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        period_seconds=lag / FRAMES_PER_SECOND,
        share=(end_seconds - start_seconds) / waveform.seconds,
    )
