"""State of the channels of a MIDI file: programs, pedals, controllers and pitch bend in time order.

A channel belongs to the whole file (and to one port of it), not to a track: a program change in a
track of settings holds for the notes of its channel in every other track. A track that sets
something itself goes by its own settings from then on, because many files use one channel for
several tracks of different instruments. Standard MIDI Files 1.0 (MIDI Manufacturers Association,
1996), "MTrk events"; the port is the meta event 0x21.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.symbolic.midi.notes import BEND, CONTROL, NOTE_ON, PROGRAM, SILENCING
from melisma.symbolic.midi.track_events import TrackEvents
from melisma.values.score import PITCH_BEND

PORT = 0x21
DRUM_CHANNEL = 9
SUSTAIN = 64
RESET = 121
"""Controller that resets all others, the pedals too (RP-015, MIDI Manufacturers Association)."""
PEDAL_DOWN = 64
"""Value of the sustain controller from which on the pedal is down (MIDI 1.0, table III)."""
INDEX_BITS = 24
_NONE = np.zeros(0, np.int64)


def places_of(ticks: np.ndarray, index: np.ndarray | int = -1) -> np.ndarray:
    """Places in time of events: the tick, and at equal ticks the order in the track.

    Args:
        ticks: int64 [event].
        index: Of every event in its track, below 2^24; -1: before the events of the same tick.
    """
    return ticks << INDEX_BITS | index + 1


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changes of one setting of a channel in time order, int64 [change] each."""

    places: np.ndarray
    """When they happen, see `places_of`."""
    values: np.ndarray

    @property
    def ticks(self) -> np.ndarray:
        """When they happen in ticks."""
        return self.places >> INDEX_BITS


class ChannelState:
    """Settings of all channels of a file."""

    def __init__(self, tracks: tuple[TrackEvents, ...]) -> None:
        self._tracks = tracks
        self._ports = [_port(track) for track in tracks]
        self._own: list[dict[tuple[int, int], Changes]] = []
        """By track: changes by channel and setting."""
        self._playing: list[frozenset[int]] = []
        """By track: channels in which it has notes."""
        for track in tracks:
            kind, channel = track.status >> 4, track.status & 0x0F
            self._own.append(_changes(track, kind, channel))
            self._playing.append(frozenset(np.unique(channel[kind == NOTE_ON]).tolist()))
        self._merged: dict[tuple[int, int, int], Changes] = {}

    def playing(self, track: int) -> frozenset[int]:
        """Channels in which a track has notes."""
        return self._playing[track]

    def silenced(self, track: int, channel: int) -> np.ndarray:
        """Ticks at which the channel is silenced by a controller, ascending, int64 [time]."""
        found = [self._all(track, channel, number).ticks for number in SILENCING]
        return np.unique(np.concatenate(found))

    def controls(self, track: int, channel: int) -> dict[int, Changes]:
        """Changes of controllers and of pitch bend that hold for a track, by their number."""
        port = self._ports[track]
        numbers = {
            number
            for own, one in zip(self._own, self._ports, strict=True)
            for place, number in own
            if place == channel and one == port and number != _PROGRAM
        }
        return {n: self._settings(track, channel, n) for n in sorted(numbers - set(SILENCING))}

    def pedals(self, track: int, channel: int) -> np.ndarray:
        """When the sustain pedal is down, int64 [pedal, 2] in ticks.

        Resetting all controllers lifts it. A pedal that is still down at the end goes up when the
        last track ends.
        """
        changes = self._settings(track, channel, SUSTAIN)
        resets = self._settings(track, channel, RESET)
        places = np.concatenate([changes.places, resets.places])
        down = np.append(changes.values >= PEDAL_DOWN, np.zeros(len(resets.places), bool))
        order = np.argsort(places, kind="stable")
        edges = np.flatnonzero(np.diff(down[order], prepend=False))
        ticks = places[order][edges] >> INDEX_BITS
        if len(ticks) % 2:
            ticks = np.append(ticks, max([int(ticks[-1]), *(t.end_tick for t in self._tracks)]))
        return ticks.reshape(-1, 2)

    def _settings(self, track: int, channel: int, number: int) -> Changes:
        """Changes of a controller: those of the track, or of the channel if it has none."""
        own = self._own[track].get((channel, number))
        return self._all(track, channel, number) if own is None else own

    def programs(self, track: int, channel: int) -> Changes:
        """Changes of program that hold for the notes of a track in a channel: those of the channel
        until the track has its own."""
        own = self._own[track].get((channel, _PROGRAM))
        whole = self._all(track, channel, _PROGRAM)
        if own is None:
            return whole
        before = whole.ticks < own.ticks[0]
        return Changes(
            places=np.append(whole.places[before], own.places),
            values=np.append(whole.values[before], own.values),
        )

    def _all(self, track: int, channel: int, number: int) -> Changes:
        """Changes of a setting of a channel in all tracks of the track's port."""
        port = self._ports[track]
        place = (port, channel, number)
        if place not in self._merged:
            found = [
                own[channel, number]
                for own, one in zip(self._own, self._ports, strict=True)
                if one == port and (channel, number) in own
            ]
            ticks = np.concatenate([_NONE, *(one.ticks for one in found)])
            values = np.concatenate([_NONE, *(one.values for one in found)])
            order = np.argsort(ticks, kind="stable")
            self._merged[place] = Changes(places=places_of(ticks[order]), values=values[order])
        return self._merged[place]


_PROGRAM = -1
"""Number of the program among the settings; controllers and `PITCH_BEND` have their own."""


def _changes(
    track: TrackEvents, kind: np.ndarray, channel: np.ndarray
) -> dict[tuple[int, int], Changes]:
    found: dict[tuple[int, int], Changes] = {}
    chosen = np.flatnonzero((kind == CONTROL) | (kind == PROGRAM) | (kind == BEND))
    first, second = track.first.astype(np.int64), track.second.astype(np.int64)
    number = np.where(kind == CONTROL, first, np.where(kind == PROGRAM, _PROGRAM, PITCH_BEND))
    value = np.where(kind == CONTROL, second, np.where(kind == PROGRAM, first, first | second << 7))
    key = channel.astype(np.int64) * 1_024 + number + 1
    for one in np.unique(key[chosen]):
        mine = chosen[key[chosen] == one]
        place = (int(one) // 1_024, int(one) % 1_024 - 1)
        found[place] = Changes(places=places_of(track.ticks[mine], mine), values=value[mine])
    return found


def _port(track: TrackEvents) -> int:
    """The port of a track, 0 by default."""
    for meta in track.metas:
        if meta.kind == PORT:
            return meta.data[0]
    return 0


def value_at(changes: Changes, places: np.ndarray, default: int) -> np.ndarray:
    """The value of a setting at some places (see `places_of`), int64 [place]."""
    before = np.searchsorted(changes.places, places, side="right")
    return np.append(default, changes.values)[before]
