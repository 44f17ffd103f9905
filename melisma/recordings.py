"""Recordings as people have them: read from a file, repaired, with remarks on what was amiss.

`read_and_repair` is how everything that listens to a file reads it: the codec, the melody, the
continuation, the evaluation. (`melisma.files.read_audio` leaves the samples as they are.)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.files.audio.reading import AudioReader, DecodedAudio, read_recording
from melisma.sound.loudness import (
    BLOCK_SECONDS,
    LoudnessMeter,
    TruePeakMeter,
    integrated_lufs,
)
from melisma.sound.repair import RecordingFaults, RecordingMeter, RecordingRepair, repaired
from melisma.sound.stored import StoredSound
from melisma.values.waveform import Waveform


def read_and_repair(
    path: Path | str, *, first_seconds: float | None = None, last_seconds: float | None = None
) -> DecodedAudio:
    """Reads an audio file, without DC offset and without amplitudes far above full scale.

    Args:
        path: The file, of any name.
        first_seconds: How much of its beginning to read; None for all.
        last_seconds: How much of its end to read; None for all.

    Returns:
        The recording at its own sample rate, with a sentence on each thing that was amiss.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: It holds no sound that can be read, see `read_recording`.
    """
    found = read_recording(path, first_seconds=first_seconds, last_seconds=last_seconds)
    waveform, remarks = repaired(found.waveform, Path(path).name)
    return DecodedAudio(waveform=waveform, remarks=(*found.remarks, *remarks))


def repaired_audio(path: Path | str) -> Waveform:
    """Reads an audio file, see `read_and_repair`; remarks become Python warnings."""
    found = read_and_repair(path)
    for remark in found.remarks:
        warnings.warn(remark, stacklevel=2)
    return found.waveform


def store_and_repair(path: Path | str) -> tuple[StoredSound, tuple[str, ...]]:
    """Reads all of an audio file of any length, see `read_and_repair`, in constant memory.

    Returns:
        The recording, and a sentence on each thing that was amiss.
    """
    path, sound, meter = Path(path), None, None
    with AudioReader(path) as reader:
        for block in reader.blocks():
            sound = sound or StoredSound(rate_hz=reader.rate_hz, channels=len(block))
            meter = meter or RecordingMeter(reader.rate_hz, len(block))
            sound.append(block)
            meter.add(block)
        if sound is None or meter is None:
            raise reader.nothing_read()
        faults, remarks = meter.faults(), reader.remarks()
    if faults.repairable:
        repair = RecordingRepair(faults, sound.rate_hz)
        clean = StoredSound(rate_hz=sound.rate_hz, channels=sound.channels)
        for block in sound.blocks():
            clean.append(repair.step(block.samples))
        sound = clean
    return sound, (*remarks, *faults.remarks(path.name))


@dataclass(frozen=True, kw_only=True)
class RecordingFacts:
    """What is measured of a recording."""

    seconds: float
    rate_hz: int
    channels: int
    """As in the file."""
    loudness_lufs: float | None
    """Integrated loudness, see `integrated_lufs`; None for silence."""
    true_peak_db: float
    """See `sound.loudness.true_peak_db`; minus infinity for silence."""
    remarks: tuple[str, ...]
    """A sentence on each thing that is amiss."""


def measure_recording(path: Path | str) -> RecordingFacts:
    """Measures an audio file of any length in constant memory; it is decoded twice.

    Loudness and peak are those of the repaired recording, see `read_and_repair`.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: It holds no sound that can be read, see `read_recording`.
    """
    path = Path(path)
    with AudioReader(path) as reader:
        meter = None
        for block in reader.blocks():
            meter = meter or RecordingMeter(reader.rate_hz, len(block))
            meter.add(block)
        if meter is None:
            raise reader.nothing_read()
        faults, remarks = meter.faults(), reader.remarks()
        rate_hz, channels, length = reader.rate_hz, reader.channels, reader.read_samples
    lufs, peak_db = _level_of(path, faults, length)
    return RecordingFacts(
        seconds=length / rate_hz,
        rate_hz=rate_hz,
        channels=channels,
        loudness_lufs=lufs,
        true_peak_db=peak_db,
        remarks=(*remarks, *faults.remarks(path.name)),
    )


def _level_of(path: Path, faults: RecordingFaults, length: int) -> tuple[float | None, float]:
    """Integrated loudness in LUFS and true peak in dB of a repaired file of so many samples."""
    with AudioReader(path) as reader:
        repair = RecordingRepair(faults, reader.rate_hz)
        blocks = (repair.step(block) for block in reader.blocks(length))
        peak = TruePeakMeter()
        if length <= math.ceil(BLOCK_SECONDS * reader.rate_hz):
            samples = np.concatenate(list(blocks), axis=1)
            peak.add(samples)
            waveform = Waveform(samples=samples, rate_hz=reader.rate_hz)
            return integrated_lufs(waveform), peak.peak_db()
        channels = len(faults.offsets)
        loudness = LoudnessMeter(rate_hz=reader.rate_hz, channels=channels, length=length)
        for block in blocks:
            loudness.add(block)
            peak.add(block)
        return loudness.integrated_lufs(), peak.peak_db()
