"""Receipt of a piece: its measured attributes compared with the requested ones, with confidence.

Every `Finding` carries the calibrated confidence of its detector (its accuracy on known pieces with
similar evidence) and the detector's ceiling (its overall accuracy, from `calibration.py`), so that
a verdict is never presented as more reliable than its detector. Attributes without a detector here
(style, mood, dynamics, register, articulation) are not on the receipt; instruments of audio are
included only if the caller, who has a trained model, passes its predictions.

Inputs: a `Waveform` or a `Score`, and the requested `Facts`. Output: a `Receipt`, as text and as
JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from melisma.symbolic.events import program_of
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
from melisma.values.errors import MelismaError
from melisma.values.events import BAR_METRES

RELATED_TEMPI: dict[float, str] = {
    0.5: "half of what was requested",
    2.0: "double what was requested",
    1 / 3: "a third of what was requested",
    3.0: "three times what was requested",
}
"""Tempi at which the same beat may be counted; they do not agree, but are reported as such."""
SOUND_DENSITY_ONSETS = (2.1, 4.0)
"""Detected onsets per second: sparse below the first, busy from the second upwards. Tuned to agree
best with the facts of rendered clips, which count notes: masked onsets are not detected."""
PRESENT_PROBABILITY = 0.5
"""A family predicted with at least this probability counts as playing."""
OTHER_INSTRUMENTS = "other instruments"
_DISPLAY_NAMES = {"tonality": "key"}
"""Names of findings in text, where they differ from those in JSON."""
_FORMER_KEYS = {"asked": "requested"}
"""Keys of `Finding` fields in receipts of earlier versions."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One measured attribute."""

    name: str
    """The attribute, e.g. "tempo"; findings of one name (one for each instrument) count as one."""
    requested: str | None
    """Requested value as text; None if nothing was requested."""
    measured: str | None
    """Measured value as text; None if the detector finds nothing."""
    value: float | None
    """Measured number in the unit that `measured` states; None without a number."""
    confidence: float
    """0 to 1: calibrated accuracy, but for instruments of audio the probability of the caller's
    model; 0 if nothing was detected, 1 if the value is read off exactly."""
    agrees: bool | None
    """Whether the measured value matches the requested one; None if nothing was requested, or
    what the detector does not know."""
    ceiling: float | None
    """Accuracy of the detector on held-out data; None where it was not measured."""

    def line(self) -> str:
        """The finding as one line of text."""
        text = f"{_DISPLAY_NAMES.get(self.name, self.name)}: {self.measured or 'none'}"
        if self.requested is not None and self.agrees is None:
            known = f"{', '.join(METRES[:-1])} and {METRES[-1]}"
            return f"metre: not measured, requested {self.requested} (the detector knows {known})"
        if self.requested is not None:
            text += f", requested {self.requested}: {'agrees' if self.agrees else 'does not agree'}"
        if self.confidence == 1.0 and self.ceiling in (None, 1.0):
            return text  # read off, not detected
        ceiling = ""
        if self.ceiling is not None:
            ceiling = f"; the detector is right on {self.ceiling:.0%} of test pieces"
        return f"{text} ({self.confidence:.0%} sure{ceiling})"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """All findings of one piece."""

    findings: tuple[Finding, ...]

    @property
    def agreement(self) -> float:
        """Share of the requested attributes that agree, weighted by confidence, 0 to 1.

        Findings of one name share one weight. If a detector finds nothing at all, the requested
        attribute is certainly missing: it counts in full, so that silence never ranks above a
        piece. 0 if nothing was requested.
        """
        requested = [finding for finding in self.findings if finding.agrees is not None]
        met = total = 0.0
        for name in dict.fromkeys(finding.name for finding in requested):
            group = [finding for finding in requested if finding.name == name]
            for one in group:
                weight = 1.0 if one.measured is None else one.confidence
                met += weight * float(bool(one.agrees)) / len(group)
                total += weight / len(group)
        return met / total if total > 0.0 else 0.0

    def lines(self) -> list[str]:
        """Plain text, one line per finding."""
        return [finding.line() for finding in self.findings]

    def as_json(self) -> dict[str, object]:
        """The receipt as JSON values; the inverse is `of_json`."""
        rows = [dataclasses.asdict(one) for one in self.findings]
        return {"agreement": self.agreement, "findings": rows}

    @classmethod
    def of_json(cls, row: Mapping[str, object]) -> Receipt:
        """Reads the result of `as_json`, also of earlier versions.

        Raises:
            MelismaError: if `row` is not a receipt.
        """
        rows = row.get("findings")
        names = {field.name for field in dataclasses.fields(Finding)}
        findings: list[Finding] = []
        for one in rows if isinstance(rows, list) else [None]:
            fields: dict[str, Any] = {}
            if isinstance(one, Mapping):
                fields = {_FORMER_KEYS.get(str(key), str(key)): value for key, value in one.items()}
            if set(fields) != names:
                raise MelismaError("this holds no receipt: it was not written by this program")
            findings.append(Finding(**fields))
        return cls(findings=tuple(findings))


def _check_vocabulary(requested: Facts, metres: Sequence[str] = METRES) -> None:
    """Raises `MelismaError` for words outside the closed vocabularies."""
    for name, known in (("tonality", TONALITIES), ("metre", metres), ("density", DENSITIES)):
        word = getattr(requested, name)
        if word is not None and word not in known:
            name = _DISPLAY_NAMES.get(name, name)
            raise MelismaError(f"the requested {name} is one of {', '.join(known)}, not {word}")
    unknown = set(requested.families) - set(FAMILIES)
    if unknown:
        raise MelismaError(
            f"families are of {', '.join(FAMILIES)}, not {', '.join(sorted(unknown))}"
        )
    if requested.tempo_bpm is not None and not requested.tempo_bpm > 0:
        raise MelismaError(f"a tempo is a positive number of bpm, not {requested.tempo_bpm}")


def tempo_relation(measured_bpm: float, requested_bpm: float) -> str | None:
    """How a measured tempo relates to the requested one, one of `RELATED_TEMPI`; None if not."""
    for factor, words in RELATED_TEMPI.items():
        if meets_tempo(measured_bpm, requested_bpm * factor):
            return words
    return None


def _tempo_finding(estimate: TempoEstimate, requested_bpm: float | None, detector: str) -> Finding:
    bpm = estimate.bpm
    measured = None if bpm is None else f"{bpm:.1f} bpm"
    if (
        bpm is not None
        and requested_bpm is not None
        and (relation := tempo_relation(bpm, requested_bpm))
    ):
        measured = f"{measured} ({relation})"
    return Finding(
        name="tempo",
        requested=None if requested_bpm is None else f"{requested_bpm:g} bpm",
        measured=measured,
        value=bpm,
        confidence=0.0 if bpm is None else calibrated(detector, estimate.confidence),
        agrees=None if requested_bpm is None else meets_tempo(bpm, requested_bpm),
        ceiling=CEILINGS[detector],
    )


def _tonality_finding(estimate: KeyEstimate, requested: str | None, detector: str) -> Finding:
    found = estimate.tonality
    return Finding(
        name="tonality",
        requested=requested,
        measured=found,
        value=None,
        confidence=0.0 if found is None else calibrated(detector, estimate.confidence),
        agrees=None if requested is None else found == requested,
        ceiling=CEILINGS[detector],
    )


def _beat_bpm(estimate: TempoEstimate, requested_bpm: float | None) -> float | None:
    """Beat for the metre: the requested tempo if it agrees with or relates to the measured one."""
    if estimate.bpm is None or requested_bpm is None:
        return estimate.bpm
    near = meets_tempo(estimate.bpm, requested_bpm)
    return requested_bpm if near or tempo_relation(estimate.bpm, requested_bpm) else estimate.bpm


def _metre_finding(estimate: MetreEstimate, requested: str | None, *, tempo_known: bool) -> Finding:
    """Compared by kind if a metre is requested: 2/4 and 4/4 agree."""
    found = estimate.metre
    by_kind = requested is not None
    confidence = estimate.kind_confidence if by_kind else estimate.confidence
    detector = "kind of metre" if by_kind else "metre"
    if by_kind and tempo_known:
        detector += ", tempo given"
    return Finding(
        name="metre",
        requested=requested,
        measured=found,
        value=None,
        confidence=confidence,
        agrees=None
        if requested is None
        else found is not None and METRE_KINDS[found] == METRE_KINDS[requested],
        ceiling=CEILINGS[detector],
    )


def _density_finding(
    rate_hz: float | None, limits: tuple[float, float], requested: str | None, detector: str | None
) -> Finding:
    """Density of `rate_hz` onsets per second (None: silence); `detector` None for exact counts."""
    if rate_hz is None:
        measured, level, confidence = None, None, 0.0
    else:
        level = int(np.digitize(rate_hz, limits))
        measured = f"{rate_hz:.1f} onsets a second ({DENSITIES[level]})"
        margin = float(np.abs(np.log2(max(rate_hz, 0.1) / np.array(limits))).min())
        confidence = 1.0 if detector is None else calibrated(detector, margin)
    return Finding(
        name="density",
        requested=requested,
        measured=measured,
        value=rate_hz,
        confidence=confidence,
        agrees=None if requested is None else level is not None and DENSITIES[level] == requested,
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


def _requested_families(requested: Facts) -> tuple[str, ...]:
    """Requested families: that of the lead, those named, and those of the instruments."""
    programs = [INSTRUMENTS.index(name) for name in requested.instruments if name in INSTRUMENTS]
    named = [program_family(program, is_drum=False) for program in programs]
    drums = ["drums"] if "drums" in requested.instruments else []
    lead = [requested.lead] if requested.lead is not None else []
    return tuple(dict.fromkeys([*lead, *requested.families, *named, *drums]))


def _family_findings(
    predicted: Mapping[str, float], requested: Facts, absent: Sequence[str], silent: bool
) -> list[Finding]:
    """One finding for each requested or excluded family, and one for all others that play."""
    wrong = [name for name, p in predicted.items() if name not in FAMILIES or not 0.0 <= p <= 1.0]
    if wrong:
        raise MelismaError(
            f"instruments are families ({', '.join(FAMILIES)}) with a probability from 0 to 1, "
            f"not {wrong[0]}: {predicted[wrong[0]]}"
        )
    expected = _requested_families(requested)
    findings = []
    for family in expected:
        probability = float(predicted.get(family, 0.0))
        plays = probability >= PRESENT_PROBABILITY and not silent
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
    if silent:  # silence leaves out everything, and deserves no credit for it
        return findings
    excluded = [name for name in absent if name not in expected]
    nothing_else = bool(expected) and len(excluded) + len(set(expected)) == len(FAMILIES)
    for family in [] if nothing_else else excluded:
        probability = float(predicted.get(family, 0.0))
        findings.append(
            Finding(
                name="instruments",
                requested=f"no {family}",
                measured=f"{family} {probability:.2f}",
                value=probability,
                confidence=max(probability, 1.0 - probability),
                agrees=probability < PRESENT_PROBABILITY,
                ceiling=None,
            )
        )
    named = expected if nothing_else else (*expected, *excluded)
    others = {n: p for n, p in predicted.items() if n not in named and p >= PRESENT_PROBABILITY}
    ranked = sorted(others, key=lambda name: -others[name])
    text = ", ".join(f"{name} {others[name]:.2f}" for name in ranked)
    if nothing_else or others:
        surest = max((p for n, p in predicted.items() if n not in named), default=0.0)
        confidence = min(others.values()) if others else 1.0 - surest
        findings.append(_other_instruments_finding(text, confidence, nothing_else=nothing_else))
    return findings


def _other_instruments_finding(measured: str, confidence: float, *, nothing_else: bool) -> Finding:
    return Finding(
        name=OTHER_INSTRUMENTS,
        requested="none" if nothing_else else None,
        measured=measured or "none",
        value=None,
        confidence=confidence,
        agrees=not measured if nothing_else else None,
        ceiling=None,
    )


def receipt_of_sound(
    waveform: Waveform,
    requested: Facts,
    instruments: Mapping[str, float] | None = None,
    absent: Sequence[str] = (),
) -> Receipt:
    """Measures audio and compares it with the requested attributes.

    Args:
        waveform: audio of any sample rate.
        requested: requested attributes; those that are None are measured without a verdict.
        instruments: probability of each instrument family, predicted by a trained model (0 for
            those left out); None omits instruments from the receipt.
        absent: families that were not to play; with the requested ones all of them: no others.

    Raises:
        MelismaError: for a word outside the closed vocabularies, or an invalid probability.
    """
    _check_vocabulary(requested)
    loudness = _loudness_finding(waveform)
    silent = loudness.value is None
    tempo = measure_tempo(waveform)
    onsets = find_onsets(waveform)
    rate_hz = None if silent or not waveform.seconds else len(onsets) / waveform.seconds
    beat_bpm = _beat_bpm(tempo, requested.tempo_bpm)
    tempo_known = beat_bpm is not None and beat_bpm == requested.tempo_bpm
    findings = [
        _tempo_finding(tempo, requested.tempo_bpm, "tempo"),
        _tonality_finding(measure_tonality(waveform), requested.tonality, "tonality"),
        _metre_finding(measure_metre(waveform, beat_bpm), requested.metre, tempo_known=tempo_known),
        _density_finding(rate_hz, SOUND_DENSITY_ONSETS, requested.density, "onset density"),
    ]
    if instruments is not None:
        findings += _family_findings(instruments, requested, absent, silent)
    return Receipt(findings=(*findings, loudness, _length_finding(waveform.seconds)))


def _score_metre_finding(score: Score, requested: str | None) -> Finding:
    """Metre of a score, compared by kind; none where one outside `METRES` is requested."""
    known = requested is None or requested in METRES
    kind, probability = likeliest_kind(score) if known else (None, 0.0)
    names = [metre for metre in METRES if METRE_KINDS[metre] == kind]
    return Finding(
        name="metre",
        requested=requested,
        measured=" or ".join(names) or None,
        value=None,
        confidence=0.0 if kind is None else calibrated("score metre", probability),
        agrees=None if requested not in METRES else kind == METRE_KINDS[requested],
        ceiling=CEILINGS["score metre"],
    )


def _playing_findings(
    score: Score, requested: Facts, absent: Mapping[str, Collection[int]]
) -> list[Finding]:
    """Instruments by name if names are requested, otherwise families; read off the tracks."""
    bar_beats = score.metres[0].bar_beats if score.metres else 4.0
    families = set(playing_families(score, bar_beats))
    programs = playing_programs(score, bar_beats)
    names = {instrument_name(p % DRUMS, is_drum=p == DRUMS) for p in programs}
    expected, playing = (
        (requested.instruments, names)
        if requested.instruments
        else (_requested_families(requested), families)
    )
    findings = [
        Finding(
            name="instruments",
            requested=name,
            measured=_playing(name, plays=name in playing),
            value=None,
            confidence=1.0,
            agrees=name in playing,
            ceiling=CEILINGS["score instruments"],
        )
        for name in expected
    ]
    sounding = {program_of(track) for track in score.tracks if len(track.notes)}
    for name, excluded in absent.items():
        found = sorted(sounding.intersection(excluded))
        names = ", ".join(instrument_name(p % DRUMS, is_drum=p == DRUMS) for p in found)
        findings.append(
            Finding(
                name="instruments",
                requested=f"no {name}",
                measured=_playing(names or name, plays=bool(found)),
                value=None,
                confidence=1.0,
                agrees=not found,
                ceiling=CEILINGS["score instruments"],
            )
        )
    others = sorted(playing - set(expected))
    if others:
        findings.append(_other_instruments_finding(", ".join(others), 1.0, nothing_else=False))
    return findings


def _playing(name: str, *, plays: bool) -> str:
    """ "violin plays", "drums do not play": whether an instrument, or several, play."""
    several = ", " in name or (name.endswith("s") and not name.endswith("ss"))
    if plays:
        return f"{name} {'play' if several else 'plays'}"
    return f"{name} {'do' if several else 'does'} not play"


def receipt_of_score(
    score: Score, requested: Facts, absent: Mapping[str, Collection[int]] | None = None
) -> Receipt:
    """Measures a score from its notes alone and compares it with the requested attributes.

    Tempo, key and metre events of the file are never used.

    Args:
        score: the score.
        requested: requested attributes; those that are None are measured without a verdict.
        absent: instruments that were not to play: programs by name, `DRUMS` for the drum kit.

    Raises:
        MelismaError: for a word outside the closed vocabularies.
    """
    _check_vocabulary(requested, [f"{above}/{below}" for above, below in BAR_METRES])
    onsets = notated_onsets(score)
    rate_hz = None if onsets is None else len(onsets.seconds) / max(score.seconds, 1e-6)
    return Receipt(
        findings=(
            _tempo_finding(measure_score_tempo(score), requested.tempo_bpm, "score tempo"),
            _tonality_finding(measure_score_tonality(score), requested.tonality, "score tonality"),
            _score_metre_finding(score, requested.metre),
            _density_finding(rate_hz, DENSITY_ONSETS, requested.density, None),
            *_playing_findings(score, requested, absent or {}),
            _length_finding(score.seconds),
        )
    )
