"""What a MIDI file says of the whole piece: tempi, time and key signatures, chord symbols and text.

These are meta events, which may stand in any track. Standard MIDI Files 1.0 (MIDI Manufacturers
Association, 1996), "Meta Events".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melisma.symbolic.midi.channels import PORT
from melisma.symbolic.midi.container import MidiFile
from melisma.symbolic.midi.text import MARK, NOTICE_MARKS, decode_name, decode_text
from melisma.symbolic.midi.track_events import END_OF_TRACK, MetaEvent, TrackEvents
from melisma.values import ChordMark, Metre, TempoMap
from melisma.values.events import CHORD_NAMES
from melisma.values.score import KeySignature, ScoreText, TextKind

DEFAULT_BPM = 120.0
"""Tempo of a file without tempo events (Standard MIDI Files 1.0)."""
MIN_BEAT_MICROSECONDS = 10_000
"""A shorter quarter note (6,000 a minute) is nonsense: its tempo is left out (chosen)."""
LARGEST_METRE = 64
"""Largest number of a time signature that is read (chosen)."""
CHANNEL_PREFIX = 0x20
NAME, TEMPO, METRE, KEY = 0x03, 0x51, 0x58, 0x59
TEXT_KINDS: dict[int, TextKind] = {
    0x01: "text", 0x02: "copyright", 0x03: "title", 0x04: "instrument", 0x05: "lyric",
    0x06: "marker", 0x07: "cue",
}  # fmt: skip
"""Meta events of text by their type."""
READ_METAS = frozenset((*TEXT_KINDS, TEMPO, METRE, KEY, PORT, CHANNEL_PREFIX, END_OF_TRACK))
"""Types of the meta events that are read, or say nothing about the music."""
_OF_THE_PIECE = ("copyright", "marker", "title")
"""Kinds of text that belong to the piece, in whatever track they stand."""


@dataclass(frozen=True, kw_only=True)
class Conductor:
    """What belongs to no part."""

    tempo: TempoMap
    metres: tuple[Metre, ...]
    keys: tuple[KeySignature, ...]
    chords: tuple[ChordMark, ...]
    title: str
    texts: tuple[ScoreText, ...]
    remarks: tuple[str, ...]


def read_conductor(file: MidiFile, has_notes: Sequence[bool]) -> Conductor:
    """Reads what a file says of the whole piece.

    Args:
        file: The file.
        has_notes: Of every track.
    """
    remarks: list[str] = []
    tempo = _read_tempo(file, remarks)
    metres = _read_metres(file, remarks)
    keys = _read_keys(file, remarks)
    chords, texts = _split_chords(_piece_texts(file, has_notes))
    titles = [one.text.strip() for one in texts if one.kind == "title"]
    if not titles and file.tracks and (len(file.tracks) == 1 or not has_notes[0]):
        titles = [track_name(file.tracks[0])]
    return Conductor(
        tempo=tempo,
        metres=metres,
        keys=keys,
        chords=chords,
        title=titles[0] if titles else "",
        texts=texts,
        remarks=tuple(remarks),
    )


def track_name(track: TrackEvents) -> str:
    """The name of a track, the last one where it has several; "" where it has none."""
    names = [meta.data for meta in track.metas if meta.kind == NAME]
    return decode_name(names[-1]) if names else ""


def read_track_texts(track: TrackEvents, ticks_per_beat: float) -> tuple[ScoreText, ...]:
    """Text that belongs to the part of a track with notes."""
    texts = _texts(track, ticks_per_beat)
    return tuple(one for one in texts if one.kind not in _OF_THE_PIECE)


def _piece_texts(file: MidiFile, has_notes: Sequence[bool]) -> list[ScoreText]:
    """Text that belongs to no part, by beat."""
    found: list[ScoreText] = []
    for number, (track, plays) in enumerate(zip(file.tracks, has_notes, strict=True)):
        for one in _texts(track, file.ticks_per_beat):
            if plays and (one.kind not in _OF_THE_PIECE or one.kind == "title"):
                continue
            kind = "text" if one.kind == "title" and number > 0 else one.kind
            found.append(ScoreText(beat=one.beat, kind=kind, text=one.text))
    return sorted(found, key=lambda one: one.beat)


def _texts(track: TrackEvents, ticks_per_beat: float) -> list[ScoreText]:
    """All text of a track but Melisma's tags."""
    metas = [meta for meta in track.metas if meta.kind in TEXT_KINDS and meta.data.strip(b"\0")]
    decoded = [(meta, decode_text(meta.data)) for meta in metas]
    is_ours = any(meta.kind == 0x01 and text.startswith(MARK) for meta, text in decoded)
    return [
        ScoreText(beat=meta.tick / ticks_per_beat, kind=TEXT_KINDS[meta.kind], text=text)
        for meta, text in decoded
        if not (is_ours and text.startswith((MARK, *NOTICE_MARKS)))
    ]


def _split_chords(
    texts: list[ScoreText],
) -> tuple[tuple[ChordMark, ...], tuple[ScoreText, ...]]:
    """Markers whose text is one of `CHORD_NAMES`, the last one of a beat; and all other text."""
    named = {o.beat: o for o in texts if o.kind == "marker" and o.text in CHORD_NAMES}
    marks = {id(one) for one in named.values()}
    chords = tuple(ChordMark(beat=beat, name=named[beat].text) for beat in sorted(named))
    return chords, tuple(one for one in texts if id(one) not in marks)


def _metas(file: MidiFile, kind: int) -> list[MetaEvent]:
    """All meta events of a type in all tracks, by time."""
    found = [meta for track in file.tracks for meta in track.metas if meta.kind == kind]
    return sorted(found, key=lambda meta: meta.tick)


def _read_tempo(file: MidiFile, remarks: list[str]) -> TempoMap:
    found = [] if file.is_smpte else _metas(file, TEMPO)
    micros = np.array([int.from_bytes(meta.data[:3], "big") for meta in found], np.int64)
    beats = np.array([meta.tick for meta in found], np.float64) / file.ticks_per_beat
    sound = micros >= MIN_BEAT_MICROSECONDS
    if not sound.all():
        remarks.append(
            f"left out: {counted(int((~sound).sum()), 'tempo', 'tempi')} above "
            f"{60_000_000 // MIN_BEAT_MICROSECONDS} quarter notes a minute"
        )
    beats, bpm = beats[sound], 60e6 / micros[sound]
    if not len(beats):
        return TempoMap(beats=np.zeros(1), bpm=np.full(1, DEFAULT_BPM))
    last_of_beat = np.append(np.diff(beats) > 0, True)  # of several at one time the last one counts
    beats, bpm = beats[last_of_beat], bpm[last_of_beat]
    if beats[0] > 0:
        beats, bpm = np.append(0.0, beats), np.append(DEFAULT_BPM, bpm)
    return TempoMap(beats=beats, bpm=bpm)


def _read_metres(file: MidiFile, remarks: list[str]) -> tuple[Metre, ...]:
    metres: dict[float, Metre] = {}
    wrong = 0
    for meta in _metas(file, METRE):
        top, bottom = meta.data[0], 1 << min(meta.data[1], 30)
        if 1 <= top <= LARGEST_METRE and bottom <= LARGEST_METRE:
            beat = meta.tick / file.ticks_per_beat
            metres[beat] = Metre(beat=beat, numerator=top, denominator=bottom)
        else:
            wrong += 1
    if wrong:
        remarks.append(f"left out: {counted(wrong, 'time signature')} beyond 1/1 to 64/64")
    if 0.0 not in metres:
        metres = {0.0: Metre(beat=0.0, numerator=4, denominator=4), **metres}
    return tuple(metres.values())


def _read_keys(file: MidiFile, remarks: list[str]) -> tuple[KeySignature, ...]:
    keys: dict[float, KeySignature] = {}
    wrong = 0
    for meta in _metas(file, KEY):
        sharps = meta.data[0] - 256 if meta.data[0] > 127 else meta.data[0]
        if -7 <= sharps <= 7 and meta.data[1] <= 1:
            beat = meta.tick / file.ticks_per_beat
            keys[beat] = KeySignature(beat=beat, sharps=sharps, is_minor=bool(meta.data[1]))
        else:
            wrong += 1
    if wrong:
        remarks.append(
            f"left out: {counted(wrong, 'key signature')} of more than seven sharps or flats"
        )
    return tuple(keys.values())


def counted(count: int, one: str, more: str | None = None) -> str:
    """A number and its noun, whose plural has an "s" or is `more`."""
    return f"{count} {one if count == 1 else more or one + 's'}"
