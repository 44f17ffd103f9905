"""A score becomes sound files, for the verbs that do so: the mix, and each part alone on request.

Enters: a `SoundOrder`, checked. Leaves: files, all of them or none, and a receipt.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.cli.output_paths import slug
from melisma.cli.progress import Progress

if TYPE_CHECKING:
    from melisma.files import Provenance
    from melisma.symbolic.mixing.mixer import Mixer
    from melisma.values import Score, Waveform

_CODING_ROUNDS = 6
"""Attempts to keep a lossy file below the ceiling; each takes off all that stood out before."""


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """Everything that was asked for, checked."""

    score: Score
    provenance: Provenance | None
    """Who made it; None for a score that is not ours."""
    title: str
    place: Path | None
    """The file of the mix; None where only stems are wanted."""
    picture: Path | None
    stems: Path | None
    """A folder for the stems; None for none."""
    soundfont: Path | None
    room: str


def sound_score(order: RenderRequest, progress: Progress | None = None) -> dict[str, object]:
    """Render and write everything, and return the receipt. Nothing is left behind by a failure.

    `progress` hears the share done, 0 to 1.
    """
    from melisma.files import write_audio
    from melisma.symbolic.mixing.mixer import MixerSettings
    from melisma.symbolic.render import RenderSettings, open_mixer

    settings = RenderSettings(
        soundfont=order.soundfont,
        mixer=MixerSettings(room=order.room, stems=order.stems is not None),
    )
    desk = open_mixer(order.score, settings)
    try:
        mix = desk.mix(progress)
        gain = 1.0 if order.place is None else _coding_gain(mix, order.place.suffix)
        mix = _louder(mix, gain)
        with _filling(order.stems) as folder:
            stems = [] if folder is None else _write_stems(order, desk, gain, folder)
            if order.place is not None:
                write_audio(order.place, mix, order.provenance)
            if order.picture is not None:
                from melisma.analysis.plots.spectrogram import plot_sound

                plot_sound(mix, order.picture, order.title)
    finally:
        desk.close()
    facts = _facts(order, desk, mix)
    return facts | {"stems": [str((order.stems or Path()) / name) for name in stems]}


def _coding_gain(mix: Waveform, ending: str) -> float:
    """The gain, at most 1, with which a file of this ending peaks below the ceiling, too."""
    from melisma.files.audio import LOSSY_ENDINGS, decoded_after_coding
    from melisma.sound.mastering import CEILING_DB
    from melisma.symbolic.mixing.mixer import highest_peak

    gain, ceiling = 1.0, 10 ** (CEILING_DB / 20)
    if ending.lower() not in LOSSY_ENDINGS:
        return gain
    for _ in range(_CODING_ROUNDS):
        peak = highest_peak(decoded_after_coding(_louder(mix, gain), ending).samples)
        if peak < ceiling:
            break
        gain *= 0.99 * ceiling / peak
    return gain


def _louder(sound: Waveform, gain: float) -> Waveform:
    return sound if gain == 1.0 else replace(sound, samples=sound.samples * gain)


def _write_stems(order: RenderRequest, desk: Mixer, gain: float, folder: Path) -> list[str]:
    """A sound file and a MIDI file for each track; returns their names, sound files first."""
    from melisma.files import write_audio, write_bytes
    from melisma.symbolic import write_midi
    from melisma.symbolic.render import part_name
    from melisma.symbolic.tags import write_midi_tags

    score = order.score
    digits = max(2, len(str(len(score.tracks))))
    names = [
        f"{index + 1:0{digits}}-{slug(part_name(score, index))}"
        for index in range(len(score.tracks))
    ]
    for name, track, stem in zip(names, score.tracks, desk.stems(), strict=True):
        write_audio(folder / f"{name}.wav", _louder(stem, gain), order.provenance)
        line = write_midi(replace(score, tracks=(track,)))
        if order.provenance is not None:
            line = write_midi_tags(line, order.provenance.fields())
        write_bytes(folder / f"{name}.mid", line)
    return [f"{name}.wav" for name in names] + [f"{name}.mid" for name in names]


@contextmanager
def _filling(folder: Path | None) -> Iterator[Path | None]:
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


def _facts(order: RenderRequest, desk: Mixer, mix: Waveform) -> dict[str, object]:
    from melisma.sound.loudness import integrated_lufs
    from melisma.symbolic.mixing.mixer import highest_peak

    lufs = integrated_lufs(mix)
    return {
        "path": None if order.place is None else str(order.place),
        "plot": None if order.picture is None else str(order.picture),
        "seconds": round(mix.seconds, 3),
        "rate_hz": mix.rate_hz,
        "parts": len(order.score.tracks),
        "notes": sum(len(track.notes) for track in order.score.tracks),
        "loudness_lufs": None if lufs is None else round(lufs, 2),
        "true_peak_db": round(20 * math.log10(highest_peak(mix.samples)), 2),
        "room": order.room,
        "soundfont": str(desk.soundfont),
        "engine": desk.player.name,
        "ai_generated": order.provenance is not None and order.provenance.ai_generated,
        "remarks": list(desk.remarks),
    }
