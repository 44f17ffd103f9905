"""Piano rolls of an excerpt of a performance, at 25 frames per second."""

from __future__ import annotations

import numpy as np

from melisma.symbolic.performance import Part, Performance
from melisma.values.tokens import FRAME_RATE_HZ

_FIRST_UNPITCHED_PROGRAM = 115
"""General MIDI programs from here on are percussion and sound effects without pitch."""


def is_pitched(part: Part) -> bool:
    """Whether the part has pitches (drums and sound effects have none)."""
    return not part.is_drum and part.program < _FIRST_UNPITCHED_PROGRAM


def note_frames(
    part: Part, start_seconds: float, frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Notes of a part that overlap an excerpt, quantised to frames.

    Args:
        part: the notes.
        start_seconds: time of frame 0.
        frames: length of the excerpt in frames.

    Returns:
        First frame (may be negative), last frame + 1, pitch and velocity, int64 [note] each.
    """
    begin = (part.start_seconds - start_seconds) * FRAME_RATE_HZ
    end = begin + part.duration_seconds * FRAME_RATE_HZ
    audible = (begin < frames) & (end > 0)
    # A tolerance of a thousandth of a frame, for rounding of times exactly on a frame edge.
    first = np.floor(begin[audible] + 1e-3).astype(np.int64)
    last = np.maximum(np.floor(end[audible] + 1e-3).astype(np.int64), first + 1)
    inside = (last > 0) & (first < frames)
    pitch = np.clip(part.pitch[audible], 0, 127)
    return first[inside], last[inside], pitch[inside], part.velocity[audible][inside]


def note_roll(
    first: np.ndarray, last: np.ndarray, pitch: np.ndarray, velocity: np.ndarray, frames: int
) -> np.ndarray:
    """Summed velocity of the notes that sound, [frame, 128]."""
    size = (frames + 1) * 128
    starts = np.bincount(np.maximum(first, 0) * 128 + pitch, velocity, size)
    stops = np.bincount(np.minimum(last, frames) * 128 + pitch, velocity, size)
    return np.cumsum((starts - stops).reshape(-1, 128)[:frames], axis=0)


def active_frames(first: np.ndarray, last: np.ndarray, frames: int) -> np.ndarray:
    """Whether any note sounds in each frame, bool [frame]; notes last from `first` up to `last`."""
    starts = np.bincount(np.maximum(first, 0), minlength=frames + 1)
    stops = np.bincount(np.minimum(last, frames), minlength=frames + 1)
    return np.cumsum(starts - stops)[:frames] > 0


def summed_roll(
    notes: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], frames: int
) -> np.ndarray:
    """Summed velocity of the notes of several parts (results of `note_frames`), [frame, 128]."""
    if not notes:
        return np.zeros((frames, 128))
    first, last, pitch, velocity = (np.concatenate(column) for column in zip(*notes, strict=True))
    return note_roll(first, last, pitch, velocity, frames)


def pitched_roll(performance: Performance, start_seconds: float, frames: int) -> np.ndarray:
    """Summed velocity of the pitched notes that sound, float64 [frame, 128]."""
    notes = [note_frames(p, start_seconds, frames) for p in performance.parts if is_pitched(p)]
    return summed_roll(notes, frames)
