"""Attributes of an excerpt of a performance from its notes: the ground truth of rendered audio.

Inputs: a `Performance`, and the `FrameLabels` of an excerpt. Output: `values.Facts`. The thresholds
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

_MIN_PRESENCE = 0.08
"""Share of the clip's sounding frames below which an instrument is not listed."""
_LEAD_BONUS = 1.5
"""Weight of the lead part: a melody is prominent whatever its share of the sound (chosen)."""
_DYNAMICS_VELOCITY = (58.0, 86.0)
"""Median velocity: soft below the first limit, loud from the second upwards."""
_REGISTER_PITCH = (57.0, 69.0)
"""Duration-weighted median MIDI pitch: low below the first, high from the second upwards."""
_ARTICULATION_RATIO = (0.65, 0.93)
"""Median ratio of duration to the time until the part's next onset: staccato below the first limit,
legato from the second upwards."""
_SOLEMN_FAMILIES = {"organ": 1.0, "choir": 0.6, "brass": 0.6}
"""How much a prominent family makes music solemn (chosen)."""


@dataclass(frozen=True, kw_only=True)
class _PartExcerpt:
    """Notes of one part that sound inside the clip."""

    part: Part
    start: np.ndarray
    """Seconds from the clip's start, float64 [note]; may be negative."""
    duration: np.ndarray
    """Full duration in seconds, float64 [note]."""
    inside: np.ndarray
    """Seconds of each note that lie inside the clip, positive, float64 [note]."""
    pitch: np.ndarray
    velocity: np.ndarray


def performance_facts(
    performance: Performance,
    start_seconds: float,
    seconds: float,
    labels: FrameLabels,
) -> Facts:
    """Attributes of an excerpt of a performance.

    Args:
        performance: the notes.
        start_seconds: beginning of the excerpt.
        seconds: length of the excerpt.
        labels: frame labels of the same excerpt.

    Returns:
        Facts without style, composer, tradition and title, which notes alone do not determine.
    """
    excerpts = [_excerpt_of(part, start_seconds, seconds) for part in performance.parts]
    excerpts = [excerpt for excerpt in excerpts if len(excerpt.pitch)]
    families, instruments = _prominence(excerpts, labels)
    tempo = tempo_bpm(performance, start_seconds, seconds)
    metre = clip_metre(performance, start_seconds, seconds)
    tonality = estimate_tonality(performance, start_seconds, seconds)
    pitched = [excerpt for excerpt in excerpts if is_pitched(excerpt.part)]
    onsets = _onsets_per_second(excerpts, seconds)
    velocity = _weighted_median(
        [(excerpt.velocity, excerpt.inside) for excerpt in pitched or excerpts]
    )
    pitch = _weighted_median([(excerpt.pitch, excerpt.inside) for excerpt in pitched])
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
        lead=_lead_family(excerpts, families, labels),
        moods=derive_moods(character) if excerpts else (),
        density=_class_name(onsets, DENSITY_ONSETS, DENSITIES),
        dynamics=_class_name(velocity, _DYNAMICS_VELOCITY, ("soft", "medium", "loud")),
        register=_class_name(pitch, _REGISTER_PITCH, ("low", "middle", "high")),
        articulation=_class_name(ratio, _ARTICULATION_RATIO, ("staccato", "mixed", "legato")),
    )


def _excerpt_of(part: Part, start_seconds: float, seconds: float) -> _PartExcerpt:
    start = part.start_seconds - start_seconds
    inside = np.minimum(start + part.duration_seconds, seconds) - np.maximum(start, 0.0)
    audible = inside > 0
    return _PartExcerpt(
        part=part,
        start=start[audible],
        duration=part.duration_seconds[audible],
        inside=inside[audible],
        pitch=part.pitch[audible],
        velocity=part.velocity[audible],
    )


def _prominence(
    excerpts: list[_PartExcerpt], labels: FrameLabels
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Audible families and instrument names, by sounding time x loudness, most prominent first."""
    sounding = int(labels.family.any(axis=1).sum())
    if not sounding:
        return (), ()
    family_weight: dict[str, float] = {}
    name_weight: dict[str, float] = {}
    for excerpt in excerpts:
        family = program_family(excerpt.part.program, excerpt.part.is_drum)
        presence = float(labels.family[:, FAMILIES.index(family)].sum()) / sounding
        if presence < _MIN_PRESENCE:
            continue
        share = _sounding_share(excerpt, labels, sounding)
        loudness = (float(np.average(excerpt.velocity, weights=excerpt.inside)) / 127) ** 2
        weight = share * loudness * (_LEAD_BONUS if excerpt.part.is_lead else 1.0)
        family_weight[family] = family_weight.get(family, 0.0) + weight
        if share >= _MIN_PRESENCE:
            name = instrument_name(excerpt.part.program, excerpt.part.is_drum)
            name_weight[name] = name_weight.get(name, 0.0) + weight
    return _by_weight(family_weight), _by_weight(name_weight)


def _sounding_share(excerpt: _PartExcerpt, labels: FrameLabels, sounding: int) -> float:
    """Share of the clip's sounding frames in which this part sounds."""
    frames = len(labels)
    steps = np.zeros(frames + 1)
    first = np.clip((excerpt.start * FRAME_RATE_HZ).astype(np.int64), 0, frames - 1)
    length = np.maximum(excerpt.inside * FRAME_RATE_HZ, 6 if excerpt.part.is_drum else 1)
    last = np.clip(first + np.ceil(length).astype(np.int64), 0, frames)
    np.add.at(steps, first, 1)
    np.subtract.at(steps, last, 1)
    return min(float((np.cumsum(steps)[:frames] > 0).sum()) / sounding, 1.0)


def _by_weight(weights: dict[str, float]) -> tuple[str, ...]:
    return tuple(sorted(weights, key=lambda name: -weights[name]))


def _lead_family(
    excerpts: list[_PartExcerpt], families: tuple[str, ...], labels: FrameLabels
) -> str | None:
    """Family of the lead part, otherwise of the part that is most often the highest."""
    for excerpt in excerpts:
        family = program_family(excerpt.part.program, excerpt.part.is_drum)
        if excerpt.part.is_lead and family in families:
            return family
    pitched = [excerpt for excerpt in excerpts if is_pitched(excerpt.part)]
    on_top: dict[str, float] = {}
    for excerpt in pitched:
        family = program_family(excerpt.part.program, excerpt.part.is_drum)
        frame = np.clip((excerpt.start * FRAME_RATE_HZ + 0.5).astype(np.int64), 0, len(labels) - 1)
        topmost = (labels.top[frame] == excerpt.pitch) & (excerpt.start >= 0)
        on_top[family] = on_top.get(family, 0.0) + float(excerpt.inside[topmost].sum())
    named = {family: weight for family, weight in on_top.items() if family in families}
    return max(named, key=lambda family: named[family]) if named else None


def _onsets_per_second(excerpts: list[_PartExcerpt], seconds: float) -> float:
    """Onsets per second; notes within one 40 ms frame count as one."""
    onset_seconds = np.concatenate(
        [excerpt.start[excerpt.start >= 0] for excerpt in excerpts] or [np.zeros(0)]
    )
    return len(np.unique((np.sort(onset_seconds) * FRAME_RATE_HZ).astype(np.int64))) / seconds


def _weighted_median(columns: list[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Weighted median over all (values, weights) columns; None without columns."""
    if not columns:
        return None
    values = np.concatenate([value for value, _ in columns])
    weights = np.concatenate([weight for _, weight in columns])
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _articulation_ratio(pitched: list[_PartExcerpt]) -> float | None:
    """Median, over all parts, of the ratio of a note's length to the time until the next onset.

    Of simultaneous notes the shortest counts; intervals over 1.5 s are rests, not articulation.
    """
    ratios: list[np.ndarray] = []
    for excerpt in pitched:
        onset_seconds, group = np.unique(np.round(excerpt.start, 2), return_inverse=True)
        if len(onset_seconds) < 3:
            continue
        shortest = np.full(len(onset_seconds), np.inf)
        np.minimum.at(shortest, group, excerpt.duration)
        intervals = np.diff(onset_seconds)
        articulated = (intervals > 0.06) & (intervals < 1.5)
        ratios.append(shortest[:-1][articulated] / intervals[articulated])
    every_ratio = np.concatenate(ratios) if ratios else np.zeros(0)
    return float(np.median(every_ratio)) if len(every_ratio) >= 3 else None


def dissonance(labels: FrameLabels) -> float:
    """Mean roughness of the sounding pitch classes: weighted shares of seconds, sevenths and
    tritones.

    Returns:
        0 for triads and less, about 0.3 for a diminished seventh chord, 1 for clusters.
    """
    classes = labels.pitch_class.astype(np.float64)
    harsh = np.zeros(len(classes))
    for interval, weight in ((1, 1.0), (2, 0.4), (6, 0.6)):
        both = (classes * np.roll(classes, interval, axis=1)).sum(axis=1)
        harsh += weight * (both / 2 if interval == 6 else both)
    pairs = classes.sum(axis=1)
    polyphonic = pairs > 1
    return float((harsh[polyphonic] / pairs[polyphonic]).mean()) if polyphonic.any() else 0.0


def _class_name(
    value: float | None, limits: tuple[float, float], names: Sequence[str]
) -> str | None:
    if value is None:
        return None
    return names[int(value >= limits[0]) + int(value >= limits[1])]


def _scaled(value: float | None, middle: float, spread: float) -> float:
    """Standardised deviation from the usual value, clamped to [-1.5, 1.5]; 0 if unknown."""
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
    """Attributes of a score from `first_beat` to `stop_beat`, from its notes alone."""
    performance = as_written(score)
    first, stop = score.tempo.seconds(np.array([first_beat, stop_beat]))
    seconds = max(float(stop - first), 0.5)
    labels = frame_labels(performance, float(first), max(round(seconds * FRAME_RATE_HZ), 1))
    return performance_facts(performance, float(first), seconds, labels)
