"""Requests for rendering: a score becomes sound files, the mix and each part alone on request.

All files are written, or none; the receipt says what came out.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.files.names import slug, stem_bytes
from melisma.generation.pipeline import Progress

if TYPE_CHECKING:
    from melisma.files import Provenance
    from melisma.symbolic.mixing.mixer import Mixer
    from melisma.values import Score, Waveform

_CODING_ROUNDS = 6
"""Attempts to keep a lossy file below the ceiling; each takes off all that stood out before."""


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """What is to be rendered, and where it goes."""

    score: Score
    provenance: Provenance | None
    """Who made it; None for a score that is not ours."""
    title: str
    path: Path | None
    """The file of the mix; None where only stems are wanted."""
    plot: Path | None
    """A picture of waveform and spectrogram; None for none."""
    stems: Path | None
    """A folder for the stems; None for none."""
    soundfont: Path | None
    room: str
    ending: str | None = None
    """Selects the format where `path` is a pipe or device whose name does not."""
    replace: bool = True
    """Whether a mix that exists is replaced; otherwise it is a `FileExistsError`."""
    notice: bool = True
    """Whether the MIDI files of stems carry our licence as a notice."""


def run_render(request: RenderRequest, progress: Progress | None = None) -> dict[str, object]:
    """Renders and writes everything; a failure leaves nothing behind.

    Args:
        request: What is to be rendered.
        progress: Called with the finished share, 0 to 1.

    Returns:
        The receipt, JSON values.

    Raises:
        MelismaError: Nothing sounds, or the SoundFont cannot be used.
        OSError: A file could not be written.
    """
    from melisma.files import write_audio
    from melisma.files.atomic import atomic_folder
    from melisma.files.audio import audio_ending
    from melisma.files.names import replaced_paths
    from melisma.symbolic.mixing.mixer import MixerSettings
    from melisma.symbolic.render import RenderSettings, open_mixer

    settings = RenderSettings(
        soundfont=request.soundfont,
        mixer=MixerSettings(room=request.room, stems=request.stems is not None),
    )
    mixer = open_mixer(request.score, settings)
    try:
        mix = mixer.mix(progress)
        ending = None if request.path is None else audio_ending(request.path, request.ending)
        gain = 1.0 if ending is None else _coding_gain(mix, ending)
        mix = _louder(mix, gain)
        replaced = replaced_paths(request.path, request.plot)
        former = _names_in(request.stems)
        filled = nullcontext() if request.stems is None else atomic_folder(request.stems)
        with filled as folder:
            stems = [] if folder is None else _write_stems(request, mixer, gain, folder)
            if request.path is not None:
                write_audio(
                    request.path,
                    mix,
                    request.provenance,
                    ending=ending,
                    replace=request.replace,
                )
            if request.plot is not None:
                from melisma.analysis.plots.spectrogram import plot_sound

                plot_sound(mix, request.plot, request.title)
    finally:
        mixer.close()
    files = [str((request.stems or Path()) / name) for name in stems]
    replaced += [file for file, name in zip(files, stems, strict=True) if name in former]
    facts = _facts(request, mixer, mix)
    remarks, kept = facts["remarks"], kept_remarks(request.stems, former - set(stems))
    assert isinstance(remarks, list)
    facts["remarks"] = [*remarks, *kept]
    return facts | {"replaced": replaced, "stems": files, "stems_remarks": kept}


def kept_remarks(folder: Path | None, names: set[str]) -> list[str]:
    """A sentence about files in the folder of the stems that are none of them, if there are any.

    Args:
        folder: Of the stems.
        names: The other files; hidden ones are not counted.
    """
    count = sum(not name.startswith(".") for name in names)
    if count == 0:
        return []
    if count == 1:
        what = "1 other file was", "stays: it is no stem"
    else:
        what = f"{count} other files were", "stay: they are no stems"
    return [f"{what[0]} in the folder {folder} already and {what[1]} of this piece"]


def _names_in(folder: Path | None) -> set[str]:
    """The names in a folder; none where there is no folder."""
    if folder is None or not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir()}


def _coding_gain(mix: Waveform, ending: str) -> float:
    """The gain, at most 1, with which a file of this ending peaks below the ceiling, too."""
    from melisma.files.audio import LOSSY_ENDINGS, encode_and_decode
    from melisma.sound.mastering import CEILING_DB
    from melisma.symbolic.mixing.mixer import highest_peak

    gain, ceiling = 1.0, 10 ** (CEILING_DB / 20)
    if ending.lower() not in LOSSY_ENDINGS:
        return gain
    for _ in range(_CODING_ROUNDS):
        peak = highest_peak(encode_and_decode(_louder(mix, gain), ending).samples)
        if peak < ceiling:
            break
        gain *= 0.99 * ceiling / peak
    return gain


def _louder(sound: Waveform, gain: float) -> Waveform:
    return sound if gain == 1.0 else replace(sound, samples=sound.samples * gain)


def _write_stems(request: RenderRequest, mixer: Mixer, gain: float, folder: Path) -> list[str]:
    """A sound file and a MIDI file for each track; returns their names, sound files first."""
    from melisma.files import write_audio, write_bytes
    from melisma.symbolic import write_midi
    from melisma.symbolic.render import part_name
    from melisma.symbolic.tags import write_midi_tags

    score = request.score
    digits = max(2, len(str(len(score.tracks))))
    most = stem_bytes(folder)
    names = [
        f"{index + 1:0{digits}}-{slug(part_name(score, index), most)}"
        for index in range(len(score.tracks))
    ]
    for name, track, stem in zip(names, score.tracks, mixer.stems(), strict=True):
        write_audio(folder / f"{name}.wav", _louder(stem, gain), request.provenance)
        line = write_midi(replace(score, tracks=(track,)))
        if request.provenance is not None:
            line = write_midi_tags(line, request.provenance.fields(), notice=request.notice)
        write_bytes(folder / f"{name}.mid", line)
    return [f"{name}.wav" for name in names] + [f"{name}.mid" for name in names]


def _facts(request: RenderRequest, mixer: Mixer, mix: Waveform) -> dict[str, object]:
    from melisma.sound.loudness import integrated_lufs
    from melisma.symbolic.mixing.mixer import highest_peak

    lufs = integrated_lufs(mix)
    return {
        "path": None if request.path is None else str(request.path),
        "plot": None if request.plot is None else str(request.plot),
        "seconds": round(mix.seconds, 3),
        "rate_hz": mix.rate_hz,
        "parts": len(request.score.tracks),
        "notes": sum(len(track.notes) for track in request.score.tracks),
        "loudness_lufs": None if lufs is None else round(lufs, 2),
        "true_peak_db": round(20 * math.log10(highest_peak(mix.samples)), 2),
        "room": request.room,
        "soundfont": str(mixer.soundfont),
        "engine": mixer.synthesizer.name,
        "ai_generated": request.provenance is not None and request.provenance.ai_generated,
        "remarks": [*request.score.remarks, *_unplayed(request.score), *mixer.remarks],
    }


def _unplayed(score: Score) -> list[str]:
    """A sentence about controllers of the score that are not rendered, if there are any."""
    from melisma.values.score import PITCH_BEND

    names = {7: "volume", 10: "pan", 11: "expression", 1: "modulation", PITCH_BEND: "pitch bend"}
    used = {int(n) for track in score.tracks for n in track.controls.number}
    found = [name for number, name in names.items() if number in used]
    return [f"not rendered: {', '.join(found)} of the MIDI file"] if found else []
