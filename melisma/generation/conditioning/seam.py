"""The seam between a recording and the music that continues it.

The recording stays what it is, at its own sample rate and with its own channels, up to the seam.
What follows is brought to them, to the loudness of the recording's end, and to its beat: it begins
a little earlier or later, so that the grid of beats goes on. Both are cross-faded.

Input: a `KeptRecording` and new music in blocks. Output: blocks of the joined piece. One way for
whole pieces and for streams, which do not know how the music goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.recording import (
    fitting_gain_db,
    hop_powers,
    last_of,
    levels_of,
)
from melisma.sound.limiter import StreamLimiter
from melisma.sound.long_mastering import master_stored, scaled
from melisma.sound.loudness import integrated_lufs
from melisma.sound.mastering import CEILING_DB
from melisma.sound.resample import resample
from melisma.sound.stored import StoredSound, resampled_blocks
from melisma.values.waveform import Waveform

CROSSFADE_SECONDS = 0.03
"""Of the two sides (chosen: shorter than a note, longer than a click). The new side begins by as
much before the seam."""
OPENING_SECONDS = 6.0
"""Of the new music, so much is measured for its level and its beat (chosen: eight beats)."""
_BEAT_SECONDS = 20.0
"""Of the recording, so much is looked at for its beat."""
_LEVEL_SECONDS = 4.0
"""Of the new music, so much is measured for the level at the seam."""
_MOST_DB = 6.0
"""Limit of a difference between the level at the seam and that of the whole side (chosen)."""
_SETTLING_SECONDS = 3.0, 9.0
"""After the seam the gain goes from that of the seam to that of the whole between these times."""
_LEAST_SHIFT_SECONDS = 0.03
"""Beats that are off by less are as exact as played ones (chosen: half of what listeners notice in
rhythm)."""
_LEAST_GAIN = 1.25
"""By what factor the beats must be stronger on the shifted grid (chosen)."""
_REST_DB = -30.0
"""Level below the loud parts of new music that counts as a rest at its start (chosen)."""
_LEAST_REST_SECONDS, MOST_REST_SECONDS = 0.15, 2.0
"""A rest that is shorter stays; of a longer one so much is left out."""
_REST_HOP_SECONDS = 0.01
_LEAST_SCALING_DB = -0.05
"""A smaller gain is the rounding of an earlier one."""
_FADE_SECONDS = 0.03
"""Fade at the end of the piece."""
_FADE_IN_SECONDS = 0.005
"""Fade at the beginning of a part that was cut out of the recording."""


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """Regular beats up to the seam, which is at 0 s."""

    period_seconds: float
    last_seconds: float
    """Time of the last beat, 0 or before."""


@dataclass(frozen=True, kw_only=True)
class Seam:
    """How the new music is fitted to the recording."""

    late_seconds: float = 0.0
    """By how much its beats come after those of the recording; negative: before them."""
    rest_seconds: float = 0.0
    """A rest at its start that is left out."""
    seam_gain_db: float = 0.0
    """Gain at the seam."""
    gain_db: float = 0.0
    """Gain from nine seconds after it on."""
    period_seconds: float | None = None
    """Of the recording's beats, where it has any."""
    scaled_db: float = 0.0
    """Gain of the whole piece, below 0 where the cross-fade was too loud."""

    def as_json(self) -> dict[str, object]:
        """For receipts."""
        period = self.period_seconds
        scaled_down = {"scaled_db": round(self.scaled_db, 2)} if self.scaled_db else {}
        return {
            "beats_moved_seconds": round(-self.late_seconds, 3),
            "rest_left_out_seconds": round(self.rest_seconds, 3),
            "gain_at_seam_db": round(self.seam_gain_db, 2),
            "beat_seconds": None if period is None else round(period, 4),
            **scaled_down,
        }


def beat_grid(context: AudioConditions) -> Pulse | None:
    """The grid of the last beats of the recording that is continued; None without a pulse."""
    from melisma.analysis.audio.beats import track_beats  # imports much of scipy

    assert context.beginning is not None
    sound = last_of(context.before, context.beginning, _BEAT_SECONDS)
    beats = track_beats(sound) - sound.seconds
    if len(beats) < 6:
        return None
    period, last = float(np.median(np.diff(beats[-12:]))), float(beats[-1])
    recent = beats[-16:]
    for tolerance in (0.25, 0.1):
        numbers = np.round((recent - last) / period)
        near = np.abs(recent - last - numbers * period) < tolerance * period
        if near.sum() < 4 or len(np.unique(numbers[near])) < 4:
            return None
        period, last = (float(value) for value in np.polyfit(numbers[near], recent[near], 1))
    return Pulse(period_seconds=period, last_seconds=last + math.floor(-last / period) * period)


def beat_strengths(opening: Waveform, grid: Pulse) -> tuple[np.ndarray, np.ndarray]:
    """How strong the onsets of new music are on the grid, for all positions within a beat.

    Args:
        opening: The new music from the seam on.
        grid: Of the recording.

    Returns:
        (seconds by which the grid is moved, in [-period / 2, period / 2), mean onset strength there
        relative to the mean everywhere), float64 [position] each.
    """
    from melisma.analysis.audio.onsets import (
        ENVELOPE_RATE_HZ,
        above_surroundings,
        onset_envelope,
    )

    envelope = above_surroundings(onset_envelope(opening), 2.0)
    times = (np.arange(len(envelope)) - 0.5) / ENVELOPE_RATE_HZ
    period = grid.period_seconds
    first = grid.last_seconds + period
    moves = np.arange(-0.5 * period, 0.5 * period, 0.01)
    count = int((opening.seconds - first) / period)
    beats = first + period * np.arange(max(count, 1))
    # The beats next to the seam count most: tempi differ a little.
    weights = 0.85 ** np.arange(len(beats))
    found = np.interp(moves[:, None] + beats, times, envelope, left=0.0, right=0.0)
    return moves, found @ weights / weights.sum() / max(float(envelope.mean()), 1e-9)


def late_seconds(opening: Waveform, grid: Pulse) -> float:
    """By how much the beats of new music come after the grid; 0 where that is uncertain or little.

    Args:
        opening: The new music from the seam on.
        grid: Of the recording.
    """
    moves, strengths = beat_strengths(opening, grid)
    # Of equally strong positions, as beats and off-beats, the nearest.
    preferred = strengths * (1.0 - 0.5 * np.abs(moves) / grid.period_seconds)
    best = int(np.argmax(preferred))
    here = float(np.interp(0.0, moves, strengths))
    if abs(moves[best]) < _LEAST_SHIFT_SECONDS or strengths[best] < _LEAST_GAIN * here:
        return 0.0
    return float(moves[best])


def rest_seconds(opening: Waveform) -> float:
    """Length of the rest that new music begins with, as far as it is left out.

    Args:
        opening: The new music from the seam on.
    """
    hop = max(1, round(_REST_HOP_SECONDS * opening.rate_hz))
    count = opening.samples.shape[1] // hop
    if count == 0:
        return 0.0
    levels = 10 * np.log10(hop_powers(opening.samples[:, : count * hop], hop) + 1e-12)
    sounding = np.flatnonzero(levels > np.percentile(levels, 95) + _REST_DB)
    seconds = float(sounding[0]) * hop / opening.rate_hz if len(sounding) else 0.0
    return 0.0 if seconds < _LEAST_REST_SECONDS else min(seconds, MOST_REST_SECONDS)


def beat_continuity(opening: Waveform, grid: Pulse | None) -> float:
    """How clearly the pulse of a recording goes on in new music, 0 to 1; 0 where it had none."""
    if grid is None:
        return 0.0
    _, strengths = beat_strengths(opening, grid)
    return float(np.clip((strengths.max() - 1.0) / 4.0, 0.0, 1.0))


def fitted(context: AudioConditions, opening: Waveform, mastered: bool) -> Seam:
    """Measures how new music is fitted to the recording that it continues.

    Args:
        context: With the recording.
        opening: The first seconds of the new music, from the seam on.
        mastered: Whether it has the loudness of the recording as a whole.
    """
    assert context.beginning is not None
    grid = beat_grid(context) if context.melody is None else None
    kept = context.beginning
    # Where a melody is followed, its time is kept.
    rest = rest_seconds(opening) if context.melody is None else 0.0
    passed = round(rest * opening.rate_hz)
    opening = Waveform(samples=opening.samples[:, passed:], rate_hz=opening.rate_hz)
    opening = resample(opening, opening.rate_hz, kept.samples.shape[0])
    whole_lufs, end_lufs = levels_of(kept)
    start_lufs = integrated_lufs(_first(opening, _LEVEL_SECONDS))
    gain_db = seam_gain_db = 0.0
    if whole_lufs is not None and end_lufs is not None and start_lufs is not None:
        wanted_lufs = float(np.clip(end_lufs, whole_lufs - _MOST_DB, whole_lufs + _MOST_DB))
        seam_gain_db = wanted_lufs - start_lufs
        if mastered:
            seam_gain_db = float(np.clip(seam_gain_db, -_MOST_DB, _MOST_DB))
        else:
            gain_db = seam_gain_db
    return Seam(
        late_seconds=0.0 if grid is None else late_seconds(opening, grid),
        rest_seconds=rest,
        seam_gain_db=seam_gain_db,
        gain_db=gain_db,
        period_seconds=None if grid is None else grid.period_seconds,
    )


def _first(sound: Waveform, seconds: float) -> Waveform:
    count = round(seconds * sound.rate_hz)
    return Waveform(samples=sound.samples[:, :count], rate_hz=sound.rate_hz)


def joined_sound(
    context: AudioConditions, decoded: StoredSound, start: int, seconds: float
) -> tuple[StoredSound, Seam]:
    """The recording and the mastered music after it.

    Args:
        context: With the recording.
        decoded: The decoded piece, whose beginning is the decoded recording.
        start: Sample of the seam in it.
        seconds: Duration of the new music.

    Returns:
        (the joined piece, how it was fitted).
    """
    assert context.beginning is not None
    lead = round(CROSSFADE_SECONDS * decoded.rate_hz)
    new = StoredSound.of_blocks(decoded.blocks(max(start - lead, 0)))
    lufs, _ = levels_of(context.beginning)
    if lufs is not None:
        # Loudness adds up over channels: a mono sound is 3 dB louder on two.
        lufs -= 10.0 * math.log10(context.beginning.samples.shape[0] / new.channels)
        new = master_stored(new, target_lufs=float(np.clip(lufs, -60.0, -1.0)))
    opening = new.read(lead, lead + round(OPENING_SECONDS * new.rate_hz))
    seam = fitted(context, Waveform(samples=opening, rate_hz=new.rate_hz), mastered=True)
    count = round(seconds * context.beginning.rate_hz)
    blocks = joined_blocks(context, lambda: (seam, new.blocks()), count)
    sound = StoredSound.of_blocks(blocks)
    # The recording has been scaled down where it had to be; a cross-fade may be louder than both.
    most = 10.0 ** (CEILING_DB / 20.0) if context.gain_db < 0 else 1.0
    scaled_db = fitting_gain_db(sound, most=most)
    if scaled_db > _LEAST_SCALING_DB:
        return sound, seam
    sound = scaled(sound, 10.0 ** (scaled_db / 20.0))
    return sound, replace(seam, scaled_db=scaled_db)


def joined_stream(
    context: AudioConditions, decoded: Iterator[Waveform], start: int, seconds: float
) -> Iterator[Waveform]:
    """Yields the recording, and the music after it as it is decoded.

    Args:
        context: With the recording.
        decoded: Blocks of the decoded piece, whose beginning is the decoded recording.
        start: Sample of the seam in it.
        seconds: Duration of the new music.
    """
    assert context.beginning is not None

    def prepared() -> tuple[Seam, Iterator[Waveform]]:
        rate_hz, waiting, skipped = 0, list[np.ndarray](), 0
        for block in decoded:
            rate_hz = block.rate_hz
            first = start - round(CROSSFADE_SECONDS * rate_hz)
            part = block.samples[:, max(first - skipped, 0) :]
            skipped += block.samples.shape[1]
            if part.shape[1]:
                waiting.append(part)
            if skipped >= start + OPENING_SECONDS * rate_hz:
                break
        first_part = np.concatenate(waiting, axis=1)
        opening = first_part[:, round(CROSSFADE_SECONDS * rate_hz) :]
        seam = fitted(context, Waveform(samples=opening, rate_hz=rate_hz), mastered=False)

        def new() -> Iterator[Waveform]:
            yield Waveform(samples=first_part, rate_hz=rate_hz)
            yield from decoded

        return seam, new()

    yield from joined_blocks(context, prepared, round(seconds * context.beginning.rate_hz))


def joined_blocks(
    context: AudioConditions,
    prepared: Callable[[], tuple[Seam, Iterator[Waveform]]],
    count: int,
) -> Iterator[Waveform]:
    """Yields the recording and the new music, at the recording's rate and with its channels, and
    with the gain of the context.

    Args:
        context: With the recording.
        prepared: Gives the seam and the blocks of the new music, which begin `CROSSFADE_SECONDS`
            before the seam; called after the recording was yielded.
        count: Samples of the new music, at the recording's rate.
    """
    gain = np.float32(10.0 ** (context.gain_db / 20.0))
    for block in _joined_blocks(context, prepared, count):
        yield block if gain == 1.0 else replace(block, samples=block.samples * gain)


def _joined_blocks(
    context: AudioConditions,
    prepared: Callable[[], tuple[Seam, Iterator[Waveform]]],
    count: int,
) -> Iterator[Waveform]:
    """As `joined_blocks`, before the gain."""
    assert context.beginning is not None
    rate_hz, kept = context.beginning.rate_hz, context.beginning.samples
    fade = min(round(CROSSFADE_SECONDS * rate_hz), kept.shape[1])
    if context.before is not None and context.whole:
        yield from context.before.blocks()
    elif context.before is not None:
        kept = kept.copy()
        ramp = round(_FADE_IN_SECONDS * rate_hz)
        kept[:, :ramp] *= (0.5 - 0.5 * np.cos(np.pi * np.arange(ramp) / ramp)).astype(np.float32)
    yield Waveform(samples=kept[:, : kept.shape[1] - fade], rate_hz=rate_hz)
    seam, new = prepared()
    between, skip = _bridge(kept, fade, seam, rate_hz)
    if between.shape[1] > fade:
        yield Waveform(samples=between[:, :-fade], rate_hz=rate_hz)
    left = fade + count - (between.shape[1] - fade)
    tail: np.ndarray | None = between[:, between.shape[1] - fade :]
    for samples in _brought(new, seam, rate_hz, kept.shape[0], skip):
        if tail is not None:  # the first block is longer than the fade
            samples[:, :fade] = _crossfaded(tail, samples[:, :fade])
            tail = None
        yield _ended(samples[:, : max(left, 0)], left, rate_hz)
        left -= samples.shape[1]
        if left <= 0:
            return
    yield Waveform(samples=np.zeros((kept.shape[0], left), np.float32), rate_hz=rate_hz)


def _bridge(kept: np.ndarray, fade: int, seam: Seam, rate_hz: int) -> tuple[np.ndarray, int]:
    """What stands between the recording and the new music.

    A rest at the start of the new music is left out. Where it is late, it begins later; where it is
    early, what was played one beat before is repeated until its beat comes.

    Returns:
        (the end of the recording and what is repeated of it, of which the last `fade` samples are
        cross-faded with the new music; samples of the new music to leave out).
    """
    tail = kept[:, kept.shape[1] - fade :]
    moved, rest = round(seam.late_seconds * rate_hz), round(seam.rest_seconds * rate_hz)
    if moved >= 0 or seam.period_seconds is None:
        return tail, rest + max(moved, 0)
    first = kept.shape[1] - round(seam.period_seconds * rate_hz) - fade
    if first < 0:
        return tail, rest
    again = kept[:, first : first + fade - moved].copy()
    again[:, :fade] = _crossfaded(tail, again[:, :fade])
    return again, rest


def _brought(
    new: Iterator[Waveform], seam: Seam, rate_hz: int, channels: int, skip: int
) -> Iterator[np.ndarray]:
    """New music with rate, channels and level of the recording, float32 [channel, sample]; the
    first block is at least as long as the cross-fade."""
    limiter = StreamLimiter(rate_hz, channels)
    state, done, waiting = limiter.initial_state(), 0, np.zeros((channels, 0), np.float32)
    least = 2 * round(CROSSFADE_SECONDS * rate_hz)
    for samples in resampled_blocks(new, rate_hz, channels):
        loud = samples * _gains(seam, done, samples.shape[1], rate_hz)
        done += samples.shape[1]
        limited, state = limiter.step(
            Waveform(samples=loud.astype(np.float32), rate_hz=rate_hz), state
        )
        part = limited.samples
        if (passed := min(skip, part.shape[1])) > 0:
            part, skip = part[:, passed:], skip - passed
        waiting = np.concatenate([waiting, part], axis=1)
        if waiting.shape[1] >= least:
            least = 1
            yield waiting
            waiting = np.zeros((channels, 0), np.float32)
    rest = np.concatenate([waiting, limiter.finish(state).samples], axis=1)
    if rest.shape[1] > 0 and least == 1:
        yield rest


def _gains(seam: Seam, first: int, count: int, rate_hz: int) -> np.ndarray:
    """Gain of the new music's samples from `first` on, float64 [sample]."""
    times = (first + np.arange(count)) / rate_hz - seam.rest_seconds
    gains_db = np.interp(times, _SETTLING_SECONDS, (seam.seam_gain_db, seam.gain_db))
    return 10.0 ** (gains_db / 20.0)


def _crossfaded(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Fades from one sound to another of the same length, at equal power: they are alike, but not
    in phase."""
    angles = 0.5 * np.pi * (np.arange(before.shape[1]) + 0.5) / max(before.shape[1], 1)
    return (before * np.cos(angles) + after * np.sin(angles)).astype(np.float32)


def _ended(samples: np.ndarray, left: int, rate_hz: int) -> Waveform:
    """A block of which the piece has `left` samples from its start on, faded at the end."""
    count = round(_FADE_SECONDS * rate_hz)
    places = left - 1 - np.arange(samples.shape[1])
    if len(places) and places[-1] < count:
        shape = 0.5 - 0.5 * np.cos(np.pi * np.clip(places / count, 0.0, 1.0))
        samples = samples * shape
    return Waveform(samples=samples.astype(np.float32), rate_hz=rate_hz)
