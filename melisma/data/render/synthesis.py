"""From a performance to sound, by FluidSynth in this process.

Enters: a `Performance` and a stretch of it. Leaves: float32 [sample], 24 kHz mono, with a room,
equalisation and level. FluidSynth plays as `symbolic/soundfont/fluidsynth.py` says (events at
blocks of 64 samples, 2.7 ms); `acoustics.py` is different for every clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.data.render.acoustics import draw_finish, finish_sound
from melisma.symbolic.performance import Part, Performance
from melisma.symbolic.soundfont.fluidsynth import new_synth, play_notes
from melisma.values.tokens import SAMPLE_RATE_HZ

CHANNELS = 48
"""Most parts that sound at once; the least busy beyond are dropped."""
MOST_VOICES = 128
"""FluidSynth's voices for a whole clip (chosen)."""
LEAD_IN_SECONDS = 1.2
"""Sound is rendered from this long before the stretch, for attacks and the room's tail."""
FULL_BANK = 120
"""A soundfont with this many General MIDI programs can play anything."""


@dataclass(frozen=True, kw_only=True)
class RenderVariety:
    """How varied rendered sound is."""

    variety: str = "ears"
    """ "ears": all soundfonts, rooms, equalisation, noise; "tongue": the first soundfont, two
    rooms, narrow levels."""
    mixed_fonts: float = 0.2
    """Probability that a part comes from another soundfont than the rest ("ears" only)."""

    def __post_init__(self) -> None:
        if self.variety not in ("ears", "tongue"):
            raise ValueError(f'a variety is "ears" or "tongue", not "{self.variety}"')


class Renderer:
    """Keeps soundfonts loaded; one per process. Not safe to share between threads."""

    def __init__(self, soundfonts: Sequence[Path], sounding: RenderVariety | None = None) -> None:
        """Loads every soundfont; `ValueError` where one is missing or is no soundfont."""
        self.sounding = sounding or RenderVariety()
        if not soundfonts:
            raise ValueError("no soundfont given: name one .sf2 or .sf3 file or more")
        self._synth = new_synth(SAMPLE_RATE_HZ, CHANNELS, MOST_VOICES)
        self._fonts: dict[str, int] = {}
        self._presets: dict[str, set[tuple[int, int]]] = {}
        for path in soundfonts:
            if not path.is_file():
                raise ValueError(f"there is no soundfont {path}: name a .sf2 or .sf3 file")
            number = int(self._synth.sfload(str(path)))
            if number < 0:
                raise ValueError(f"{path} is no soundfont that FluidSynth can read")
            self._fonts[path.stem] = number
            self._presets[path.stem] = self._probe(number)
        self._full = [n for n, p in self._presets.items() if len(p & _MELODIC) >= FULL_BANK]
        if not self._full:
            raise ValueError("none of the soundfonts is a full General MIDI bank: add one")
        self._rooms: dict[int, np.ndarray] = {}

    @property
    def fonts(self) -> tuple[str, ...]:
        """Names of the soundfonts that can play anything."""
        return tuple(self._full)

    def _probe(self, font: int) -> set[tuple[int, int]]:
        wanted = _MELODIC | {(128, kit) for kit in range(128)}
        return {
            (bank, preset)
            for bank, preset in wanted
            if self._synth.sfpreset_name(font, bank, preset) is not None
        }

    def draw_font(self, rng: np.random.Generator) -> str:
        """The soundfont of a clip: any full one for the ears, the first for the tongue."""
        if self.sounding.variety == "tongue":
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
        """Sound of [start, start + seconds), float32 [sample], below full scale.

        `font` is the stem of a soundfont given at the start; None draws one.
        """
        chosen = self.draw_font(rng) if font is None else font
        if chosen not in self._fonts:
            raise ValueError(f'no soundfont "{chosen}": loaded are {", ".join(self._fonts)}')
        samples = round(seconds * SAMPLE_RATE_HZ)
        lead_in = round(LEAD_IN_SECONDS * SAMPLE_RATE_HZ)
        begin = start_seconds - LEAD_IN_SECONDS
        parts = _audible(performance.parts, begin, start_seconds + seconds)
        self._seat(parts, chosen, rng)
        stereo = play_notes(self._synth, parts, begin, lead_in + samples, SAMPLE_RATE_HZ)
        dry = stereo.mean(axis=0, dtype=np.float64)
        velocities = [part.velocity for part in parts if not part.is_drum] or [
            part.velocity for part in parts
        ]
        mean_velocity = float(np.mean(np.concatenate(velocities))) if velocities else 72.0
        finish = draw_finish(rng, self.sounding.variety, mean_velocity)
        return finish_sound(dry, lead_in, finish, self._rooms, rng)

    def _seat(self, parts: Sequence[Part], font: str, rng: np.random.Generator) -> None:
        """Gives every part a channel, a preset and a volume."""
        self._synth.system_reset()
        ears = self.sounding.variety == "ears"
        for channel, part in enumerate(parts):
            name = font
            if ears and rng.random() < self.sounding.mixed_fonts:
                name = str(rng.choice(list(self._fonts)))
            bank, preset = (128 if part.is_drum else 0), part.program
            if part.is_drum and ears and preset == 0:
                preset = int(rng.choice(_KITS))
            self._select(channel, name, font, bank, preset)
            volume = 108 if part.is_lead else 94
            self._synth.cc(
                channel, 7, int(np.clip(volume + (rng.normal(0, 5) if ears else 0), 60, 127))
            )

    def _select(self, channel: int, name: str, font: str, bank: int, preset: int) -> None:
        fallback = (0, 0) if bank == 0 else (128, 0)
        for candidate in (name, font, *self._full):
            if (bank, preset) in self._presets[candidate]:
                self._synth.program_select(channel, self._fonts[candidate], bank, preset)
                return
        self._synth.program_select(channel, self._fonts[self._full[0]], *fallback)


_MELODIC = {(0, program) for program in range(128)}
_KITS = (0, 0, 0, 8, 16, 24, 25, 32, 40)
"""General MIDI 2 drum kits: standard (likeliest), room, power, electronic, 808, jazz, brush."""


def _audible(parts: Sequence[Part], begin: float, end: float) -> list[Part]:
    """The parts cut to the notes that sound in [begin, end), the busiest first."""
    kept: list[Part] = []
    for part in parts:
        sounds = (part.start_seconds < end) & (part.start_seconds + part.duration_seconds > begin)
        if sounds.any():
            kept.append(
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
    kept.sort(key=lambda part: (not part.is_lead, -len(part.pitch)))
    return kept[:CHANNELS]
