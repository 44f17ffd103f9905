"""What the detectors of this folder are worth: how often each is right, and what its confidence
says.

All figures come from `benchmarks/detectors.py`, whose results have them with intervals and on other
material. Ceilings rest on what no constant here was fitted to: clips of 10 s of held-out works in a
soundfont that nothing was trained on, after the codec's round trip, as drawn sound is; openings of
held-out scores. Confidences are the share of right answers by the detector's own raw
confidence, isotonic with five knots (Zadrozny and Elkan, "Transforming classifier scores into
accurate multiclass probability estimates", 2002), on other works in another soundfont.
"""

from __future__ import annotations

import numpy as np

CEILINGS: dict[str, float] = {
    "tempo": 0.697,
    "tonality": 0.826,
    "metre": 0.755,
    "kind of metre": 0.870,
    "kind of metre, tempo told": 0.917,
    "onset density": 0.620,
    "score tempo": 0.857,
    "score tonality": 0.833,
    "score metre": 0.977,
    "score instruments": 0.997,
}
"""Share right of each detector; 109 to 192 works for sound, 120 to 500 for notes. A tempo is right
within 5 % (.910 with half and double counted), a density by its class of three, a metre of a score
by its kind; instruments of scores are the share of a piece's families that are found to play.
Always answering the commonest would be right on .67 (metre), .79 (its kind) and .54 (density)."""

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
"""Raw confidence and share of right answers, ascending, for each detector; linear between, constant
beyond. The raw confidence of densities is the distance from the nearest limit in octaves."""


def calibrated(detector: str, raw: float) -> float:
    """The share of right answers where a detector is as sure as `raw`, 0 to 1.

    Raises `ValueError` for a detector that is not known.
    """
    if detector not in CONFIDENCES:
        raise ValueError(f"a detector is one of {', '.join(CONFIDENCES)}, not {detector}")
    raws, shares = zip(*CONFIDENCES[detector], strict=True)
    return float(np.interp(raw, raws, shares))
