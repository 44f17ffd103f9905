"""Balance of an arrangement: keeps the lead audible above the accompaniment.

Input: finished tracks, the lead first. Output: the same notes; if the estimated levels require it,
the velocities of the lead are raised and those of the pitched accompaniment lowered.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from melisma.data.arrange.instruments import INSTRUMENTS, level_db
from melisma.values import Track

_LEAD_MARGIN_DB = 2.0
"""Smallest level of the lead relative to the accompaniment without bass and drums (chosen: singers
on records are a few decibels above the band)."""
_MAX_LEAD_VELOCITY = 118.0
"""Largest mean velocity to which a lead is raised."""
_MIN_ACCOMPANIMENT_FACTOR = 0.66
"""Smallest factor on the velocities of the accompaniment."""
_DECAY_SECONDS = 0.5
"""Longest duration of plucked and struck notes that counts as energy."""


def balance(tracks: list[Track], tempo_bpm: float) -> list[Track]:
    """Raise the lead and lower the accompaniment as far as needed.

    Args:
        tracks: All tracks, the lead first.
        tempo_bpm: Quarter notes per minute.

    Returns:
        The tracks with changed velocities.
    """
    lead, rest = tracks[0], tracks[1:]
    accompaniment = [track for track in rest if not track.is_drum and track.name != "bass"]
    accompaniment_energy = sum(_energy(track, tempo_bpm) for track in accompaniment)
    if accompaniment_energy <= 0.0:
        return tracks
    missing_db = _LEAD_MARGIN_DB - 10.0 * np.log10(_energy(lead, tempo_bpm) / accompaniment_energy)
    if missing_db <= 0.0:
        return tracks
    factor = 10.0 ** (missing_db / 40.0)
    raised = min(factor, max(_MAX_LEAD_VELOCITY / float(lead.notes.velocity.mean()), 1.0))
    lowered = max(raised / factor, _MIN_ACCOMPANIMENT_FACTOR)
    return [
        _scaled(lead, raised),
        *(
            track if track.is_drum or track.name == "bass" else _scaled(track, lowered)
            for track in rest
        ),
    ]


def _energy(track: Track, tempo_bpm: float) -> float:
    """Estimated energy of a part, in arbitrary units."""
    seconds = track.notes.duration_beats * 60.0 / tempo_bpm
    if not INSTRUMENTS[track.program].sustains:
        seconds = np.minimum(seconds, _DECAY_SECONDS)
    loudness = (track.notes.velocity / 127.0) ** 4
    return float((loudness * seconds).sum()) * 10.0 ** (level_db(track.program) / 10.0)


def _scaled(track: Track, factor: float) -> Track:
    velocity = np.clip(np.round(track.notes.velocity * factor), 1, 127).astype(np.int64)
    return replace(track, notes=replace(track.notes, velocity=velocity))
