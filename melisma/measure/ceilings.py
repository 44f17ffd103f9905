"""What the detectors of this folder are worth: how often each is right, and what its confidence
says.

All figures come from `benchmarks/detectors.py`. Ceilings rest on material that no constant here was
fitted to: clips of 10 s of held-out works in a soundfont that nothing was trained on, as they are
and through the codec; recordings whose truth is known from their title, their work or their length;
openings of held-out scores. Confidences are the share of right answers by the detector's own raw
confidence, isotonic with five knots (Zadrozny and Elkan, "Transforming classifier scores into
accurate multiclass probability estimates", 2002), on other works in another soundfont.
"""

from __future__ import annotations

import numpy as np

UNSEEN = "unseen soundfont"
CODED = "unseen soundfont, coded"
RECORDINGS = "real recordings"
PIECES = "held-out pieces"

CEILINGS: dict[str, dict[str, tuple[float, int]]] = {
    "tempo": {UNSEEN: (0.697, 188), CODED: (0.697, 188), RECORDINGS: (0.750, 12)},
    "tempo, half and double count": {
        UNSEEN: (0.910, 188),
        CODED: (0.910, 188),
        RECORDINGS: (0.909, 22),
    },
    "tonality": {UNSEEN: (0.862, 109), CODED: (0.826, 109), RECORDINGS: (1.0, 3)},
    "metre": {UNSEEN: (0.766, 184), CODED: (0.755, 184), RECORDINGS: (0.685, 8)},
    "metre, tempo told": {UNSEEN: (0.807, 181), CODED: (0.812, 181)},
    "kind of metre": {UNSEEN: (0.870, 184), CODED: (0.870, 184), RECORDINGS: (0.829, 8)},
    "kind of metre, tempo told": {UNSEEN: (0.912, 181), CODED: (0.917, 181)},
    "onset density": {UNSEEN: (0.693, 192), CODED: (0.620, 192)},
    "score tempo": {PIECES: (0.857, 182)},
    "score tempo, half and double count": {PIECES: (0.967, 182)},
    "score tonality": {PIECES: (0.833, 120)},
    "score metre": {PIECES: (0.977, 427)},
    "score instruments": {PIECES: (0.997, 500)},
}
"""Share right and number of works by material, for each detector. A metre of the scores is right by
its kind; instruments of scores are the share of a piece's families that are found to play."""

NOTES: dict[str, str] = {
    "tempo": "within 5 %; .16 of clips are heard at double and .05 at half; of recordings all but "
    "two are loops, repeated, which are steadier than music",
    "tonality": "clips count only where their notes are sure of it; three recordings prove little",
    "metre": "always saying 4/4 would be right on .67 of the clips",
    "kind of metre": "right on .92 of duple, .77 of triple and 3 of 8 compound clips, with the "
    "tempo told .93, .87 and 6 of 8; always saying duple would be right on .79",
    "onset density": "three classes, of which the commonest is .54 of the clips",
    "score metre": "always saying duple would be right on about .7",
}
"""What a figure does not say by itself."""

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


def ceiling_of(detector: str, material: str | None = None) -> float | None:
    """Share of held-out truth on which a detector is right; None where it was not measured.

    Without a material: that of the unseen soundfont for sound, of held-out pieces for notes.
    """
    measured = CEILINGS.get(detector, {})
    materials = (UNSEEN, PIECES) if material is None else (material,)
    return next((measured[name][0] for name in materials if name in measured), None)


def calibrated(detector: str, raw: float) -> float:
    """The share of right answers where a detector is as sure as `raw`, 0 to 1.

    Raises `ValueError` for a detector that is not known.
    """
    if detector not in CONFIDENCES:
        raise ValueError(f"a detector is one of {', '.join(CONFIDENCES)}, not {detector}")
    raws, shares = zip(*CONFIDENCES[detector], strict=True)
    return float(np.interp(raw, raws, shares))
