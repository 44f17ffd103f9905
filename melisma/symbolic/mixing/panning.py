"""Stereo panning of the parts of a score.

Input: tracks. Output: a pan for each, -1 (left) to 1 (right). Drums, basses and a band's lead are
centred; an orchestra has today's usual seating (violins left, cellos and basses right, winds
behind, horns left, trombones right); a band is spread to both sides in the order of its tracks; the
two staves of a keyboard share one pan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from melisma.values import Track

MAX_PAN = 0.7
"""Maximum pan (chosen: hard panning is tiring on headphones)."""
_SEATS: dict[int, float] = {
    40: -0.5, 41: 0.15, 42: 0.4, 43: 0.55, 44: -0.3, 45: -0.1, 46: -0.55, 47: 0.2,
    52: 0.0, 53: 0.0, 56: 0.25, 57: 0.4, 58: 0.5, 59: 0.25, 60: -0.4, 61: 0.3,
    64: -0.2, 65: -0.1, 66: 0.1, 67: 0.2, 68: 0.1, 69: 0.18, 70: 0.25, 71: -0.12,
    72: -0.3, 73: -0.2, 74: -0.2, 75: -0.25,
}  # fmt: skip
"""Program -> pan in an orchestra (chosen, after the usual seating)."""
_SECTION_STEP = 0.14
"""Distance between parts of one instrument, towards the centre (chosen)."""
_FIRST_SIDE, _NEXT_SIDE = 0.3, 0.12
"""Pan of a band's first pair of parts, and increment of each further pair (chosen)."""
_ALONE = -0.12
"""Pan of the only accompaniment of a lead (chosen)."""
_KEYBOARDS = range(24)
_BASSES = range(32, 40)
_ORCHESTRA = range(40, 80)
_ORCHESTRA_PARTS = 3


def stage_pans(tracks: Sequence[Track]) -> tuple[float, ...]:
    """Pan of each track, -1 to 1; deterministic."""
    orchestral = [t for t in tracks if not t.is_drum and t.program in _ORCHESTRA]
    melodic = [t for t in tracks if not t.is_drum and t.program not in _KEYBOARDS]
    if len(orchestral) >= _ORCHESTRA_PARTS and 2 * len(orchestral) > len(melodic):
        return _orchestra(tracks)
    return _band(tracks)


def pan_gains(pan: float) -> tuple[float, float]:
    """Gains of the left and right channel: constant power, 1 and 1 in the centre."""
    angle = (pan + 1.0) * math.pi / 4
    return math.sqrt(2.0) * math.cos(angle), math.sqrt(2.0) * math.sin(angle)


def _orchestra(tracks: Sequence[Track]) -> tuple[float, ...]:
    pans: list[float] = []
    counts: dict[int, int] = {}
    for track in tracks:
        seat = 0.0 if track.is_drum else _SEATS.get(track.program, 0.0)
        index = counts.get(track.program, 0)
        if not track.is_drum and track.program not in _KEYBOARDS:
            counts[track.program] = index + 1
            towards = -1.0 if seat > 0 else 1.0
            seat += towards * _SECTION_STEP * index
        pans.append(min(max(seat, -MAX_PAN), MAX_PAN))
    return tuple(pans)


def _band(tracks: Sequence[Track]) -> tuple[float, ...]:
    lead = _lead(tracks)
    pans: list[float] = []
    keyboards: dict[int, float] = {}
    spread = 0
    for index, track in enumerate(tracks):
        if track.is_drum or track.program in _BASSES or index == lead:
            pan = 0.0
        elif track.program in keyboards:
            pan = keyboards[track.program]
        else:
            side = -1.0 if spread % 2 == 0 else 1.0
            pan = side * min(_FIRST_SIDE + _NEXT_SIDE * (spread // 2), MAX_PAN)
            spread += 1
        if track.program in _KEYBOARDS and not track.is_drum:
            keyboards.setdefault(track.program, pan)
        pans.append(pan)
    return tuple(_ALONE if pan and spread == 1 else pan for pan in pans)


def _lead(tracks: Sequence[Track]) -> int | None:
    """The likely lead: the part of highest mean pitch that is neither drums nor bass."""
    heights = {
        index: float(np.mean(track.notes.pitch))
        for index, track in enumerate(tracks)
        if not track.is_drum and track.program not in _BASSES and len(track.notes)
    }
    return max(heights, key=lambda index: heights[index]) if heights else None
