"""Balance: the tune is heard over its band.

Enters: finished tracks, the lead first; leaves: the same notes with the velocities of the lead
raised and those of the pitched accompaniment lowered where an estimate of their levels asks for it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from melisma.data.arrange.instruments import INSTRUMENTS, level_db
from melisma.values import Track

_LEAD_ABOVE_DB = 2.0
"""Level of the lead over the rest without bass and drums (chosen: a singer on a record lies a few
decibels over the band)."""
_LOUDEST = 118.0
"""Mean velocity up to which a lead is raised."""
_SOFTEST_FACTOR = 0.66
"""Most that the accompaniment is held back."""
_RING_SECONDS = 0.5
"""How long plucked and struck notes carry energy."""


def balance(tracks: list[Track], tempo_bpm: float) -> list[Track]:
    """The tracks with the lead (the first) brought forward as far as needed."""
    lead, rest = tracks[0], tracks[1:]
    backing = [track for track in rest if not track.is_drum and track.name != "bass"]
    power = sum(_power(track, tempo_bpm) for track in backing)
    if power <= 0.0:
        return tracks
    missing_db = _LEAD_ABOVE_DB - 10.0 * np.log10(_power(lead, tempo_bpm) / power)
    if missing_db <= 0.0:
        return tracks
    wanted = 10.0 ** (missing_db / 40.0)
    raised = min(wanted, max(_LOUDEST / float(lead.notes.velocity.mean()), 1.0))
    lowered = max(raised / wanted, _SOFTEST_FACTOR)
    return [
        _scaled(lead, raised),
        *(
            track if track.is_drum or track.name == "bass" else _scaled(track, lowered)
            for track in rest
        ),
    ]


def _power(track: Track, tempo_bpm: float) -> float:
    """Estimated energy of a part, in arbitrary units."""
    seconds = track.notes.duration_beats * 60.0 / tempo_bpm
    if not INSTRUMENTS[track.program].sustains:
        seconds = np.minimum(seconds, _RING_SECONDS)
    loudness = (track.notes.velocity / 127.0) ** 4
    return float((loudness * seconds).sum()) * 10.0 ** (level_db(track.program) / 10.0)


def _scaled(track: Track, factor: float) -> Track:
    velocity = np.clip(np.round(track.notes.velocity * factor), 1, 127).astype(np.int64)
    return replace(track, notes=replace(track.notes, velocity=velocity))
