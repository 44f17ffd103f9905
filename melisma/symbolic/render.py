"""From a score to clean stereo sound: read this page first.

Enters: a `Score`. Leaves: a `Rendering`: the mix, on request each track alone, and plain sentences
about what sounds otherwise than it is written. Every track gets a sound of the soundfont
(`symbolic/soundfont/discovery.py`, `symbolic/soundfont/presets.py`), a place
(`symbolic/mixing/panning.py`) and a line of notes in seconds (`playback.py`); a player plays it
(`symbolic/soundfont/fluidsynth.py`, or `symbolic/soundfont/sampler.py` where the system has no
FluidSynth); the desk (`symbolic/mixing/mixer.py`) brings room and level.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from melisma.symbolic.instruments import instrument_name
from melisma.symbolic.mixing.mixer import Mixer, MixerPart, MixerSettings, Progress
from melisma.symbolic.mixing.panning import pan_gains, stage_pans
from melisma.symbolic.playback import (
    LONGEST_NOTE_SECONDS,
    PlayedPart,
    Synthesizer,
    choose_preset,
    cut_notes,
    fold_pitches,
    line_of,
    substitution,
)
from melisma.symbolic.soundfont.discovery import find_soundfont
from melisma.symbolic.soundfont.fluidsynth import FluidSynthesizer, has_fluidsynth
from melisma.symbolic.soundfont.presets import SoundFont
from melisma.symbolic.soundfont.sampler import NumpySynthesizer
from melisma.values import Score, Waveform

ENGINES = ("fluidsynth", "own")
"""FluidSynth and our own player."""
MOST_PARTS = 256
"""More parts are taken for damage (chosen: the fullest of 10,907 real scores has 41)."""
MOST_SECONDS = 3_600.0
"""Longest score that is rendered (chosen: the samples of an hour fit into memory)."""


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """How a score is to sound."""

    soundfont: Path | None = None
    """An .sf2 or .sf3 file; None for the best of the system (`symbolic/soundfont/discovery.py`)."""
    engine: str | None = None
    """One of `ENGINES`; None for FluidSynth where the system has it."""
    mixer: MixerSettings = field(default_factory=MixerSettings)
    """Rate, room, tail, loudness, and whether stems are wanted."""

    def __post_init__(self) -> None:
        if self.engine is not None and self.engine not in ENGINES:
            raise ValueError(f'no engine "{self.engine}": known are {", ".join(ENGINES)}')


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A score as sound."""

    mix: Waveform
    """All tracks together, two channels."""
    stems: tuple[Waveform, ...]
    """Each track of the score alone, as it is in the mix; empty unless asked for."""
    soundfont: Path
    engine: str
    """What played: "FluidSynth" or "Melisma's own player"."""
    remarks: tuple[str, ...]
    """Sentences about what sounds otherwise than it is written."""


def open_mixer(score: Score, settings: RenderSettings | None = None) -> Mixer:
    """A desk for the score.

    Raises `ValueError` for a score without notes, one that is too long and a soundfont that is
    none; `OSError` where a soundfont is missing.
    """
    settings = settings or RenderSettings()
    if len(score.tracks) > MOST_PARTS:
        raise ValueError(
            f"the score has {len(score.tracks)} parts, and at most {MOST_PARTS} are rendered"
        )
    lines = [line_of(track, score.tempo) for track in score.tracks]
    ends = [
        float((line.start_seconds + line.duration_seconds).max())
        for line in lines
        if len(line.pitch)
    ]
    if not ends:
        raise ValueError("the score holds no note: give one with notes in it")
    if max(ends) > MOST_SECONDS:
        raise ValueError(
            f"the score lasts {max(ends) / 60:.0f} minutes, and at most {MOST_SECONDS / 60:.0f} "
            "are rendered: split it"
        )
    bank = find_soundfont(settings.soundfont)
    parts, remarks = _seated(score, lines, bank)
    player, spoken = _player(bank, settings)
    return Mixer(
        synthesizer=player,
        parts=parts,
        end_seconds=max(ends),
        settings=settings.mixer,
        soundfont=bank.path,
        remarks=(*remarks, *spoken),
    )


def render_score(
    score: Score, settings: RenderSettings | None = None, progress: Progress | None = None
) -> Rendering:
    """The score as sound; always the same for the same score, settings and soundfont.

    Errors as `open_mixer`, and `ValueError` where nothing sounds.
    """
    desk = open_mixer(score, settings)
    try:
        mix = desk.mix(progress)
        stems = tuple(desk.stems()) if desk.settings.stems else ()
    finally:
        desk.close()
    return Rendering(
        mix=mix,
        stems=stems,
        soundfont=desk.soundfont,
        engine=desk.player.name,
        remarks=desk.remarks,
    )


def part_name(score: Score, index: int) -> str:
    """What people call a track: its own name, or its instrument's."""
    track = score.tracks[index]
    return track.name or instrument_name(track.program, track.is_drum)


def _seated(
    score: Score, lines: list[PlayedPart], bank: SoundFont
) -> tuple[tuple[MixerPart, ...], list[str]]:
    """A sound and a place for every track, and what had to be changed."""
    remarks: list[str] = []
    cut = cut_notes(score)
    if cut:
        notes = "note is" if cut == 1 else "notes are"
        remarks.append(f"{cut} {notes} cut after {LONGEST_NOTE_SECONDS:g} seconds")
    parts: list[MixerPart] = []
    presets = bank.presets
    for index, (line, pan) in enumerate(zip(lines, stage_pans(score.tracks), strict=True)):
        name = f"part {index + 1} ({part_name(score, index)})"
        preset = choose_preset(presets, line.program, line.is_drum)
        said = substitution(bank.path.name, name, line.program, line.is_drum, preset)
        if said is not None:
            remarks.append(said)
        if preset is not None and not line.is_drum:
            line, folded = fold_pitches(line, bank.pitches(preset))
            if folded:
                notes, sound = ("note", "sounds") if folded == 1 else ("notes", "sound")
                remarks.append(
                    f"{bank.path.name} does not reach {folded} {notes} of {name}, which {sound} "
                    "octaves away"
                )
        parts.append(MixerPart(line=line, preset=preset, gains=pan_gains(pan)))
    return tuple(parts), remarks


def _player(bank: SoundFont, settings: RenderSettings) -> tuple[Synthesizer, list[str]]:
    """FluidSynth where it is and can read the soundfont, otherwise our own."""
    if settings.engine != "own" and (settings.engine == "fluidsynth" or has_fluidsynth()):
        try:
            return FluidSynthesizer(bank.path, settings.mixer.rate_hz), []
        except ValueError as error:
            if settings.engine == "fluidsynth":
                raise
            own = NumpySynthesizer(bank, settings.mixer.rate_hz)
            return own, [f"{str(error).partition(':')[0]}, so {own.name} plays"]
    return NumpySynthesizer(bank, settings.mixer.rate_hz), []
