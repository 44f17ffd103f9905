"""Adherence of sound to its prompt: lead family, tempo, key, text similarity, freedom from faults.

Input: pieces with the `RequestedAttributes` of each, and a `Judge`. Output: one
`MeasuredAttributes` per piece, and rows of the table. The ceiling comes from the same functions on
real renders.
"""

from __future__ import annotations

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
from melisma.files.typed_json import parse_json, some_fields
from melisma.joint.settings_words import read_settings
from melisma.values import Facts, Waveform
from melisma.values.prompt import decode_text, split_lines

ACCOMPANYING = ("drums", "bass")
"""Families that are not the lead where another is named."""


@dataclass(frozen=True, kw_only=True)
class RequestedAttributes:
    """Attributes that a prompt requests; None where it leaves them open."""

    words: str
    lead: str | None = None
    tempo_bpm: float | None = None
    tonality: str | None = None
    families: tuple[str, ...] = ()
    """Families of instruments that must sound."""


@dataclass(frozen=True, kw_only=True)
class MeasuredAttributes:
    """Attributes that the judge and the detectors measured in one piece."""

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
    """Reads a list of stated prompts, one JSON object a line; `MelismaError` for anything else."""
    requests: list[RequestedAttributes] = []
    for number, line in enumerate(split_lines(decode_text(path.read_bytes(), str(path))), start=1):
        if line:
            where = f"line {number} of {path}"
            row = some_fields(parse_json(line, where), _StatedRow, where)
            requests.append(
                RequestedAttributes(
                    words=row.prompt,
                    lead=row.lead,
                    tempo_bpm=row.tempo_bpm if row.tempo_stated else None,
                    tonality=row.tonality,
                )
            )
    return requests


@dataclass(frozen=True, kw_only=True)
class _StatedRow:
    """A line of `read_requests`."""

    prompt: str
    lead: str
    tempo_bpm: float
    tempo_stated: bool
    tonality: str


def requested_of(facts: Facts, words: str) -> RequestedAttributes:
    """The facts of a real render as requested attributes."""
    return RequestedAttributes(
        words=words, lead=facts.lead, tempo_bpm=facts.tempo_bpm, tonality=facts.tonality
    )


def stated_attributes(words: str, facts: Facts | None = None) -> RequestedAttributes:
    """Attributes that a text states explicitly; nothing is inferred.

    A lead is stated where exactly one family is named beside drums and bass.

    Args:
        words: The prompt.
        facts: Facts of the real piece that the text describes: exact numbers in place of rounded
            ones, and only families that the piece has.
    """
    stated = read_settings(words)
    tunes = [family for family in stated.families if family not in ACCOMPANYING]
    tempo_bpm, tonality = stated.tempo_bpm, stated.tonality
    if facts is not None:
        tempo_bpm = tempo_bpm and facts.tempo_bpm
        tonality = tonality and facts.tonality
    lead = tunes[0] if len(tunes) == 1 else None
    return RequestedAttributes(
        words=words,
        lead=lead if facts is None or lead == facts.lead else None,
        tempo_bpm=tempo_bpm,
        tonality=tonality,
        families=stated.families
        if facts is None
        else tuple(set(stated.families) & {*facts.families}),
    )


def measure_attributes(waveform: Waveform, judge: Judge) -> MeasuredAttributes:
    """Measures the attributes of one piece with the judge and the detectors."""
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
    """Similarity of each piece to its own text minus the mean similarity to the other texts.

    Args:
        words: Embeddings of the texts, unit vectors [piece, width], two or more.
        sound: Embeddings of the pieces, unit vectors [piece, width].

    Returns:
        float64 [piece].
    """
    similarity = np.asarray(words, dtype=np.float64) @ np.asarray(sound, dtype=np.float64).T
    count = len(similarity)
    own = np.diagonal(similarity)
    return own - (similarity.sum(axis=0) - own) / max(count - 1, 1)


@dataclass(frozen=True, kw_only=True)
class Adherence:
    """Whether each piece meets each request; every array covers only pieces with that request."""

    lead: np.ndarray
    lead_family: np.ndarray
    """The requested family, for balancing."""
    tempo: np.ndarray
    signal_tempo: np.ndarray
    tonality: np.ndarray
    signal_tonality: np.ndarray
    contrast: np.ndarray
    """See `contrast`, one per piece."""
    clean: np.ndarray


def compare(
    requests: Sequence[RequestedAttributes], measured: Sequence[MeasuredAttributes], judge: Judge
) -> Adherence:
    """Compares measured with requested attributes, piece by piece."""
    pairs = list(zip(requests, measured, strict=True))
    led = [(r, m) for r, m in pairs if r.lead is not None]
    keyed = [(r, m) for r, m in pairs if r.tonality is not None]
    timed = [(r.tempo_bpm, m) for r, m in pairs if r.tempo_bpm is not None]
    words = judge.read_words([r.words for r in requests])
    return Adherence(
        lead=np.array([r.lead == m.lead for r, m in led]),
        lead_family=np.array([r.lead for r, _ in led]),
        tempo=np.array([meets_tempo(m.tempo_bpm, bpm) for bpm, m in timed]),
        signal_tempo=np.array([meets_tempo(m.signal_tempo_bpm, bpm) for bpm, m in timed]),
        tonality=np.array([r.tonality == m.tonality for r, m in keyed]),
        signal_tonality=np.array([r.tonality == m.signal_tonality for r, m in keyed]),
        contrast=contrast(words, np.stack([m.embedding for m in measured])),
        clean=np.array([m.clean for m in measured]),
    )


def tempo_chance(requests: Sequence[RequestedAttributes]) -> float:
    """Accuracy of the best constant answer for the stated tempi."""
    stated = [r.tempo_bpm for r in requests if r.tempo_bpm is not None]
    shares = [np.mean([meets_tempo(guess, bpm) for bpm in stated]) for guess in stated]
    return float(max(shares, default=0.0))


def _ratio_interval(outputs: np.ndarray, truth: np.ndarray) -> Interval:
    """Ratio of two mean contrasts, both resampled."""
    count = len(outputs)
    rng = np.random.default_rng(1)

    def statistic(index: np.ndarray) -> float:
        whole = len(np.unique(index)) == count
        other = truth if whole else truth[rng.integers(0, len(truth), len(truth))]
        return float(outputs[index].mean() / other.mean())

    return bootstrap(statistic, count)


def adherence_figures(
    requests: Sequence[RequestedAttributes],
    outputs: Adherence,
    truth: Adherence,
    command: str,
    label: str,
) -> list[Figure]:
    """Rows of the table.

    Args:
        requests: Requested attributes of the outputs.
        outputs: Their adherence.
        truth: Adherence of real renders, the ceiling.
        command: The command that makes these rows.
        label: How the outputs were generated, e.g. "best of 4".
    """

    def row(what: str, values: np.ndarray, ceiling: np.ndarray, chance: float) -> Figure | None:
        if not len(values):
            return None
        top = float(ceiling.mean()) if len(ceiling) else None
        interval = mean_interval(values)
        name = f"{what} ({label})"
        return figure_of(name, interval, chance=chance, ceiling=top, command=command)

    families = len(np.unique(outputs.lead_family))
    guess = tempo_chance(requests)
    figures = [
        row("stated tempo within 5 %, judge", outputs.tempo, truth.tempo, guess),
        row("stated tempo within 5 %, signal", outputs.signal_tempo, truth.signal_tempo, guess),
        row("stated key, judge", outputs.tonality, truth.tonality, 1 / 24),
        row("stated key, signal", outputs.signal_tonality, truth.signal_tonality, 1 / 24),
        row("free of clicks, dropouts, dead silence", outputs.clean, truth.clean, 1.0),
    ]
    if families:
        figures.insert(
            0,
            figure_of(
                f"lead instrument's family recognised ({label})",
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
    """Balanced accuracy on real renders, over the requested families."""
    same = np.isin(truth.lead_family, np.unique(outputs.lead_family))
    if not same.any():
        return None
    groups = truth.lead_family[same]
    means = [truth.lead[same][groups == group].mean() for group in np.unique(groups)]
    return float(np.mean(means))
