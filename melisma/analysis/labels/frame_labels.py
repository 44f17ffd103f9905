"""Frame labels of a clip from its notes: the exact ground truth of rendered audio.

Inputs: a `Performance` and an excerpt of it. Output: `FrameLabels`, arrays at 25 frames per second.
A note sounds in the frames of its half-open interval [start, start + duration), and in at least one
frame. `rolls.py` quantises notes to frames, `chords.py` recognises the chords.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from melisma.analysis.labels.chords import PITCH_TO_CLASS, frame_chords
from melisma.analysis.labels.rolls import (
    active_frames,
    is_pitched,
    note_frames,
    note_roll,
    summed_roll,
)
from melisma.symbolic.performance import Part, Performance
from melisma.values.attributes import FAMILIES, program_family
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ

_CONTEXT_FRAMES = 50
"""Frames of context around the clip for the chords, so that they do not depend on the cut."""
_MAX_SEGMENT_SECONDS = 1.0
"""Perceived beats longer than this are halved for the chords (chosen)."""
_LEAD_GAP_FRAMES = 4
"""Pauses of the lead up to this length (0.16 s) are filled: breath and staccato are no rests."""
_DRUM_RING_FRAMES = 6
"""Frames that a drum sounds after its onset, whatever its notated length (chosen: 0.24 s)."""
_DRUM_PROGRAMS = (116, 118)
"""First and last melodic program that is a drum (taiko, melodic tom, synth drum)."""

DRUM_CLASSES: tuple[str, ...] = ("kick", "snare", "cymbal")
"""Classes of drum hits: kick; snare, clap, tom, hand drum; hi-hat, cymbal, shaker."""

_DRUM_KEYS: tuple[tuple[int, ...], ...] = (
    (35, 36),
    (37, 38, 39, 40, 41, 43, 45, 47, 48, 50, 58, 60, 61, 62, 63, 64, 65, 66),
    (22, 26, 42, 44, 46, 49, 51, 52, 53, 54, 55, 57, 59, 69, 70, 80, 81, 82),
)
"""General MIDI percussion keys of each class; 22, 26 and 58 are those of Roland drum modules.
Bells, claves, whistles and other small percussion belong to no class."""


def _drum_class_of_key() -> np.ndarray:
    classes = np.full(128, -1, dtype=np.int64)
    for index, keys in enumerate(_DRUM_KEYS):
        classes[list(keys)] = index
    return classes


_DRUM_CLASS_OF_KEY = _drum_class_of_key()


@dataclass(frozen=True, kw_only=True)
class FrameLabels:
    """Labels of one clip; the first axis of every array is the frame (25 per second)."""

    pitch_class: np.ndarray
    """uint8 [frame, 12], 1 where the pitch class sounds (without drums)."""
    bass: np.ndarray
    """int8 [frame], 0 none, otherwise pitch class + 1 of the lowest sounding note."""
    top: np.ndarray
    """int8 [frame], 0 none, otherwise the MIDI pitch of the lead, or of the highest sounding note
    where the lead rests or does not exist."""
    onset: np.ndarray
    """uint8 [frame, 12], 1 where a note of the pitch class begins."""
    drum: np.ndarray
    """uint8 [frame, 3], 1 where a drum of each of `DRUM_CLASSES` is struck."""
    chord: np.ndarray
    """int8 [frame], 0 none, 1..12 major, 13..24 minor (root pitch class + 1, + 12 if minor)."""
    beat_phase: np.ndarray
    """float16 [frame] in [0, 1), phase of the perceived beat at mid-frame; nan without beats."""
    bar_phase: np.ndarray
    """float16 [frame] in [0, 1), phase of the bar at mid-frame; nan without bars."""
    family: np.ndarray
    """uint8 [frame, family], 1 where a family of `FAMILIES` sounds."""

    def __len__(self) -> int:
        return len(self.bass)


def frame_labels(performance: Performance, start_seconds: float, frames: int) -> FrameLabels:
    """Frame labels of an excerpt of a performance.

    Args:
        performance: the notes, beats and bars.
        start_seconds: beginning of the excerpt.
        frames: number of frames; beyond the end of the performance the labels are silence.

    Raises:
        MelismaError: if `frames` is not positive.
    """
    if frames < 1:
        raise MelismaError(f"labels need at least one frame, not {frames}")
    padded = frames + 2 * _CONTEXT_FRAMES
    inside = slice(_CONTEXT_FRAMES, _CONTEXT_FRAMES + frames)
    padded_start = start_seconds - _CONTEXT_FRAMES / FRAME_RATE_HZ
    lead = np.zeros((frames, 128), dtype=bool)
    onset = np.zeros((frames, 12), dtype=np.uint8)
    drum = np.zeros((frames, len(DRUM_CLASSES)), dtype=np.uint8)
    family = np.zeros((frames, len(FAMILIES)), dtype=np.uint8)
    pitched: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for part in performance.parts:
        first, last, pitch, velocity = note_frames(part, padded_start, padded)
        begins = first - _CONTEXT_FRAMES
        struck = (begins >= 0) & (begins < frames)
        if is_pitched(part):
            pitched.append((first, last, pitch, velocity))
            onset[begins[struck], pitch[struck] % 12] = 1
            if part.is_lead:
                roll = note_roll(first, last, pitch, velocity, padded)[inside]
                lead = _held(roll > 0, _LEAD_GAP_FRAMES)
        else:
            last = np.maximum(last, first + _DRUM_RING_FRAMES)
            _mark_drums(drum, part, begins[struck], pitch[struck])
        index = FAMILIES.index(program_family(part.program, part.is_drum))
        family[:, index] |= active_frames(first, last, padded)[inside]
    loudness = summed_roll(pitched, padded)
    sounding = loudness[inside] > 0
    edges = _segment_edges(performance.beat_seconds, start_seconds, padded)
    mid_seconds = start_seconds + (np.arange(frames) + 0.5) / FRAME_RATE_HZ
    return FrameLabels(
        pitch_class=(sounding @ PITCH_TO_CLASS > 0).astype(np.uint8),
        bass=np.where(sounding.any(axis=1), sounding.argmax(axis=1) % 12 + 1, 0).astype(np.int8),
        top=np.where(lead.any(axis=1), _highest(lead), _highest(sounding)).astype(np.int8),
        onset=onset,
        drum=drum,
        chord=frame_chords(loudness, edges)[inside],
        beat_phase=phase(performance.beat_seconds, mid_seconds),
        bar_phase=phase(performance.bar_seconds, mid_seconds),
        family=family,
    )


def _held(sounding: np.ndarray, gap: int) -> np.ndarray:
    """The roll [frame, 128] with silences of at most `gap` frames forward-filled."""
    frames = len(sounding)
    active = np.asarray(sounding.any(axis=1))
    index = np.arange(frames)
    before = np.maximum.accumulate(np.where(active, index, -1))
    after = np.minimum.accumulate(np.where(active, index, 2 * frames)[::-1])[::-1]
    fill = ~active & (before >= 0) & (after < frames) & (after - before - 1 <= gap)
    held = sounding.copy()
    held[fill] = sounding[before[fill]]
    return held


def _mark_drums(drum: np.ndarray, part: Part, frame: np.ndarray, pitch: np.ndarray) -> None:
    if part.is_drum:
        classes = _DRUM_CLASS_OF_KEY[pitch]
    elif _DRUM_PROGRAMS[0] <= part.program <= _DRUM_PROGRAMS[1]:
        classes = np.ones(len(pitch), dtype=np.int64)
    else:
        return
    known = classes >= 0
    drum[frame[known], classes[known]] = 1


def _highest(sounding: np.ndarray) -> np.ndarray:
    """Highest sounding pitch in each frame of a roll [frame, 128]; 0 for silence."""
    return np.where(sounding.any(axis=1), 127 - sounding[:, ::-1].argmax(axis=1), 0)


def _segment_edges(beat_seconds: np.ndarray, start_seconds: float, padded: int) -> np.ndarray:
    """Edges, in padded frames, of the segments that may have different chords.

    Perceived beats, halved where slow; half seconds where there are no beats.
    """
    begin = start_seconds - _CONTEXT_FRAMES / FRAME_RATE_HZ
    beats = np.asarray(beat_seconds, dtype=np.float64)
    if len(beats) < 2:
        beats = begin + np.arange(0, padded / FRAME_RATE_HZ, 0.5)
    gaps = np.diff(beats)
    halves = beats[:-1][gaps > _MAX_SEGMENT_SECONDS] + 0.5 * gaps[gaps > _MAX_SEGMENT_SECONDS]
    marks = np.round((np.concatenate([beats, halves]) - begin) * FRAME_RATE_HZ).astype(np.int64)
    marks = np.unique(marks)
    return np.concatenate([[0], marks[(marks > 0) & (marks < padded)], [padded]])


def phase(marks_seconds: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Phase in [0, 1) of times between ascending marks, linear, float16 [time]; nan outside."""
    if len(marks_seconds) < 2:
        return np.full(len(seconds), np.nan, dtype=np.float16)
    count = np.arange(len(marks_seconds), dtype=np.float64)
    position = np.interp(seconds, marks_seconds, count, left=np.nan, right=np.nan)
    # float16 would round the last two thousandths up to 1.
    return np.minimum(position % 1.0, 0.999).astype(np.float16)


def stack_labels(labels: Sequence[FrameLabels]) -> dict[str, np.ndarray]:
    """Stacks the labels of clips of equal length, for `np.savez`.

    Returns:
        Arrays [clip, frame, ...] by field name.

    Raises:
        MelismaError: if there are no labels or their lengths differ.
    """
    lengths = {len(clip_labels) for clip_labels in labels}
    if len(lengths) != 1:
        raise MelismaError(
            f"labels of clips of equal length can be stacked, these have {sorted(lengths)} frames"
        )
    return {
        field.name: np.stack([getattr(clip_labels, field.name) for clip_labels in labels])
        for field in fields(FrameLabels)
    }


def unstack_labels(arrays: Mapping[str, np.ndarray]) -> list[FrameLabels]:
    """Inverse of `stack_labels`; arrays of other names are ignored.

    Raises:
        MelismaError: if an array is missing.
    """
    names = [field.name for field in fields(FrameLabels)]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise MelismaError(f"the label arrays lack {', '.join(missing)}")
    columns = {name: arrays[name] for name in names}
    return [
        FrameLabels(**{name: column[index] for name, column in columns.items()})
        for index in range(len(columns["bass"]))
    ]
