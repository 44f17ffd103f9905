"""Chord and key estimation: a hidden Markov model over chord templates.

Inputs: notes and a grid of time spans. Output: one chord per change. The emission is the
log-likelihood of the span's pitch class profile under each chord's template, with a bonus for the
root in the bass and a prior from the local key; the best path is found with the Viterbi algorithm
(after Bello and Pickens 2005, "A robust mid-level representation for harmonic content", and
Temperley 2001, "The Cognition of Basic Musical Structures", chapter 6: changes prefer strong
beats). The key is found with the profiles of Temperley 2001, chapter 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.data.arrange.sheet import QUALITIES, Chord
from melisma.values import Notes

_MAJOR_PROFILE = np.array([5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0])
_MINOR_PROFILE = np.array([5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0])
"""Importance of each degree (Temperley 2001, figure 7.4)."""

_QUALITY_PRIOR: dict[str, float] = {
    "maj": 0.0,
    "min": -0.1,
    "7": -0.45,
    "min7": -1.4,
    "maj7": -2.2,
    "m7b5": -0.9,
    "dim7": -0.9,
    "dim": -1.0,
    "aug": -2.4,
    "sus4": -2.4,
}
"""Log-odds of each quality relative to a major triad (chosen: most chords of songs are triads or
dominant sevenths)."""

CHORD_STATES: tuple[tuple[int, str], ...] = tuple(
    (root, quality) for quality in QUALITIES for root in range(12)
)
"""Root and quality of each state."""

_SHARPNESS = 5.0
"""Weight of one beat's profile relative to the priors (estimated; checked on ten songs)."""


def _templates() -> np.ndarray:
    """Probability of each pitch class under each state, float64 [state, 12]."""
    rows = []
    for root, quality in CHORD_STATES:
        row = np.full(12, 0.02)
        strengths = (1.0, 0.85, 0.75, 0.6)
        for step, strength in zip(QUALITIES[quality], strengths, strict=False):
            row[(root + step) % 12] = strength
        rows.append(row / row.sum())
    return np.array(rows)


_LOG_TEMPLATES = np.log(_templates())


def _tonality_shapes() -> np.ndarray:
    """Degree profiles of all keys, each with mean 0 and norm 1, float64 [24, 12]."""
    shapes = np.array(
        [np.roll(shape, tonic) for shape in (_MAJOR_PROFILE, _MINOR_PROFILE) for tonic in range(12)]
    )
    shapes -= shapes.mean(axis=1, keepdims=True)
    return shapes / np.linalg.norm(shapes, axis=1, keepdims=True)


_TONALITY_SHAPES = _tonality_shapes()


def find_tonality(profile: np.ndarray) -> tuple[int, np.ndarray]:
    """Find the key whose profile correlates best with a pitch class profile.

    Args:
        profile: float64 [12].

    Returns:
        Index into `TONALITIES`, and the correlation with all keys, float64 [24].
    """
    centred = profile - profile.mean()
    scores = _TONALITY_SHAPES @ centred / max(float(np.linalg.norm(centred)), 1e-9)
    return int(np.argmax(scores)), scores


@dataclass(frozen=True, kw_only=True)
class Profiles:
    """Pitch class content of each span."""

    weight: np.ndarray
    """Weighted sounding duration of each pitch class in beats, float64 [span, 12]."""
    bass: np.ndarray
    """Weight of each pitch class as the lowest note, float64 [span, 12], rows sum to 1 or 0."""


def span_profiles(notes: Notes, edges: np.ndarray) -> Profiles:
    """Compute the pitch class profiles of time spans.

    The weight of a note is halved with every beat since its onset: pianos decay, and the pedal
    holds notes into the next chord.

    Args:
        notes: All notes.
        edges: Boundaries of the spans in beats, ascending, float64 [span + 1].

    Returns:
        The profiles.
    """
    spans = len(edges) - 1
    weight = np.zeros((spans, 12))
    lowest: list[list[tuple[int, float]]] = [[] for _ in range(spans)]
    ends = notes.start_beats + notes.duration_beats
    for start, end, pitch in zip(notes.start_beats, ends, notes.pitch, strict=True):
        first = max(int(np.searchsorted(edges, start + 1e-6, side="right")) - 1, 0)
        for span in range(first, spans):
            if edges[span] >= end - 1e-6:
                break
            overlap = min(end, edges[span + 1]) - max(start, edges[span])
            if overlap <= 0:
                continue
            accent = 1.25 if abs(start - edges[span]) < 1e-6 else 1.0
            decay = 0.5 ** max(edges[span] - start, 0.0)
            if decay < 0.1:
                break
            weight[span, pitch % 12] += min(overlap, 2.0) ** 0.75 * accent * decay
            if decay > 0.2:
                lowest[span].append((int(pitch), overlap * decay))
    bass = np.zeros((spans, 12))
    for span, sounding in enumerate(lowest):
        if sounding:
            lowest_pitch = min(pitch for pitch, _ in sounding)
            for pitch, overlap in sounding:
                if pitch <= lowest_pitch + 4:
                    bass[span, pitch % 12] += overlap * 0.6 ** (pitch - lowest_pitch)
            bass[span] /= bass[span].sum()
    return Profiles(weight=weight, bass=bass)


def _tonality_prior(tonality: int) -> np.ndarray:
    """Log prior of each state in a key, float64 [state]."""
    tonic, minor = tonality % 12, tonality >= 12
    scale = {0, 2, 3, 5, 7, 8, 10, 11} if minor else {0, 2, 4, 5, 7, 9, 11}
    prior = np.empty(len(CHORD_STATES))
    for state, (root, quality) in enumerate(CHORD_STATES):
        degree = (root - tonic) % 12
        outside = sum((degree + step) % 12 not in scale for step in QUALITIES[quality])
        prior[state] = _QUALITY_PRIOR[quality] - 0.8 * outside
        if degree in (0, 5, 7):
            prior[state] += 0.5
        if degree == 7 and quality in ("maj", "7"):
            prior[state] += 0.3
        if minor and degree == 10 and quality == "7":
            prior[state] -= 0.2
        if quality in ("maj7", "min7") and degree == 0:
            prior[state] -= 0.5
    return prior


_TONALITY_PRIORS = np.array([_tonality_prior(tonality) for tonality in range(24)])


def _transitions() -> np.ndarray:
    """Log score of each change of state, float64 [from, to]."""
    count = len(CHORD_STATES)
    score = np.zeros((count, count))
    for before, (root, quality) in enumerate(CHORD_STATES):
        for after, (following, _) in enumerate(CHORD_STATES):
            step = (following - root) % 12
            if step == 5:
                score[before, after] = 0.6 if quality == "7" else 0.4
            elif step in (7, 2, 9):
                score[before, after] = 0.2
            elif step in (1, 6) and quality not in ("dim", "dim7", "m7b5"):
                score[before, after] = -0.6
            if step == 0 and before != after:
                score[before, after] = -0.3
    return score


_TRANSITIONS = _transitions()


def find_chords(
    profiles: Profiles, edges: np.ndarray, change_cost: np.ndarray, bars: np.ndarray
) -> tuple[list[Chord], float]:
    """Find the most likely chord sequence.

    Args:
        profiles: Profiles of the spans.
        edges: Boundaries of the spans in beats, float64 [span + 1].
        change_cost: Cost of a change at the start of each span, float64 [span].
        bars: Bar of each span, int64 [span].

    Returns:
        Chords, one for each change, and the log-likelihood of the path.
    """
    total = profiles.weight.sum(axis=1, keepdims=True)
    share = profiles.weight / np.maximum(total, 1e-9)
    lengths = np.diff(edges)[:, None]
    weight = _SHARPNESS * np.minimum(lengths, 2.0) * (total > 0)
    emission = weight * (share @ _LOG_TEMPLATES.T) + profiles.bass @ _bass_scores()
    for bar in range(0, int(bars.max()) + 1, 2):
        nearby = np.abs(bars - bar) <= 4
        local, _ = find_tonality(profiles.weight[nearby].sum(axis=0) + 1e-6 * np.arange(12))
        current = (bars == bar) | (bars == bar + 1)
        emission[current] += _TONALITY_PRIORS[local]
    path, likelihood = _viterbi(emission, change_cost)
    chords: list[Chord] = []
    for span, state in enumerate(path):
        root, quality = CHORD_STATES[state]
        if chords and (chords[-1].root, chords[-1].quality) == (root, quality):
            continue
        tones = [(root + step) % 12 for step in QUALITIES[quality]]
        bass = max(tones, key=lambda tone: profiles.bass[span, tone] + 0.05 * (tone == root))
        chords.append(Chord(start_beat=float(edges[span]), root=root, quality=quality, bass=bass))
    return chords, likelihood


def _bass_scores() -> np.ndarray:
    """Log score of each state given the pitch class of the bass, float64 [12, state]."""
    scores = np.full((12, len(CHORD_STATES)), -1.2)
    for state, (root, quality) in enumerate(CHORD_STATES):
        for tone, step in enumerate(QUALITIES[quality]):
            scores[(root + step) % 12, state] = (1.0, 0.2, 0.0, -0.6)[tone]
    return scores


def _viterbi(emission: np.ndarray, change_cost: np.ndarray) -> tuple[np.ndarray, float]:
    """The best path of states, int64 [span], and its log-likelihood."""
    spans, states = emission.shape
    best = emission[0].copy()
    back = np.zeros((spans, states), dtype=np.int64)
    stay = np.eye(states, dtype=bool)
    for span in range(1, spans):
        move = best[:, None] + np.where(stay, 0.0, _TRANSITIONS - change_cost[span])
        back[span] = move.argmax(axis=0)
        best = move.max(axis=0) + emission[span]
    path = np.empty(spans, dtype=np.int64)
    path[-1] = int(best.argmax())
    for span in range(spans - 1, 0, -1):
        path[span - 1] = back[span, path[span]]
    return path, float(best.max())
