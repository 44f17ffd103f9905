"""FluidSynth synthesizer, in-process.

Input: notes in seconds. Output: float32 [channel, sample], two channels, dry. FluidSynth applies
events at blocks of 64 samples; its reverb and chorus are off, because the mixer adds a linear
reverberation (`sound/reverberation.py`). The library is loaded on first use.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from ctypes import c_int, c_void_p
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from melisma.symbolic.playback import PlayedPart, Preset, Synthesizer
from melisma.values.errors import MelismaError

BLOCK_SAMPLES = 64
"""FluidSynth's internal block size."""
SETTLING_BLOCKS = 3
"""Blocks after a reset until FluidSynth has released its voices (determined empirically)."""
GAIN = 0.3
"""Gain of FluidSynth's output (chosen: far from clipping; levels are set later)."""
MAX_VOICES = 512
"""Polyphony of one part (chosen: a pedal held over a whole page of a piano part)."""
_LOG_LEVELS = 4
"""Panic, error, warning and information, numbered from 0."""


class TimedNotes(Protocol):
    """Protocol of notes in seconds: columns of equal length."""

    @property
    def start_seconds(self) -> np.ndarray: ...
    @property
    def duration_seconds(self) -> np.ndarray: ...
    @property
    def pitch(self) -> np.ndarray: ...
    @property
    def velocity(self) -> np.ndarray: ...


@cache
def binding() -> ModuleType:
    """Imports pyfluidsynth, lazily because it loads the system's library on import.

    Raises:
        MelismaError: The binding or the library is missing.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # with CI=1 set it prints what it found
            import fluidsynth
    except (ImportError, OSError, AttributeError) as error:
        raise MelismaError(
            "rendering needs FluidSynth, which this system lacks: install the packages "
            "libfluidsynth3 (system) and pyfluidsynth (Python)"
        ) from error
    return fluidsynth


def has_fluidsynth() -> bool:
    """Whether FluidSynth and its Python binding are available."""
    try:
        binding()
    except MelismaError:
        return False
    return True


@cache
def _float_writer() -> Callable[..., int]:
    """fluid_synth_write_float. pyfluidsynth declares only the 16-bit writer, whose dither state
    persists between calls and would make the output depend on earlier calls."""
    columns = ("len", c_int), ("lout", c_void_p), ("loff", c_int), ("lincr", c_int)
    more = ("rout", c_void_p), ("roff", c_int), ("rincr", c_int)
    return binding().cfunc(
        "fluid_synth_write_float",
        c_int,
        ("synth", c_void_p, 1),
        *((name, kind, 1) for name, kind in (*columns, *more)),
    )


@cache
def _silence_log() -> None:
    """Disables FluidSynth's messages on the terminal; errors are reported by this module."""
    set_log_function = binding().cfunc(
        "fluid_set_log_function",
        c_void_p,
        ("level", c_int, 1),
        ("function", c_void_p, 1),
        ("data", c_void_p, 1),
    )
    if set_log_function is not None:
        for level in range(_LOG_LEVELS):
            set_log_function(level, None, None)


def new_synth(rate_hz: int, channels: int, voices: int, *, whole: bool = True) -> Any:
    """Creates a `fluidsynth.Synth` without effects, on one core.

    Args:
        rate_hz: Sample rate.
        channels: Number of MIDI channels.
        voices: Polyphony.
        whole: Whether SoundFonts are loaded completely; otherwise only selected presets.
    """
    return binding().Synth(
        samplerate=rate_hz,
        gain=GAIN,
        channels=channels,
        **{
            "synth.reverb.active": 0,
            "synth.chorus.active": 0,
            "synth.cpu-cores": 1,
            "synth.polyphony": voices,
            "synth.dynamic-sample-loading": 0 if whole else 1,
        },
    )


def play_notes(
    synth: Any, parts: Sequence[TimedNotes], begin_seconds: float, samples: int, rate_hz: int
) -> np.ndarray:
    """Renders notes without effects.

    Whole blocks are rendered, and silent ones first, so that FluidSynth is at a block boundary with
    all voices free: the output then does not depend on earlier calls, except for the order in which
    voices are summed (one unit of the last of 16 bits).

    Args:
        synth: A `fluidsynth.Synth`.
        parts: Parts; part n plays on channel n.
        begin_seconds: Time of the first sample.
        samples: Number of samples.
        rate_hz: Sample rate of `synth`.

    Returns:
        float32 [channel, sample], two channels.
    """
    requested, samples = samples, -(-samples // BLOCK_SAMPLES) * BLOCK_SAMPLES
    events = _events(parts, begin_seconds, samples, rate_hz)
    stereo = np.zeros((2, samples), dtype=np.float32)
    left, right = stereo[0].ctypes.data, stereo[1].ctypes.data
    handle = synth.synth
    write, library = _float_writer(), binding()
    for _ in range(SETTLING_BLOCKS):
        write(handle, BLOCK_SAMPLES, left, 0, 1, right, 0, 1)
    done = 0
    for at, channel, pitch, velocity in events:
        if at > done:
            write(handle, at - done, left, done, 1, right, done, 1)
            done = at
        if velocity:
            library.fluid_synth_noteon(handle, channel, pitch, velocity)
        else:
            library.fluid_synth_noteoff(handle, channel, pitch)
    if done < samples:
        write(handle, samples - done, left, done, 1, right, done, 1)
    return stereo[:, :requested]


def _events(
    parts: Sequence[TimedNotes], begin_seconds: float, samples: int, rate_hz: int
) -> list[tuple[int, int, int, int]]:
    """(sample, channel, pitch, velocity or 0 for the end of a note), in playing order."""
    columns: list[np.ndarray] = []
    for channel, part in enumerate(parts):
        on = _blocks(part.start_seconds - begin_seconds, rate_hz)
        off = np.maximum(
            _blocks(part.start_seconds + part.duration_seconds - begin_seconds, rate_hz),
            on + BLOCK_SAMPLES,
        )
        number = np.full(len(on), channel)
        columns.append(np.stack([on, number, part.pitch, part.velocity], axis=1))
        columns.append(np.stack([off, number, part.pitch, np.zeros_like(number)], axis=1))
    if not columns:
        return []
    table = np.concatenate(columns)
    table = table[table[:, 0] < samples]
    order = np.lexsort((table[:, 3] > 0, table[:, 0]))  # at equal times, ends come before starts
    return [tuple(row) for row in table[order].tolist()]


def _blocks(seconds: np.ndarray, rate_hz: int) -> np.ndarray:
    """Sample positions on FluidSynth's block grid, at least 0."""
    return np.maximum(np.round(seconds * rate_hz / BLOCK_SAMPLES), 0).astype(np.int64) * (
        BLOCK_SAMPLES
    )


class FluidSynthesizer(Synthesizer):
    """FluidSynth with one SoundFont, of which it loads only the presets that are played."""

    name = "FluidSynth"

    def __init__(self, soundfont: Path, rate_hz: int) -> None:
        """Loads a SoundFont, which `presets.read_soundfont` must have validated before.

        Raises:
            MelismaError: FluidSynth is missing or cannot read the SoundFont.
        """
        _silence_log()
        self._rate_hz = rate_hz
        self._synth = new_synth(rate_hz, 16, MAX_VOICES, whole=False)
        self._font = int(self._synth.sfload(str(soundfont)))
        if self._font < 0:
            self.close()
            raise MelismaError(f"FluidSynth cannot read the soundfont {soundfont}: try another")

    def play(self, line: PlayedPart, preset: Preset, samples: int) -> np.ndarray:
        """See `Synthesizer`. Times are rounded to blocks of 64 samples (1.5 ms at 44.1 kHz)."""
        self._synth.system_reset()
        self._synth.program_select(0, self._font, *preset)
        return play_notes(self._synth, [line], 0.0, samples, self._rate_hz)

    def close(self) -> None:
        """See `Synthesizer`."""
        self._synth.delete()
