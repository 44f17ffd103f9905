"""Whether pieces do what the words say: lead family, tempo, tonality, similarity, faults.

Enters: pieces with what was asked of each (`Wish`), and a `Judge`. Leaves: one `MeasuredAttributes`
per piece, and the rows of the table. The ceiling comes from the same functions on true renders.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.analysis.artefacts.clicks import find_artefacts
from melisma.analysis.audio.key import measure_tonality
from melisma.analysis.audio.tempo import measure_tempo, meets_tempo
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import (
    Interval,
    balanced_interval,
    bootstrap,
    mean_interval,
)
from melisma.evaluate.models.judge import Judge
from melisma.joint.settings_words import read_settings
from melisma.values import Facts, Waveform

ACCOMPANYING = ("drums", "bass")
"""Families that lead nothing where another is named."""


@dataclass(frozen=True, kw_only=True)
class RequestedAttributes:
    """What is asked of one piece; None where it is left open."""

    words: str
    lead: str | None = None
    tempo_bpm: float | None = None
    tonality: str | None = None
    families: tuple[str, ...] = ()
    """Families of instruments that must sound."""


@dataclass(frozen=True, kw_only=True)
class MeasuredAttributes:
    """What judges and detectors heard in one piece."""

    lead: str
    tempo_bpm: float
    """By the judge's head, refined by the signal."""
    tonality: str
    """By the judge's head."""
    signal_tempo_bpm: float | None
    """By signal processing alone."""
    signal_tonality: str | None
    clean: bool
    """No click, dropout or dead silence."""
    embedding: np.ndarray


def read_requests(path: Path) -> list[RequestedAttributes]:
    """Reads a list of stated prompts, one JSON object a line."""
    wishes: list[RequestedAttributes] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        wishes.append(
            RequestedAttributes(
                words=row["prompt"],
                lead=row["lead"],
                tempo_bpm=row["tempo_bpm"] if row["tempo_stated"] else None,
                tonality=row["tonality"],
            )
        )
    return wishes


def requested_of(facts: Facts, words: str) -> RequestedAttributes:
    """A true render's facts as if someone had asked for them."""
    return RequestedAttributes(
        words=words, lead=facts.lead, tempo_bpm=facts.tempo_bpm, tonality=facts.tonality
    )


def stated_attributes(words: str, facts: Facts | None = None) -> RequestedAttributes:
    """What words state outright, nothing guessed; with the `facts` of a true piece its own numbers
    in the place of rounded ones.

    A lead is stated where one family alone is named beside drums and bass.
    """
    said = read_settings(words)
    tunes = [family for family in said.families if family not in ACCOMPANYING]
    tempo_bpm, tonality = said.tempo_bpm, said.tonality
    if facts is not None:
        tempo_bpm = tempo_bpm and facts.tempo_bpm
        tonality = tonality and facts.tonality
    lead = tunes[0] if len(tunes) == 1 else None
    return RequestedAttributes(
        words=words,
        lead=lead if facts is None or lead == facts.lead else None,
        tempo_bpm=tempo_bpm,
        tonality=tonality,
        families=said.families if facts is None else tuple(set(said.families) & {*facts.families}),
    )


def measure_attributes(waveform: Waveform, judge: Judge) -> MeasuredAttributes:
    """Everything the judges say of one piece."""
    verdict = judge.judge_all([waveform])[0]
    return MeasuredAttributes(
        lead=verdict.lead,
        tempo_bpm=verdict.tempo_bpm,
        tonality=verdict.tonality,
        signal_tempo_bpm=measure_tempo(waveform).bpm,
        signal_tonality=measure_tonality(waveform).tonality,
        clean=find_artefacts(waveform).is_clean,
        embedding=verdict.embedding,
    )


def contrast(words: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Per piece, similarity to its own words minus the mean to the others' words, float64 [n].

    Both [n, width] unit vectors, n two or more.
    """
    similarity = np.asarray(words, dtype=np.float64) @ np.asarray(sound, dtype=np.float64).T
    count = len(similarity)
    own = np.diagonal(similarity)
    return own - (similarity.sum(axis=0) - own) / max(count - 1, 1)


@dataclass(frozen=True, kw_only=True)
class Adherence:
    """Yes or no per piece and question; only pieces for which it was asked."""

    lead: np.ndarray
    lead_family: np.ndarray
    """The family asked for, for balancing."""
    tempo: np.ndarray
    signal_tempo: np.ndarray
    tonality: np.ndarray
    signal_tonality: np.ndarray
    contrast: np.ndarray
    """See `contrast`, one per piece."""
    clean: np.ndarray


def compare(
    wishes: Sequence[RequestedAttributes], heard: Sequence[MeasuredAttributes], judge: Judge
) -> Adherence:
    """What was heard against what was asked, piece by piece."""
    pairs = list(zip(wishes, heard, strict=True))
    led = [(w, h) for w, h in pairs if w.lead is not None]
    toned = [(w, h) for w, h in pairs if w.tonality is not None]
    timed = [(w.tempo_bpm, h) for w, h in pairs if w.tempo_bpm is not None]
    words = judge.read_words([w.words for w in wishes])
    return Adherence(
        lead=np.array([w.lead == h.lead for w, h in led]),
        lead_family=np.array([w.lead for w, _ in led]),
        tempo=np.array([meets_tempo(h.tempo_bpm, bpm) for bpm, h in timed]),
        signal_tempo=np.array([meets_tempo(h.signal_tempo_bpm, bpm) for bpm, h in timed]),
        tonality=np.array([w.tonality == h.tonality for w, h in toned]),
        signal_tonality=np.array([w.tonality == h.signal_tonality for w, h in toned]),
        contrast=contrast(words, np.stack([h.embedding for h in heard])),
        clean=np.array([h.clean for h in heard]),
    )


def tempo_chance(wishes: Sequence[RequestedAttributes]) -> float:
    """How often the best constant answer meets the stated tempi."""
    stated = [w.tempo_bpm for w in wishes if w.tempo_bpm is not None]
    shares = [np.mean([meets_tempo(guess, bpm) for bpm in stated]) for guess in stated]
    return float(max(shares, default=0.0))


def _ratio_interval(outputs: np.ndarray, truth: np.ndarray) -> Interval:
    """Mean of one contrast over the mean of another, both drawn anew."""
    count = len(outputs)
    rng = np.random.default_rng(1)

    def statistic(index: np.ndarray) -> float:
        whole = len(np.unique(index)) == count
        other = truth if whole else truth[rng.integers(0, len(truth), len(truth))]
        return float(outputs[index].mean() / other.mean())

    return bootstrap(statistic, count)


def adherence_figures(
    asked: Sequence[RequestedAttributes],
    outputs: Adherence,
    truth: Adherence,
    command: str,
    label: str,
) -> list[Figure]:
    """Rows of the table: outputs with the ceiling of true renders.

    `label` names how the outputs were drawn, e.g. "best of 4".
    """

    def row(what: str, values: np.ndarray, ceiling: np.ndarray, chance: float) -> Figure | None:
        if not len(values):
            return None
        top = float(ceiling.mean()) if len(ceiling) else None
        interval = mean_interval(values)
        name = f"{what} ({label})"
        return figure_of(name, interval, chance=chance, ceiling=top, command=command)

    families = len(np.unique(outputs.lead_family))
    guess = tempo_chance(asked)
    figures = [
        row("stated tempo within 5 %, judge", outputs.tempo, truth.tempo, guess),
        row("stated tempo within 5 %, signal", outputs.signal_tempo, truth.signal_tempo, guess),
        row("stated tonality, judge", outputs.tonality, truth.tonality, 1 / 24),
        row("stated tonality, signal", outputs.signal_tonality, truth.signal_tonality, 1 / 24),
        row("free of clicks, dropouts, dead silence", outputs.clean, truth.clean, 1.0),
    ]
    if families:
        figures.insert(
            0,
            figure_of(
                f"lead instrument's family heard ({label})",
                balanced_interval(outputs.lead, outputs.lead_family),
                chance=1 / families,
                ceiling=_lead_ceiling(outputs, truth),
                command=command,
            ),
        )
    similar = figure_of(
        f"similarity, (outputs - shuffled) / (true - shuffled) ({label})",
        _ratio_interval(outputs.contrast, truth.contrast),
        chance=0.0,
        ceiling=1.0,
        command=command,
    )
    return [figure for figure in [*figures, similar] if figure is not None]


def _lead_ceiling(outputs: Adherence, truth: Adherence) -> float | None:
    """Balanced accuracy on true renders, over the families that were asked for."""
    same = np.isin(truth.lead_family, np.unique(outputs.lead_family))
    if not same.any():
        return None
    groups = truth.lead_family[same]
    means = [truth.lead[same][groups == group].mean() for group in np.unique(groups)]
    return float(np.mean(means))
