"""`Score` -> Standard MIDI file (format 1, 960 ticks per quarter note).

Chord symbols become markers, the musical key a key signature. More pitched parts than a port has
channels go to further ports (meta event 0x21), so that each keeps a channel of its own. Standard
MIDI Files 1.0 (MIDI Manufacturers Association, 1996).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import itemgetter

import numpy as np

from melisma.symbolic.midi.channels import DRUM_CHANNEL, PORT
from melisma.symbolic.midi.conductor import KEY, METRE, NAME, TEMPO, TEXT_KINDS
from melisma.values import Metre, Score, Track
from melisma.values.attributes import PITCH_NAMES
from melisma.values.errors import MelismaError
from melisma.values.score import PITCH_BEND, Controls, ScoreText, TextKind

TICKS_PER_BEAT = 960
"""Resolution of written files (chosen: divisible by all tuplets up to 6, and usual in editors)."""
PITCHED_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15)
"""Channels of a port for pitched parts; channel 9 (the tenth) has the drums."""
LONGEST_STEP = 0x0FFFFFFF
"""Longest time between two events (four bytes); a longer one is bridged by empty text."""
SLOWEST_BEAT_MICROSECONDS = 0xFFFFFF
"""Longest quarter note that a tempo event holds, 3.58 a minute."""
_SETTING, _NOTE_OFF, _NOTE_ON = 0, 1, 2
"""Order of events of one tick."""
_TYPES: dict[TextKind, int] = {kind: number for number, kind in TEXT_KINDS.items()}
_FILLER = b"\xff\x01\0"

_Event = tuple[int, bytes]
"""Place in time, see `_place`, and the bytes of an event."""


def write_midi(score: Score) -> bytes:
    """Writes a score as a Standard MIDI file.

    Where the score has a title, a notice or other text of its own, a first track without notes
    holds it and all tempi and signatures; otherwise these stand in the track of the first part.

    Returns:
        The bytes of the file.

    Raises:
        MelismaError: A metre whose denominator is no power of two.
    """
    conductor = _conductor(score)
    places = _channels(score.tracks)
    has_ports = any(port for port, _ in places)
    tracks = [
        _part(track, channel, port if has_ports else None)
        for track, (port, channel) in zip(score.tracks, places, strict=True)
    ]
    if score.texts or not tracks:
        tracks.insert(0, conductor)
    else:
        tracks[0] = conductor + tracks[0]
    head = b"MThd\0\0\0\6\0\1" + len(tracks).to_bytes(2, "big") + TICKS_PER_BEAT.to_bytes(2, "big")
    return head + b"".join(map(_chunk, tracks))


def _place(tick: int, order: int = _SETTING) -> int:
    """Place in time of an event by its tick and its order within the tick."""
    return tick << 2 | order


def _at(beat: float) -> int:
    """Place in time of a setting."""
    return _place(round(beat * TICKS_PER_BEAT))


def _conductor(score: Score) -> list[_Event]:
    """Signatures, tempi and text of the whole piece."""
    events: list[_Event] = []
    for metre in score.metres:
        events.append((_at(metre.beat), _metre_event(metre)))
    for key in score.keys:
        data = bytes([key.sharps & 0xFF, int(key.is_minor)])
        events.append((_at(key.beat), meta_event(KEY, data)))
    if not score.keys and score.tonality is not None:
        sharps, minor = key_signature(score.tonality)
        events.append((_at(0), meta_event(KEY, bytes([sharps & 0xFF, minor]))))
    for beat, bpm in zip(score.tempo.beats.tolist(), score.tempo.bpm.tolist(), strict=True):
        micros = min(max(round(60e6 / bpm), 1), SLOWEST_BEAT_MICROSECONDS)
        events.append((_at(beat), meta_event(TEMPO, micros.to_bytes(3, "big"))))
    events += _text_events(score.texts)
    for chord in score.chords:
        events.append((_at(chord.beat), meta_event(_TYPES["marker"], chord.name.encode())))
    return events


def _metre_event(metre: Metre) -> bytes:
    if not math.log2(metre.denominator).is_integer():
        raise MelismaError(
            f"MIDI knows no metre {metre.numerator}/{metre.denominator}: "
            "the lower number must be a power of two"
        )
    return meta_event(METRE, bytes([metre.numerator, metre.denominator.bit_length() - 1, 24, 8]))


def key_signature(tonality: str) -> tuple[int, int]:
    """(number of sharps, negative for flats; 1 for minor) of one of `TONALITIES`."""
    tonic, mode = tonality.split()
    minor = mode == "minor"
    pitch_class = (PITCH_NAMES.index(tonic) + (3 if minor else 0)) % 12
    sharps = (pitch_class * 7 + 5) % 12 - 5  # round the circle of fifths, at most six sharps
    return sharps, int(minor)


def _text_events(texts: Iterable[ScoreText]) -> list[_Event]:
    return [
        (_at(one.beat), meta_event(_TYPES[one.kind], one.text.encode("utf-8", "replace")))
        for one in texts
    ]


def _channels(tracks: Sequence[Track]) -> list[tuple[int, int]]:
    """(port, channel) of every part: as few ports as give every pitched part its own channel, and
    drums of another kit or other controllers one of their own."""
    count = len(PITCHED_CHANNELS)
    places: list[tuple[int, int]] = []
    kits: list[tuple[int, bytes]] = []
    pitched = 0
    for index, track in enumerate(tracks):
        if track.is_drum:
            kit = (track.program, _settings(track.controls))
            if kit not in kits:
                kits.append(kit)
            places.append((kits.index(kit), DRUM_CHANNEL))
            continue
        number = index if len(tracks) <= count else pitched
        places.append((number // count, PITCHED_CHANNELS[number % count]))
        pitched += 1
    return places


def _settings(controls: Controls) -> bytes:
    """What tells the controllers of two parts apart."""
    return controls.beats.tobytes() + controls.number.tobytes() + controls.value.tobytes()


def _part(track: Track, channel: int, port: int | None) -> list[_Event]:
    events: list[_Event] = []
    if port is not None:
        events.append((_at(0), meta_event(PORT, bytes([port & 0x7F]))))
    if track.name:
        events.append((_at(0), meta_event(NAME, track.name.encode("utf-8", "replace"))))
    events += _text_events(track.texts)
    events.append((_at(0), bytes([0xC0 | channel, track.program & 0x7F])))
    controls = track.controls
    for beat, number, value in zip(
        controls.beats.tolist(), controls.number.tolist(), controls.value.tolist(), strict=True
    ):
        if number == PITCH_BEND:
            message = bytes([0xE0 | channel, value & 0x7F, value >> 7 & 0x7F])
        else:
            message = bytes([0xB0 | channel, number & 0x7F, value & 0x7F])
        events.append((_at(beat), message))
    notes = track.notes
    start = np.round(notes.start_beats * TICKS_PER_BEAT).astype(np.int64)
    end = np.round((notes.start_beats + notes.duration_beats) * TICKS_PER_BEAT).astype(np.int64)
    end = np.maximum(end, start + 1)
    order = np.argsort(start, kind="stable")
    columns = (start[order], end[order], notes.pitch[order], notes.velocity[order])
    on, off = 0x90 | channel, 0x80 | channel
    for first, stop, pitch, velocity in zip(*(one.tolist() for one in columns), strict=True):
        data = (pitch & 0x7F, min(max(velocity, 1), 127))
        events.append((_place(first, _NOTE_ON), bytes((on, *data))))
        events.append((_place(stop, _NOTE_OFF), bytes((off, *data))))
    return events


def meta_event(kind: int, data: bytes) -> bytes:
    """The bytes of a meta event, without its time."""
    return bytes([0xFF, kind]) + _number(len(data)) + data


def _number(value: int) -> bytes:
    """A variable-length number."""
    if value < 0x80:
        return bytes((value,))
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


def _chunk(events: list[_Event]) -> bytes:
    """A track chunk: events by time, with running status."""
    body: list[bytes] = []
    tick, status = 0, -1
    for place, event in sorted(events, key=itemgetter(0)):
        at = place >> 2
        step = at - tick
        while step > LONGEST_STEP:
            body += (_number(LONGEST_STEP), _FILLER)
            step, status = step - LONGEST_STEP, -1
        body.append(_number(step))
        body.append(event[1:] if event[0] == status else event)
        status = event[0] if event[0] < 0xF0 else -1
        tick = at
    body.append(b"\1\xff\x2f\0")
    data = b"".join(body)
    return b"MTrk" + len(data).to_bytes(4, "big") + data
