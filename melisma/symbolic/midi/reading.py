"""Standard MIDI file -> `Score`.

Input: the bytes of a file. Output: a `Score` in quarter notes. The sustain pedal (controller 64) of
keyboards is folded into the durations, because a `Score` holds sounding notes and no pedal. What
is left out or guessed is counted in `Score.remarks`. Standard MIDI Files 1.0 (MIDI Manufacturers
Association, 1996).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from melisma.files.names import expect_file
from melisma.symbolic.midi.channels import (
    DRUM_CHANNEL,
    SUSTAIN,
    ChannelState,
    places_of,
    value_at,
)
from melisma.symbolic.midi.conductor import (
    READ_METAS,
    counted,
    read_conductor,
    read_track_texts,
    track_name,
)
from melisma.symbolic.midi.container import MidiFile, split_midi_file
from melisma.symbolic.midi.notes import NoteTable, notes_of_track
from melisma.values import Notes, Score, Track
from melisma.values.errors import MelismaError
from melisma.values.score import Controls, no_controls

MIN_NOTE_BEATS = 1 / 64
"""Minimum duration of a note, in quarter notes (chosen)."""
LAST_KEYBOARD = 7
"""The sustain pedal is applied to programs 0-7 (keyboards)."""
MAX_PEDAL_BEATS = 8.0
"""Maximum extension of a note by the pedal (chosen: the sound has decayed by then)."""
MAX_NOTE_BEATS = 256.0
"""Maximum duration of a note; longer ones are truncated (chosen: the longest of 10,907 real pieces
has 236)."""
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
    expect_file(path)
    if not path.is_file():
        raise MelismaError(f"{path} is no ordinary file: give a Standard MIDI file (.mid)")
    if path.stat().st_size > MAX_BYTES:
        raise MelismaError(_too_big(path.stat().st_size))
    return path.read_bytes()


def _too_big(size_bytes: int) -> str:
    most = f"{MAX_BYTES / 1e6:.0f}"
    return f"the MIDI file has {size_bytes / 1e6:.0f} MB, and at most {most} are read"


def read_midi(data: bytes) -> Score:
    """Parses a Standard MIDI file. Tracks without notes are dropped, but not their text.

    Args:
        data: Contents of the file, which may be wrapped in RIFF or MacBinary.

    Raises:
        MelismaError: The data are no MIDI file, are damaged, hold several pieces (type 2), no note,
            more than `MAX_NOTES` notes, or more than `MAX_HOURS` hours.
    """
    if not data:
        raise MelismaError("the MIDI file is empty: give one with notes in it")
    if len(data) > MAX_BYTES:
        raise MelismaError(_too_big(len(data)))
    file = split_midi_file(data)
    state = ChannelState(file.tracks)
    tables = [
        notes_of_track(
            track,
            {channel: state.silenced(i, channel) for channel in sorted(state.playing(i))},
            file.ticks_per_beat,
        )
        for i, track in enumerate(file.tracks)
    ]
    _check_notes(file, tables)
    remarks = [*file.remarks, *_remarks(file, tables)]
    conductor = read_conductor(file, [len(table.start) > 0 for table in tables])
    score = Score(
        tracks=_tracks(file, tables, state),
        tempo=conductor.tempo,
        metres=conductor.metres,
        title=conductor.title,
        chords=conductor.chords,
        keys=conductor.keys,
        texts=conductor.texts,
        remarks=(*remarks, *conductor.remarks),
    )
    if score.seconds > MAX_HOURS * 3_600:
        raise MelismaError(
            f"the MIDI file lasts {score.seconds / 3_600:.1f} hours, and at most {MAX_HOURS:g} "
            "are read: it is damaged, or several pieces in one"
        )
    return score


def _check_notes(file: MidiFile, tables: list[NoteTable]) -> None:
    count = sum(len(table.start) for table in tables)
    if count > MAX_NOTES:
        raise MelismaError(f"the MIDI file holds {count} notes, and at most {MAX_NOTES} are read")
    if count == 0:
        faults = [track.fault for track in file.tracks if track.fault]
        if faults:
            raise MelismaError(
                f"the MIDI file is damaged ({faults[0]}), and holds no note before that: get it "
                "again, or export it again from its program"
            )
        raise MelismaError("the MIDI file holds no note: give one with notes in it")
    if file.kind == 2 and sum(len(table.start) > 0 for table in tables) > 1:
        raise MelismaError(
            "the MIDI file is of type 2, several pieces in one: save the one you want as type 1"
        )


def _remarks(file: MidiFile, tables: list[NoteTable]) -> list[str]:
    """What was guessed or left out of the tracks, in sentences."""
    said = [
        f"track {i + 1} is cut short ({track.fault}): what stands before was read"
        for i, track in enumerate(file.tracks)
        if track.fault
    ]
    hanging = sum(table.hanging for table in tables)
    if hanging:
        said.append(
            f"{counted(hanging, 'note has', 'notes have')} no end: ended at the next one of the "
            "same pitch, or with the track"
        )
    longest = MAX_NOTE_BEATS * file.ticks_per_beat
    cut = sum(int((table.end - table.start > longest).sum()) for table in tables)
    if cut:
        said.append(f"{counted(cut, 'note')} cut to {MAX_NOTE_BEATS:g} quarter notes")
    aftertouch = sum(
        int(((track.status >> 4 == 0xA) | (track.status >> 4 == 0xD)).sum())
        for track in file.tracks
    )
    left_out: tuple[tuple[int, str, str | None], ...] = (
        (sum(t.stray for t in tables), "note-off without a note", "note-offs without a note"),
        (aftertouch, "aftertouch message", None),
        (sum(t.sysex for t in file.tracks), "system exclusive message", None),
        (sum(t.skipped for t in file.tracks), "unusable message", None),
        (_other_metas(file), "meta event of another kind", "meta events of other kinds"),
    )
    found = [counted(*one) for one in left_out if one[0]]
    return said + ([f"left out: {', '.join(found)}"] if found else [])


def _other_metas(file: MidiFile) -> int:
    """Number of meta events that are not read: settings of sequencers, offsets, numbers."""
    return sum(meta.kind not in READ_METAS for track in file.tracks for meta in track.metas)


def _tracks(file: MidiFile, tables: list[NoteTable], state: ChannelState) -> tuple[Track, ...]:
    """The parts: the notes of one track, channel and program each, in this order."""
    parts: list[tuple[int, int, int, np.ndarray]] = []
    for i, table in enumerate(tables):
        for channel in sorted(state.playing(i)):
            mine = np.flatnonzero(table.channel == channel)
            places = places_of(table.start[mine], table.order[mine])
            programs = value_at(state.programs(i, channel), places, 0)
            parts += [(i, channel, int(p), mine[programs == p]) for p in np.unique(programs)]
    pedals = _keyboard_pedals(parts, state) / file.ticks_per_beat
    named = {i: track_name(file.tracks[i]) for i, _, _, _ in parts}
    texts = {i: read_track_texts(file.tracks[i], file.ticks_per_beat) for i in named}
    tracks = []
    for i, channel, program, mine in parts:
        is_drum = channel == DRUM_CHANNEL
        is_keyboard = not is_drum and program <= LAST_KEYBOARD
        notes = _notes(tables[i], mine, file.ticks_per_beat, pedals if is_keyboard else None)
        controls = _controls(state, i, channel, file.ticks_per_beat, pedal=not is_keyboard)
        tracks.append(
            Track(
                notes=notes,
                program=program,
                is_drum=is_drum,
                name=named[i],
                controls=controls,
                texts=texts.pop(i, ()),  # to the first part of its track
            )
        )
    return tuple(tracks)


def _keyboard_pedals(
    parts: list[tuple[int, int, int, np.ndarray]], state: ChannelState
) -> np.ndarray:
    """Intervals in which the keyboards' pedal is down, float64 [pedal, 2] in ticks, sorted.

    It applies to all keyboard parts: many files have it in the track of one hand only.
    """
    places = {(i, ch) for i, ch, p, _ in parts if ch != DRUM_CHANNEL and p <= LAST_KEYBOARD}
    found = [state.pedals(i, channel) for i, channel in sorted(places)]
    pedals = np.concatenate([np.zeros((0, 2)), *found])
    return pedals[np.argsort(pedals[:, 0], kind="stable")]


def _notes(
    table: NoteTable, mine: np.ndarray, ticks_per_beat: float, pedals: np.ndarray | None
) -> Notes:
    start = table.start[mine] / ticks_per_beat
    duration = (table.end[mine] - table.start[mine]) / ticks_per_beat
    duration = np.clip(duration, MIN_NOTE_BEATS, MAX_NOTE_BEATS)
    pitch, velocity = table.pitch[mine], table.velocity[mine]
    if pedals is not None and len(pedals):
        duration = _hold(start, duration, pitch, pedals)
    order = np.lexsort((duration, pitch, start))
    return Notes(
        start_beats=start[order],
        duration_beats=duration[order],
        pitch=pitch[order],
        velocity=velocity[order],
    )


def _hold(
    start: np.ndarray, duration: np.ndarray, pitch: np.ndarray, pedals: np.ndarray
) -> np.ndarray:
    """Durations [note] with the pedal: a note that ends while it is down lasts to its release, but
    not beyond the next note of its pitch."""
    down, up = pedals[:, 0], pedals[:, 1]
    end = start + duration
    pedal = np.searchsorted(down, end, side="right") - 1
    held = (pedal >= 0) & (end < up[pedal])
    longest = np.minimum(up[pedal], end + MAX_PEDAL_BEATS)
    longest = np.minimum(longest, np.maximum(_next_onset(start, pitch), end))
    return np.where(held, longest, end) - start


def _next_onset(start: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """When the pitch of each note is struck next, float64 [note]; infinite where it is not."""
    found = np.full(len(start), np.inf)
    for one in np.unique(pitch):
        mine = np.flatnonzero(pitch == one)
        times = np.unique(start[mine])
        found[mine] = np.append(times, np.inf)[np.searchsorted(times, start[mine], side="right")]
    return found


def _controls(
    state: ChannelState, track: int, channel: int, ticks_per_beat: float, *, pedal: bool
) -> Controls:
    """The controllers of a part; without the sustain pedal where the notes have it."""
    found = state.controls(track, channel)
    if not pedal:
        found.pop(SUSTAIN, None)
    if not found:
        return no_controls()
    places = np.concatenate([one.places for one in found.values()])
    number = np.concatenate([np.full(len(one.places), n) for n, one in found.items()])
    value = np.concatenate([one.values for one in found.values()])
    order = np.argsort(places, kind="stable")
    beats = (places[order] >> 24) / ticks_per_beat
    return Controls(beats=beats, number=number[order], value=value[order])
