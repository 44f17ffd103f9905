"""Small tunes for the tests of shared runs."""

from __future__ import annotations

import numpy as np

from melisma.values import Notes, Score, TempoMap, Track


def tune(seed: int, notes: int) -> tuple[np.ndarray, np.ndarray]:
    """Waits in beats and pitches of a random melody."""
    rng = np.random.default_rng(seed)
    return rng.choice([0.25, 0.5, 0.75, 1.0, 1.5], notes), rng.integers(55, 80, notes)


def piece(
    waits: np.ndarray, pitch: np.ndarray, *, shift: int = 0, slower: float = 1.0, drum: bool = False
) -> Score:
    """A score of one melody."""
    start = np.concatenate([[0.0], np.cumsum(waits[:-1])]) * slower
    notes = Notes(
        start_beats=start,
        duration_beats=waits * slower,
        pitch=pitch + shift,
        velocity=np.full(len(pitch), 80),
    )
    return Score(
        tracks=(Track(notes=notes, program=0, is_drum=drum),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
    )


def with_copy(
    source: tuple[np.ndarray, np.ndarray],
    begin: int,
    length: int,
    *,
    shift: int = 0,
    slower: float = 1.0,
    seed: int = 999,
) -> Score:
    """A new melody with `length` notes of a tune in its middle."""
    waits, pitch = tune(seed, 120)
    copied = slice(begin, begin + length)
    return piece(
        np.concatenate([waits[:60], source[0][copied] * slower, waits[60:]]),
        np.concatenate([pitch[:60], source[1][copied] + shift, pitch[60:]]),
    )
