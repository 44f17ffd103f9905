"""Synthesizers of clips: FluidSynth, or Melisma's own where the system has no FluidSynth.

Input: the parts of a performance, and for each a SoundFont, a preset and a volume. Output: float32
[channel, sample], two channels, dry. Both play the same presets; measured by mel bands the two are
within .3 to 1.4 dB of each other, but not equal to the sample, so a corpus is rendered by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from melisma.symbolic.performance import Part
from melisma.symbolic.playback import PlayedPart, Preset
from melisma.symbolic.soundfont.fluidsynth import has_fluidsynth, new_synth, play_notes
from melisma.symbolic.soundfont.presets import SoundFont
from melisma.symbolic.soundfont.sampler import NumpySynthesizer
from melisma.values.errors import MelismaError

MAX_PARTS = 48
"""Largest number of parts; those with the fewest notes beyond are dropped."""
MAX_VOICES = 128
"""Polyphony of FluidSynth (chosen)."""
DEFAULT_VOLUME = 100
"""Volume of a MIDI channel after a reset (General MIDI 1)."""


@dataclass(frozen=True, kw_only=True)
class PartSound:
    """What plays a part."""

    soundfont: str
    """Name of a loaded SoundFont."""
    preset: Preset
    volume: int
    """MIDI controller 7, 0-127."""


class ClipSynthesizer(ABC):
    """Interface of the synthesizers of clips."""

    name: str
    """Display name."""

    @abstractmethod
    def play(
        self,
        parts: Sequence[Part],
        sounds: Sequence[PartSound],
        begin_seconds: float,
        samples: int,
    ) -> np.ndarray:
        """Renders parts without effects, independently of earlier calls.

        Args:
            parts: At most `MAX_PARTS` parts.
            sounds: What plays each of them.
            begin_seconds: Time of the first sample; notes that began before begin with it.
            samples: Number of samples.

        Returns:
            float32 [channel, sample], two channels.
        """

    def close(self) -> None:
        """Frees what the synthesizer holds outside of Python; it cannot play afterwards."""
        return


class _FluidSynthClips(ClipSynthesizer):
    name = "FluidSynth"

    def __init__(self, fonts: Mapping[str, SoundFont], rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._synth: Any = new_synth(rate_hz, MAX_PARTS, MAX_VOICES)
        self._numbers: dict[str, int] = {}
        for name, font in fonts.items():
            self._numbers[name] = int(self._synth.sfload(str(font.path)))
            if self._numbers[name] < 0:
                raise MelismaError(f"{font.path} is no soundfont that FluidSynth can read")

    def play(
        self,
        parts: Sequence[Part],
        sounds: Sequence[PartSound],
        begin_seconds: float,
        samples: int,
    ) -> np.ndarray:
        self._synth.system_reset()
        for channel, sound in enumerate(sounds):
            self._synth.program_select(channel, self._numbers[sound.soundfont], *sound.preset)
            self._synth.cc(channel, 7, sound.volume)
        return play_notes(self._synth, parts, begin_seconds, samples, self._rate_hz)

    def close(self) -> None:
        self._synth.delete()


class _NumpyClips(ClipSynthesizer):
    name = NumpySynthesizer.name

    def __init__(self, fonts: Mapping[str, SoundFont], rate_hz: int) -> None:
        self._synthesizers = {name: NumpySynthesizer(font, rate_hz) for name, font in fonts.items()}

    def play(
        self,
        parts: Sequence[Part],
        sounds: Sequence[PartSound],
        begin_seconds: float,
        samples: int,
    ) -> np.ndarray:
        stereo = np.zeros((2, samples), dtype=np.float32)
        for part, sound in zip(parts, sounds, strict=True):
            played = self._synthesizers[sound.soundfont].play(
                _from(part, begin_seconds), sound.preset, samples
            )
            # The volume controller is squared (General MIDI 2, 3.3.1), as in FluidSynth.
            stereo += np.float32((sound.volume / DEFAULT_VOLUME) ** 2) * played
        return stereo


def _from(part: Part, begin_seconds: float) -> PlayedPart:
    """The notes of a part that sound after `begin_seconds`, with times from there on."""
    end = part.start_seconds + part.duration_seconds - begin_seconds
    sounds = end > 0
    start = np.maximum(part.start_seconds - begin_seconds, 0.0)
    return PlayedPart(
        program=part.program,
        is_drum=part.is_drum,
        start_seconds=start[sounds],
        duration_seconds=(end - start)[sounds],
        pitch=part.pitch[sounds],
        velocity=part.velocity[sounds],
    )


def open_synthesizer(
    fonts: Mapping[str, SoundFont], rate_hz: int, engine: str | None = None
) -> ClipSynthesizer:
    """Opens a synthesizer with SoundFonts.

    Args:
        fonts: Opened SoundFonts by name.
        rate_hz: Sample rate.
        engine: "fluidsynth" or "own"; None: FluidSynth where the system has it.

    Raises:
        MelismaError: FluidSynth is missing, or cannot read a SoundFont.
    """
    if engine == "fluidsynth" or (engine is None and has_fluidsynth()):
        return _FluidSynthClips(fonts, rate_hz)
    return _NumpyClips(fonts, rate_hz)
