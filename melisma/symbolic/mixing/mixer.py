"""Mixer: parts become a stereo mix, and stems that add up to it.

Inputs: a `Synthesizer` and the notes of each part. Outputs: stereo `Waveform`s. The chain is
linear: each part is rendered alone and dry, panned, sent to the same reverberation and scaled by
one gain. That gain brings the mix to its target loudness (ITU-R BS.1770-4), limited so that no peak
exceeds the ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import butter, oaconvolve, sosfilt

from melisma.sound.loudness import integrated_lufs, oversampled_peaks
from melisma.sound.mastering import CEILING_DB, TARGET_LUFS
from melisma.sound.reverberation import ROOMS, room_response
from melisma.symbolic.playback import PlayedPart, Preset, Synthesizer
from melisma.values import Waveform
from melisma.values.errors import MelismaError

_ROOM_SEED = 4_001
_RUMBLE_HZ = 20.0
"""Cut-off of the high-pass: the lowest audible frequency; some samples have a DC offset."""
_MARGIN_DB = 0.1
"""Margin to the ceiling, for rounding to 16 bits and peaks between the oversampled points."""
_SILENT_DB = -70.0
"""The end is trimmed below this level relative to the peak (chosen: below a room's noise)."""
_AFTER_SECONDS = 0.05
"""Duration that is kept after the last audible sample."""
_SHORT_FADE_SECONDS, _LONG_FADE_SECONDS = 0.01, 1.0
"""Fade-out where the sound has decayed at the end, and where it has not."""
_BLOCK_SAMPLES, _OVERLAP_SAMPLES = 1 << 20, 64
"""Block size and overlap of the peak measurement; the overlap exceeds the interpolator's length."""
_CACHE_BYTES = 1 << 30
"""Maximum size of the parts that are cached between mix and stems."""

Progress = Callable[[float], None]
"""Callback with the finished fraction of the work, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class MixerSettings:
    """Settings of the mixer."""

    rate_hz: int = 44_100
    room: str = "studio"
    """One of `sound.reverberation.ROOMS`."""
    tail_seconds: float = 4.0
    """Maximum duration after the end of the last note."""
    target_lufs: float = TARGET_LUFS
    """Integrated loudness of the mix."""
    stems: bool = False
    """Whether stems will be requested; rendered parts are then cached where memory allows."""

    def __post_init__(self) -> None:
        if self.room not in ROOMS:
            raise MelismaError(f'no room "{self.room}": known are {", ".join(ROOMS)}')
        if not 8_000 <= self.rate_hz <= 192_000:
            raise MelismaError(f"a rate lies between 8000 and 192000 Hz, not {self.rate_hz}")
        if not 0.0 <= self.tail_seconds <= 30.0:
            raise MelismaError(f"a tail lasts 0 to 30 seconds, not {self.tail_seconds}")
        if not -60.0 <= self.target_lufs < 0.0:
            raise MelismaError(f"a loudness lies between -60 and 0 LUFS, not {self.target_lufs}")


@dataclass(frozen=True, kw_only=True)
class MixerPart:
    """A part with its preset and pan gains."""

    line: PlayedPart
    preset: Preset | None
    """None where the SoundFont has none for it: the part is silent."""
    gains: tuple[float, float]
    """Left and right."""


@dataclass(frozen=True, kw_only=True)
class _Finish:
    """Final processing of the mix and of every stem."""

    samples: int
    fade: np.ndarray
    """float32 [sample], over the end."""
    gain: float


class Mixer:
    """Renders and mixes parts: first `mix`, then `stems` one at a time, because the stems of long
    scores do not fit into memory together."""

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        parts: tuple[MixerPart, ...],
        end_seconds: float,
        settings: MixerSettings,
        soundfont: Path,
        remarks: tuple[str, ...],
    ) -> None:
        """Prepares a mix.

        Args:
            synthesizer: Renders the parts; `close` closes it.
            parts: The parts.
            end_seconds: End of the last note.
            settings: Settings.
            soundfont: Path of the SoundFont, for callers and messages.
            remarks: Messages on substitutions, for callers.
        """
        self.synthesizer = synthesizer
        self.soundfont = soundfont
        self.remarks = remarks
        self.settings = settings
        self._parts = parts
        self._note_samples = math.ceil(end_seconds * settings.rate_hz) + 1
        self._samples = self._note_samples + round(settings.tail_seconds * settings.rate_hz)
        self._cached_parts: dict[int, np.ndarray] = {}
        self._finish: _Finish | None = None

    def mix(self, progress: Progress | None = None) -> Waveform:
        """Mixes all parts; `MelismaError` where the result is silent.

        Args:
            progress: Called with the finished fraction of the work.
        """
        total = np.zeros((2, self._samples), dtype=np.float32)
        loudest = 0.0
        for index in range(len(self._parts)):
            dry = self._panned(index)
            loudest = max(loudest, float(dry.max()), -float(dry.min()))
            total += dry
            if self.settings.stems and dry.nbytes * (len(self._cached_parts) + 1) <= _CACHE_BYTES:
                self._cached_parts[index] = dry
            if progress is not None:
                progress(0.9 * (index + 1) / len(self._parts))
        if not total.any():
            raise MelismaError(f"nothing of this score sounds with {self.soundfont}: try another")
        total = self._roomed(total)
        self._finish = self._measured(total, loudest)
        return self._finished(total)

    def stems(self) -> Iterator[Waveform]:
        """Yields each part alone, in order; they add up to the mix. Call `mix` first."""
        assert self._finish is not None, "the mix comes first: it sets the level"
        for index in range(len(self._parts)):
            dry = self._cached_parts.pop(index, None)
            yield self._finished(self._roomed(self._panned(index) if dry is None else dry))

    def close(self) -> None:
        """Closes the synthesizer."""
        self.synthesizer.close()

    def _panned(self, index: int) -> np.ndarray:
        part = self._parts[index]
        if part.preset is None:
            return np.zeros((2, self._samples), dtype=np.float32)
        dry = self.synthesizer.play(part.line, part.preset, self._samples)
        dry *= np.array(part.gains, dtype=np.float32)[:, None]
        return dry

    def _roomed(self, dry: np.ndarray) -> np.ndarray:
        """Adds the reverberation and removes inaudibly low frequencies."""
        rate_hz, room = self.settings.rate_hz, ROOMS[self.settings.room]
        if room is not None:
            decay_seconds, level_db = room
            rng = np.random.default_rng(_ROOM_SEED)
            responses = room_response(decay_seconds, rate_hz, rng, channels=2)
            responses *= np.float32(10 ** (level_db / 20))
            middle = dry.mean(axis=0)
            dry = np.stack(
                [
                    channel + oaconvolve(middle, response)[: len(middle)].astype(np.float32)
                    for channel, response in zip(dry, responses, strict=True)
                ]
            )
        rumble = butter(2, _RUMBLE_HZ, "highpass", fs=rate_hz, output="sos")
        return np.stack([np.asarray(sosfilt(rumble, one), dtype=np.float32) for one in dry])

    def _measured(self, total: np.ndarray, loudest_part: float) -> _Finish:
        """End, fade-out and gain that bring the mix to its target loudness."""
        rate_hz = self.settings.rate_hz
        highest = max(float(total.max()), -float(total.min()))
        audible = np.asarray((np.abs(total) > highest * 10 ** (_SILENT_DB / 20)).any(axis=0))
        last = len(audible) - int(audible[::-1].argmax()) + round(_AFTER_SECONDS * rate_hz)
        samples = min(max(last, self._note_samples), self._samples)
        fade_seconds = _SHORT_FADE_SECONDS
        if last >= self._samples:
            fade_seconds = max(
                min(_LONG_FADE_SECONDS, self.settings.tail_seconds / 2), fade_seconds
            )
        count = min(round(fade_seconds * rate_hz), samples)
        fade = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, count + 1) / count)
        total = total[:, :samples]
        lufs = integrated_lufs(Waveform(samples=total / np.float32(highest), rate_hz=rate_hz))
        gain = 10 ** ((CEILING_DB - _MARGIN_DB) / 20) / max(highest_peak(total), loudest_part)
        if lufs is not None:
            gain = min(gain, 10 ** ((self.settings.target_lufs - lufs) / 20) / highest)
        return _Finish(samples=samples, fade=fade.astype(np.float32), gain=gain)

    def _finished(self, sound: np.ndarray) -> Waveform:
        finish = self._finish
        assert finish is not None
        done = sound[:, : finish.samples] * np.float32(finish.gain)
        done[:, finish.samples - len(finish.fade) :] *= finish.fade
        return Waveform(samples=done, rate_hz=self.settings.rate_hz)


def highest_peak(sound: np.ndarray) -> float:
    """True peak of audio [channel, sample], including between samples (BS.1770-4, annex 2).

    It is measured block by block, to save memory.
    """
    blocks = range(0, sound.shape[1], _BLOCK_SAMPLES)
    pieces = (sound[:, max(0, at - _OVERLAP_SAMPLES) : at + _BLOCK_SAMPLES] for at in blocks)
    return max(float(oversampled_peaks(piece).max()) for piece in pieces)
