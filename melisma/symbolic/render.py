"""Rendering of a score to stereo audio with a SoundFont.

Input: a `Score`. Output: a `Rendering`: the mix, optionally the stem of each track, and remarks on
substitutions. Every track gets a preset of the SoundFont (`symbolic/soundfont/discovery.py`,
`symbolic/soundfont/presets.py`), a pan position (`symbolic/mixing/panning.py`) and notes in seconds
(`playback.py`); a synthesizer renders it (`symbolic/soundfont/fluidsynth.py`, or
`symbolic/soundfont/sampler.py` where the system has no FluidSynth); the mixer
(`symbolic/mixing/mixer.py`) adds reverberation and sets the level.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from melisma.symbolic.instruments import instrument_name
from melisma.symbolic.mixing.mixer import Mixer, MixerPart, MixerSettings, Progress
from melisma.symbolic.mixing.panning import pan_gains, stage_pans
from melisma.symbolic.playback import (
    MAX_NOTE_SECONDS,
    PlayedPart,
    Synthesizer,
    choose_preset,
    cut_notes,
    fold_pitches,
    performed_part,
    substitution,
)
from melisma.symbolic.soundfont.discovery import find_soundfont
from melisma.symbolic.soundfont.fluidsynth import FluidSynthesizer, has_fluidsynth
from melisma.symbolic.soundfont.presets import SoundFont
from melisma.symbolic.soundfont.sampler import NumpySynthesizer
from melisma.values import Score, Waveform
from melisma.values.errors import MelismaError

ENGINES = ("fluidsynth", "own")
"""FluidSynth, and Melisma's own synthesizer."""
MAX_PARTS = 256
"""A score with more parts is taken for damaged (chosen: 10,907 real scores have at most 41)."""
MAX_SECONDS = 3_600.0
"""Maximum duration of a rendering (chosen: the samples of an hour fit into memory)."""


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """Settings of a rendering."""

    soundfont: Path | None = None
    """An .sf2 or .sf3 file; None: the best of the system (`symbolic/soundfont/discovery.py`)."""
    engine: str | None = None
    """One of `ENGINES`; None: FluidSynth where the system has it."""
    mixer: MixerSettings = field(default_factory=MixerSettings)
    """Sample rate, room, tail, loudness, and whether stems are rendered."""

    def __post_init__(self) -> None:
        if self.engine is not None and self.engine not in ENGINES:
            raise MelismaError(f'no engine "{self.engine}": known are {", ".join(ENGINES)}')


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A rendered score."""

    mix: Waveform
    """All tracks together, two channels."""
    stems: tuple[Waveform, ...]
    """Each track alone at its level in the mix; empty unless requested."""
    soundfont: Path
    engine: str
    """Name of the synthesizer: "FluidSynth" or "Melisma's own player"."""
    remarks: tuple[str, ...]
    """Messages on substituted presets, transposed and truncated notes."""


def open_mixer(score: Score, settings: RenderSettings | None = None) -> Mixer:
    """Prepares a mixer for a score; close it after use.

    Args:
        score: The score.
        settings: Settings; None: the defaults.

    Raises:
        MelismaError: The score has no notes or is too long, or the SoundFont is invalid.
        OSError: The SoundFont is missing.
    """
    settings = settings or RenderSettings()
    if len(score.tracks) > MAX_PARTS:
        raise MelismaError(
            f"the score has {len(score.tracks)} parts, and at most {MAX_PARTS} are rendered"
        )
    lines = [performed_part(track, score.tempo) for track in score.tracks]
    ends = [
        float((line.start_seconds + line.duration_seconds).max())
        for line in lines
        if len(line.pitch)
    ]
    if not ends:
        raise MelismaError("the score holds no note: give one with notes in it")
    if max(ends) > MAX_SECONDS:
        raise MelismaError(
            f"the score lasts {max(ends) / 60:.0f} minutes, and at most {MAX_SECONDS / 60:.0f} "
            "are rendered: split it"
        )
    bank = find_soundfont(settings.soundfont)
    parts, remarks = _mixer_parts(score, lines, bank)
    synthesizer, more_remarks = _synthesizer(bank, settings)
    return Mixer(
        synthesizer=synthesizer,
        parts=parts,
        end_seconds=max(ends),
        settings=settings.mixer,
        soundfont=bank.path,
        remarks=(*remarks, *more_remarks),
    )


def render_score(
    score: Score, settings: RenderSettings | None = None, progress: Progress | None = None
) -> Rendering:
    """Renders a score; deterministic for the same score, settings and SoundFont.

    Args:
        score: The score.
        settings: Settings; None: the defaults.
        progress: Called with the finished fraction of the work, from 0 to 1.

    Raises:
        MelismaError: As `open_mixer`, or the result is silent.
        OSError: The SoundFont is missing.
    """
    mixer = open_mixer(score, settings)
    try:
        mix = mixer.mix(progress)
        stems = tuple(mixer.stems()) if mixer.settings.stems else ()
    finally:
        mixer.close()
    return Rendering(
        mix=mix,
        stems=stems,
        soundfont=mixer.soundfont,
        engine=mixer.synthesizer.name,
        remarks=mixer.remarks,
    )


def part_name(score: Score, index: int) -> str:
    """Display name of a track: its own name, or its instrument's."""
    track = score.tracks[index]
    return track.name or instrument_name(track.program, track.is_drum)


def _mixer_parts(
    score: Score, lines: list[PlayedPart], bank: SoundFont
) -> tuple[tuple[MixerPart, ...], list[str]]:
    """Preset and pan of every track, and remarks on what had to be changed."""
    remarks: list[str] = []
    cut = cut_notes(score)
    if cut:
        notes = "note is" if cut == 1 else "notes are"
        remarks.append(f"{cut} {notes} cut after {MAX_NOTE_SECONDS:g} seconds")
    parts: list[MixerPart] = []
    presets = bank.presets
    for index, (line, pan) in enumerate(zip(lines, stage_pans(score.tracks), strict=True)):
        name = f"part {index + 1} ({part_name(score, index)})"
        preset = choose_preset(presets, line.program, line.is_drum)
        remark = substitution(bank.path.name, name, line.program, line.is_drum, preset)
        if remark is not None:
            remarks.append(remark)
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


def _synthesizer(bank: SoundFont, settings: RenderSettings) -> tuple[Synthesizer, list[str]]:
    """FluidSynth where it is available and can read the SoundFont, otherwise Melisma's own."""
    if settings.engine != "own" and (settings.engine == "fluidsynth" or has_fluidsynth()):
        try:
            return FluidSynthesizer(bank.path, settings.mixer.rate_hz), []
        except MelismaError as error:
            if settings.engine == "fluidsynth":
                raise
            own = NumpySynthesizer(bank, settings.mixer.rate_hz)
            return own, [f"{str(error).partition(':')[0]}, so {own.name} plays"]
    return NumpySynthesizer(bank, settings.mixer.rate_hz), []
