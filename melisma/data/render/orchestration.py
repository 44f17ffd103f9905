"""Orchestration: General MIDI programs for the parts of a score, and the lead part.

Input: a `Score`. Output: a `Score` whose tracks may be split, given other instruments or transposed
by octaves into a playable range, and the index of the lead track. Notation for voice or piano is
far more common than notation for accordion; sampling instruments evenly over the families makes
every family occur, also as the lead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from melisma.symbolic.instruments import RANGES
from melisma.values import Notes, Score, Track
from melisma.values.attributes import program_family

VOICE_NAME = re.compile(
    r"voice|voix|vocal|gesang|sing|sopran|mezzo|alto|tenor|bariton|bass[eo]?\b|chant|canto|glos|"
    r"głos|śpiew|spiew|coro|choir|chor",
    re.IGNORECASE,
)

LEAD_PROGRAMS: dict[str, tuple[int, ...]] = {
    "piano": (0, 1),
    "electric piano": (4, 5),
    "harpsichord": (6, 7),
    "mallets": (8, 10, 11, 12, 13),
    "organ": (16, 17, 18, 19, 20),
    "accordion": (21, 22, 23),
    "guitar": (24, 25),
    "electric guitar": (26, 27, 28, 29, 30),
    "strings": (40, 40, 41, 42, 42, 48),
    "harp": (46, 46, 15, 104, 107),
    "choir": (52, 53, 54),
    "brass": (56, 56, 57, 59, 60, 61),
    "reeds": (64, 65, 65, 66, 68, 68, 69, 70, 71, 71),
    "flutes": (72, 73, 73, 74, 75, 77, 78, 79),
    "synth": (80, 81, 82, 84, 85, 87),
}
"""Programs that can play a melody, by family; repeated entries are more likely."""

ACCOMPANIMENT_PROGRAMS: tuple[int, ...] = (
    0, 0, 1, 4, 5, 6, 11, 16, 19, 21, 24, 24, 25, 26, 27, 46, 46, 48, 49, 50, 88, 89, 90, 91,
)  # fmt: skip
"""Programs that can play chords; repeated entries are more likely."""

SOLO_PROGRAMS: tuple[int, ...] = (
    4, 5, 6, 6, 7, 8, 10, 11, 12, 16, 17, 19, 19, 20, 21, 23, 24, 24, 25, 26, 27, 46, 46, 15,
    107, 48, 49, 50, 81, 88, 90,
)  # fmt: skip
"""Programs that can play a piano piece alone; repeated entries are more likely."""

ENSEMBLES: tuple[tuple[int, ...], ...] = (
    (40, 41, 42, 43),
    (48, 49),
    (64, 65, 66, 67),
    (73, 74, 75),
    (68, 69, 71, 70),
    (71, 71, 70),
    (73, 68, 71, 60, 70),
    (56, 60, 57, 58),
    (60, 57, 58),
    (52, 53),
    (80, 81, 90, 38),
    (81, 88, 89, 38),
    (24, 25, 32),
    (27, 26, 33),
    (29, 30, 33),
    (21, 23),
    (19, 20),
    (16, 17, 18),
    (11, 12),
    (46, 46, 32),
    (0, 1),
    (4, 5, 33),
    (6, 7),
)
"""Homogeneous ensembles; each part gets the member whose range fits it best."""


_CORE_RUNS: tuple[tuple[int, int, int], ...] = (
    (0, 3, 0), (4, 5, 4), (6, 7, 6), (8, 14, 11), (15, 15, 46), (16, 20, 19), (21, 23, 21),
    (24, 25, 24), (26, 28, 27), (29, 31, 29), (32, 32, 32), (33, 39, 33), (40, 41, 40),
    (42, 43, 42), (44, 45, 48), (46, 46, 46), (47, 47, 47), (48, 51, 48), (52, 54, 52),
    (55, 55, 61), (56, 56, 56), (57, 58, 57), (59, 59, 56), (60, 60, 60), (61, 63, 61),
    (64, 67, 65), (68, 71, 71), (72, 79, 73), (80, 87, 81), (88, 103, 89), (104, 108, 46),
    (109, 109, 71), (110, 110, 40), (111, 111, 71), (112, 114, 11), (115, 119, 118),
    (120, 127, 89),
)  # fmt: skip


def core_program(program: int) -> int:
    """Map a program to a representative of its family among 27 core programs."""
    return next(core for first, last, core in _CORE_RUNS if first <= program <= last)


@dataclass(frozen=True, kw_only=True)
class OrchestrationSettings:
    """Probabilities, in [0, 1], of replacing instruments."""

    keep_solo: float = 0.4
    """A keyboard piece keeps its instrument."""
    split_solo: float = 0.35
    """The melody of a keyboard piece is given to another instrument."""
    swap_accompaniment: float = 0.5
    """The keyboard accompaniment of a song is replaced by another instrument."""
    swap_ensemble: float = 0.35
    """A whole ensemble is replaced by one of `ENSEMBLES`."""
    swap_lead: float = 0.25
    """The lead of an ensemble is replaced by another instrument."""


def orchestrate(
    score: Score, rng: np.random.Generator, settings: OrchestrationSettings
) -> tuple[Score, int]:
    """Replace instruments of a score at random.

    Args:
        score: The score; tracks without notes are dropped.
        rng: Random generator.
        settings: Probabilities of each kind of replacement.

    Returns:
        The score, and the index of the lead track (-1: no lead, drums only).
    """
    tracks = [track for track in score.tracks if len(track.notes)]
    pitched = [i for i, track in enumerate(tracks) if not track.is_drum]
    if not pitched:
        return replace(score, tracks=tuple(tracks)), -1
    voices = [i for i in pitched if is_voice(tracks[i])]
    keyboards = [i for i in pitched if tracks[i].program <= 7 or 16 <= tracks[i].program <= 20]
    band = len(pitched) < len(tracks)
    if voices and len(voices) <= 2 and not band:
        lead = _orchestrate_song(tracks, voices, keyboards, rng, settings)
    elif len(keyboards) == len(pitched) and not band:
        lead = _orchestrate_keyboard(tracks, pitched, rng, settings)
    else:
        lead = _orchestrate_ensemble(tracks, pitched, voices, rng, settings, band)
    if lead < 0:
        lead = leading_track(tracks)
    return replace(score, tracks=tuple(tracks)), lead


def is_voice(track: Track) -> bool:
    """Whether a track is a vocal part."""
    if track.is_drum:
        return False
    if 52 <= track.program <= 54:
        return True
    return track.program == 0 and VOICE_NAME.search(track.name) is not None


def _orchestrate_song(
    tracks: list[Track],
    voices: list[int],
    keyboards: list[int],
    rng: np.random.Generator,
    settings: OrchestrationSettings,
) -> int:
    lead = max(voices, key=lambda i: float(np.mean(tracks[i].notes.pitch)))
    for voice in voices:
        tracks[voice] = with_random_lead(tracks[voice], rng)
    if keyboards and rng.random() < settings.swap_accompaniment:
        program = int(rng.choice(ACCOMPANIMENT_PROGRAMS))
        for index in keyboards:
            tracks[index] = replace(tracks[index], program=program)
    return lead


def _orchestrate_keyboard(
    tracks: list[Track],
    pitched: list[int],
    rng: np.random.Generator,
    settings: OrchestrationSettings,
) -> int:
    choice = rng.random()
    if choice < settings.keep_solo:
        piano = int(rng.choice((0, 0, 0, 1, 1, 2, 3)))
        for index in pitched:
            if tracks[index].program <= 3:
                tracks[index] = replace(tracks[index], program=piano)
        return -1
    if choice >= settings.keep_solo + settings.split_solo:
        program = int(rng.choice(SOLO_PROGRAMS))
        for index in pitched:
            tracks[index] = replace(tracks[index], program=program)
        return -1
    top = max(pitched, key=lambda i: float(np.mean(tracks[i].notes.pitch)))
    melody, rest = split_top_line(tracks[top])
    program = tracks[top].program
    if rng.random() < settings.swap_accompaniment:
        program = int(rng.choice(ACCOMPANIMENT_PROGRAMS))
    for index in pitched:
        tracks[index] = replace(tracks[index], program=program)
    if len(rest.notes):
        tracks[top] = replace(rest, program=program)
        tracks.append(with_random_lead(melody, rng))
        return len(tracks) - 1
    tracks[top] = with_random_lead(melody, rng)
    return top


def _orchestrate_ensemble(
    tracks: list[Track],
    pitched: list[int],
    voices: list[int],
    rng: np.random.Generator,
    settings: OrchestrationSettings,
    band: bool,
) -> int:
    melodic = [i for i in pitched if tracks[i].program not in (47, *range(112, 128))]
    if not band and len(melodic) >= 2 and rng.random() < settings.swap_ensemble:
        ensemble = ENSEMBLES[int(rng.integers(len(ENSEMBLES)))]
        for index in melodic:
            tracks[index] = _with_best_fit(tracks[index], ensemble)
        return -1
    if len(voices) >= 3 and rng.random() < 0.5:
        ensemble = ENSEMBLES[int(rng.integers(len(ENSEMBLES)))]
        for index in voices:
            tracks[index] = _with_best_fit(tracks[index], ensemble)
        return -1
    lead = leading_track(tracks)
    if lead >= 0 and rng.random() < settings.swap_lead:
        tracks[lead] = with_random_lead(tracks[lead], rng)
    return lead


def split_top_line(track: Track) -> tuple[Track, Track]:
    """Split a track into its top line and the rest.

    Returns:
        The highest note of every onset, shortened to be monophonic, and the other notes.
    """
    notes = track.notes
    last = np.append(np.diff(notes.start_beats) > 0.02, True)
    # Onsets below a melody note that still sounds belong to the accompaniment.
    is_melody = last.copy()
    sounding_until, sounding_pitch = -1.0, 0
    for index in np.flatnonzero(last):
        start, pitch = float(notes.start_beats[index]), int(notes.pitch[index])
        if start < sounding_until - 0.1 and pitch < sounding_pitch - 4:
            is_melody[index] = False
        else:
            sounding_until, sounding_pitch = start + float(notes.duration_beats[index]), pitch
    line = select_notes(notes, is_melody)
    gaps = np.append(np.diff(line.start_beats), np.inf)
    line = replace(line, duration_beats=np.minimum(line.duration_beats, np.maximum(gaps, 0.03)))
    return replace(track, notes=line), replace(track, notes=select_notes(notes, ~is_melody))


def select_notes(notes: Notes, index_or_mask: np.ndarray) -> Notes:
    """Select notes by a boolean mask [note] or an array of indices."""
    return Notes(
        start_beats=notes.start_beats[index_or_mask],
        duration_beats=notes.duration_beats[index_or_mask],
        pitch=notes.pitch[index_or_mask],
        velocity=notes.velocity[index_or_mask],
    )


def with_random_lead(track: Track, rng: np.random.Generator) -> Track:
    """Give a track a random lead instrument (families evenly), and move it into its range."""
    families = list(LEAD_PROGRAMS)
    for index in rng.permutation(len(families)):
        program = int(rng.choice(LEAD_PROGRAMS[families[index]]))
        shift, in_range = _best_octave(track.notes.pitch, program)
        if in_range >= 0.97:
            return _with_program(track, program, shift)
    return _with_program(track, 0, 0)


def _with_best_fit(track: Track, ensemble: Sequence[int]) -> Track:
    options = [(_best_octave(track.notes.pitch, program), program) for program in ensemble]
    (shift, _), program = max(
        options, key=lambda option: (round(option[0][1], 2), -abs(option[0][0]))
    )
    return _with_program(track, program, shift)


def _best_octave(pitch: np.ndarray, program: int) -> tuple[int, float]:
    """The smallest best-fitting octave shift in semitones, and the share of notes in range."""
    low, high = RANGES[program]
    best, best_in_range = 0, -1.0
    for shift in (0, 12, -12):
        in_range = float(np.mean((pitch + shift >= low) & (pitch + shift <= high)))
        if in_range > best_in_range + 0.05:
            best, best_in_range = shift, in_range
    return best, best_in_range


def _with_program(track: Track, program: int, shift: int) -> Track:
    notes = replace(track.notes, pitch=np.clip(track.notes.pitch + shift, 0, 127))
    return replace(track, program=program, notes=notes)


def leading_track(tracks: Sequence[Track]) -> int:
    """Find the track that carries the melody: mostly highest, loud, monophonic.

    Returns:
        Index of the track; -1 if there are only drums and bass.
    """
    candidates = [
        i
        for i, t in enumerate(tracks)
        if len(t.notes) and program_family(t.program, t.is_drum) not in ("drums", "bass")
    ]
    if not candidates:
        return -1
    end = max(float((tracks[i].notes.start_beats + tracks[i].notes.duration_beats).max())
              for i in candidates)  # fmt: skip
    steps = min(max(int(end * 4) + 1, 1), 4_000)
    tops = np.zeros((len(candidates), steps))
    salience = np.zeros(len(candidates))
    for row, index in enumerate(candidates):
        notes = tracks[index].notes
        first = np.minimum((notes.start_beats * 4).astype(int), steps - 1)
        last = np.ceil((notes.start_beats + notes.duration_beats) * 4).astype(int)
        for start, stop, pitch in zip(first, last, notes.pitch, strict=True):
            span = tops[row, start : max(stop, start + 1)]
            np.maximum(span, pitch, out=span)
        chords = len(notes) / max(len(np.unique(notes.start_beats)), 1)
        voice_bonus = 0.3 if is_voice(tracks[index]) else 0.0
        salience[row] = (
            voice_bonus + 0.006 * float(np.mean(notes.velocity)) - 0.15 * min(chords - 1, 2)
        )
    highest = tops.max(axis=0)
    on_top = ((tops == highest) & (highest > 0)).sum(axis=1) / max((highest > 0).sum(), 1)
    active = (tops > 0).mean(axis=1)
    return candidates[int(np.argmax(on_top + 0.4 * active + salience))]
