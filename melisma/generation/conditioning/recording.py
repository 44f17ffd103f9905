"""The recording that a piece continues: where its music ends, and what is kept of it.

Input: a waveform, or an audio file of any length, of which only the end is read unless all of it is
wanted. Output: the fields of `AudioConditions` that concern it, at the recording's own sample rate
and with its own channels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.files.audio import AudioReader
from melisma.recordings import read_and_repair, store_and_repair
from melisma.sound.loudness import TruePeakMeter, integrated_lufs
from melisma.sound.mastering import CEILING_DB
from melisma.sound.repair import repaired
from melisma.sound.stored import StoredSound
from melisma.values.errors import MelismaError
from melisma.values.waveform import Waveform

_WINDOW_SECONDS = 30.0
"""Of a file this much more than what is kept is read at first, also to measure the beat before it;
if all of it is silent, more."""
_WIDENING = 8
_MOST_SECONDS = 600.0
"""A file with longer silence at its end is decoded from its beginning, block by block."""
_HOP_SECONDS = 0.05
_SILENCE_DB = -45.0
"""Level below that of the loud parts that counts as silence after the end (chosen: the tail of a
reverberation is inaudible behind music there)."""
_LOWEST_DB = -66.0
"""Root mean square relative to full scale that is silence whatever the loud parts are (chosen: 16
bits have 30 dB below it)."""
_NOISE_DB, _ABOVE_NOISE_DB = -25.0, 6.0
"""A steady end this far below the loud parts is the noise of the recording; what is less than so
much above it belongs to it."""
_STEADY_DB = 2.0
"""Standard deviation of the level of noise."""
_NOISE_SECONDS = 0.5
_SHORTEST_SILENCE_SECONDS = 0.25
"""A shorter silence may be a rest, and is kept."""
_INAUDIBLE_DB = -45.0
"""Root mean square of the last second, relative to full scale, that is remarked on (chosen)."""
_SOFTER_DB = 10.0
"""Only an end this far below the loudest second is remarked on: a soft recording has no fade."""
_FADED_DB = 20.0
"""An end this far below the loudest kept second is a fade, and gives no level (chosen)."""
_END_SECONDS = 4.0
"""So much of the end of a recording has the level that new music begins with."""


@dataclass(frozen=True, kw_only=True)
class KeptRecording:
    """The end of a recording, up to where its music ends."""

    beginning: Waveform
    """What the piece begins with."""
    before: StoredSound | None
    """What precedes it: all of it where the whole recording is wanted, else what was read of it;
    None for nothing."""
    remarks: tuple[str, ...]
    """Sentences for the person whose recording it is."""
    gain_db: float = 0.0
    """Below 0 where it exceeds full scale: with this gain its true peak is at the ceiling."""


def recording_of(
    source: Waveform | Path | str, keep_seconds: float, *, whole: bool = False
) -> KeptRecording:
    """What is kept of a recording.

    Args:
        source: A waveform or an audio file.
        keep_seconds: How much of its end is kept, counted from where the music ends.
        whole: Whether all that precedes it is wanted, too.

    Raises:
        FileNotFoundError: There is no such file.
        MelismaError: It is silent, or no audio file that can be read; `keep_seconds` is not above
            0.
    """
    if not keep_seconds > 0:
        raise MelismaError(f"the seconds to keep must be above 0, not {keep_seconds}")
    after = 0
    if isinstance(source, Waveform):
        clean, remarks = repaired(source)
        sound = StoredSound.of(clean)
    elif whole:
        sound, remarks = store_and_repair(source)
    else:
        sound, remarks, after = _read_end(Path(source), keep_seconds)
    name = "the recording" if isinstance(source, Waveform) else Path(source).name
    end = musical_end(sound)
    if end == 0:
        raise MelismaError(f"{name} is silent: there is nothing to continue")
    if silence := (sound.length + after - end) / sound.rate_hz:
        remarks += (f"{silence:.1f} s of silence at the end of {name} were left out",)
    sound.cut(end)
    first = max(end - max(1, round(min(keep_seconds, sound.seconds) * sound.rate_hz)), 0)
    kept = Waveform(samples=sound.read(first, end), rate_hz=sound.rate_hz)
    gain_db = fitting_gain_db(sound, 0 if whole else first)
    sound.cut(first)
    if gain_db < 0:
        over_db = CEILING_DB - gain_db
        remarks += (
            f"{name} exceeds full scale, by {over_db:.1f} dB: the whole piece is scaled down by "
            f"{-gain_db:.1f} dB",
        )
    return KeptRecording(
        beginning=kept,
        before=sound if first else None,
        remarks=(*remarks, *_fade_remarks(sound, kept, name)),
        gain_db=gain_db,
    )


def fitting_gain_db(sound: StoredSound, first: int = 0, most: float = 1.0) -> float:
    """The gain with which the true peak of a sound is at most at the ceiling of mastering.

    Args:
        sound: Of any length.
        first: The sample from which it is played.
        most: Amplitude that samples may have.

    Returns:
        0 for sound of which no sample exceeds it, which stays as it is.
    """
    if all(np.abs(block.samples).max(initial=0.0) <= most for block in sound.blocks(first)):
        return 0.0
    meter = TruePeakMeter()
    for block in sound.blocks(first):
        meter.add(block.samples)
    return min(CEILING_DB - meter.peak_db(), 0.0)


def _fade_remarks(before: StoredSound, kept: Waveform, name: str) -> tuple[str, ...]:
    """A sentence about a kept end that has faded out until it is hardly audible, if it has.

    Args:
        before: What was read of the recording before the kept part.
        kept: The kept part.
        name: What the sentence calls the recording.
    """
    levels = _second_levels(kept)
    if levels[-1] >= _INAUDIBLE_DB:
        return ()
    loudest = max([levels.max(), *(_second_levels(one).max() for one in before.blocks())])
    if loudest - levels[-1] < _SOFTER_DB:
        return ()
    what = f"the last second that is kept of {name} is hardly audible ({levels[-1]:.0f} dB)"
    if levels.max() - levels[-1] > _FADED_DB:
        return (
            f"{what}: the new music is as loud as the loudest kept second; cut the fade off to "
            "continue without a gap",
        )
    return (
        f"{what}, and the new music is as soft: keep more of the recording (--keep-seconds), or "
        "cut the fade off",
    )


def _second_levels(sound: Waveform) -> np.ndarray:
    """Level of every whole second up to the end, or of all of a shorter sound, in dB relative to
    full scale, float64 [second]."""
    hop = min(sound.rate_hz, sound.samples.shape[1])
    count = sound.samples.shape[1] // hop * hop
    return 10 * np.log10(hop_powers(sound.samples[:, -count:], hop) + 1e-12)


def levels_of(kept: Waveform) -> tuple[float | None, float | None]:
    """The loudness that the music after a recording is brought to: in the long run and at first.

    Args:
        kept: What the piece begins with.

    Returns:
        LUFS of all of it and of its end, None for silence; where the end has faded out, twice that
        of the loudest second.
    """
    levels = _second_levels(kept)
    if levels.max() - levels[-1] > _FADED_DB:
        behind = (len(levels) - 1 - int(levels.argmax())) * kept.rate_hz
        stop = kept.samples.shape[1] - behind
        loudest = kept.samples[:, stop - kept.rate_hz : stop]
        lufs = integrated_lufs(Waveform(samples=loudest, rate_hz=kept.rate_hz))
        return lufs, lufs
    return integrated_lufs(kept), integrated_lufs(last_of(None, kept, _END_SECONDS))


def _read_end(path: Path, keep_seconds: float) -> tuple[StoredSound, tuple[str, ...], int]:
    """The end of a file, with music in it if there is any in the file.

    Returns:
        (what was read of it, remarks, number of silent samples behind).
    """
    seconds = keep_seconds + _WINDOW_SECONDS
    while seconds < _MOST_SECONDS:
        found = read_and_repair(path, last_seconds=seconds)
        sound = StoredSound.of(found.waveform)
        is_all = found.waveform.seconds < seconds - 1e-3
        if is_all or musical_end(sound) >= keep_seconds * sound.rate_hz:
            return sound, found.remarks, 0
        seconds *= _WIDENING
    return _read_before_silence(path, keep_seconds + _WINDOW_SECONDS)


def _read_before_silence(path: Path, seconds: float) -> tuple[StoredSound, tuple[str, ...], int]:
    """As `_read_end`, of a file that ends in long silence, in constant memory: it is decoded to its
    end for the place where the music ends, and read again up to there."""
    levels = None
    with AudioReader(path) as reader:
        for block in reader.blocks():
            levels = levels or _Levels(reader.rate_hz, len(block))
            levels.add(block)
        if levels is None:
            raise reader.nothing_read()
        length, rate_hz, remarks = reader.read_samples, reader.rate_hz, reader.remarks()
    end = levels.end()
    if end == 0:
        raise MelismaError(f"{path.name} is silent: there is nothing to continue")
    start, place, parts = max(end - round(seconds * rate_hz), 0), 0, list[np.ndarray]()
    with AudioReader(path) as reader:
        for block in reader.blocks(end):
            parts.append(block[:, max(start - place, 0) :])
            place += block.shape[1]
    music = Waveform(samples=np.concatenate(parts, axis=1), rate_hz=rate_hz)
    clean, more = repaired(music, path.name)
    return StoredSound.of(clean), (*remarks, *more), length - end


def musical_end(sound: StoredSound) -> int:
    """Where the music of a recording ends: the sample after its last sound.

    Silence of less than a quarter of a second may be a rest and is no end. Of a recording with
    noise the steady noise after the music does not count.

    Returns:
        0 for silence, the length where the recording ends in music.
    """
    levels = _Levels(sound.rate_hz, sound.channels)
    for block in sound.blocks():
        levels.add(block.samples)
    return levels.end()


class _Levels:
    """The level of a recording over time, from consecutive blocks."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._rate_hz, self._hop = rate_hz, max(1, round(_HOP_SECONDS * rate_hz))
        self._powers, self._rest = list[np.ndarray](), np.zeros((channels, 0), np.float32)
        self._length = 0

    def add(self, block: np.ndarray) -> None:
        """Measures a block, float32 [channel, sample]."""
        self._length += block.shape[1]
        samples = np.concatenate([self._rest, block], axis=1)
        whole = samples.shape[1] // self._hop * self._hop
        self._rest = samples[:, whole:].copy()
        self._powers.append(hop_powers(samples[:, :whole], self._hop))

    def end(self) -> int:
        """See `musical_end`."""
        rest = [hop_powers(self._rest, self._rest.shape[1])] if self._rest.shape[1] else []
        levels = 10 * np.log10(np.concatenate([np.zeros(0), *self._powers, *rest]) + 1e-12)
        if len(levels) == 0:
            return 0
        # Of the part that sounds at all: long silence after the music must not make it soft.
        audible = levels[levels > _LOWEST_DB]
        loud = float(np.percentile(audible, 95)) if len(audible) else _LOWEST_DB
        threshold = max(loud + _SILENCE_DB, _LOWEST_DB)
        ending = levels[-round(_NOISE_SECONDS / _HOP_SECONDS) - 1 : -1]
        if len(ending) and ending.std() < _STEADY_DB and ending.mean() < loud + _NOISE_DB:
            threshold = max(threshold, float(ending.mean()) + _ABOVE_NOISE_DB)
        sounding = np.flatnonzero(levels > threshold)
        if len(sounding) == 0:
            return 0
        end = min((int(sounding[-1]) + 1) * self._hop, self._length)
        is_rest = self._length - end < _SHORTEST_SILENCE_SECONDS * self._rate_hz
        return self._length if is_rest else end


def hop_powers(samples: np.ndarray, hop: int) -> np.ndarray:
    """Mean square of every hop, the louder channel's, without the offset of the hop, float64 [hop].

    Args:
        samples: Whole hops, [channel, sample].
        hop: Samples of a hop.
    """
    parts = samples.astype(np.float64).reshape(samples.shape[0], -1, hop)
    return parts.var(axis=2).max(axis=0)


def last_of(before: StoredSound | None, beginning: Waveform, seconds: float) -> Waveform:
    """The end of a recording, a little more than its kept part: what its beat is measured on.

    Args:
        before: What precedes the kept part.
        beginning: The kept part.
        seconds: Length in all; less where there is less.
    """
    missing = round(seconds * beginning.rate_hz) - beginning.samples.shape[1]
    if before is None or missing <= 0:
        count = max(1, round(min(seconds, beginning.seconds) * beginning.rate_hz))
        return dataclasses.replace(beginning, samples=beginning.samples[:, -count:])
    first = before.read(before.length - missing, before.length)
    return dataclasses.replace(
        beginning, samples=np.concatenate([first, beginning.samples], axis=1)
    )
