"""Where the parts of a score stand between the two loudspeakers.

Enters: tracks. Leaves: a pan for each, -1 left to 1 right. Drums, basses and a band's lead stand in
the middle; an orchestra sits as it does today (violins left, cellos and basses right, winds behind,
horns left, trombones right); a band spreads to both sides in the order of its tracks; the hands of
one keyboard stay together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from melisma.values import Track

WIDEST = 0.7
"""No part stands further out (chosen: what is at one ear only tires)."""
_SEATS: dict[int, float] = {
    40: -0.5, 41: 0.15, 42: 0.4, 43: 0.55, 44: -0.3, 45: -0.1, 46: -0.55, 47: 0.2,
    52: 0.0, 53: 0.0, 56: 0.25, 57: 0.4, 58: 0.5, 59: 0.25, 60: -0.4, 61: 0.3,
    64: -0.2, 65: -0.1, 66: 0.1, 67: 0.2, 68: 0.1, 69: 0.18, 70: 0.25, 71: -0.12,
    72: -0.3, 73: -0.2, 74: -0.2, 75: -0.25,
}  # fmt: skip
"""Program -> pan in an orchestra (chosen, after the usual seating)."""
_BESIDE = 0.14
"""Distance between desks of one instrument, towards the middle (chosen)."""
_FIRST_SIDE, _NEXT_SIDE = 0.3, 0.12
"""A band's first pair stands so far out, each further pair by so much more (chosen)."""
_ALONE = -0.12
"""Where the one accompanist of a lead stands (chosen)."""
_KEYBOARDS = range(24)
_BASSES = range(32, 40)
_ORCHESTRA = range(40, 80)
_ORCHESTRA_PARTS = 3


def stage_pans(tracks: Sequence[Track]) -> tuple[float, ...]:
    """The pan of each track; the same tracks get the same pans."""
    orchestral = [t for t in tracks if not t.is_drum and t.program in _ORCHESTRA]
    melodic = [t for t in tracks if not t.is_drum and t.program not in _KEYBOARDS]
    if len(orchestral) >= _ORCHESTRA_PARTS and 2 * len(orchestral) > len(melodic):
        return _orchestra(tracks)
    return _band(tracks)


def pan_gains(pan: float) -> tuple[float, float]:
    """Gains of the left and right channel: equal power, 1 and 1 in the middle."""
    angle = (pan + 1.0) * math.pi / 4
    return math.sqrt(2.0) * math.cos(angle), math.sqrt(2.0) * math.sin(angle)


def _orchestra(tracks: Sequence[Track]) -> tuple[float, ...]:
    pans: list[float] = []
    desks: dict[int, int] = {}
    for track in tracks:
        seat = 0.0 if track.is_drum else _SEATS.get(track.program, 0.0)
        desk = desks.get(track.program, 0)
        if not track.is_drum and track.program not in _KEYBOARDS:
            desks[track.program] = desk + 1
            towards = -1.0 if seat > 0 else 1.0
            seat += towards * _BESIDE * desk
        pans.append(min(max(seat, -WIDEST), WIDEST))
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
            pan = side * min(_FIRST_SIDE + _NEXT_SIDE * (spread // 2), WIDEST)
            spread += 1
        if track.program in _KEYBOARDS and not track.is_drum:
            keyboards.setdefault(track.program, pan)
        pans.append(pan)
    return tuple(_ALONE if pan and spread == 1 else pan for pan in pans)


def _lead(tracks: Sequence[Track]) -> int | None:
    """The part that probably has the tune: the highest that is neither drums nor bass."""
    heights = {
        index: float(np.mean(track.notes.pitch))
        for index, track in enumerate(tracks)
        if not track.is_drum and track.program not in _BASSES and len(track.notes)
    }
    return max(heights, key=lambda index: heights[index]) if heights else None
