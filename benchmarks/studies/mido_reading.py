"""The notes of a MIDI file as mido reads it: an independent reader to compare ours with."""

from __future__ import annotations

import io

import mido

NoteRow = tuple[int, bool, float, float, int, int]
"""Program, whether drums, start and duration in quarter notes, pitch, velocity."""


def mido_notes(data: bytes) -> list[NoteRow]:
    """Notes with the program that their channel has when they begin, of all tracks merged.

    Args:
        data: A Standard MIDI file whose notes all end.

    Returns:
        Sorted rows. Of two notes of one pitch and channel the first to begin ends first; what ends
        without having begun is nothing.
    """
    file = mido.MidiFile(file=io.BytesIO(data))
    sounding: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    program, found, tick = [0] * 16, [], 0
    for message in mido.merge_tracks(file.tracks):
        tick += message.time
        beat = tick / file.ticks_per_beat
        if message.type == "program_change":
            program[message.channel] = message.program
        elif message.type == "note_on" and message.velocity:
            row = (beat, message.velocity, program[message.channel])
            sounding.setdefault((message.channel, message.note), []).append(row)
        elif message.type in ("note_on", "note_off"):
            waiting = sounding.get((message.channel, message.note))
            if not waiting:
                continue
            start, velocity, now = waiting.pop(0)
            found.append((now, message.channel == 9, start, beat - start, message.note, velocity))
    return sorted(found)
