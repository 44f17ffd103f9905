"""All faults of one piece of sound in one value, each beside its limit.

A number alone says little: real music hisses and wavers too. So each comes with quantiles over
held-out renders after the codec's round trip, the best that the generator could do, and what
exceeds the 99th percentile is called a fault (`benchmarks/faults.py` measures them anew).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.measure.artefacts import Artefacts, find_artefacts
from melisma.measure.beats import beat_variation
from melisma.measure.hiss import measure_hiss
from melisma.measure.loops import StuckLoop, find_stuck_loop
from melisma.measure.warble import measure_warble
from melisma.values import Waveform

FAULT_SHARES = (0.5, 0.9, 0.99)
"""Shares of clean renders that lie at or below the entries of `FAULT_QUANTILES`."""
FAULT_QUANTILES: dict[str, tuple[float, float, float]] = {
    "clicks": (0.0, 0.0, 0.0),
    "dropouts": (0.0, 0.0, 0.0),
    "dead_silence_seconds": (0.0, 0.0, 0.0),
    "clipped_share": (0.0, 0.0, 0.0),
    "hiss_db": (-73.6, -53.9, -40.9),
    "warble": (0.6, 0.91, 1.66),
    "beat_variation": (0.0171, 0.0671, 0.1094),
    "stuck_share": (0.0, 0.0, 0.0),
}
"""Measured by `benchmarks/faults.py` on 220 held-out renders after the codec's round trip, those
that the detectors were tuned on; the last place rests on two or three pieces. Of 240
renders of other pieces and of another soundfont 2.5 % had a fault."""
FAULT_LIMITS: dict[str, float] = {name: places[-1] for name, places in FAULT_QUANTILES.items()}
"""The 99th percentile of clean renders: above it a number is a fault."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is wrong with a piece; in each number larger is worse."""

    artefacts: Artefacts
    hiss_db: float
    """Level of steady noise relative to the music (`measure_hiss`)."""
    warble: float | None
    """Unrest of held tones (`measure_warble`); None where hardly any is held."""
    beat_variation: float | None
    """Unevenness of the beats; None where there is no pulse."""
    loop: StuckLoop

    def numbers(self) -> dict[str, float | None]:
        """Each number by the names of `FAULT_LIMITS`; None where it could not be measured."""
        return {
            "clicks": float(len(self.artefacts.clicks)),
            "dropouts": float(len(self.artefacts.dropouts)),
            "dead_silence_seconds": self.artefacts.dead_silence_seconds,
            "clipped_share": self.artefacts.clipped_share,
            "hiss_db": self.hiss_db,
            "warble": self.warble,
            "beat_variation": self.beat_variation,
            "stuck_share": self.loop.share,
        }

    def _measured(self) -> dict[str, float]:
        return {name: value for name, value in self.numbers().items() if value is not None}

    def scaled(self) -> dict[str, float]:
        """The place of each number among clean renders, .5 to 1: their share that is no worse.

        Straight between the quantiles; .5 for all up to the median, 1 for all above the limit.
        """
        return {name: _place(name, value) for name, value in self._measured().items()}

    def found(self) -> tuple[str, ...]:
        """Names of the numbers that exceed their limit, in the order of `FAULT_LIMITS`.

        What could not be measured is not found: a piece without held tones is not called steady.
        """
        measured = self._measured()
        return tuple(name for name, value in measured.items() if value > FAULT_LIMITS[name])


def _place(name: str, value: float) -> float:
    places = FAULT_QUANTILES[name]
    if value <= places[0]:
        return FAULT_SHARES[0]
    return 1.0 if value > places[-1] else float(np.interp(value, places, FAULT_SHARES))


def measure_faults(waveform: Waveform) -> Faults:
    """All faults of a piece; about .2 s of one core for ten seconds of sound."""
    return Faults(
        artefacts=find_artefacts(waveform),
        hiss_db=measure_hiss(waveform),
        warble=measure_warble(waveform),
        beat_variation=beat_variation(waveform),
        loop=find_stuck_loop(waveform),
    )
