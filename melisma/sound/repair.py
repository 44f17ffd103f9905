"""Repair of recordings: what cheap sound cards, cables and converters do to sound is undone.

Input: a `Waveform` as it was recorded. Output: one without DC offset, whose amplitudes are not far
above full scale, and a remark on everything that was changed. Sound without these faults passes
through unchanged, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from melisma.sound.filters import SectionFilter, high_pass
from melisma.values.waveform import Waveform, sides_cancel

_OFFSET_SHARE = 0.05
"""Least DC offset that is removed, as a share of the sound's own level (measured: of 28 rendered
and generated pieces none has .006)."""
_LEAST_OFFSET = 1e-4
"""A smaller offset (-80 dB) is nothing."""
_SHORTEST_SECONDS = 0.005
"""The mean of less sound is no offset (chosen: part of a period of a low tone)."""
_HIGH_PASS_HZ = 20.0
"""An offset that changes is removed by a high-pass at the lower limit of hearing."""
_MOST_PEAK = 2.0
"""Greatest amplitude that is left alone: decoders of lossy formats exceed 1, hardly by 6 dB."""


@dataclass(frozen=True, kw_only=True)
class RecordingFaults:
    """What is amiss with a recording."""

    offsets: np.ndarray
    """DC offset of each channel, float64 [channel]; 0 where there is none to speak of."""
    drifts: bool
    """Whether an offset changes during the recording."""
    peak: float
    """Greatest absolute amplitude, the offsets removed."""
    cancels: bool
    """Whether two channels cancel each other when they are mixed."""

    @property
    def repairable(self) -> bool:
        """Whether there is an offset, or a peak far above full scale."""
        return bool(self.offsets.any()) or self.peak > _MOST_PEAK

    def remarks(self, name: str) -> tuple[str, ...]:
        """A sentence about each fault, and about what is done about it.

        Args:
            name: What the recording is called.
        """
        found = []
        if self.offsets.any():
            kind = "a drifting DC offset" if self.drifts else "a DC offset"
            largest = float(np.abs(self.offsets).max())
            found.append(f"{name} has {kind} of {largest:.2g}, which was removed")
        if self.peak > _MOST_PEAK:
            found.append(
                f"the amplitudes of {name} reach {self.peak:.4g} where full scale is 1: it was "
                "scaled down to 1"
            )
        if self.cancels:
            found.append(
                f"the two channels of {name} cancel each other (antiphase): where they are mixed, "
                "the louder one is taken"
            )
        return tuple(found)


class RecordingMeter:
    """Looks for faults in a recording that arrives in blocks."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        """
        Args:
            rate_hz: Sample rate.
            channels: Number of channels.
        """
        self._rate_hz, self._channels = rate_hz, channels
        self._counts: list[int] = []
        self._sums: list[np.ndarray] = []
        """One entry for each second: sums and sums of squares of the channels and, last, of their
        mean; float64 [2, channel + 1]."""
        self._highest, self._lowest = np.full(channels, -np.inf), np.full(channels, np.inf)

    def add(self, block: np.ndarray) -> None:
        """Takes the next block, float [channel, sample]."""
        first = 0
        while first < block.shape[1]:
            if not self._counts or self._counts[-1] == self._rate_hz:
                self._counts.append(0)
                self._sums.append(np.zeros((2, self._channels + 1)))
            last = min(block.shape[1], first + self._rate_hz - self._counts[-1])
            part = block[:, first:last].astype(np.float64)
            rows = np.concatenate([part, part.mean(axis=0, keepdims=True)])
            self._sums[-1] += np.stack([rows.sum(axis=1), np.square(rows).sum(axis=1)])
            self._counts[-1] += last - first
            self._highest = np.maximum(self._highest, part.max(axis=1))
            self._lowest = np.minimum(self._lowest, part.min(axis=1))
            first = last

    def faults(self) -> RecordingFaults:
        """What was found in all blocks, of which there was one at least."""
        counts = np.array(self._counts, dtype=np.float64)
        sums, squares = np.stack(self._sums, axis=1)
        if len(counts) > 1 and counts[-1] < 0.5 * self._rate_hz:
            # The mean of a few samples is no offset: they belong to the second before.
            counts, sums, squares = _last_joined(counts), _last_joined(sums), _last_joined(squares)
        if counts.sum() < _SHORTEST_SECONDS * self._rate_hz:
            sums = np.zeros_like(sums)
        means = sums[:, :-1] / counts[:, None]
        shares = counts / counts.sum()
        overall = shares @ means
        constant = shares @ np.square(means)
        level = np.maximum(squares[:, :-1].sum(axis=0) / counts.sum() - constant, 0.0)
        least = np.maximum(_OFFSET_SHARE**2 * level, _LEAST_OFFSET**2)
        changing = shares @ np.square(means - overall)
        # The residue where an offset drifts around 0 is its effective value.
        offsets = np.where(changing > least, np.sqrt(constant), overall)
        offsets = np.where(constant > least, offsets, 0.0)
        centres = np.where(constant > least, overall, 0.0)
        peak = np.maximum(self._highest - centres, centres - self._lowest).max()
        return RecordingFaults(
            offsets=offsets,
            drifts=bool((changing > least).any()),
            peak=float(peak),
            cancels=self._channels == 2 and self._cancels(counts, sums, squares),
        )

    @staticmethod
    def _cancels(counts: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> bool:
        """Whether the two channels cancel each other, their means removed."""
        energies = (squares - np.square(sums) / counts[:, None]).clip(min=0.0).T
        return sides_cancel(energies[:2], energies[2])


def _last_joined(rows: np.ndarray) -> np.ndarray:
    """Rows of which the last is added to the one before."""
    return np.concatenate([rows[:-2], rows[-2:].sum(axis=0, keepdims=True)])


def faults_of(waveform: Waveform) -> RecordingFaults:
    """What is amiss with a recording of one sample or more."""
    meter = RecordingMeter(waveform.rate_hz, waveform.samples.shape[0])
    meter.add(waveform.samples)
    return meter.faults()


def repaired(waveform: Waveform, name: str = "the recording") -> tuple[Waveform, tuple[str, ...]]:
    """Removes a DC offset, and scales amplitudes far above full scale down to 1.

    A constant offset is subtracted from its channel; one that changes is removed by a high-pass.
    Channels that cancel each other are only remarked on: `mix_to_mono` knows what to do.

    Args:
        waveform: The recording.
        name: What the remarks call it.

    Returns:
        The recording, the same object where nothing was amiss, and a sentence on every fault.
    """
    if waveform.samples.shape[1] == 0:
        return waveform, ()
    faults = faults_of(waveform)
    if faults.repairable:
        repair = RecordingRepair(faults, waveform.rate_hz)
        waveform = replace(waveform, samples=repair.step(waveform.samples))
    return waveform, faults.remarks(name)


class RecordingRepair:
    """Repairs a recording that arrives in blocks, after its faults were found."""

    def __init__(self, faults: RecordingFaults, rate_hz: int) -> None:
        """
        Args:
            faults: Those of the whole recording.
            rate_hz: Sample rate.
        """
        self._faults = faults
        section = high_pass(_HIGH_PASS_HZ, rate_hz)
        self._high_pass = SectionFilter(section, len(faults.offsets)) if faults.drifts else None
        self._settled = False

    def step(self, block: np.ndarray) -> np.ndarray:
        """The next block, float32 [channel, sample]; the same object where nothing is amiss."""
        faults = self._faults
        if not faults.repairable or block.shape[1] == 0:
            return block
        samples = block.astype(np.float64)
        if self._high_pass is None:
            samples -= faults.offsets[:, None]
        else:
            if not self._settled:
                self._high_pass.settle(samples)
                self._settled = True
            samples = self._high_pass.step(samples)
        if faults.peak > _MOST_PEAK:
            samples /= faults.peak
        return samples.astype(np.float32)
