"""Melody extraction from a hum, a whistle, a song or a recording.

Input: a `Waveform`. Output: a `Tune`: the pitch of the leading line every 10 ms, and its notes, in
the tune's own tuning. One method tracks both a solo voice and the lead of a mix: pitch salience
(`salience.py`) and the likeliest path through it (`viterbi.py`), as pYIN does for a voice (Mauch
and Dixon, 2014) and similar to Salamon and Gomez (2012) for the lead of a mix. The result carries
no timbre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from melisma.melody.evidence import MIN_CLEAR_SHARE, MIN_EVIDENCE, clear_share, tune_evidence
from melisma.melody.salience import HOP_SAMPLES, PITCHES, RATE_HZ, STEP, TRACK_RATE_HZ, salience
from melisma.melody.transcribe import TuneNote, find_notes, line_tuning
from melisma.melody.viterbi import likeliest_path
from melisma.sound.repair import repaired
from melisma.sound.resample import resample_samples
from melisma.values import Waveform
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ

MIN_SECONDS = 0.5
"""Minimum duration (measured: suffices for two notes of a quarter of a second)."""
_SILENT_PEAK = 1e-4
"""Audio without a sample above this (-80 dB) is silent."""
_BLOCK_SECONDS, _OVERLAP_SECONDS = 30, 2
"""Long audio is analysed in overlapping blocks; the outer half of each overlap is dropped."""
_LOW_LINE_COST, _HIGH_LINE_PITCH = 0.1, 74.0
"""The lead is seldom the bass: cost of an accompanied line per squared octave below D5 (measured:
62 instead of 52 % of the frames of rendered mixes get the pitch class of the lead; without
accompaniment, trombones and bassoons would be tracked at their overtones)."""
_STRENGTH_SCALE, _STEP_COST, _JUMP_COST = 8.0, 0.3, 2.5
"""Weight of the salience against the transition costs: per step of a fifth of a semitone, and for
a jump by more than `_REACH` steps (measured)."""
_REACH = 6
_REFERENCE_QUANTILE, _VOICED_RATIO, _VOICED_RATIO_OF_LEAD = 0.8, 0.55, 0.45
"""A frame is voiced where its salience exceeds this ratio (in a mix: the second) of the given
quantile over all frames: a solo voice is clearer than a lead, and so is the breath between its
phrases (measured)."""
_MIN_THRESHOLD, _MAX_THRESHOLD = 0.15, 0.4
"""Limits of that threshold; noise seldom reaches .3, a voice with breath 10 dB below it has .5."""
_VOICED_DB = 40.0
"""A voiced frame is at most this far below the loudest one (chosen)."""
_FILLED_GAP_SECONDS = 0.16
"""Longest gap that is no rest but breath or staccato (as in the labels that the language model was
trained on)."""


@dataclass(frozen=True, kw_only=True)
class Tune:
    """An extracted melody: pitch track and notes."""

    times: np.ndarray
    """Seconds, float64 [frame], ascending."""
    pitches: np.ndarray
    """Sounding MIDI pitch, float64 [frame], nan where unvoiced."""
    rate_hz: float
    """Frames per second."""
    notes: tuple[TuneNote, ...]
    """By onset; pitches are semitones in the tune's own tuning."""
    tuning_cents: float
    """Mean deviation of its tuning from A = 440 Hz, -50 to 50."""

    @property
    def seconds(self) -> float:
        """Duration in seconds, rests at both ends included."""
        return len(self.times) / self.rate_hz


@dataclass(frozen=True, kw_only=True)
class _Line:
    """The tracked leading line, one entry per frame."""

    pitches: np.ndarray
    """MIDI pitch, float64 [frame], nan where unvoiced."""
    strengths: np.ndarray
    levels_db: np.ndarray


def extract_tune(
    waveform: Waveform, *, seconds: float | None = None, accompanied: bool = False
) -> Tune:
    """Extracts the melody of audio; memory use is that of a block of 30 s beside the audio.

    Args:
        waveform: The audio.
        seconds: Duration to analyse from the beginning; None for all.
        accompanied: Whether the melody is the lead of a mix rather than solo; high lines are then
            preferred, and accompanying drums are accepted.

    Raises:
        MelismaError: The audio is silent, shorter than half a second, or has no detectable melody.
    """
    line = _track(_analysed_part(waveform, seconds), _LOW_LINE_COST if accompanied else 0.0)
    tuning = line_tuning(line.pitches)
    notes = find_notes(line.pitches - tuning, line.levels_db)
    if accompanied:
        detected = clear_share(notes, line.strengths, line.levels_db) > MIN_CLEAR_SHARE
    else:
        detected = tune_evidence(notes, line.strengths, line.levels_db) > MIN_EVIDENCE
    if not detected:
        raise MelismaError(
            "no tune was detected in the sound: hum, sing, whistle or play one close to the "
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
    """Melody conditioning of the language model.

    In the same form as the labels in training: a note covers the frames of its half-open interval,
    at least one, and gaps of up to 0.16 s are filled with the preceding note.

    Args:
        tune: The melody.
        frames: Number of frames to return; frames beyond the tune are 0.
        frame_rate_hz: Frame rate of the tokens.

    Returns:
        int64 [frame]: 0 for no note, otherwise the pitch class + 1.

    Raises:
        MelismaError: `frames` or the rate is not positive.
    """
    if frames < 1 or not frame_rate_hz > 0:
        raise MelismaError(
            f"a melody has one frame or more at a positive rate, not {frames} at {frame_rate_hz} Hz"
        )
    classes = np.zeros(frames, dtype=np.int64)
    filled, gap = 0, round(_FILLED_GAP_SECONDS * frame_rate_hz)
    for note in tune.notes:
        first = int(note.onset_seconds * frame_rate_hz + 1e-3)
        last = max(int(note.offset_seconds * frame_rate_hz + 1e-3), first + 1)
        if 0 < first - filled <= gap and filled > 0:
            classes[filled:first] = classes[min(filled, frames) - 1]
        classes[first:last] = note.pitch % 12 + 1
        filled = last
    return classes


def _line_of(sound: np.ndarray, low_cost: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pitches, salience, decibels) of audio at 12 kHz, float64 [frame] each."""
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


def _track(sound: np.ndarray, low_cost: float) -> _Line:
    pitches, strengths, levels_db = (
        np.concatenate(column) for column in zip(*_blocks(sound, low_cost), strict=True)
    )
    reference = float(np.quantile(strengths, _REFERENCE_QUANTILE))
    # Only the lead of a mix has a cost of low lines.
    ratio = _VOICED_RATIO_OF_LEAD if low_cost else _VOICED_RATIO
    threshold = min(max(ratio * reference, _MIN_THRESHOLD), _MAX_THRESHOLD)
    voiced = (strengths > threshold) & (levels_db > levels_db.max() - _VOICED_DB)
    pitches = np.where(voiced, pitches, np.nan)
    return _Line(pitches=pitches, strengths=strengths, levels_db=levels_db)


def _analysed_part(waveform: Waveform, seconds: float | None) -> np.ndarray:
    """The part to analyse: mono at 12 kHz, normalized to a peak of 1."""
    if seconds is not None and not seconds > 0:
        raise MelismaError(f"the duration to analyse is above 0 s, not {seconds}")
    samples = waveform.samples.shape[1]
    if seconds is not None and np.isfinite(seconds):
        samples = min(samples, round(seconds * waveform.rate_hz))
    if samples < MIN_SECONDS * waveform.rate_hz:
        raise MelismaError(
            f"a tune of {samples / waveform.rate_hz:.2f} s is too short: give "
            f"{MIN_SECONDS} s or more"
        )
    part, _ = repaired(replace(waveform, samples=waveform.samples[:, :samples]))
    sound = part.mono
    peak = float(np.abs(sound).max())
    if peak < _SILENT_PEAK:
        raise MelismaError("the sound is silent: record it again, louder")
    return resample_samples(sound / peak, waveform.rate_hz, RATE_HZ)


def _blocks(
    sound: np.ndarray, low_cost: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(pitches, salience, decibels) of each block, float64 [frame], which join seamlessly."""
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
