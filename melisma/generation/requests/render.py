"""Requests for rendering: a score becomes sound files, the mix and each part alone on request.

All files are written, or none; the receipt says what came out.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.files.names import slug
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


def run_render(request: RenderRequest, progress: Progress | None = None) -> dict[str, object]:
    """Renders and writes everything; a failure leaves nothing behind.

    Args:
        request: What is to be rendered.
        progress: Called with the finished share, 0 to 1.

    Returns:
        The receipt, JSON values.

    Raises:
        MelismaError: Nothing sounds, or the SoundFont cannot be used.
    """
    from melisma.files import write_audio
    from melisma.symbolic.mixing.mixer import MixerSettings
    from melisma.symbolic.render import RenderSettings, open_mixer

    settings = RenderSettings(
        soundfont=request.soundfont,
        mixer=MixerSettings(room=request.room, stems=request.stems is not None),
    )
    mixer = open_mixer(request.score, settings)
    try:
        mix = mixer.mix(progress)
        gain = 1.0 if request.path is None else _coding_gain(mix, request.path.suffix)
        mix = _louder(mix, gain)
        with _filling(request.stems) as folder:
            stems = [] if folder is None else _write_stems(request, mixer, gain, folder)
            if request.path is not None:
                write_audio(request.path, mix, request.provenance)
            if request.plot is not None:
                from melisma.analysis.plots.spectrogram import plot_sound

                plot_sound(mix, request.plot, request.title)
    finally:
        mixer.close()
    facts = _facts(request, mixer, mix)
    return facts | {"stems": [str((request.stems or Path()) / name) for name in stems]}


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
    names = [
        f"{index + 1:0{digits}}-{slug(part_name(score, index))}"
        for index in range(len(score.tracks))
    ]
    for name, track, stem in zip(names, score.tracks, mixer.stems(), strict=True):
        write_audio(folder / f"{name}.wav", _louder(stem, gain), request.provenance)
        line = write_midi(replace(score, tracks=(track,)))
        if request.provenance is not None:
            line = write_midi_tags(line, request.provenance.fields())
        write_bytes(folder / f"{name}.mid", line)
    return [f"{name}.wav" for name in names] + [f"{name}.mid" for name in names]


@contextmanager
def _filling(folder: Path | None) -> Generator[Path | None]:
    """A temporary folder whose files move into `folder` at the end; on failure it is gone."""
    if folder is None:
        yield None
        return
    folder.parent.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:80]}-", dir=folder.parent))
    try:
        yield temporary
        folder.mkdir(exist_ok=True)
        for path in sorted(temporary.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
        "remarks": list(mixer.remarks),
    }
