"""The attributes of a stretch of a performance, read off its notes: the truth about rendered sound.

Inputs: a `Performance`, a stretch of it with its `FrameLabels`. Output: `values.Facts`. Thresholds
are ours, set so that the outer classes hold a fifth to a third of real clips each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melisma.analysis.labels.frame_labels import FrameLabels, frame_labels
from melisma.analysis.labels.key import LabelledKey, estimate_tonality
from melisma.analysis.labels.moods import Character, derive_moods
from melisma.analysis.labels.pulse import clip_metre, tempo_bpm
from melisma.analysis.labels.rolls import is_pitched
from melisma.symbolic.instruments import instrument_name
from melisma.symbolic.performance import Part, Performance, as_written
from melisma.values import Score
from melisma.values.attributes import DENSITIES, DENSITY_ONSETS, FAMILIES, Facts, program_family
from melisma.values.tokens import FRAME_RATE_HZ

_LEAST_PRESENCE = 0.08
"""Share of the clip's sounding frames below which an instrument is not named."""
_LEAD_BONUS = 1.5
"""A melody is heard first, whatever its share of the sound (chosen)."""
_DYNAMICS_VELOCITY = (58.0, 86.0)
"""Median velocity: soft below, loud from the second on."""
_REGISTER_PITCH = (57.0, 69.0)
"""Median MIDI pitch weighted by duration: low below, high from the second on."""
_ARTICULATION_RATIO = (0.65, 0.93)
"""Median of duration over the time to the part's next onset: staccato below, legato from on."""


_SOLEMN_FAMILIES = {"organ": 1.0, "choir": 0.6, "brass": 0.6}
"""How much a prominent family makes music solemn (chosen)."""


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """Notes of one part that begin or sound inside the clip, their times clamped to it."""

    part: Part
    start: np.ndarray
    """Seconds from the clip's start, float64 [note]; may be negative."""
    duration: np.ndarray
    """Written length, seconds."""
    inside: np.ndarray
    """Seconds of each note that lie inside the clip, positive."""
    pitch: np.ndarray
    velocity: np.ndarray


def performance_facts(
    performance: Performance,
    start_seconds: float,
    seconds: float,
    labels: FrameLabels,
) -> Facts:
    """What the notes of `seconds` seconds of a performance from `start_seconds` on say.

    `labels` are those of the same stretch. Style, composer, tradition and title stay open: notes
    alone do not tell.
    """
    heard = [_hear(part, start_seconds, seconds) for part in performance.parts]
    heard = [one for one in heard if len(one.pitch)]
    families, instruments = _prominence(heard, labels)
    tempo = tempo_bpm(performance, start_seconds, seconds)
    metre = clip_metre(performance, start_seconds, seconds)
    tonality = estimate_tonality(performance, start_seconds, seconds)
    pitched = [one for one in heard if is_pitched(one.part)]
    onsets = _onsets_a_second(heard, seconds)
    velocity = _weighted_median([(one.velocity, one.inside) for one in pitched or heard])
    pitch = _weighted_median([(one.pitch, one.inside) for one in pitched])
    ratio = _articulation_ratio(pitched)
    character = _character(
        tonality, tempo, onsets, velocity, pitch, ratio, dissonance(labels), families, instruments
    )
    return Facts(
        tempo_bpm=tempo,
        tonality=tonality.tonality,
        metre=metre,
        families=families,
        instruments=instruments,
        lead=_lead_family(heard, families, labels),
        moods=derive_moods(character) if heard else (),
        density=_class_of(onsets, DENSITY_ONSETS, DENSITIES),
        dynamics=_class_of(velocity, _DYNAMICS_VELOCITY, ("soft", "medium", "loud")),
        register=_class_of(pitch, _REGISTER_PITCH, ("low", "middle", "high")),
        articulation=_class_of(ratio, _ARTICULATION_RATIO, ("staccato", "mixed", "legato")),
    )


def _hear(part: Part, start_seconds: float, seconds: float) -> _Heard:
    start = part.start_seconds - start_seconds
    inside = np.minimum(start + part.duration_seconds, seconds) - np.maximum(start, 0.0)
    kept = inside > 0
    return _Heard(
        part=part,
        start=start[kept],
        duration=part.duration_seconds[kept],
        inside=inside[kept],
        pitch=part.pitch[kept],
        velocity=part.velocity[kept],
    )


def _prominence(
    heard: list[_Heard], labels: FrameLabels
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families and instrument names heard, by sounding time x loudness, strongest first."""
    sounding = int(labels.family.any(axis=1).sum())
    if not sounding:
        return (), ()
    family_weight: dict[str, float] = {}
    name_weight: dict[str, float] = {}
    for one in heard:
        family = program_family(one.part.program, one.part.is_drum)
        presence = float(labels.family[:, FAMILIES.index(family)].sum()) / sounding
        if presence < _LEAST_PRESENCE:
            continue
        share = _sounding_share(one, labels, sounding)
        loudness = (float(np.average(one.velocity, weights=one.inside)) / 127) ** 2
        weight = share * loudness * (_LEAD_BONUS if one.part.is_lead else 1.0)
        family_weight[family] = family_weight.get(family, 0.0) + weight
        if share >= _LEAST_PRESENCE:
            name = instrument_name(one.part.program, one.part.is_drum)
            name_weight[name] = name_weight.get(name, 0.0) + weight
    return _by_weight(family_weight), _by_weight(name_weight)


def _sounding_share(one: _Heard, labels: FrameLabels, sounding: int) -> float:
    """Share of the clip's sounding frames in which this part sounds."""
    frames = len(labels)
    steps = np.zeros(frames + 1)
    first = np.clip((one.start * FRAME_RATE_HZ).astype(np.int64), 0, frames - 1)
    length = np.maximum(one.inside * FRAME_RATE_HZ, 6 if one.part.is_drum else 1)
    last = np.clip(first + np.ceil(length).astype(np.int64), 0, frames)
    np.add.at(steps, first, 1)
    np.subtract.at(steps, last, 1)
    return min(float((np.cumsum(steps)[:frames] > 0).sum()) / sounding, 1.0)


def _by_weight(weights: dict[str, float]) -> tuple[str, ...]:
    return tuple(sorted(weights, key=lambda name: -weights[name]))


def _lead_family(heard: list[_Heard], families: tuple[str, ...], labels: FrameLabels) -> str | None:
    """Family of the lead part, else of the only pitched part, else of the part mostly on top."""
    for one in heard:
        family = program_family(one.part.program, one.part.is_drum)
        if one.part.is_lead and family in families:
            return family
    pitched = [one for one in heard if is_pitched(one.part)]
    on_top: dict[str, float] = {}
    for one in pitched:
        family = program_family(one.part.program, one.part.is_drum)
        frame = np.clip((one.start * FRAME_RATE_HZ + 0.5).astype(np.int64), 0, len(labels) - 1)
        topmost = (labels.top[frame] == one.pitch) & (one.start >= 0)
        on_top[family] = on_top.get(family, 0.0) + float(one.inside[topmost].sum())
    named = {family: weight for family, weight in on_top.items() if family in families}
    return max(named, key=lambda family: named[family]) if named else None


def _onsets_a_second(heard: list[_Heard], seconds: float) -> float:
    """Moments at which anything begins, a second; notes within 40 ms count as one."""
    moments = np.concatenate([one.start[one.start >= 0] for one in heard] or [np.zeros(0)])
    return len(np.unique((np.sort(moments) * FRAME_RATE_HZ).astype(np.int64))) / seconds


def _weighted_median(columns: list[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Median of the values of (value, weight) columns taken together; None without any."""
    if not columns:
        return None
    values = np.concatenate([value for value, _ in columns])
    weights = np.concatenate([weight for _, weight in columns])
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _articulation_ratio(pitched: list[_Heard]) -> float | None:
    """Median, over all parts, of a note's length over the time to the part's next onset.

    Of notes struck together the shortest counts; waits over 1.5 s are rests, not articulation.
    """
    ratios: list[np.ndarray] = []
    for one in pitched:
        moments, group = np.unique(np.round(one.start, 2), return_inverse=True)
        if len(moments) < 3:
            continue
        shortest = np.full(len(moments), np.inf)
        np.minimum.at(shortest, group, one.duration)
        waits = np.diff(moments)
        fair = (waits > 0.06) & (waits < 1.5)
        ratios.append(shortest[:-1][fair] / waits[fair])
    together = np.concatenate(ratios) if ratios else np.zeros(0)
    return float(np.median(together)) if len(together) >= 3 else None


def dissonance(labels: FrameLabels) -> float:
    """Mean roughness of the sounding pitch classes: shares of seconds, sevenths and tritones.

    0 for triads and less, about 0.3 for a diminished seventh chord, 1 for clusters.
    """
    classes = labels.pitch_class.astype(np.float64)
    harsh = np.zeros(len(classes))
    for interval, weight in ((1, 1.0), (2, 0.4), (6, 0.6)):
        both = (classes * np.roll(classes, interval, axis=1)).sum(axis=1)
        harsh += weight * (both / 2 if interval == 6 else both)
    pairs = classes.sum(axis=1)
    heard = pairs > 1
    return float((harsh[heard] / pairs[heard]).mean()) if heard.any() else 0.0


def _class_of(
    value: float | None, borders: tuple[float, float], names: Sequence[str]
) -> str | None:
    if value is None:
        return None
    return names[int(value >= borders[0]) + int(value >= borders[1])]


def _scaled(value: float | None, middle: float, spread: float) -> float:
    """Distance from the usual value in spreads, clamped to [-1.5, 1.5]; 0 if unknown."""
    return 0.0 if value is None else float(np.clip((value - middle) / spread, -1.5, 1.5))


def _character(
    tonality: LabelledKey,
    tempo: float | None,
    onsets: float,
    velocity: float | None,
    pitch: float | None,
    ratio: float | None,
    harsh: float,
    families: tuple[str, ...],
    instruments: tuple[str, ...],
) -> Character:
    speed = _scaled(float(np.log2(max(onsets, 0.2))), float(np.log2(4.2)), 1.0)
    if tempo is not None:
        speed = 0.5 * speed + 0.5 * _scaled(float(np.log2(tempo)), float(np.log2(100)), 0.6)
    first = families[:2]
    return Character(
        brightness=float(np.clip(tonality.brightness / 0.3, -1, 1)),
        speed=speed,
        loudness=_scaled(velocity, 71, 20),
        height=_scaled(pitch, 62, 10),
        dissonance=_scaled(harsh, 0.12, 0.12),
        staccato=-_scaled(ratio, 0.8, 0.25),
        weight=max((_SOLEMN_FAMILIES.get(family, 0.0) for family in first), default=0.0),
        shimmer=float(any(f in ("harp", "mallets", "synth", "electric piano") for f in first)),
        drive=float("drums" in instruments or "electric guitar" in first),
    )


def score_facts(score: Score, first_beat: float, stop_beat: float) -> Facts:
    """What is true of a stretch of a score, from its notes alone."""
    performance = as_written(score)
    first, stop = score.tempo.seconds(np.array([first_beat, stop_beat]))
    seconds = max(float(stop - first), 0.5)
    labels = frame_labels(performance, float(first), max(round(seconds * FRAME_RATE_HZ), 1))
    return performance_facts(performance, float(first), seconds, labels)
