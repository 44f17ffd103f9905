"""From a hum, a whistle, a song or a recording to its tune: read this page first.

Enters: a `Waveform`. Leaves: a `Tune`: the pitch of the leading line every 10 ms, and its notes,
in the tune's own tuning. One method hears a lone voice and the lead of a mix: the strength of each
pitch (`salience.py`) and the likeliest path through it (`viterbi.py`), as pYIN does for a voice
(Mauch and Dixon, 2014) and in the manner of Salamon and Gomez (2012) for the lead of a mix.
Nothing of the sound's timbre is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from melisma.melody.evidence import LEAST_EVIDENCE, LEAST_SHARE, clear_share, tune_evidence
from melisma.melody.salience import HOP_SAMPLES, PITCHES, RATE_HZ, STEP, TRACK_RATE_HZ, salience
from melisma.melody.transcribe import TuneNote, find_notes, line_tuning
from melisma.melody.viterbi import likeliest_path
from melisma.values import Waveform
from melisma.values.tokens import FRAME_RATE_HZ

LEAST_SECONDS = 0.5
"""Shorter sound is refused (measured: two notes of a quarter of a second are heard in it)."""
_SILENT_PEAK = 1e-4
"""Sound without a sample above this (-80 dB) is silent."""
_BLOCK_SECONDS, _OVERLAP_SECONDS = 30, 2
"""Long sound is heard in blocks; the outer half of what two share is dropped."""
_LOW_LINE_COST, _HIGH_LINE_PITCH = 0.1, 74.0
"""The lead is seldom the bass: what each octave, squared, below D5 costs a line that is accompanied
(measured: of rendered mixes 62 instead of 52 frames of 100 have the pitch class of the lead; lone
trombones and bassoons would be heard as their overtones)."""
_STRENGTH_SCALE, _STEP_COST, _JUMP_COST = 8.0, 0.3, 2.5
"""How strengths weigh against moves of the path: by a fifth of a semitone, by more than six of
them (measured)."""
_REACH = 6
_USUAL_SHARE, _VOICED_PART, _VOICED_PART_OF_LEAD = 0.8, 0.55, 0.45
"""A frame has a pitch where it has this part (in a mix: the second) of the strength that so many
frames do not reach: a lone voice is clearer than a lead, and so is breath between its phrases
(measured)."""
_LEAST_STRENGTH, _MOST_STRENGTH = 0.15, 0.4
"""Between these; noise seldom reaches .3, a voice in as much breath as 10 dB below it .5."""
_VOICED_DB = 40.0
"""And it is no fainter than this below the loudest frame (chosen)."""
_HELD_GAP_SECONDS = 0.16
"""Breath and staccato are no rest (as in the labels that the language model learned from)."""


@dataclass(frozen=True, kw_only=True)
class Tune:
    """A melody without its timbre."""

    times: np.ndarray
    """Seconds, float64 [frame], ascending."""
    pitches: np.ndarray
    """MIDI pitch as it sounds, float64 [frame], nan where there is none."""
    rate_hz: float
    """Frames a second."""
    notes: tuple[TuneNote, ...]
    """By onset; pitches are semitones of the tune's own tuning."""
    tuning_cents: float
    """Mean distance of its tuning from A = 440 Hz, -50 to 50."""

    @property
    def seconds(self) -> float:
        """Duration in seconds, rests at both ends included."""
        return len(self.times) / self.rate_hz


@dataclass(frozen=True, kw_only=True)
class _Line:
    """The leading line as it was followed, one entry per frame."""

    pitches: np.ndarray
    """MIDI pitch, float64 [frame], nan where there is none."""
    strengths: np.ndarray
    levels_db: np.ndarray


def extract_tune(
    waveform: Waveform, *, seconds: float | None = None, accompanied: bool = False
) -> Tune:
    """The tune of the first `seconds` of the sound, of all of it where they are None.

    `accompanied`: the tune is the lead of a mix, not alone; high lines are then preferred, and
    drums beside it are no reason to refuse. Raises `ValueError` where the sound is silent, shorter
    than half a second, or no tune is to be heard in it. Takes the memory of a block of 30 s
    beside that of the sound.
    """
    line = _follow(_heard_part(waveform, seconds), _LOW_LINE_COST if accompanied else 0.0)
    tuning = line_tuning(line.pitches)
    notes = find_notes(line.pitches - tuning, line.levels_db)
    if accompanied:
        heard = clear_share(notes, line.strengths, line.levels_db) > LEAST_SHARE
    else:
        heard = tune_evidence(notes, line.strengths, line.levels_db) > LEAST_EVIDENCE
    if not heard:
        raise ValueError(
            "no tune is to be heard in the sound: hum, sing, whistle or play one close to the "
            "microphone, away from drums and noise"
        )
    return Tune(
        times=np.arange(len(line.pitches)) / TRACK_RATE_HZ,
        pitches=line.pitches,
        rate_hz=TRACK_RATE_HZ,
        notes=notes,
        tuning_cents=100.0 * float(tuning.mean()),
    )


def melody_frames(tune: Tune, frames: int, frame_rate_hz: float = FRAME_RATE_HZ) -> np.ndarray:
    """The tune as the language model's condition, int64 [frame]: 0 no note, pitch class + 1.

    As the labels are that the model learned from: a note sounds in the frames of its half-open
    interval, in one at least, and pauses of up to 0.16 s are filled with the note before. Frames
    beyond the tune are 0. `ValueError` where `frames` or the rate are not positive.
    """
    if frames < 1 or not frame_rate_hz > 0:
        raise ValueError(
            f"a melody has one frame or more at a positive rate, not {frames} at {frame_rate_hz} Hz"
        )
    classes = np.zeros(frames, dtype=np.int64)
    filled, gap = 0, round(_HELD_GAP_SECONDS * frame_rate_hz)
    for note in tune.notes:
        first = int(note.onset_seconds * frame_rate_hz + 1e-3)
        last = max(int(note.offset_seconds * frame_rate_hz + 1e-3), first + 1)
        if 0 < first - filled <= gap and filled > 0:
            classes[filled:first] = classes[min(filled, frames) - 1]
        classes[first:last] = note.pitch % 12 + 1
        filled = last
    return classes


def _line_of(sound: np.ndarray, low_cost: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pitches, strengths, decibels) of sound at 12 kHz, float64 [frame] each."""
    strengths, levels_db = salience(sound)
    low = low_cost * (np.maximum(_HIGH_LINE_PITCH - PITCHES, 0.0) / 12.0) ** 2
    path = likeliest_path(
        _STRENGTH_SCALE * (strengths - low),
        step_cost=_STEP_COST,
        jump_cost=_JUMP_COST,
        reach=_REACH,
    )
    frame, inner = np.arange(len(path)), np.clip(path, 1, len(PITCHES) - 2)
    before, here, after = (strengths[frame, inner + side].astype(np.float64) for side in (-1, 0, 1))
    bend = before - 2.0 * here + after
    shift = np.where(bend < -1e-6, 0.5 * (before - after) / np.minimum(bend, -1e-6), 0.0)
    pitches = PITCHES[inner] + STEP * np.clip(shift, -0.5, 0.5)
    return pitches, strengths[frame, path], levels_db


def _follow(sound: np.ndarray, low_cost: float) -> _Line:
    pitches, strengths, levels_db = (
        np.concatenate(column) for column in zip(*_blocks(sound, low_cost), strict=True)
    )
    usual = float(np.quantile(strengths, _USUAL_SHARE))
    # Only a lead has a cost for low lines.
    part = _VOICED_PART_OF_LEAD if low_cost else _VOICED_PART
    least = min(max(part * usual, _LEAST_STRENGTH), _MOST_STRENGTH)
    voiced = (strengths > least) & (levels_db > levels_db.max() - _VOICED_DB)
    pitches = np.where(voiced, pitches, np.nan)
    return _Line(pitches=pitches, strengths=strengths, levels_db=levels_db)


def _heard_part(waveform: Waveform, seconds: float | None) -> np.ndarray:
    """What is to be heard: mono at 12 kHz, its loudest sample 1."""
    if seconds is not None and not seconds > 0:
        raise ValueError(f"the part of the sound to hear lasts longer than {seconds} s")
    wanted = waveform.samples.shape[1]
    if seconds is not None and np.isfinite(seconds):
        wanted = min(wanted, round(seconds * waveform.rate_hz))
    if wanted < LEAST_SECONDS * waveform.rate_hz:
        raise ValueError(
            f"a tune of {wanted / waveform.rate_hz:.2f} s is too short to be heard: give "
            f"{LEAST_SECONDS} s or more"
        )
    sound = waveform.samples[:, :wanted].mean(axis=0)
    peak = float(np.abs(sound).max())
    if peak < _SILENT_PEAK:
        raise ValueError("the sound is silent: record it again, louder")
    return soxr.resample(sound / peak, waveform.rate_hz, RATE_HZ)


def _blocks(
    sound: np.ndarray, low_cost: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(pitches, strengths, decibels) of each block, float64 [frame], which join without a seam."""
    block, overlap = _BLOCK_SECONDS * TRACK_RATE_HZ, _OVERLAP_SECONDS * TRACK_RATE_HZ
    frames, start = len(sound) // HOP_SAMPLES, 0
    while True:
        stop = min(start + block, frames)
        stop = frames if frames - stop < overlap else stop
        part = sound[start * HOP_SAMPLES : stop * HOP_SAMPLES]
        pitches, strengths, levels_db = _line_of(part, low_cost)
        first = 0 if start == 0 else overlap // 2
        last = stop - start - (0 if stop == frames else overlap // 2)
        yield pitches[first:last], strengths[first:last], levels_db[first:last]
        if stop == frames:
            return
        start = stop - overlap
