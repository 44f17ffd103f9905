"""Summary of all audio artefacts of one piece, with the limit above which each is a fault.

The number alone is not enough: real music hisses and wavers too. Each limit is therefore the 99th
percentile of held-out renders after a codec round trip, the best that the generator could achieve;
a value above it is a fault (`benchmarks/faults.py` measures the limits).
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
"""The 99th percentile of clean renders; a larger value is a fault. Measured by
`benchmarks/faults.py` on 220 held-out renders after a codec round trip (warble on the 190 and beat
variation on the 191 where they can be measured), which the detectors were tuned on; each limit is
determined by two or three pieces. Of 240 renders of other pieces with another soundfont 2.5 % had a
fault."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Artefacts of one piece; larger numbers are worse."""

    artefacts: Artefacts
    hiss_db: float
    """Level of steady noise relative to the music (`measure_hiss`)."""
    warble: float | None
    """Jitter of sustained tones (`measure_warble`); None where there are too few."""
    beat_variation: float | None
    """Coefficient of variation of beat intervals; None where there is no pulse."""
    loop: StuckLoop

    def numbers(self) -> dict[str, float | None]:
        """The numbers, keyed as in `FAULT_LIMITS`; None where one could not be measured."""
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

        A number that could not be measured is not a fault.
        """
        return tuple(
            name
            for name, value in self.numbers().items()
            if value is not None and value > FAULT_LIMITS[name]
        )


def measure_faults(waveform: Waveform) -> Faults:
    """Runs all artefact detectors; about .2 s of one core for ten seconds of audio."""
    return Faults(
        artefacts=find_artefacts(waveform),
        hiss_db=measure_hiss(waveform),
        warble=measure_warble(waveform),
        beat_variation=beat_variation(waveform),
        loop=find_stuck_loop(waveform),
    )
