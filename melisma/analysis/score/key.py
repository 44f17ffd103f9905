"""The tonality of a score, one of `values.TONALITIES`, from its notes alone.

Six views of the notes (as struck, the highest voice, the lowest voice, the opening, the first half,
the last bass notes) are each compared with 24 rotated profiles (`rank_tonalities` in
`analysis/audio/key.py`: Albrecht and Shanahan 2013) by correlation; the weighted sum decides.
Pieces state their tonality where they begin, which is why the opening counts twice. Key signatures
are never read.

Enters: a `Score`. Leaves: a `TonalityEstimate` with its rivals. Time is counted in beats, so the
tempo does not matter; drums are not heard.
"""

from __future__ import annotations

import numpy as np

from melisma.analysis.audio.key import KeyEstimate, rank_tonalities
from melisma.values import Score
from melisma.values.attributes import TONALITIES

FRAMES_A_BEAT = 4
"""Resolution of the sounding time (chosen: sixteenths)."""
LONGEST_BEATS = 8.0
"""A note sounds no longer than this (chosen: pedals and drones would drown the rest)."""
OPENING_BEATS = 4
ENDING_BEATS = 1
"""Lengths of the opening and of the ending."""
VIEW_WEIGHTS = np.array([4.0, 2.0, 1.5, 2.0, 2.0, 0.5]) / 12.0
"""Weights of the views, in the order of `_views`. Fitted (conditional logit, then rounded) to 3,500
openings and whole pieces of the training pieces of the Mutopia project, whose files state the
tonality; on 650 held-out ones the share right is .85, against .82 by the weights of
`analysis.labels.key`, which knows neither beginning nor end of a piece."""
COMPRESSION = 0.5
"""Exponent of the shares: one long pedal note must not outweigh the scale."""
_DRUM_PROGRAMS = range(115, 120)
"""Programs without a pitch that matters: woodblock, taiko, toms, synthetic drum, cymbal."""
_CLASSES = np.eye(12)


def pitched_notes(score: Score) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and duration in beats and pitch of all pitched notes, three arrays [note]."""
    notes = [
        track.notes
        for track in score.tracks
        if not track.is_drum and track.program not in _DRUM_PROGRAMS
    ]
    if not notes:
        return np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
    return (
        np.concatenate([n.start_beats for n in notes]),
        np.concatenate([n.duration_beats for n in notes]),
        np.concatenate([n.pitch for n in notes]).astype(np.int64),
    )


def _sounding(start: np.ndarray, duration: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Whether each pitch sounds in each frame in which anything does, bool [frame, 128]."""
    first = np.floor(start * FRAMES_A_BEAT + 0.25).astype(np.int64)
    first -= first.min()
    length = np.ceil(np.minimum(duration, LONGEST_BEATS) * FRAMES_A_BEAT - 0.25).astype(np.int64)
    last = first + np.maximum(length, 1)
    steps = np.zeros((int(last.max()) + 1, 128), dtype=np.int32)
    np.add.at(steps, (first, pitch), 1)
    np.subtract.at(steps, (last, pitch), 1)
    sounding = np.cumsum(steps, axis=0) > 0
    return sounding[sounding.any(axis=1)]


def _views(score: Score) -> np.ndarray | None:
    """Weights of the pitch classes in the six views, float64 [6, 12]; None without notes."""
    start, duration, pitch = pitched_notes(score)
    if not len(pitch):
        return None
    sounding = _sounding(start, duration, pitch)
    classes = np.stack([sounding[:, tone::12].any(axis=1) for tone in range(12)], axis=1)
    bass = _CLASSES[sounding.argmax(axis=1) % 12]
    top = _CLASSES[(127 - sounding[:, ::-1].argmax(axis=1)) % 12]
    half = (len(sounding) + 1) // 2
    views = np.stack(
        [
            np.bincount(pitch % 12, minlength=12).astype(np.float64),
            top.sum(axis=0),
            bass.sum(axis=0),
            classes[: OPENING_BEATS * FRAMES_A_BEAT].sum(axis=0),
            classes[:half].sum(axis=0),
            bass[-ENDING_BEATS * FRAMES_A_BEAT :].sum(axis=0),
        ]
    )
    return views / views.sum(axis=1, keepdims=True)


def measure_score_tonality(score: Score) -> KeyEstimate:
    """The tonality of the whole score, as one; `tonality` is None where nothing is pitched.

    The `chroma` of the estimate holds the shares of the pitch classes as struck; the tuning is 0.
    """
    views = _views(score)
    if views is None:
        return KeyEstimate(
            tonality=None, confidence=0.0, chroma=np.zeros(12), tuning_cents=0.0, ranking=()
        )
    scores = VIEW_WEIGHTS @ np.stack([rank_tonalities(view**COMPRESSION) for view in views])
    order = np.argsort(-scores, kind="stable")
    return KeyEstimate(
        tonality=TONALITIES[int(order[0])],
        confidence=float(np.clip(10.0 * (scores[order[0]] - scores[order[1]]), 0.0, 1.0)),
        chroma=views[0],
        tuning_cents=0.0,
        ranking=tuple(TONALITIES[int(index)] for index in order),
    )
