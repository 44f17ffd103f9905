"""SoundFont synthesizer in numpy, for systems without FluidSynth.

Inputs: a `SoundFont` and the notes of a part. Output: float32 [channel, sample], two channels, dry.
Follows the SoundFont Technical Specification 2.04, sections 8 and 9, in pitch, duration, level and
timbre: resampling by cubic interpolation, loops, the volume envelope, the low-pass filter with the
modulation envelope, pan, and exclusive classes of drums. Not implemented: low-frequency oscillators
(vibrato) and custom modulators.

All notes of one region and pitch are cut from a tone that is synthesized once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import lfilter

from melisma.symbolic.playback import PlayedPart, Preset, Synthesizer
from melisma.symbolic.soundfont.presets import (
    EXCLUSIVE,
    FIXED_KEY,
    ROOT_KEY,
    SAMPLE_MODES,
    Region,
    SoundFont,
)

GAIN = 0.212
"""Gain of a recording at full velocity (measured: as loud as `fluidsynth.py`)."""
_RANGE_DB = 96.0
"""Attenuation that defines decay and release times (as in FluidSynth)."""
_AUDIBLE_DB = 80.0
"""A release ends at this attenuation (chosen)."""
_MAX_RELEASE_SECONDS = 4.0
_CHOKE_SECONDS = 0.01
"""Fade-out of a note that an exclusive class ends, as an open hi-hat (chosen: no click)."""
_ATTENUATION = 0.4
"""Scale of the attenuation generator in E-mu's hardware and all later synthesizers."""
_FIRST_HZ = 8.176
"""Frequency of pitch 0, the origin of absolute cents (section 8.1.2)."""
_OPEN_HZ = 18_000.0
"""Filters with a cut-off above this are bypassed."""


@dataclass(frozen=True, kw_only=True)
class _Tone:
    """One region at one pitch, for the longest note."""

    raw: np.ndarray
    """float32 [sample], without envelope."""
    held: np.ndarray
    """Volume envelope while the key is held, float32 [sample]."""
    release: np.ndarray
    """Release envelope, float32 [sample], from 1 to silence."""
    gains: tuple[float, float]
    """Left and right, at full velocity."""


class NumpySynthesizer(Synthesizer):
    """Synthesizer of a `SoundFont` in pure numpy."""

    name = "Melisma's own player"

    def __init__(self, bank: SoundFont, rate_hz: int) -> None:
        self._bank = bank
        self._rate_hz = rate_hz

    def play(self, line: PlayedPart, preset: Preset, samples: int) -> np.ndarray:
        """See `Synthesizer`. Times are rounded to samples."""
        out = np.zeros((2, samples), dtype=np.float32)
        regions = self._bank.regions(preset)
        on = np.round(line.start_seconds * self._rate_hz).astype(np.int64)
        held = np.maximum(np.round(line.duration_seconds * self._rate_hz).astype(np.int64), 1)
        for pitch in np.unique(line.pitch).tolist():
            notes = np.flatnonzero((line.pitch == pitch) & (on < samples))
            for region in regions:
                sounding = [
                    i for i in notes.tolist() if region.sounds(pitch, int(line.velocity[i]))
                ]
                if not sounding:
                    continue
                tone = self._tone(region, pitch, int(held[sounding].max()))
                if tone is None:
                    continue
                chokes = _chokes(line, on, regions, region)
                for i in sounding:
                    stop = _next_choke(chokes, int(on[i]))
                    loudness = (int(line.velocity[i]) / 127.0) ** 2
                    _add(out, tone, int(on[i]), int(held[i]), loudness, stop, self._rate_hz)
        return out

    def close(self) -> None:
        """See `Synthesizer`; there are no resources to release."""

    def _tone(self, region: Region, pitch: int, max_held: int) -> _Tone | None:
        """The tone of a region at a pitch, for notes held up to `max_held` samples."""
        recording = region.recording
        data = self._bank.sound(recording)
        if len(data) < 2:
            return None
        fixed, root = region.value(FIXED_KEY), region.value(ROOT_KEY)
        key = fixed if 0 <= fixed <= 127 else pitch
        root = root if 0 <= root <= 127 else recording.pitch
        cents = (key - root) * region.value(56) + 100 * region.value(51) + region.value(52)
        cents = min(max(cents + recording.correction_cents, -12_000), 12_000)
        ratio = 2 ** (cents / 1200) * recording.rate_hz / self._rate_hz
        release = _release(region.value(38), self._rate_hz)
        raw = _resampled(data, region, ratio, max_held + len(release))
        held = _held(region, key, max_held, self._rate_hz)
        angle = (min(max(region.value(17), -500), 500) / 1000 + 0.5) * math.pi / 2
        level_db = -_ATTENUATION * min(max(region.value(48), 0), 1440) / 10
        level = GAIN * 10 ** (level_db / 20)
        return _Tone(
            raw=_filtered(raw, region, key, self._rate_hz),
            held=held,
            release=release,
            gains=(level * math.cos(angle), level * math.sin(angle)),
        )


def _add(
    out: np.ndarray,
    tone: _Tone,
    on: int,
    held: int,
    loudness: float,
    stop: int | None,
    rate_hz: int,
) -> None:
    """Adds one note to `out` [channel, sample]."""
    body = tone.raw[:held] * tone.held[: min(held, len(tone.raw))]
    tail = tone.raw[held : held + len(tone.release)]
    sound = np.concatenate([body, tail * (tone.held[held - 1] * tone.release[: len(tail)])])
    if stop is not None and stop - on < len(sound):
        fade = round(_CHOKE_SECONDS * rate_hz)
        sound = sound[: stop - on + fade]
        last = len(sound) - (stop - on)
        sound[stop - on :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)[:last]
    sound = sound[: out.shape[1] - on]
    for channel, gain in enumerate(tone.gains):
        out[channel, on : on + len(sound)] += np.float32(gain * loudness) * sound


def _chokes(
    line: PlayedPart, on: np.ndarray, regions: tuple[Region, ...], region: Region
) -> np.ndarray | None:
    """Onsets of the notes of the region's exclusive class, int64 [note], None if it has none."""
    group = region.value(EXCLUSIVE)
    if group == 0:
        return None
    rivals = [other for other in regions if other.value(EXCLUSIVE) == group]
    pitches = {
        pitch
        for pitch in np.unique(line.pitch).tolist()
        if any(rival.keys[0] <= pitch <= rival.keys[1] for rival in rivals)
    }
    return np.unique(on[np.isin(line.pitch, list(pitches))])


def _next_choke(chokes: np.ndarray | None, on: int) -> int | None:
    if chokes is None:
        return None
    after = int(np.searchsorted(chokes, on, side="right"))
    return int(chokes[after]) if after < len(chokes) else None


def _resampled(data: np.ndarray, region: Region, ratio: float, count: int) -> np.ndarray:
    """`count` samples or fewer of a recording, resampled by `ratio`, float32 [sample]."""
    start, stop = region.recording.loop_start, region.recording.loop_end
    loops = region.value(SAMPLE_MODES) & 1 and start >= 0 and start + 2 <= stop <= len(data)
    positions = ratio * np.arange(count)
    if loops:
        positions = np.where(
            positions < stop, positions, start + np.mod(positions - start, stop - start)
        )
        wrapped = data[start + np.arange(4) % (stop - start)]
        data = np.concatenate([data[:stop], wrapped])
    else:
        positions = positions[positions < len(data)]
        data = np.concatenate([data, np.zeros(4, dtype=np.float32)])
    whole = positions.astype(np.int64)
    part = (positions - whole).astype(np.float32)
    before, here = data[np.maximum(whole - 1, 0)], data[whole]
    after, beyond = data[whole + 1], data[whole + 2]
    # Catmull and Rom's spline through four points.
    slope, bend = after - before, 2 * before - 5 * here + 4 * after - beyond
    twist = 3 * (here - after) + beyond - before
    return here + 0.5 * part * (slope + part * (bend + part * twist))


def _held(region: Region, key: int, count: int, rate_hz: int) -> np.ndarray:
    """Volume envelope of a held key, float32 [sample]: linear attack, exponential decay."""
    delay, attack, hold, decay = _times(region, key, rate_hz, (33, 34, 35, 36, 39, 40))
    sustain_db = min(max(region.value(37), 0), 1440) / 10
    time = np.arange(count, dtype=np.float32)
    rise = np.clip((time - delay) / max(attack, 1.0), 0.0, 1.0)
    fallen = np.maximum(time - (delay + attack + hold), 0.0) * (_RANGE_DB / max(decay, 1.0))
    envelope = rise * 10 ** (-np.minimum(fallen, sustain_db) / 20)
    return envelope.astype(np.float32)


def _times(
    region: Region, key: int, rate_hz: int, kinds: tuple[int, int, int, int, int, int]
) -> tuple[float, float, float, float]:
    """Delay, attack, hold and decay of an envelope in samples; the last two depend on the key."""
    delay, attack, hold, decay = (_samples(region.value(kind), rate_hz) for kind in kinds[:4])
    hold *= 2 ** ((60 - key) * min(max(region.value(kinds[4]), -1200), 1200) / 1200)
    decay *= 2 ** ((60 - key) * min(max(region.value(kinds[5]), -1200), 1200) / 1200)
    return delay, attack, hold, decay


def _samples(timecents: int, rate_hz: int) -> float:
    """Samples of a time in timecents (1200 per octave of seconds); 0 at -12000 and below."""
    if timecents <= -12_000:
        return 0.0
    return 2 ** (min(timecents, 8_000) / 1200) * rate_hz


@lru_cache(maxsize=64)
def _release(timecents: int, rate_hz: int) -> np.ndarray:
    """Release envelope, float32 [sample]; cached, do not modify."""
    full = max(_samples(timecents, rate_hz), 0.005 * rate_hz)
    count = min(full * _AUDIBLE_DB / _RANGE_DB, _MAX_RELEASE_SECONDS * rate_hz)
    fading = 10 ** (-_RANGE_DB / 20 * np.arange(round(count)) / full)
    fading[-8:] *= np.linspace(1.0, 0.0, len(fading[-8:]))
    return fading.astype(np.float32)


def _filtered(raw: np.ndarray, region: Region, key: int, rate_hz: int) -> np.ndarray:
    """Low-passed tone. The cut-off follows the modulation envelope, approximated by a crossfade
    between the outputs at the envelope's maximum and at its sustain level."""
    cents, swing = region.value(8), region.value(11)
    sustain = 1.0 - min(max(region.value(29), 0), 1000) / 1000
    dark = _low_passed(raw, cents + swing * sustain, region.value(9), rate_hz)
    if swing == 0 or sustain == 1.0:
        return dark
    bright = _low_passed(raw, cents + swing, region.value(9), rate_hz)
    if bright is dark:
        return dark
    delay, attack, hold, decay = _times(region, key, rate_hz, (25, 26, 27, 28, 31, 32))
    time = np.arange(len(raw), dtype=np.float32)
    top = np.maximum(1.0 - np.maximum(time - delay - attack - hold, 0.0) / max(decay, 1.0), sustain)
    share = ((top - sustain) / (1.0 - sustain)).astype(np.float32)
    return dark + share * (bright - dark)


def _low_passed(raw: np.ndarray, cents: float, resonance: int, rate_hz: int) -> np.ndarray:
    """Second-order low-pass, cut-off in absolute cents; the same array where it is bypassed.

    `resonance` is in centibels (section 8.1.2, generator 9).
    """
    corner_hz = _FIRST_HZ * 2 ** (min(max(cents, 1_500), 13_500) / 1200)
    if corner_hz >= min(_OPEN_HZ, 0.45 * rate_hz):
        return raw
    quality = 10 ** ((min(max(resonance, 0), 960) / 10 - 3.01) / 20)
    angle = 2 * math.pi * corner_hz / rate_hz
    width = math.sin(angle) / (2 * quality)
    cosine = math.cos(angle)
    feed = np.array([1 - cosine, 2 * (1 - cosine), 1 - cosine]) / 2 / (1 + width)
    back = np.array([1 + width, -2 * cosine, 1 - width]) / (1 + width)
    passed = np.asarray(lfilter(feed, back, raw), dtype=np.float32)
    return passed / np.float32(max(1.0, math.sqrt(quality)))
