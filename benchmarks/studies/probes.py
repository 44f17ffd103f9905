"""Linear probes: what a sequence of tokens encodes of the music.

Input: token grids and frame labels of the same clips. Output: how well pitch classes, chords and
instrument families of a frame are predicted from the tokens around it by ridge regression on
one-hot tokens. The same probe is used for semantic tokens and the first acoustic level, so only the
tokens differ (the comparison of AudioLM, 2209.03143, section 4.2, with exact labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from melisma.evaluate.metrics.statistics import area_under_curve
from melisma.values import TokenGrid
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError

CHORDS = 25
"""None, 12 major, 12 minor."""
CONTEXT = (-1, 0, 1)
"""Frames whose tokens predict one frame's label."""


RIDGE = 10.0
"""Penalty on the squared weights, in frames (chosen; 1 to 100 give equal results)."""


@dataclass(frozen=True, kw_only=True)
class ProbeScores:
    """Accuracy of a probe, per held-out clip."""

    pitch_class_f1: np.ndarray
    """F1 over frames and pitch classes, float64 [clip]; nan where nothing is pitched."""
    chord: np.ndarray
    """Share of frames with a chord whose chord is right, float64 [clip]; nan without chords."""
    family_scores: np.ndarray
    """Mean score of each family over the clip, float64 [clip, 17]."""
    family_truth: np.ndarray
    """Whether it sounds in a tenth of the frames or more, bool [clip, 17]."""

    def family_auc(self, index: np.ndarray | None = None) -> float:
        """Mean area under the curve over the families present in some clips but not in all."""
        chosen = np.arange(len(self.family_truth)) if index is None else index
        scores, truth = self.family_scores[chosen], self.family_truth[chosen]
        areas = [area_under_curve(scores[:, f], truth[:, f]) for f in range(truth.shape[1])]
        finite = [area for area in areas if np.isfinite(area)]
        return float(np.mean(finite)) if finite else float("nan")


@dataclass(frozen=True, kw_only=True)
class ProbeClip:
    """Tokens of one clip with its labels; labels have one row per frame."""

    grid: TokenGrid
    pitch_class: np.ndarray
    """Yes or no [frame, 12]."""
    chord: np.ndarray
    """0 none, 1-24 [frame]."""
    family: np.ndarray
    """Yes or no [frame, 17]."""


def one_hot_rows(grid: TokenGrid) -> csr_matrix:
    """Tokens of all levels in the frames of `CONTEXT` as ones, [frame, feature], and a constant."""
    levels, frames = grid.tokens.shape
    columns = [np.zeros(frames, dtype=np.int64)]
    offset = 1
    for shift in CONTEXT:
        index = np.clip(np.arange(frames) + shift, 0, frames - 1)
        for level in range(levels):
            columns.append(offset + grid.tokens[level, index])
            offset += grid.vocabulary
    column = np.stack(columns, axis=1)
    rows = np.repeat(np.arange(frames), column.shape[1])
    ones = np.ones(column.size, dtype=np.float32)
    return csr_matrix((ones, (rows, column.ravel())), shape=(frames, offset))


def _targets(clip: ProbeClip) -> np.ndarray:
    chords = np.eye(CHORDS)[clip.chord.astype(np.int64)]
    return np.concatenate([clip.pitch_class, chords, clip.family], axis=1).astype(np.float64)


def _fit(clips: Sequence[ProbeClip], ridge: float) -> np.ndarray:
    """Ridge weights [feature, target] by the normal equations, clip by clip."""
    features = 1 + len(CONTEXT) * clips[0].grid.tokens.shape[0] * clips[0].grid.vocabulary
    gram = np.zeros((features, features))
    moment = np.zeros((features, 12 + CHORDS + len(FAMILIES)))
    for clip in clips:
        rows = one_hot_rows(clip.grid)
        product = (rows.T @ rows).tocoo()
        gram[product.row, product.col] += product.data
        moment += rows.T @ _targets(clip)
    gram[np.diag_indices(features)] += ridge
    return cho_solve(cho_factor(gram, lower=True, overwrite_a=True), moment)


def _f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    total = int(predicted.sum() + truth.sum())
    return float("nan") if not truth.any() else 2.0 * int((predicted & truth).sum()) / total


def _best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    candidates = np.linspace(0.15, 0.6, 19)
    return float(candidates[int(np.argmax([_f1(scores > t, truth) for t in candidates]))])


def probe(
    train: Sequence[ProbeClip], held: Sequence[ProbeClip], ridge: float = RIDGE
) -> ProbeScores:
    """Fits on `train` and predicts `held`; `ValueError` for too few clips, or tokens of different
    tokenizers."""
    if len(train) < 2 or not held:
        raise MelismaError(
            f"a probe needs two clips to learn from and one to read, not {len(train)}, {len(held)}"
        )
    tokenizers = {(c.grid.fingerprint, c.grid.tokens.shape[0]) for c in [*train, *held]}
    if len(tokenizers) != 1:
        raise MelismaError("the clips' tokens come from different tokenizers: probe one at a time")
    weights = _fit(train, ridge)
    # The threshold comes from clips of the training side, at most fifty: they are cheap to reread.
    reread = train[-50:]
    scores = np.concatenate([one_hot_rows(c.grid) @ weights[:, :12] for c in reread])
    threshold = _best_threshold(scores, np.concatenate([c.pitch_class for c in reread]) > 0)
    pitch, chord, family, sounding = [], [], [], []
    for clip in held:
        read = one_hot_rows(clip.grid) @ weights
        pitch.append(_f1(read[:, :12] > threshold, clip.pitch_class > 0))
        with_chord = clip.chord > 0
        named = read[with_chord, 13 : 12 + CHORDS].argmax(axis=1) + 1
        right = named == clip.chord[with_chord]
        chord.append(float(right.mean()) if with_chord.any() else float("nan"))
        family.append(read[:, 12 + CHORDS :].mean(axis=0))
        sounding.append(clip.family.mean(axis=0) >= 0.1)
    return ProbeScores(
        pitch_class_f1=np.array(pitch),
        chord=np.array(chord),
        family_scores=np.stack(family),
        family_truth=np.stack(sounding),
    )
