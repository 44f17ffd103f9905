"""Notes of a track: note-ons paired with what ends them, per channel and pitch.

A note ends at its note-off (the first of overlapping ones with the first note-off), at the latest
when its channel is silenced (controllers 120 and 123). A note-on that no note-off answers ends at
the next note-on of its pitch, or where its track ends. MIDI 1.0 Detailed Specification, "Note-Off"
and "Channel Mode Messages".
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from melisma.symbolic.midi.track_events import TrackEvents

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM, BEND = 0x8, 0x9, 0xB, 0xC, 0xE
SILENCING = (120, 123)
"""Controllers that end all notes of a channel: all sound off, all notes off."""
MAX_HANGING_BEATS = 16.0
"""Maximum duration of a note that nothing ends (chosen: four bars; most sounds have died away)."""


@dataclass(frozen=True, kw_only=True)
class NoteTable:
    """Notes of one track as columns of equal length, int64 [note]; those of one pitch by start."""

    start: np.ndarray
    """In ticks."""
    end: np.ndarray
    """In ticks, at least `start`."""
    channel: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    order: np.ndarray
    """Index of the note-on among the events of the track."""
    hanging: int
    """Number of notes without a note-off."""
    stray: int
    """Number of note-offs without a note."""


def notes_of_track(
    events: TrackEvents, silenced: dict[int, np.ndarray], ticks_per_beat: float
) -> NoteTable:
    """Pairs the note-ons of a track.

    Args:
        events: The track.
        silenced: Ticks [time] at which a channel is silenced, ascending, by channel.
        ticks_per_beat: Ticks per quarter note.
    """
    kind = events.status >> 4
    is_note = np.flatnonzero((kind == NOTE_ON) | (kind == NOTE_OFF))
    is_on = (kind[is_note] == NOTE_ON) & (events.second[is_note] > 0)
    key = (events.status[is_note] & 0x0F).astype(np.int64) << 7 | events.first[is_note]
    order = np.argsort(key, kind="stable")
    is_note, is_on, key = is_note[order], is_on[order], key[order]
    ticks = events.ticks[is_note]
    plain = _alternating(is_on, key)
    pairs = np.flatnonzero(plain)
    others = np.flatnonzero(~plain)
    found, ends, unanswered, stray = _paired(is_on[others], key[others], ticks[others])
    on = np.concatenate([pairs[::2], others[found]])
    end = np.concatenate([ticks[pairs[1::2]], ends])
    unanswered = np.concatenate([np.zeros(len(pairs) // 2, bool), unanswered])
    start = ticks[on]
    longest = round(MAX_HANGING_BEATS * ticks_per_beat)
    last = np.minimum(start + longest, np.maximum(events.end_tick, start))
    end = np.where(end < 0, last, np.where(unanswered, np.minimum(end, last), end))
    channel = key[on] >> 7
    for number, times in silenced.items():
        mine = channel == number
        place = np.searchsorted(times, start[mine], side="right")
        until = np.append(times, np.iinfo(np.int64).max)[place]
        end[mine] = np.minimum(end[mine], until)
    return NoteTable(
        start=start,
        end=end,
        channel=channel,
        pitch=key[on] & 0x7F,
        velocity=events.second[is_note[on]].astype(np.int64),
        order=is_note[on],
        hanging=int(unanswered.sum()),
        stray=stray,
    )


def _alternating(is_on: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Whether each event belongs to a key whose note-ons and note-offs alternate, bool [event]."""
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    sizes = np.diff(np.append(starts, len(key)))
    place = np.arange(len(key)) - np.repeat(starts, sizes)
    wrong = is_on != (place % 2 == 0)
    group = np.repeat(np.arange(len(starts)), sizes)
    is_wrong = sizes % 2 == 1
    is_wrong[group[wrong]] = True
    return ~is_wrong[group]


def _paired(
    is_on: np.ndarray, key: np.ndarray, ticks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Pairs events sorted by key and time.

    Returns:
        (index of every note-on, its end in ticks or -1 for none, whether no note-off answers it,
        number of note-offs without a note).
    """
    on: list[int] = []
    end: list[int] = []
    unanswered: list[bool] = []
    stray = 0
    edges = np.append(np.flatnonzero(np.diff(key, prepend=-1)), len(key)).tolist()
    is_on_list, tick_list = is_on.tolist(), ticks.tolist()
    for first, stop in pairwise(edges):
        ons = [i for i in range(first, stop) if is_on_list[i]]
        hanging, lost = _unanswered(is_on_list, tick_list, first, stop)
        empty = {i for i in hanging if i - 1 in lost and tick_list[i - 1] == tick_list[i]}
        stray += len(lost) - len(empty)
        offs = iter([i for i in range(first, stop) if not is_on_list[i] and i not in lost])
        next_ons = _next_times([tick_list[i] for i in ons])
        for place, i in enumerate(ons):
            if i in empty:  # a note without length, whose note-off was sorted before it
                end.append(tick_list[i])
            else:
                end.append(next_ons[place] if i in hanging else tick_list[next(offs)])
            on.append(i)
            unanswered.append(i in hanging and i not in empty)
    return np.array(on, np.int64), np.array(end, np.int64), np.array(unanswered, bool), stray


def _next_times(times: list[int]) -> list[int]:
    """The next later one of ascending times for each of them; -1 where there is none."""
    found = [-1] * len(times)
    for i in range(len(times) - 2, -1, -1):
        found[i] = times[i + 1] if times[i + 1] > times[i] else found[i + 1]
    return found


def _unanswered(
    is_on: list[bool], ticks: list[int], first: int, stop: int
) -> tuple[set[int], set[int]]:
    """Note-ons without a note-off and note-offs without a note among the events of one key.

    A note-off answers the latest open note-on before it, one of its own time only if there is no
    other: files exist in which the note-off of a note follows the next note-on of its time.
    """
    open_ons: list[int] = []
    open_ticks: list[int] = []
    lost: set[int] = set()
    for i in range(first, stop):
        if is_on[i]:
            open_ons.append(i)
            open_ticks.append(ticks[i])
        elif not open_ons:
            lost.add(i)
        else:
            latest = bisect_left(open_ticks, ticks[i]) - 1
            del open_ons[latest], open_ticks[latest]
    return set(open_ons), lost
