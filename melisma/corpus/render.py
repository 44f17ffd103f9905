"""From a performance to sound, by FluidSynth in this process.

Enters: a `Performance` and a stretch of it. Leaves: float32 [sample], 24 kHz mono, with a room,
equalisation and level. FluidSynth applies events at blocks of 64 samples (2.7 ms); its own reverb
and chorus stay off, because `room.py` is faster and different for every clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import c_int, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from melisma.corpus.performance import Part, Performance
from melisma.corpus.room import draw_finish, finish_sound
from melisma.values.tokens import SAMPLE_RATE_HZ

BLOCK_SAMPLES = 64
"""FluidSynth's own block."""
SETTLING_BLOCKS = 3
"""Blocks after a reset in which FluidSynth takes its voices back (found by trying)."""
CHANNELS = 48
"""Most parts that sound at once; the least busy beyond are dropped."""
LEAD_IN_SECONDS = 1.2
"""Sound is rendered from this long before the stretch, for attacks and the room's tail."""
FULL_BANK = 120
"""A soundfont with this many General MIDI programs can play anything."""


@dataclass(frozen=True, kw_only=True)
class Sounding:
    """How varied rendered sound is."""

    variety: str = "ears"
    """ "ears": all soundfonts, rooms, equalisation, noise; "tongue": the first soundfont, two
    rooms, narrow levels."""
    mixed_fonts: float = 0.2
    """Probability that a part comes from another soundfont than the rest ("ears" only)."""

    def __post_init__(self) -> None:
        if self.variety not in ("ears", "tongue"):
            raise ValueError(f'a variety is "ears" or "tongue", not "{self.variety}"')


@cache
def _fluidsynth() -> ModuleType:
    """The binding, loaded late: it looks for the system's library as soon as it is imported."""
    try:
        import fluidsynth
    except ImportError as error:
        raise ValueError(
            "rendering needs FluidSynth, which this system lacks: install the packages "
            "libfluidsynth3 (system) and pyfluidsynth (Python)"
        ) from error
    return fluidsynth


@cache
def _float_writer() -> Callable[..., int]:
    """fluid_synth_write_float. pyfluidsynth declares only the 16-bit writer, whose dither goes on
    from call to call and would make a clip depend on the clips before it."""
    columns = ("len", c_int), ("lout", c_void_p), ("loff", c_int), ("lincr", c_int)
    more = ("rout", c_void_p), ("roff", c_int), ("rincr", c_int)
    return _fluidsynth().cfunc(
        "fluid_synth_write_float",
        c_int,
        ("synth", c_void_p, 1),
        *((name, kind, 1) for name, kind in (*columns, *more)),
    )


class Renderer:
    """Keeps soundfonts loaded; one per process. Not safe to share between threads."""

    def __init__(self, soundfonts: Sequence[Path], sounding: Sounding | None = None) -> None:
        """Loads every soundfont; `ValueError` where one is missing or is no soundfont."""
        self.sounding = sounding or Sounding()
        if not soundfonts:
            raise ValueError("no soundfont given: name one .sf2 or .sf3 file or more")
        self._synth = _fluidsynth().Synth(
            samplerate=SAMPLE_RATE_HZ,
            gain=0.3,
            channels=CHANNELS,
            **{
                "synth.reverb.active": 0,
                "synth.chorus.active": 0,
                "synth.cpu-cores": 1,
                "synth.polyphony": 128,
            },
        )
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
        dry = self._play(parts, begin, lead_in + samples)
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

    def _play(self, parts: Sequence[Part], begin: float, samples: int) -> np.ndarray:
        """Dry mono sound of `samples` samples from `begin` seconds on, float64 [sample].

        Whole blocks are rendered, and silent ones first, so that FluidSynth stands at a block's
        edge with all its voices free: sound then depends on nothing rendered before, but for the
        order in which voices are added (a unit of the last bit of 16).
        """
        wanted, samples = samples, -(-samples // BLOCK_SAMPLES) * BLOCK_SAMPLES
        events = _events(parts, begin, samples)
        stereo = np.zeros((2, samples), dtype=np.float32)
        left, right = stereo[0].ctypes.data, stereo[1].ctypes.data
        handle = self._synth.synth
        write, binding = _float_writer(), _fluidsynth()
        for _ in range(SETTLING_BLOCKS):
            write(handle, BLOCK_SAMPLES, left, 0, 1, right, 0, 1)
        done = 0
        for at, channel, pitch, velocity in events:
            if at > done:
                write(handle, at - done, left, done, 1, right, done, 1)
                done = at
            if velocity:
                binding.fluid_synth_noteon(handle, channel, pitch, velocity)
            else:
                binding.fluid_synth_noteoff(handle, channel, pitch)
        if done < samples:
            write(handle, samples - done, left, done, 1, right, done, 1)
        return stereo[:, :wanted].mean(axis=0, dtype=np.float64)


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


def _events(parts: Sequence[Part], begin: float, samples: int) -> list[tuple[int, int, int, int]]:
    """(sample, channel, pitch, velocity or 0 for the end of a note), in playing order."""
    columns: list[np.ndarray] = []
    for channel, part in enumerate(parts):
        on = _blocks(part.start_seconds - begin)
        off = np.maximum(
            _blocks(part.start_seconds + part.duration_seconds - begin), on + BLOCK_SAMPLES
        )
        seat = np.full(len(on), channel)
        columns.append(np.stack([on, seat, part.pitch, part.velocity], axis=1))
        columns.append(np.stack([off, seat, part.pitch, np.zeros_like(seat)], axis=1))
    if not columns:
        return []
    table = np.concatenate(columns)
    table = table[table[:, 0] < samples]
    order = np.lexsort((table[:, 3] > 0, table[:, 0]))  # at one time, ends come before starts
    return [tuple(row) for row in table[order].tolist()]


def _blocks(seconds: np.ndarray) -> np.ndarray:
    """Sample positions on FluidSynth's grid, not before 0."""
    return np.maximum(np.round(seconds * SAMPLE_RATE_HZ / BLOCK_SAMPLES), 0).astype(np.int64) * (
        BLOCK_SAMPLES
    )
