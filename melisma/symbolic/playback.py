"""Preparation of a score for synthesis: parts with notes in seconds, and the synthesizer interface.

Input: a `Score`. Output: a `PlayedPart` for each track, ready for a `Synthesizer`. There are two
synthesizers, `symbolic/soundfont/fluidsynth.py` and `symbolic/soundfont/sampler.py`; both play the
presets of one SoundFont.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from melisma.symbolic.instruments import instrument_name
from melisma.values import Score, TempoMap, Track

MAX_NOTE_SECONDS = 120.0
"""Longer notes are truncated (chosen: the longest of 10,907 real pieces lasts 85 s; longer ones
miss their note-off)."""
MIN_NOTE_SECONDS = 0.005
"""Shorter notes get this duration, so that they are audible (chosen)."""
DRUM_BANK = 128
"""Bank of the drum kits in SoundFonts."""
_FAMILY = 8
"""General MIDI orders programs in families of eight."""

Preset = tuple[int, int]
"""Bank and number of a preset in a SoundFont."""


@dataclass(frozen=True, kw_only=True)
class PlayedPart:
    """Notes of one part in seconds, sorted by start; notes of one pitch do not overlap."""

    program: int
    """General MIDI program 0-127 (for drums: the kit)."""
    is_drum: bool
    start_seconds: np.ndarray
    """float64 [note]."""
    duration_seconds: np.ndarray
    """float64 [note], positive."""
    pitch: np.ndarray
    """int64 [note], MIDI pitch; for drums the percussion key."""
    velocity: np.ndarray
    """int64 [note], 1-127."""


class Synthesizer(ABC):
    """Interface of a synthesizer with one SoundFont."""

    name: str
    """Display name."""

    @abstractmethod
    def play(self, line: PlayedPart, preset: Preset, samples: int) -> np.ndarray:
        """Renders one part without effects, independently of earlier calls.

        Args:
            line: Notes of the part.
            preset: Preset of the SoundFont.
            samples: Number of samples to render, from second 0 on.

        Returns:
            float32 [channel, sample], two channels.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the synthesizer's resources."""


def performed_part(track: Track, tempo: TempoMap) -> PlayedPart:
    """Converts a track to seconds.

    A note ends at the latest at the next onset of its pitch; of notes with equal onset and pitch
    the longest is kept.

    Args:
        track: The track.
        tempo: Tempo map of its score.
    """
    notes = track.notes
    start = tempo.seconds(notes.start_beats)
    end = tempo.seconds(notes.start_beats + notes.duration_beats)
    order = np.lexsort((end, start, notes.pitch))
    duplicate = (np.diff(notes.pitch[order]) == 0) & (np.diff(start[order]) == 0)
    order = order[~np.append(duplicate, False)]
    start, end, pitch = start[order], end[order], notes.pitch[order]
    following = np.where(np.diff(pitch) == 0, start[1:], np.inf)
    duration = np.minimum(end, np.append(following, np.inf)) - start
    duration = np.clip(duration, MIN_NOTE_SECONDS, MAX_NOTE_SECONDS)
    by_time = np.argsort(start, kind="stable")
    return PlayedPart(
        program=track.program,
        is_drum=track.is_drum,
        start_seconds=start[by_time],
        duration_seconds=duration[by_time],
        pitch=pitch[by_time],
        velocity=notes.velocity[order][by_time],
    )


def cut_notes(score: Score) -> int:
    """Number of notes of a score that are longer than `MAX_NOTE_SECONDS`."""
    tempo = score.tempo
    return sum(
        int(
            (
                tempo.seconds(track.notes.start_beats + track.notes.duration_beats)
                - tempo.seconds(track.notes.start_beats)
                > MAX_NOTE_SECONDS
            ).sum()
        )
        for track in score.tracks
    )


def fold_pitches(line: PlayedPart, reach: np.ndarray) -> tuple[PlayedPart, int]:
    """Transposes notes outside a preset's range by octaves to the nearest available pitch.

    Args:
        line: Notes of a part.
        reach: Pitches that the preset can play, bool [128].

    Returns:
        (part, number of transposed notes). Where no octave is available, the nearest available
        pitch is taken.
    """
    sounding = np.flatnonzero(reach)
    if len(sounding) == 0 or reach[line.pitch].all():
        return line, 0
    table = np.arange(128)
    for pitch in np.flatnonzero(~reach).tolist():
        octaves = sounding[(sounding - pitch) % 12 == 0]
        choices = octaves if len(octaves) else sounding
        table[pitch] = choices[np.abs(choices - pitch).argmin()]
    return replace(line, pitch=table[line.pitch]), int((~reach[line.pitch]).sum())


def choose_preset(presets: Iterable[Preset], program: int, is_drum: bool) -> Preset | None:
    """Selects the preset of a program, or the closest substitute that a SoundFont has.

    Fallbacks of a program: the nearest of its family, the piano, then any of the lowest bank; of a
    drum kit: the standard kit, then any kit.

    Args:
        presets: Presets of the SoundFont.
        program: General MIDI program, or number of the drum kit.
        is_drum: Whether a drum kit is needed.

    Returns:
        The preset; None where the SoundFont has no program, or no kit.
    """
    candidates = sorted(preset for preset in presets if (preset[0] == DRUM_BANK) == is_drum)
    if not candidates:
        return None
    bank = DRUM_BANK if is_drum else 0
    family = (
        []
        if is_drum
        else sorted(
            (
                preset
                for preset in candidates
                if preset[0] == 0 and _same_family(preset[1], program)
            ),
            key=lambda preset: abs(preset[1] - program),
        )
    )
    for preset in ((bank, program), *family, (bank, 0)):
        if preset in candidates:
            return preset
    return candidates[0]


def _same_family(one: int, other: int) -> bool:
    return one // _FAMILY == other // _FAMILY


def substitution(
    font: str, part: str, program: int, is_drum: bool, preset: Preset | None
) -> str | None:
    """Message about the substitution of a part's preset, None where there is none.

    Args:
        font: Name of the SoundFont.
        part: Name of the part.
        program: Requested program.
        is_drum: Whether the part is a drum kit.
        preset: The selected preset, see `choose_preset`.
    """
    if preset is None:
        kind = "drum kit" if is_drum else "instrument"
        return f"{font} has no {kind}, so {part} is silent"
    if preset[1] == program and preset[0] in (0, DRUM_BANK):
        return None
    if is_drum:
        return f"{font} has no drum kit {program}, so {part} plays kit {preset[1]}"
    wanted, taken = instrument_name(program, False), instrument_name(preset[1], False)
    return f"{font} has no program {program} ({wanted}), so {part} plays {preset[1]} ({taken})"
