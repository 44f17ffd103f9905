"""The receipt of one piece: what is measured of it against what was asked, and how sure that is.

Every `Finding` carries the confidence of its detector (the share of known pieces with such evidence
that it names rightly) and the detector's ceiling (its share right over all of them, from
`calibration.py`), so that a verdict is never worth more than the ear that gave it. What no detector
here can hear (style, mood, dynamics, register, articulation) is not on the receipt; instruments in
sound are there only where the caller, who has a trained ear, hands in what it heard.

Enters: a `Waveform` or a `Score`, and the `Facts` that were asked. Leaves: a `Receipt`, as text for
a person and as JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from melisma.analysis.audio.key import KeyEstimate, measure_tonality
from melisma.analysis.audio.metre import MetreEstimate, measure_metre
from melisma.analysis.audio.onsets import find_onsets
from melisma.analysis.audio.tempo import TempoEstimate, measure_tempo, meets_tempo
from melisma.analysis.calibration import CEILINGS, calibrated
from melisma.analysis.score.instruments import DRUMS, playing_families, playing_programs
from melisma.analysis.score.key import measure_score_tonality
from melisma.analysis.score.metre import likeliest_kind
from melisma.analysis.score.tempo import measure_score_tempo, notated_onsets
from melisma.sound.loudness import integrated_lufs
from melisma.symbolic.instruments import INSTRUMENTS, instrument_name
from melisma.values import Facts, Score, Waveform
from melisma.values.attributes import (
    DENSITIES,
    DENSITY_ONSETS,
    FAMILIES,
    METRE_KINDS,
    METRES,
    TONALITIES,
    program_family,
)

RELATED_TEMPI: dict[float, str] = {
    0.5: "half of what was asked",
    2.0: "double what was asked",
    1 / 3: "a third of what was asked",
    3.0: "three times what was asked",
}
"""Tempi at which the same beat may be counted; they do not agree, but are told as such."""
SOUND_DENSITY_ONSETS = (2.1, 4.0)
"""Onsets a second heard: sparse below the first, busy from the second on. Measured where the facts
of rendered clips, which count notes, are met best: masked onsets are not heard."""
HEARD_PROBABILITY = 0.5
"""A family heard with this probability or more plays."""
OTHERS = "other instruments"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was measured."""

    name: str
    """What, e.g. "tempo"; findings of the same name (one for each instrument) count as one."""
    requested: str | None
    """In words; None where nothing was asked."""
    measured: str | None
    """In words; None where the detector finds nothing."""
    value: float | None
    """The measured number, in the unit that `measured` names; None where there is none."""
    confidence: float
    """0-1: how often known pieces with such evidence are named rightly, but of instruments in sound
    what the ear itself says; 0 where nothing was found, 1 where it is read off."""
    agrees: bool | None
    """Whether what was measured is what was asked; None where nothing was asked."""
    ceiling: float | None
    """The detector's share right on held-out truth; None where it was not measured."""

    def line(self) -> str:
        """The finding as a person would tell it."""
        text = f"{self.name}: {self.measured or 'none'}"
        if self.requested is not None:
            text += f", asked {self.requested}: {'agrees' if self.agrees else 'does not agree'}"
        ceiling = "" if self.ceiling is None else f"; right on {self.ceiling:.0%} of known pieces"
        return f"{text} ({self.confidence:.0%} sure{ceiling})"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """All findings of one piece."""

    findings: tuple[Finding, ...]

    @property
    def agreement(self) -> float:
        """Share of what was asked that is met, weighted by confidence, 0 to 1.

        Findings of one name share one weight. Where a detector finds nothing at all, what was
        asked is surely missing: that counts in full, so that silence never ranks above a piece. 0
        where nothing was asked.
        """
        asked = [finding for finding in self.findings if finding.agrees is not None]
        met = total = 0.0
        for name in dict.fromkeys(finding.name for finding in asked):
            group = [finding for finding in asked if finding.name == name]
            for one in group:
                weight = 1.0 if one.measured is None else one.confidence
                met += weight * float(bool(one.agrees)) / len(group)
                total += weight / len(group)
        return met / total if total > 0.0 else 0.0

    def lines(self) -> list[str]:
        """Plain text, one line a finding."""
        return [finding.line() for finding in self.findings]

    def as_json(self) -> dict[str, object]:
        """Numbers, words and lists only."""
        return {
            "agreement": self.agreement,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }

    @classmethod
    def of_json(cls, row: Mapping[str, object]) -> Receipt:
        """The receipt that `as_json` wrote; `ValueError` where it is something else."""
        rows = row.get("findings")
        names = {field.name for field in dataclasses.fields(Finding)}
        if not isinstance(rows, list) or any(set(one) != names for one in rows):
            raise ValueError("this holds no receipt: it was not written by this program")
        return cls(findings=tuple(Finding(**one) for one in rows))


def _check(asked: Facts) -> None:
    """Refuses words that no detector knows."""
    for name, known in (("tonality", TONALITIES), ("metre", METRES), ("density", DENSITIES)):
        word = getattr(asked, name)
        if word is not None and word not in known:
            raise ValueError(f"the {name} asked for is one of {', '.join(known)}, not {word}")
    unknown = set(asked.families) - set(FAMILIES)
    if unknown:
        raise ValueError(f"families are of {', '.join(FAMILIES)}, not {', '.join(sorted(unknown))}")
    if asked.tempo_bpm is not None and not asked.tempo_bpm > 0:
        raise ValueError(f"a tempo is a positive number of bpm, not {asked.tempo_bpm}")


def tempo_relation(measured_bpm: float, asked_bpm: float) -> str | None:
    """How else the beat asked for may have been counted, one of `RELATED_TEMPI`; None if not."""
    for factor, words in RELATED_TEMPI.items():
        if meets_tempo(measured_bpm, asked_bpm * factor):
            return words
    return None


def _tempo_finding(estimate: TempoEstimate, asked_bpm: float | None, detector: str) -> Finding:
    bpm = estimate.bpm
    measured = None if bpm is None else f"{bpm:.1f} bpm"
    if bpm is not None and asked_bpm is not None and (told := tempo_relation(bpm, asked_bpm)):
        measured = f"{measured} ({told})"
    return Finding(
        name="tempo",
        requested=None if asked_bpm is None else f"{asked_bpm:g} bpm",
        measured=measured,
        value=bpm,
        confidence=0.0 if bpm is None else calibrated(detector, estimate.confidence),
        agrees=None if asked_bpm is None else meets_tempo(bpm, asked_bpm),
        ceiling=CEILINGS[detector],
    )


def _tonality_finding(estimate: KeyEstimate, asked: str | None, detector: str) -> Finding:
    found = estimate.tonality
    return Finding(
        name="tonality",
        requested=asked,
        measured=found,
        value=None,
        confidence=0.0 if found is None else calibrated(detector, estimate.confidence),
        agrees=None if asked is None else found == asked,
        ceiling=CEILINGS[detector],
    )


def _beat_bpm(estimate: TempoEstimate, asked_bpm: float | None) -> float | None:
    """The beat by which the metre is counted: the one asked for where it may be the measured."""
    if estimate.bpm is None or asked_bpm is None:
        return estimate.bpm
    near = meets_tempo(estimate.bpm, asked_bpm)
    return asked_bpm if near or tempo_relation(estimate.bpm, asked_bpm) else estimate.bpm


def _metre_finding(estimate: MetreEstimate, asked: str | None, *, tempo_told: bool) -> Finding:
    """By kind where one was asked: 2/4 and 4/4 agree."""
    found = estimate.metre
    by_kind = asked is not None
    confidence = estimate.kind_confidence if by_kind else estimate.confidence
    detector = "kind of metre" if by_kind else "metre"
    if by_kind and tempo_told:
        detector += ", tempo told"
    return Finding(
        name="metre",
        requested=asked,
        measured=found,
        value=None,
        confidence=confidence,
        agrees=None
        if asked is None
        else found is not None and METRE_KINDS[found] == METRE_KINDS[asked],
        ceiling=CEILINGS[detector],
    )


def _density_finding(
    rate_hz: float | None, limits: tuple[float, float], asked: str | None, detector: str | None
) -> Finding:
    """Onsets a second, `rate_hz` None for silence; `detector` None where they are read off."""
    if rate_hz is None:
        measured, place, confidence = None, None, 0.0
    else:
        place = int(np.digitize(rate_hz, limits))
        measured = f"{rate_hz:.1f} onsets a second ({DENSITIES[place]})"
        margin = float(np.abs(np.log2(max(rate_hz, 0.1) / np.array(limits))).min())
        confidence = 1.0 if detector is None else calibrated(detector, margin)
    return Finding(
        name="density",
        requested=asked,
        measured=measured,
        value=rate_hz,
        confidence=confidence,
        agrees=None if asked is None else place is not None and DENSITIES[place] == asked,
        ceiling=None if detector is None else CEILINGS[detector],
    )


def _length_finding(seconds: float) -> Finding:
    return Finding(
        name="length",
        requested=None,
        measured=f"{seconds:.2f} s",
        value=seconds,
        confidence=1.0,
        agrees=None,
        ceiling=None,
    )


def _loudness_finding(waveform: Waveform) -> Finding:
    lufs = integrated_lufs(waveform)
    return Finding(
        name="loudness",
        requested=None,
        measured=None if lufs is None else f"{lufs:.1f} LUFS",
        value=lufs,
        confidence=0.0 if lufs is None else 1.0,
        agrees=None,
        ceiling=None,
    )


def _asked_families(asked: Facts) -> tuple[str, ...]:
    """Families that must play: those named, that of the lead, those of the instruments."""
    programs = [INSTRUMENTS.index(name) for name in asked.instruments if name in INSTRUMENTS]
    named = [program_family(program, is_drum=False) for program in programs]
    drums = ["drums"] if "drums" in asked.instruments else []
    lead = [asked.lead] if asked.lead is not None else []
    return tuple(dict.fromkeys([*lead, *asked.families, *named, *drums]))


def _heard_families(heard: Mapping[str, float], asked: Facts, silent: bool) -> list[Finding]:
    """One finding for each family asked for, and one for all others that are heard."""
    wrong = [name for name, p in heard.items() if name not in FAMILIES or not 0.0 <= p <= 1.0]
    if wrong:
        raise ValueError(
            f"instruments heard are families ({', '.join(FAMILIES)}) with a probability from 0 "
            f"to 1, not {wrong[0]}: {heard[wrong[0]]}"
        )
    wanted = _asked_families(asked)
    findings = []
    for family in wanted:
        probability = float(heard.get(family, 0.0))
        plays = probability >= HEARD_PROBABILITY and not silent
        findings.append(
            Finding(
                name="instruments",
                requested=family,
                measured=None if silent else f"{family} {probability:.2f}",
                value=None if silent else probability,
                confidence=0.0 if silent else max(probability, 1.0 - probability),
                agrees=plays,
                ceiling=None,
            )
        )
    others = {n: p for n, p in heard.items() if n not in wanted and p >= HEARD_PROBABILITY}
    if others and not silent:
        ranked = sorted(others, key=lambda name: -others[name])
        told = ", ".join(f"{name} {others[name]:.2f}" for name in ranked)
        findings.append(_others_finding(told, min(others.values())))
    return findings


def _others_finding(told: str, confidence: float) -> Finding:
    return Finding(
        name=OTHERS,
        requested=None,
        measured=told,
        value=None,
        confidence=confidence,
        agrees=None,
        ceiling=None,
    )


def receipt_of_sound(
    waveform: Waveform, asked: Facts, instruments: Mapping[str, float] | None = None
) -> Receipt:
    """Measures sound against what was asked.

    `instruments` has the probability of families as a trained ear heard them (0 for those left
    out); without it nothing is said of instruments. Raises `ValueError` where a word that was asked
    or heard is not of the closed vocabularies, or a probability is none.
    """
    _check(asked)
    loudness = _loudness_finding(waveform)
    silent = loudness.value is None
    tempo = measure_tempo(waveform)
    onsets = find_onsets(waveform)
    rate_hz = None if silent or not waveform.seconds else len(onsets) / waveform.seconds
    beat_bpm = _beat_bpm(tempo, asked.tempo_bpm)
    tempo_told = beat_bpm is not None and beat_bpm == asked.tempo_bpm
    findings = [
        _tempo_finding(tempo, asked.tempo_bpm, "tempo"),
        _tonality_finding(measure_tonality(waveform), asked.tonality, "tonality"),
        _metre_finding(measure_metre(waveform, beat_bpm), asked.metre, tempo_told=tempo_told),
        _density_finding(rate_hz, SOUND_DENSITY_ONSETS, asked.density, "onset density"),
    ]
    if instruments is not None:
        findings += _heard_families(instruments, asked, silent)
    return Receipt(findings=(*findings, loudness, _length_finding(waveform.seconds)))


def _score_metre_finding(score: Score, asked: str | None) -> Finding:
    """By kind, as notes tell it."""
    kind, probability = likeliest_kind(score)
    names = [metre for metre in METRES if METRE_KINDS[metre] == kind]
    return Finding(
        name="metre",
        requested=asked,
        measured=" or ".join(names) or None,
        value=None,
        confidence=0.0 if kind is None else calibrated("score metre", probability),
        agrees=None if asked is None else kind == METRE_KINDS[asked],
        ceiling=CEILINGS["score metre"],
    )


def _playing(score: Score, asked: Facts) -> list[Finding]:
    """Instruments by name where they were named, else families; read off the tracks."""
    bar_beats = score.metres[0].bar_beats if score.metres else 4.0
    families = set(playing_families(score, bar_beats))
    programs = playing_programs(score, bar_beats)
    names = {instrument_name(p % DRUMS, is_drum=p == DRUMS) for p in programs}
    wanted, playing = (
        (asked.instruments, names) if asked.instruments else (_asked_families(asked), families)
    )
    findings = [
        Finding(
            name="instruments",
            requested=name,
            measured=f"{name} plays" if name in playing else f"{name} does not play",
            value=None,
            confidence=1.0,
            agrees=name in playing,
            ceiling=CEILINGS["score instruments"],
        )
        for name in wanted
    ]
    others = sorted(playing - set(wanted))
    if others:
        findings.append(_others_finding(", ".join(others), 1.0))
    return findings


def receipt_of_score(score: Score, asked: Facts) -> Receipt:
    """Measures a score against what was asked, from its notes alone.

    Tempo, tonality and metre events of the file are never read. Raises `ValueError` where a word
    that was asked is not of the closed vocabularies.
    """
    _check(asked)
    onsets = notated_onsets(score)
    rate_hz = None if onsets is None else len(onsets.seconds) / max(score.seconds, 1e-6)
    return Receipt(
        findings=(
            _tempo_finding(measure_score_tempo(score), asked.tempo_bpm, "score tempo"),
            _tonality_finding(measure_score_tonality(score), asked.tonality, "score tonality"),
            _score_metre_finding(score, asked.metre),
            _density_finding(rate_hz, DENSITY_ONSETS, asked.density, None),
            *_playing(score, asked),
            _length_finding(score.seconds),
        )
    )
