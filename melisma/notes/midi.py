"""Standard MIDI files as bytes <-> `Score`, by symusic (0.5.9).

Enters: the bytes of a file. Leaves: a `Score` in quarter notes. The sustain pedal (controller 64)
is folded into the durations, because a `Score` says what sounds and has no pedal.
Standard MIDI Files 1.0 (MIDI Manufacturers Association, 1996).
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import symusic
from symusic import core

from melisma.notes.damage import check_events
from melisma.values import Metre, Notes, Score, TempoMap, Track

TICKS_PER_BEAT = 960
"""Resolution of written files (chosen: divides by all tuplets up to 6 and is what editors use)."""
DEFAULT_BPM = 120.0
"""Tempo of a file that names none (Standard MIDI Files 1.0)."""
SHORTEST_BEATS = 1 / 64
"""Notes of no length get this one, in quarter notes (chosen)."""
LAST_KEYBOARD = 7
"""The sustain pedal is read for programs 0-7 (pianos and their like)."""
LONGEST_PEDAL_BEATS = 8.0
"""A pedal holds a note no longer than this beyond its written end (chosen: sound has decayed)."""


def read_midi(data: bytes) -> Score:
    """The notation in a Standard MIDI file.

    Tracks without notes are left out. Raises `ValueError` where the bytes are no MIDI file, are
    damaged, count time in SMPTE frames or hold no note.
    """
    data = _sound_chunks(data)
    try:
        parsed = core.ScoreTick.from_midi(data)
        ticks = float(parsed.ticks_per_quarter)
    except (RuntimeError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(
            f"the MIDI file is damaged ({error}): export it again from its program"
        ) from error
    if ticks <= 0:
        raise ValueError("the MIDI file names no ticks per quarter note: export it again")
    pedals = _keyboard_pedals(parsed, ticks)
    tracks = tuple(_read_track(t, ticks, pedals) for t in parsed.tracks if len(t.notes))
    if not tracks:
        raise ValueError("the MIDI file holds no note: give one with notes in it")
    return Score(
        tracks=tracks, tempo=_read_tempo(parsed, ticks), metres=_read_metres(parsed, ticks)
    )


def _sound_chunks(data: bytes) -> bytes:
    """The file, if its outer shape holds: symusic reads past the end of a file that lies about it.

    The header must promise ticks and as many tracks as there are; chunks of other kinds go.
    """
    if not data:
        raise ValueError("the MIDI file is empty: give one with notes in it")
    if data[:4] != b"MThd":
        raise ValueError(
            f"these {len(data)} bytes are no MIDI file (they do not begin with MThd): "
            "give a Standard MIDI file (.mid)"
        )
    if len(data) < 14 or int.from_bytes(data[4:8], "big") != 6:
        raise ValueError("the MIDI file is damaged (its header is cut short): export it again")
    if data[12] & 0x80:
        raise ValueError(
            "the MIDI file counts time in SMPTE frames: give one that counts in ticks per quarter"
        )
    tracks: list[bytes] = []
    at = 14
    while at + 8 <= len(data):
        stop = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        if stop > len(data):
            raise ValueError("the MIDI file is damaged (a track is cut short): export it again")
        if data[at : at + 4] == b"MTrk":
            try:
                check_events(data[at + 8 : stop])
            except ValueError as error:
                raise ValueError(
                    f"the MIDI file is damaged ({error}): export it again from its program"
                ) from error
            tracks.append(data[at:stop])
        at = stop
    header = data[:10] + len(tracks).to_bytes(2, "big") + data[12:14]
    return header + b"".join(tracks) + bytes(16)  # room for an event that runs over the end


def _keyboard_pedals(parsed: core.ScoreTick, ticks: float) -> np.ndarray:
    """When the pedal of the pianos is down, float64 [pedal, 2] in beats, sorted.

    One foot serves both hands, though many files write it into the track of one hand.
    """
    found = [np.zeros((0, 2))]
    for track in parsed.tracks:
        if len(track.pedals) and not track.is_drum and track.program <= LAST_KEYBOARD:
            pedals = track.pedals.numpy()
            down = pedals["time"].astype(np.float64) / ticks
            found.append(np.stack([down, down + pedals["duration"] / ticks], axis=1))
    pedals = np.concatenate(found)
    return pedals[np.argsort(pedals[:, 0], kind="stable")]


def _read_track(track: core.TrackTick, ticks: float, pedals: np.ndarray) -> Track:
    columns = track.notes.numpy()
    start = columns["time"].astype(np.float64) / ticks
    duration = np.maximum(columns["duration"].astype(np.float64) / ticks, SHORTEST_BEATS)
    if len(pedals) and not track.is_drum and track.program <= LAST_KEYBOARD:
        duration = _hold(start, duration, pedals)
    pitch = columns["pitch"].astype(np.int64)
    order = np.lexsort((pitch, start))
    notes = Notes(
        start_beats=np.maximum(start[order], 0.0),
        duration_beats=duration[order],
        pitch=np.clip(pitch[order], 0, 127),
        velocity=np.clip(columns["velocity"].astype(np.int64)[order], 1, 127),
    )
    program = min(max(int(track.program), 0), 127)
    return Track(notes=notes, program=program, is_drum=bool(track.is_drum), name=track.name.strip())


def _hold(start: np.ndarray, duration: np.ndarray, pedals: np.ndarray) -> np.ndarray:
    """Durations [note] with the pedal: a note that ends while it is down lasts until it is up."""
    down, up = pedals[:, 0], pedals[:, 1]
    end = start + duration
    pedal = np.searchsorted(down, end, side="right") - 1
    held = (pedal >= 0) & (end < up[pedal])
    longest = np.minimum(up[pedal], end + LONGEST_PEDAL_BEATS)
    return np.where(held, longest, end) - start


def _read_tempo(parsed: core.ScoreTick, ticks: float) -> TempoMap:
    if not len(parsed.tempos):
        return TempoMap(beats=np.zeros(1), bpm=np.full(1, DEFAULT_BPM))
    columns = parsed.tempos.numpy()
    beats = np.maximum(columns["time"].astype(np.float64) / ticks, 0.0)
    bpm = 60e6 / np.maximum(columns["mspq"].astype(np.float64), 1.0)
    order = np.argsort(beats, kind="stable")
    beats, bpm = beats[order], bpm[order]
    last_of_beat = np.append(np.diff(beats) > 0, True)  # of several at one time the last one rules
    beats, bpm = beats[last_of_beat], bpm[last_of_beat]
    if beats[0] > 0:
        beats, bpm = np.append(0.0, beats), np.append(DEFAULT_BPM, bpm)
    return TempoMap(beats=beats, bpm=bpm)


def _read_metres(parsed: core.ScoreTick, ticks: float) -> tuple[Metre, ...]:
    metres: dict[float, Metre] = {}
    for mark in sorted(parsed.time_signatures, key=lambda mark: mark.time):
        if 1 <= mark.numerator <= 64 and 1 <= mark.denominator <= 64:
            beat = max(mark.time / ticks, 0.0)
            metres[beat] = Metre(
                beat=beat, numerator=int(mark.numerator), denominator=int(mark.denominator)
            )
    if 0.0 not in metres:
        metres = {0.0: Metre(beat=0.0, numerator=4, denominator=4), **metres}
    return tuple(metres.values())


def write_midi(score: Score) -> bytes:
    """A Standard MIDI file (format 1, 960 ticks per quarter note) that holds the score."""
    written = core.ScoreTick(TICKS_PER_BEAT)
    for beat, bpm in zip(score.tempo.beats, score.tempo.bpm, strict=True):
        written.tempos.append(core.TempoTick(round(beat * TICKS_PER_BEAT), float(bpm)))
    for metre in score.metres:
        if not math.log2(metre.denominator).is_integer():
            raise ValueError(
                f"MIDI knows no metre {metre.numerator}/{metre.denominator}: "
                "the lower number must be a power of two"
            )
        written.time_signatures.append(
            core.TimeSignatureTick(
                round(metre.beat * TICKS_PER_BEAT), metre.numerator, metre.denominator
            )
        )
    for track in score.tracks:
        notes = track.notes
        start = np.round(notes.start_beats * TICKS_PER_BEAT).astype(np.int32)
        end = np.round((notes.start_beats + notes.duration_beats) * TICKS_PER_BEAT)
        line = core.TrackTick(track.name, track.program, track.is_drum)
        columns = symusic.Note.from_numpy(
            start,
            np.maximum(end.astype(np.int32) - start, 1),
            notes.pitch.astype(np.int8),
            notes.velocity.astype(np.int8),
        )
        line.notes = cast(core.NoteTickList, columns)
        written.tracks.append(line)
    return bytes(written.dumps_midi())
