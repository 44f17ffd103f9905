"""All faults of one piece of sound in one value, each beside its limit.

A number alone says little: real music hisses and wavers too. So each comes with the 99th percentile
of held-out renders after the codec's round trip, the best that the generator could do, and what
exceeds it is called a fault (`benchmarks/faults.py` measures the limits anew).
"""

from __future__ import annotations

from dataclasses import dataclass

from melisma.analysis.artefacts.clicks import Artefacts, find_artefacts
from melisma.analysis.artefacts.hiss import measure_hiss
from melisma.analysis.artefacts.loops import StuckLoop, find_stuck_loop
from melisma.analysis.artefacts.warble import measure_warble
from melisma.analysis.audio.beats import beat_variation
from melisma.values import Waveform

FAULT_LIMITS: dict[str, float] = {
    "clicks": 0.0,
    "dropouts": 0.0,
    "dead_silence_seconds": 0.0,
    "clipped_share": 0.0,
    "hiss_db": -40.9,
    "warble": 1.66,
    "beat_variation": 0.1094,
    "stuck_share": 0.0,
}
"""The 99th percentile of clean renders: above it a number is a fault. Measured by
`benchmarks/faults.py` on 220 held-out renders after the codec's round trip (warble on the 190 and
the beats' variation on the 191 where it can be measured), those that the detectors were tuned on;
a limit rests on two or three pieces. Of 240 renders of other pieces and of another soundfont 2.5 %
had a fault."""


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

    def found(self) -> tuple[str, ...]:
        """Names of the numbers that exceed their limit, in the order of `FAULT_LIMITS`.

        What could not be measured is not found: a piece without held tones is not called steady.
        """
        return tuple(
            name
            for name, value in self.numbers().items()
            if value is not None and value > FAULT_LIMITS[name]
        )


def measure_faults(waveform: Waveform) -> Faults:
    """All faults of a piece; about .2 s of one core for ten seconds of sound."""
    return Faults(
        artefacts=find_artefacts(waveform),
        hiss_db=measure_hiss(waveform),
        warble=measure_warble(waveform),
        beat_variation=beat_variation(waveform),
        loop=find_stuck_loop(waveform),
    )
