"""What stands between a score and a synthesizer: lines of notes in seconds, and who plays them.

Enters: a `Score`. Leaves: a `Line` for each track with notes, ready for a `Player`. There are two
players, `symbolic/soundfont/fluidsynth.py` and `symbolic/soundfont/sampler.py`; both take their
sounds from one soundfont.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from melisma.symbolic.instruments import instrument_name
from melisma.values import Score, TempoMap, Track

LONGEST_NOTE_SECONDS = 120.0
"""A longer note is cut (chosen: the longest of 10,907 real pieces lasts 85 s; what is longer was
forgotten to be let go)."""
SHORTEST_NOTE_SECONDS = 0.005
"""A shorter note gets this length, so that it is heard at all (chosen)."""
DRUM_BANK = 128
"""Where soundfonts keep drum kits."""
_FAMILY = 8
"""General MIDI orders programs in families of eight."""

Preset = tuple[int, int]
"""Bank and number of a sound in a soundfont."""


@dataclass(frozen=True, kw_only=True)
class PlayedPart:
    """One part's notes as they sound, sorted by start. No two of one pitch sound at once."""

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
    """A synthesizer with one soundfont."""

    name: str
    """What people call it."""

    @abstractmethod
    def play(self, line: PlayedPart, preset: Preset, samples: int) -> np.ndarray:
        """The line alone and dry, float32 [channel, sample] with two channels and `samples` samples
        from second 0 on. It depends on nothing played before."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the system lent."""


def line_of(track: Track, tempo: TempoMap) -> PlayedPart:
    """The track in seconds. A note ends where the next one of its pitch begins; of those that
    begin together the longest is kept."""
    notes = track.notes
    start = tempo.seconds(notes.start_beats)
    end = tempo.seconds(notes.start_beats + notes.duration_beats)
    order = np.lexsort((end, start, notes.pitch))
    twin = (np.diff(notes.pitch[order]) == 0) & (np.diff(start[order]) == 0)
    order = order[~np.append(twin, False)]
    start, end, pitch = start[order], end[order], notes.pitch[order]
    following = np.where(np.diff(pitch) == 0, start[1:], np.inf)
    duration = np.minimum(end, np.append(following, np.inf)) - start
    duration = np.clip(duration, SHORTEST_NOTE_SECONDS, LONGEST_NOTE_SECONDS)
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
    """How many notes of the score are longer than a player plays."""
    tempo = score.tempo
    return sum(
        int(
            (
                tempo.seconds(track.notes.start_beats + track.notes.duration_beats)
                - tempo.seconds(track.notes.start_beats)
                > LONGEST_NOTE_SECONDS
            ).sum()
        )
        for track in score.tracks
    )


def fold_pitches(line: PlayedPart, reach: np.ndarray) -> tuple[PlayedPart, int]:
    """The line with pitches that have no sound moved by octaves to the nearest that have one, and
    how many notes moved.

    `reach`: bool [pitch], 128 of them. Where no octave helps, the nearest sounding pitch serves.
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
    """The sound for a program, or the nearest to it that a soundfont has.

    A program: itself, the nearest of its family, the piano, then any of the lowest bank. A drum
    kit: itself, the standard kit, any kit. None where there is nothing of the kind.
    """
    ours = sorted(preset for preset in presets if (preset[0] == DRUM_BANK) == is_drum)
    if not ours:
        return None
    bank = DRUM_BANK if is_drum else 0
    family = (
        []
        if is_drum
        else sorted(
            (preset for preset in ours if preset[0] == 0 and _same_family(preset[1], program)),
            key=lambda preset: abs(preset[1] - program),
        )
    )
    for wanted in ((bank, program), *family, (bank, 0)):
        if wanted in ours:
            return wanted
    return ours[0]


def _same_family(one: int, other: int) -> bool:
    return one // _FAMILY == other // _FAMILY


def substitution(
    font: str, part: str, program: int, is_drum: bool, preset: Preset | None
) -> str | None:
    """A sentence where a part sounds otherwise than it is written, None where it does not."""
    if preset is None:
        kind = "drum kit" if is_drum else "instrument"
        return f"{font} has no {kind}, so {part} is silent"
    if preset[1] == program and preset[0] in (0, DRUM_BANK):
        return None
    if is_drum:
        return f"{font} has no drum kit {program}, so {part} plays kit {preset[1]}"
    wanted, taken = instrument_name(program, False), instrument_name(preset[1], False)
    return f"{font} has no program {program} ({wanted}), so {part} plays {preset[1]} ({taken})"
