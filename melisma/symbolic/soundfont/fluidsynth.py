"""FluidSynth in this process: notes in seconds become sound, block by block.

Enters: notes in seconds. Leaves: float32 [channel, sample], two channels, dry. FluidSynth applies
events at blocks of 64 samples; its own reverb and chorus stay off, because our rooms are linear and
our own (`sound/reverberation.py`). Nothing of it is loaded before it is used.
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

BLOCK_SAMPLES = 64
"""FluidSynth's own block."""
SETTLING_BLOCKS = 3
"""Blocks after a reset in which FluidSynth takes its voices back (found by trying)."""
GAIN = 0.3
"""Amplitude of FluidSynth's output (chosen: far from clipping; levels are set later)."""
MOST_VOICES = 512
"""Voices that one part may have at once (chosen: a pedal over a whole page of a piano part)."""
_LOG_LEVELS = 4
"""Panic, error, warning and information, numbered from 0."""


class TimedNotes(Protocol):
    """Anything that has notes in seconds: columns of equal length."""

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
    """The binding, loaded late: it looks for the system's library as soon as it is imported.

    Raises `ValueError` where the binding or the library is missing.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # with CI=1 set it prints what it found
            import fluidsynth
    except (ImportError, OSError, AttributeError) as error:
        raise ValueError(
            "rendering needs FluidSynth, which this system lacks: install the packages "
            "libfluidsynth3 (system) and pyfluidsynth (Python)"
        ) from error
    return fluidsynth


def has_fluidsynth() -> bool:
    """Whether this system has FluidSynth and its binding."""
    try:
        binding()
    except ValueError:
        return False
    return True


@cache
def _float_writer() -> Callable[..., int]:
    """fluid_synth_write_float. pyfluidsynth declares only the 16-bit writer, whose dither goes on
    from call to call and would make a sound depend on the sounds before it."""
    columns = ("len", c_int), ("lout", c_void_p), ("loff", c_int), ("lincr", c_int)
    more = ("rout", c_void_p), ("roff", c_int), ("rincr", c_int)
    return binding().cfunc(
        "fluid_synth_write_float",
        c_int,
        ("synth", c_void_p, 1),
        *((name, kind, 1) for name, kind in (*columns, *more)),
    )


@cache
def _hush() -> None:
    """Keep FluidSynth's own messages off the user's terminal; what matters we say ourselves."""
    settle = binding().cfunc(
        "fluid_set_log_function",
        c_void_p,
        ("level", c_int, 1),
        ("function", c_void_p, 1),
        ("data", c_void_p, 1),
    )
    if settle is not None:
        for level in range(_LOG_LEVELS):
            settle(level, None, None)


def new_synth(rate_hz: int, channels: int, voices: int, *, whole: bool = True) -> Any:
    """A `fluidsynth.Synth` without effects, on one core.

    `whole`: a soundfont is loaded in full; otherwise only the sounds that are selected.
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
    """Dry sound of `samples` samples from `begin_seconds` on, float32 [channel, sample].

    Part number n plays on channel n. Whole blocks are rendered, and silent ones first, so that
    FluidSynth stands at a block's edge with all its voices free: sound then depends on nothing
    rendered before, but for the order in which voices are added (a unit of the last bit of 16).
    """
    wanted, samples = samples, -(-samples // BLOCK_SAMPLES) * BLOCK_SAMPLES
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
    return stereo[:, :wanted]


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
        seat = np.full(len(on), channel)
        columns.append(np.stack([on, seat, part.pitch, part.velocity], axis=1))
        columns.append(np.stack([off, seat, part.pitch, np.zeros_like(seat)], axis=1))
    if not columns:
        return []
    table = np.concatenate(columns)
    table = table[table[:, 0] < samples]
    order = np.lexsort((table[:, 3] > 0, table[:, 0]))  # at one time, ends come before starts
    return [tuple(row) for row in table[order].tolist()]


def _blocks(seconds: np.ndarray, rate_hz: int) -> np.ndarray:
    """Sample positions on FluidSynth's grid, not before 0."""
    return np.maximum(np.round(seconds * rate_hz / BLOCK_SAMPLES), 0).astype(np.int64) * (
        BLOCK_SAMPLES
    )


class FluidSynthesizer(Synthesizer):
    """FluidSynth with one soundfont, of which it loads only what is played."""

    name = "FluidSynth"

    def __init__(self, soundfont: Path, rate_hz: int) -> None:
        """Raises `ValueError` where FluidSynth is missing or cannot read the soundfont, which
        `soundfont.check_soundfont` has looked at before."""
        _hush()
        self._rate_hz = rate_hz
        self._synth = new_synth(rate_hz, 16, MOST_VOICES, whole=False)
        self._font = int(self._synth.sfload(str(soundfont)))
        if self._font < 0:
            self.close()
            raise ValueError(f"FluidSynth cannot read the soundfont {soundfont}: try another")

    def play(self, line: PlayedPart, preset: Preset, samples: int) -> np.ndarray:
        """See `Player`. Time is rounded to blocks of 64 samples (1.5 ms at 44.1 kHz)."""
        self._synth.system_reset()
        self._synth.program_select(0, self._font, *preset)
        return play_notes(self._synth, [line], 0.0, samples, self._rate_hz)

    def close(self) -> None:
        """See `Player`."""
        self._synth.delete()
