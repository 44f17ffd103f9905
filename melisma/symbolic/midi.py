"""Standard MIDI files <-> `Score`, by symusic (0.5.9).

Input: the bytes of a file. Output: a `Score` in quarter notes. The sustain pedal (controller 64)
is folded into the durations, because a `Score` holds sounding notes and no pedal.
Standard MIDI Files 1.0 (MIDI Manufacturers Association, 1996).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import numpy as np
import symusic
from symusic import core

from melisma.symbolic.midi_validation import check_events
from melisma.values import ChordMark, Metre, Notes, Score, TempoMap, Track
from melisma.values.attributes import PITCH_NAMES
from melisma.values.errors import MelismaError
from melisma.values.events import CHORD_NAMES

TICKS_PER_BEAT = 960
"""Resolution of written files (chosen: divisible by all tuplets up to 6, and usual in editors)."""
DEFAULT_BPM = 120.0
"""Tempo of a file without tempo events (Standard MIDI Files 1.0)."""
MIN_NOTE_BEATS = 1 / 64
"""Minimum duration of a note, in quarter notes (chosen)."""
LAST_KEYBOARD = 7
"""The sustain pedal is applied to programs 0-7 (keyboards)."""
MAX_PEDAL_BEATS = 8.0
"""Maximum extension of a note by the pedal (chosen: the sound has decayed by then)."""
MAX_NOTE_BEATS = 256.0
"""Maximum duration of a note; longer ones are truncated (chosen: the longest of 10,907 real pieces
has 236; longer ones miss their note-off). Notes without note-off are dropped, as symusic does."""
MAX_HOURS = 6.0
"""A longer score is taken for damaged (chosen: longer than any opera)."""
MAX_NOTES = 2_000_000
"""A score with more notes is taken for damaged (chosen: the maximum of 10,907 real pieces is
48,054)."""
MAX_BYTES = 20_000_000
"""A larger file holds more than `MAX_NOTES` notes, or other data."""


def midi_bytes(path: Path) -> bytes:
    """Reads the bytes of a MIDI file, for `read_midi`.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: It is no regular file, or larger than `MAX_BYTES`.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: check the name")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file inside it")
    if not path.is_file():
        raise MelismaError(f"{path} is no ordinary file: give a Standard MIDI file (.mid)")
    if path.stat().st_size > MAX_BYTES:
        raise MelismaError(_too_big(path.stat().st_size))
    return path.read_bytes()


def _too_big(size_bytes: int) -> str:
    most = f"{MAX_BYTES / 1e6:.0f}"
    return f"the MIDI file has {size_bytes / 1e6:.0f} MB, and at most {most} are read"


def read_midi(data: bytes) -> Score:
    """Parses a Standard MIDI file. Tracks without notes are dropped.

    Args:
        data: Contents of the file.

    Raises:
        MelismaError: The data are no MIDI file, are damaged, of type 2 (several pieces), in SMPTE
            time, without notes, or have more than `MAX_NOTES` notes or `MAX_HOURS` hours.
    """
    data = _valid_chunks(data)
    try:
        parsed = core.ScoreTick.from_midi(data)
        ticks = float(parsed.ticks_per_quarter)
    except (RuntimeError, ValueError, UnicodeDecodeError) as error:
        raise MelismaError(
            f"the MIDI file is damaged ({error}): export it again from its program"
        ) from error
    if ticks <= 0:
        raise MelismaError("the MIDI file names no ticks per quarter note: export it again")
    count = sum(len(track.notes) for track in parsed.tracks)
    if count > MAX_NOTES:
        raise MelismaError(f"the MIDI file holds {count} notes, and at most {MAX_NOTES} are read")
    pedals = _keyboard_pedals(parsed, ticks)
    tracks = tuple(_read_track(t, ticks, pedals) for t in parsed.tracks if len(t.notes))
    if not tracks:
        raise MelismaError("the MIDI file holds no note: give one with notes in it")
    score = Score(
        tracks=tracks,
        tempo=_read_tempo(parsed, ticks),
        metres=_read_metres(parsed, ticks),
        chords=_read_chords(parsed, ticks),
    )
    if score.seconds > MAX_HOURS * 3_600:
        raise MelismaError(
            f"the MIDI file lasts {score.seconds / 3_600:.1f} hours, and at most {MAX_HOURS:g} "
            "are read: it is damaged, or several pieces in one"
        )
    return score


def _valid_chunks(data: bytes) -> bytes:
    """Validates the chunks of a file: symusic reads past the end of inconsistent ones.

    Returns the file with the true number of tracks in its header and without chunks of other kinds.
    """
    if not data:
        raise MelismaError("the MIDI file is empty: give one with notes in it")
    if len(data) > MAX_BYTES:
        raise MelismaError(_too_big(len(data)))
    if data[:4] != b"MThd":
        raise MelismaError(
            f"these {len(data)} bytes are no MIDI file (they do not begin with MThd): "
            "give a Standard MIDI file (.mid)"
        )
    if len(data) < 14 or int.from_bytes(data[4:8], "big") != 6:
        raise MelismaError("the MIDI file is damaged (its header is cut short): export it again")
    kind = int.from_bytes(data[8:10], "big")
    if kind == 2:
        raise MelismaError(
            "the MIDI file is of type 2, several pieces in one: save the one you want as type 1"
        )
    if kind > 2:
        raise MelismaError(f"the MIDI file is damaged (there is no type {kind}): export it again")
    if data[12] & 0x80:
        raise MelismaError(
            "the MIDI file counts time in SMPTE frames: give one that counts in ticks per quarter"
        )
    tracks: list[bytes] = []
    at = 14
    while at + 8 <= len(data):
        stop = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        if stop > len(data):
            raise MelismaError("the MIDI file is damaged (a track is cut short): export it again")
        if data[at : at + 4] == b"MTrk":
            try:
                check_events(data[at + 8 : stop])
            except ValueError as error:
                raise MelismaError(
                    f"the MIDI file is damaged ({error}): export it again from its program"
                ) from error
            tracks.append(data[at:stop])
        at = stop
    header = data[:10] + len(tracks).to_bytes(2, "big") + data[12:14]
    return header + b"".join(tracks) + bytes(16)  # padding for an event that overruns the end


def _keyboard_pedals(parsed: core.ScoreTick, ticks: float) -> np.ndarray:
    """Intervals in which the keyboards' pedal is down, float64 [pedal, 2] in beats, sorted.

    It applies to all keyboard tracks: many files have it in the track of one hand only.
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
    if (columns["time"] < 0).any():
        raise MelismaError("the MIDI file is damaged (its time overflows): export it again")
    duration = columns["duration"].astype(np.float64) / ticks
    duration = np.clip(duration, MIN_NOTE_BEATS, MAX_NOTE_BEATS)
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
    """Durations [note] with the pedal: a note that ends while it is down lasts to its release."""
    down, up = pedals[:, 0], pedals[:, 1]
    end = start + duration
    pedal = np.searchsorted(down, end, side="right") - 1
    held = (pedal >= 0) & (end < up[pedal])
    longest = np.minimum(up[pedal], end + MAX_PEDAL_BEATS)
    return np.where(held, longest, end) - start


def _read_tempo(parsed: core.ScoreTick, ticks: float) -> TempoMap:
    if not len(parsed.tempos):
        return TempoMap(beats=np.zeros(1), bpm=np.full(1, DEFAULT_BPM))
    columns = parsed.tempos.numpy()
    beats = np.maximum(columns["time"].astype(np.float64) / ticks, 0.0)
    bpm = 60e6 / np.maximum(columns["mspq"].astype(np.float64), 1.0)
    order = np.argsort(beats, kind="stable")
    beats, bpm = beats[order], bpm[order]
    last_of_beat = np.append(np.diff(beats) > 0, True)  # of several at one time the last one counts
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


def _read_chords(parsed: core.ScoreTick, ticks: float) -> tuple[ChordMark, ...]:
    """Markers whose text is one of `CHORD_NAMES`."""
    named = {mark.time: mark.text for mark in parsed.markers if mark.text in CHORD_NAMES}
    return tuple(ChordMark(beat=time / ticks, name=named[time]) for time in sorted(named))


def _key_signature(tonality: str) -> tuple[int, int]:
    """(number of sharps, negative for flats; 1 for minor) of one of `TONALITIES`."""
    tonic, mode = tonality.split()
    minor = mode == "minor"
    pitch_class = (PITCH_NAMES.index(tonic) + (3 if minor else 0)) % 12
    sharps = (pitch_class * 7 + 5) % 12 - 5  # round the circle of fifths, at most six sharps
    return sharps, int(minor)


def write_midi(score: Score) -> bytes:
    """Writes a score as a Standard MIDI file (format 1, 960 ticks per quarter note).

    Chord symbols become markers, the musical key a key signature.

    Returns:
        The bytes of the file.

    Raises:
        MelismaError: A metre whose denominator is no power of two.
    """
    written = core.ScoreTick(TICKS_PER_BEAT)
    if score.tonality is not None:
        written.key_signatures.append(core.KeySignatureTick(0, *_key_signature(score.tonality)))
    for chord in score.chords:
        written.markers.append(core.TextMetaTick(round(chord.beat * TICKS_PER_BEAT), chord.name))
    for beat, bpm in zip(score.tempo.beats, score.tempo.bpm, strict=True):
        written.tempos.append(core.TempoTick(round(beat * TICKS_PER_BEAT), float(bpm)))
    for metre in score.metres:
        if not math.log2(metre.denominator).is_integer():
            raise MelismaError(
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
