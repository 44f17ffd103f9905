"""Rendering of performances to clips, in this process.

Input: a `Performance` and the time range of a clip. Output: float32 [sample], 24 kHz mono, with
room, equalisation and level. Instruments and volumes are sampled here and played by
`synthesizers.py`; the acoustics of every clip are sampled, too (`acoustics.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.data.render.acoustics import NARROW, WIDE, finish_sound, sample_finish
from melisma.data.render.synthesizers import MAX_PARTS, PartSound, open_synthesizer
from melisma.symbolic.performance import Part, Performance
from melisma.symbolic.playback import DRUM_BANK, Preset
from melisma.symbolic.soundfont.presets import FULL_BANK, SoundFont, read_soundfont
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ

LEAD_IN_SECONDS = 1.2
"""Rendering starts this long before the clip, for held notes and the reverberation tail."""


@dataclass(frozen=True, kw_only=True)
class RenderVariety:
    """Diversity of the rendered audio."""

    variety: str = WIDE
    """`WIDE`: all soundfonts, rooms, equalisation, noise; `NARROW`: the first soundfont, two rooms,
    similar levels."""
    mixed_fonts: float = 0.2
    """Probability that a part gets another soundfont than the rest (`WIDE` only)."""

    def __post_init__(self) -> None:
        if self.variety not in (WIDE, NARROW):
            raise MelismaError(f'a variety is "{WIDE}" or "{NARROW}", not "{self.variety}"')


class Renderer:
    """Renders performances; keeps soundfonts loaded. One per process; not thread-safe."""

    def __init__(
        self,
        soundfonts: Sequence[Path],
        settings: RenderVariety | None = None,
        engine: str | None = None,
    ) -> None:
        """Load the soundfonts.

        Args:
            soundfonts: Paths of .sf2 or .sf3 files, at least one a complete General MIDI bank.
            settings: Diversity of the audio; None: the defaults.
            engine: "fluidsynth" or "own"; None: FluidSynth where the system has it.

        Raises:
            MelismaError: If no soundfont is given, one is unreadable, or none is complete.
        """
        self.settings = settings or RenderVariety()
        if not soundfonts:
            raise MelismaError("no soundfont given: name one .sf2 or .sf3 file or more")
        opened: dict[str, SoundFont] = {}
        for path in soundfonts:
            if not path.is_file():
                raise MelismaError(f"there is no soundfont {path}: name a .sf2 or .sf3 file")
            opened[path.stem] = read_soundfont(path)
        self._presets: dict[str, frozenset[Preset]] = {
            name: font.presets for name, font in opened.items()
        }
        self._full = [n for n, p in self._presets.items() if len(p & _MELODIC) >= FULL_BANK]
        if not self._full:
            raise MelismaError("none of the soundfonts is a full General MIDI bank: add one")
        self._synthesizer = open_synthesizer(opened, SAMPLE_RATE_HZ, engine)
        self._rooms: dict[int, np.ndarray] = {}

    @property
    def synthesizer(self) -> str:
        """Name of the synthesizer."""
        return self._synthesizer.name

    def close(self) -> None:
        """Frees the synthesizer; nothing can be rendered afterwards."""
        self._synthesizer.close()

    @property
    def fonts(self) -> tuple[str, ...]:
        """Names of the complete soundfonts."""
        return tuple(self._full)

    def sample_soundfont(self, rng: np.random.Generator) -> str:
        """Name of a clip's soundfont: `WIDE`: a random complete one; `NARROW`: the first."""
        if self.settings.variety == NARROW:
            return self._full[0]
        return str(rng.choice(self._full))

    def render(
        self,
        performance: Performance,
        start_seconds: float,
        seconds: float,
        rng: np.random.Generator,
        font: str | None = None,
    ) -> np.ndarray:
        """Render part of a performance.

        Args:
            performance: The performance.
            start_seconds: Start of the clip.
            seconds: Length of the clip.
            rng: Random generator of instruments and acoustics.
            font: File name of a loaded soundfont without its extension; None: sampled.

        Returns:
            float32 [sample], 24 kHz mono, below full scale.

        Raises:
            MelismaError: If the soundfont is not loaded.
        """
        chosen = self.sample_soundfont(rng) if font is None else font
        if chosen not in self._presets:
            raise MelismaError(f'no soundfont "{chosen}": loaded are {", ".join(self._presets)}')
        samples = round(seconds * SAMPLE_RATE_HZ)
        lead_in = round(LEAD_IN_SECONDS * SAMPLE_RATE_HZ)
        begin = start_seconds - LEAD_IN_SECONDS
        parts = _audible(performance.parts, begin, start_seconds + seconds)
        sounds = self._sample_sounds(parts, chosen, rng)
        stereo = self._synthesizer.play(parts, sounds, begin, lead_in + samples)
        dry = stereo.mean(axis=0, dtype=np.float64)
        velocities = [part.velocity for part in parts if not part.is_drum] or [
            part.velocity for part in parts
        ]
        mean_velocity = float(np.mean(np.concatenate(velocities))) if velocities else 72.0
        finish = sample_finish(rng, self.settings.variety, mean_velocity)
        return finish_sound(dry, lead_in, finish, self._rooms, rng)

    def _sample_sounds(
        self, parts: Sequence[Part], font: str, rng: np.random.Generator
    ) -> list[PartSound]:
        """Preset and volume of every part."""
        is_wide = self.settings.variety == WIDE
        sounds: list[PartSound] = []
        for part in parts:
            name = font
            if is_wide and rng.random() < self.settings.mixed_fonts:
                name = str(rng.choice(list(self._presets)))
            bank, preset = (DRUM_BANK if part.is_drum else 0), part.program
            if part.is_drum and is_wide and preset == 0:
                preset = int(rng.choice(_KITS))
            taken, found = self._select(name, font, (bank, preset))
            volume = (108 if part.is_lead else 94) + (rng.normal(0, 5) if is_wide else 0)
            sounds.append(
                PartSound(soundfont=taken, preset=found, volume=int(np.clip(volume, 60, 127)))
            )
        return sounds

    def _select(self, name: str, font: str, preset: Preset) -> tuple[str, Preset]:
        """A soundfont that has the preset, or the first program or kit of the first one."""
        for candidate in (name, font, *self._full):
            if preset in self._presets[candidate]:
                return candidate, preset
        return self._full[0], (preset[0], 0)


_MELODIC = {(0, program) for program in range(128)}
_KITS = (0, 0, 0, 8, 16, 24, 25, 32, 40)
"""General MIDI 2 drum kits: standard (most likely), room, power, electronic, 808, jazz, brush."""


def _audible(parts: Sequence[Part], begin: float, end: float) -> list[Part]:
    """Parts with the notes that sound in [begin, end): lead first, then by number of notes."""
    audible: list[Part] = []
    for part in parts:
        sounds = (part.start_seconds < end) & (part.start_seconds + part.duration_seconds > begin)
        if sounds.any():
            audible.append(
                Part(
                    program=part.program,
                    is_drum=part.is_drum,
                    is_lead=part.is_lead,
                    start_seconds=part.start_seconds[sounds],
                    duration_seconds=part.duration_seconds[sounds],
                    pitch=part.pitch[sounds],
                    velocity=part.velocity[sounds],
                )
            )
    audible.sort(key=lambda part: (not part.is_lead, -len(part.pitch)))
    return audible[:MAX_PARTS]
