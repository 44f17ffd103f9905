"""Accuracy and calibration of the detectors in this folder.

All figures come from `benchmarks/detectors.py`, whose results list them with confidence intervals
and on other material. Ceilings are measured on data to which no constant here was fitted: for audio
10 s clips of held-out works, rendered with a soundfont that no model was trained on and passed
through the codec, as generated audio is; for scores the beginnings of held-out scores. Confidences
map a detector's raw confidence to its accuracy, by isotonic regression with five knots (Zadrozny
and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", 2002),
fitted on other works with another soundfont.
"""

from __future__ import annotations

import numpy as np

from melisma.values.errors import MelismaError

CEILINGS: dict[str, float] = {
    "tempo": 0.697,
    "tonality": 0.826,
    "metre": 0.755,
    "kind of metre": 0.870,
    "kind of metre, tempo given": 0.917,
    "onset density": 0.620,
    "score tempo": 0.857,
    "score tonality": 0.833,
    "score metre": 0.977,
    "score instruments": 0.997,
}
"""Accuracy of each detector, on 109 to 192 works for audio and 120 to 500 for scores. A tempo is
correct within 5 % (.910 if half and double count too), a density if its class of three is, the
metre of a score if its kind is; for instruments of scores, the share of a piece's families that are
detected. Always predicting the most frequent class reaches .67 (metre), .79 (its kind) and .54
(density)."""

CONFIDENCES: dict[str, tuple[tuple[float, float], ...]] = {
    "tempo": ((0.15, 0.57), (0.25, 0.61), (0.31, 0.61), (0.38, 0.73), (0.46, 0.73)),
    "tonality": ((0.30, 0.54), (0.81, 0.75), (1.00, 0.93)),
    "metre": ((0.41, 0.43), (0.58, 0.59), (0.78, 0.80), (0.91, 0.90), (0.97, 0.95)),
    "kind of metre": ((0.49, 0.54), (0.73, 0.76), (0.88, 0.88), (0.96, 0.94), (0.99, 0.98)),
    "onset density": ((0.05, 0.52), (0.16, 0.68), (0.27, 0.72)),
    "score tempo": ((0.59, 0.63), (0.81, 0.88), (0.91, 0.94), (0.96, 0.97)),
    "score tonality": ((0.38, 0.68), (0.88, 0.87)),
    "score metre": ((0.69, 0.79), (0.94, 0.99)),
}
"""Calibration curve of each detector: (raw confidence, accuracy) pairs, ascending; interpolated
linearly, constant beyond the ends. The raw confidence of a density is its distance from the nearest
class limit in octaves."""


def calibrated(detector: str, raw: float) -> float:
    """Calibrated confidence: the accuracy of a detector at a raw confidence.

    Args:
        detector: a key of `CONFIDENCES`.
        raw: the detector's own confidence.

    Returns:
        Expected accuracy, 0 to 1.

    Raises:
        MelismaError: for an unknown detector.
    """
    if detector not in CONFIDENCES:
        raise MelismaError(f"a detector is one of {', '.join(CONFIDENCES)}, not {detector}")
    raws, shares = zip(*CONFIDENCES[detector], strict=True)
    return float(np.interp(raw, raws, shares))
