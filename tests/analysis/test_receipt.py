"""Receipts of sound and of notes with planted answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from melisma.analysis.calibration import CEILINGS
from melisma.analysis.receipt import (
    Finding,
    Receipt,
    receipt_of_score,
    receipt_of_sound,
    tempo_relation,
)
from melisma.values import Facts, Notes, Score, TempoMap, Track, Waveform
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError

RATE_HZ = 24_000
CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))


def struck(midi: float, seconds: float, strength: float) -> np.ndarray:
    """A plucked note with four harmonics, float64 [sample]."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    hz = 440.0 * 2 ** ((midi - 69) / 12)
    waves = sum(np.sin(2 * np.pi * hz * h * time) / h for h in range(1, 5))
    return strength * waves * np.exp(-3.0 * time / seconds) * np.minimum(time / 0.003, 1.0)


def dance(bpm: float, beats_a_bar: int = 4, tonic: int = 0, seconds: float = 10.0) -> Waveform:
    """A bass note on one, chords on the other beats, a harmony a bar, in a major tonality."""
    beat = 60.0 / bpm
    samples = np.zeros(int((seconds + 4 * beat) * RATE_HZ))
    for index in range(int(seconds / beat)):
        bar, place = divmod(index, beats_a_bar)
        chord = CHORDS[bar % len(CHORDS)]
        notes = [(36 + chord[0], 1.0), (72 + chord[0], 0.5)]
        if place:
            notes = [(60 + pitch, 0.35) for pitch in chord]
        for midi, strength in notes:
            first = int(index * beat * RATE_HZ)
            sound = struck(midi + tonic, beat * (1.0 if place else beats_a_bar), strength)
            samples[first : first + len(sound)] += sound
    samples = samples[: int(seconds * RATE_HZ)]
    return Waveform(samples=(0.8 * samples / np.abs(samples).max())[None], rate_hz=RATE_HZ)


def silence() -> Waveform:
    return Waveform(samples=np.zeros((1, 6 * RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)


def found(receipt: Receipt, name: str) -> Finding:
    (finding,) = (one for one in receipt.findings if one.name == name)
    return finding


def part(rows: list[tuple[float, float, int]], program: int = 0, is_drum: bool = False) -> Track:
    """Notes as (beat, duration in beats, pitch)."""
    start, duration, pitch = (np.array(column) for column in zip(*sorted(rows), strict=True))
    notes = Notes(
        start_beats=start.astype(np.float64),
        duration_beats=duration.astype(np.float64),
        pitch=pitch.astype(np.int64),
        velocity=np.where(start % 4 == 0, 100, 75),
    )
    return Track(notes=notes, program=program, is_drum=is_drum)


def song(bpm: float, tonic: int = 0) -> Score:
    """Twelve bars of four: a flute's tune over a piano."""
    tune: list[tuple[float, float, int]] = []
    backing: list[tuple[float, float, int]] = []
    for bar in range(12):
        chord = CHORDS[bar % 4]
        for beat in range(4):
            at = float(bar * 4 + beat)
            tune += [
                (at + half, 0.5, 72 + tonic + chord[beat % 3] - int(24 * half)) for half in (0, 0.5)
            ]
            backing += [(at, 1.0, (48 if beat == 0 else 60) + tonic + pitch) for pitch in chord]
            if beat % 2 == 0:
                backing.append((at, 1.0, 36 + tonic + chord[0]))
    tempo = TempoMap(beats=np.zeros(1), bpm=np.full(1, bpm))
    return Score(tracks=(part(tune, program=73), part(backing)), tempo=tempo)


def test_a_planted_tempo_agrees_and_another_does_not() -> None:
    clip = dance(97.0)
    right = found(receipt_of_sound(clip, Facts(tempo_bpm=97.0)), "tempo")
    wrong = found(receipt_of_sound(clip, Facts(tempo_bpm=120.0)), "tempo")
    assert right.agrees is True
    assert right.value == pytest.approx(97.0, rel=0.02)
    assert right.requested == "97 bpm"
    assert 0.3 < right.confidence <= 1.0
    assert wrong.agrees is False
    assert wrong.confidence == right.confidence
    assert right.ceiling == CEILINGS["tempo"]


def test_half_and_double_are_reported_as_such() -> None:
    finding = found(receipt_of_sound(dance(97.0), Facts(tempo_bpm=194.0)), "tempo")
    assert finding.agrees is False
    assert finding.measured is not None
    assert "half of what was requested" in finding.measured
    assert tempo_relation(140.0, 70.5) == "double what was requested"
    assert tempo_relation(97.0, 97.0) is None
    assert tempo_relation(97.0, 120.0) is None


@pytest.mark.parametrize(("tonic", "name"), [(0, "C major"), (3, "Eb major"), (-1, "B major")])
def test_a_planted_tonality_agrees_and_another_does_not(tonic: int, name: str) -> None:
    clip = dance(110.0, tonic=tonic)
    assert found(receipt_of_sound(clip, Facts(tonality=name)), "tonality").agrees is True
    assert found(receipt_of_sound(clip, Facts(tonality="F# minor")), "tonality").agrees is False


def test_a_waltz_does_not_agree_with_a_requested_march() -> None:
    waltz, march = dance(126.0, beats_a_bar=3), dance(126.0)
    for clip, right, wrong in ((waltz, "3/4", "4/4"), (march, "4/4", "3/4")):
        agrees = found(receipt_of_sound(clip, Facts(tempo_bpm=126.0, metre=right)), "metre")
        assert agrees.agrees is True
        differs = found(receipt_of_sound(clip, Facts(tempo_bpm=126.0, metre=wrong)), "metre")
        assert differs.agrees is False
        assert agrees.ceiling == CEILINGS["kind of metre, tempo given"]


def test_silence_has_nothing_and_agrees_with_nothing() -> None:
    requested = Facts(
        tempo_bpm=97.0,
        tonality="C major",
        metre="3/4",
        density="sparse",
        families=("piano",),
    )
    receipt = receipt_of_sound(silence(), requested, {"piano": 0.9})
    for name in ("tempo", "tonality", "metre", "density", "instruments"):
        finding = found(receipt, name)
        assert finding.measured is None
        assert finding.confidence == 0.0
        assert finding.agrees is False
        assert finding.value is None
    assert found(receipt, "loudness").measured is None
    assert found(receipt, "length").value == pytest.approx(6.0)
    assert receipt.agreement == 0.0


def test_what_was_not_requested_is_reported_without_a_verdict() -> None:
    receipt = receipt_of_sound(dance(97.0), Facts())
    assert {finding.name for finding in receipt.findings} == {
        "tempo",
        "tonality",
        "metre",
        "density",
        "loudness",
        "length",
    }
    assert all(finding.agrees is None and finding.requested is None for finding in receipt.findings)
    assert receipt.agreement == 0.0
    assert -40.0 < (found(receipt, "loudness").value or 0.0) < -3.0


def test_instruments_count_as_one_and_others_are_reported() -> None:
    predicted = {"piano": 0.9, "drums": 0.2, "strings": 0.7}
    requested = Facts(
        instruments=("grand piano", "drums"), lead="piano", families=("piano", "drums")
    )
    receipt = receipt_of_sound(dance(97.0), requested, predicted)
    instruments = [finding for finding in receipt.findings if finding.name == "instruments"]
    assert [(one.requested, one.agrees) for one in instruments] == [
        ("piano", True),
        ("drums", False),
    ]
    assert [one.confidence for one in instruments] == pytest.approx([0.9, 0.8])
    assert found(receipt, "other instruments").measured == "strings 0.70"
    assert receipt.agreement == pytest.approx(0.9 / 1.7)


def test_agreement_ranks_the_right_candidate_first() -> None:
    requested = Facts(tempo_bpm=97.0, tonality="C major", metre="4/4")
    candidates = [
        dance(97.0),
        dance(97.0, tonic=6),
        dance(118.0, tonic=6, beats_a_bar=3),
        silence(),
    ]
    agreement = [receipt_of_sound(clip, requested).agreement for clip in candidates]
    assert agreement == sorted(agreement, reverse=True)
    assert agreement[0] == 1.0
    assert agreement[0] > agreement[1] > agreement[2] >= agreement[3] == 0.0


def test_what_is_not_found_counts_against_a_candidate() -> None:
    sure = Finding(
        name="tempo",
        requested="97 bpm",
        measured="97.0 bpm",
        value=97.0,
        confidence=0.8,
        agrees=True,
        ceiling=None,
    )
    nothing = Finding(
        name="tonality",
        requested="C major",
        measured=None,
        value=None,
        confidence=0.0,
        agrees=False,
        ceiling=None,
    )
    assert Receipt(findings=(sure,)).agreement == 1.0
    assert Receipt(findings=(sure, nothing)).agreement == pytest.approx(0.8 / 1.8)


def test_a_score_with_planted_facts_agrees() -> None:
    score = song(104.0, tonic=2)
    requested = Facts(
        tempo_bpm=104.0,
        tonality="D major",
        metre="4/4",
        families=("flutes", "piano"),
        density="medium",
    )
    receipt = receipt_of_score(score, requested)
    assert all(finding.agrees is not False for finding in receipt.findings)
    assert receipt.agreement == pytest.approx(1.0)
    other = Facts(tempo_bpm=77.0, tonality="A minor", metre="3/4", families=("brass",))
    wrong = receipt_of_score(score, other)
    assert wrong.agreement == 0.0
    assert found(wrong, "instruments").measured == "brass does not play"
    assert found(wrong, "other instruments").measured == "flutes, piano"
    assert found(wrong, "metre").measured == "2/4 or 4/4"


def test_named_instruments_of_a_score_are_looked_for_by_name() -> None:
    receipt = receipt_of_score(song(104.0), Facts(instruments=("flute", "oboe")))
    instruments = [finding for finding in receipt.findings if finding.name == "instruments"]
    assert [(one.requested, one.agrees) for one in instruments] == [
        ("flute", True),
        ("oboe", False),
    ]


def test_an_empty_score_has_nothing() -> None:
    empty = Score(tracks=(), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)))
    requested = Facts(tempo_bpm=97.0, tonality="C major", metre="6/8", density="busy")
    receipt = receipt_of_score(empty, requested)
    for name in ("tempo", "tonality", "metre", "density"):
        assert found(receipt, name).measured is None
        assert found(receipt, name).agrees is False
        assert found(receipt, name).confidence == 0.0
    assert receipt.agreement == 0.0


def test_a_receipt_survives_json_and_has_lines() -> None:
    receipt = receipt_of_sound(dance(97.0), Facts(tempo_bpm=120.0, families=("piano",)), {})
    row = json.loads(json.dumps(receipt.as_json(), allow_nan=False))
    assert row == receipt.as_json()
    assert Receipt.of_json(row) == receipt
    assert [*row["findings"][0]] == [
        "name",
        "requested",
        "measured",
        "value",
        "confidence",
        "agrees",
        "ceiling",
    ]
    former = [{"asked": one["requested"], **one} for one in row["findings"]]
    for one in former:
        del one["requested"]
    assert Receipt.of_json({"findings": former}) == receipt
    lines = receipt.lines()
    assert len(lines) == len(receipt.findings)
    assert lines[0].startswith("tempo: ")
    assert "requested 120 bpm: does not agree" in lines[0]
    assert lines[1].startswith("key: ")
    for broken in ({}, {"findings": [{"name": "tempo"}]}, {"findings": ["tempo"]}):
        with pytest.raises(MelismaError, match="no receipt"):
            Receipt.of_json(broken)


@pytest.mark.parametrize(
    "requested",
    [Facts(tonality="H dur"), Facts(metre="5/5"), Facts(density="full"), Facts(families=("lute",))],
)
def test_words_that_no_detector_knows_are_refused(requested: Facts) -> None:
    with pytest.raises(MelismaError, match="not"):
        receipt_of_sound(silence(), requested)
    with pytest.raises(MelismaError, match="not"):
        receipt_of_score(song(100.0), requested)


def test_a_metre_that_the_detector_does_not_know_is_said_to_be_requested() -> None:
    with pytest.raises(MelismaError, match="not 7/8"):
        receipt_of_sound(silence(), Facts(metre="7/8"))
    receipt = receipt_of_score(song(100.0), Facts(metre="7/8"))
    [finding] = [one for one in receipt.findings if one.name == "metre"]
    assert (finding.requested, finding.measured, finding.agrees) == ("7/8", None, None)
    assert receipt.agreement == 0.0
    words = "metre: not measured, requested 7/8 (the detector knows 2/4, 3/4, 4/4 and 6/8)"
    assert words in Receipt.of_json(receipt.as_json()).lines()


def test_predicted_instruments_must_be_probabilities_of_families() -> None:
    for predicted in ({"kazoo": 0.5}, {"piano": 1.5}):
        with pytest.raises(MelismaError, match="probability"):
            receipt_of_sound(silence(), Facts(), predicted)


def test_what_was_excluded_is_on_the_receipt_of_sound() -> None:
    sound = Waveform(samples=0.1 * np.sin(np.arange(48_000) / 20)[None], rate_hz=24_000)
    lines = receipt_of_sound(
        sound, Facts(), {"drums": 0.99, "bass": 0.2}, ("drums", "bass")
    ).lines()
    assert any(
        line.startswith("instruments: drums 0.99, requested no drums: does not") for line in lines
    )
    assert any(
        line.startswith("instruments: bass 0.20, requested no bass: agrees") for line in lines
    )
    silence = Waveform(samples=np.zeros((1, 48_000)), rate_hz=24_000)
    assert receipt_of_sound(silence, Facts(), {}, ("drums",)).agreement == 0.0
    others = [family for family in FAMILIES if family != "drums"]
    requested = Facts(families=("drums",))
    for detected, agrees in (({"drums": 0.9}, True), ({"drums": 0.9, "piano": 0.8}, False)):
        findings = receipt_of_sound(sound, requested, detected, others).findings
        [found] = [one for one in findings if one.name == "other instruments"]
        assert (found.requested, found.agrees) == ("none", agrees)


def test_what_was_excluded_is_on_the_receipt_of_a_score() -> None:
    notes = Notes(
        start_beats=np.arange(8.0), duration_beats=np.ones(8), pitch=np.full(8, 60),
        velocity=np.full(8, 80),
    )  # fmt: skip
    score = Score(
        tracks=(Track(notes=notes, program=65, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 90.0)),
    )
    absent = {"saxophone": frozenset({64, 65, 66, 67}), "drums": frozenset({128})}
    found = receipt_of_score(score, Facts(), absent)
    verdicts = {one.requested: (one.measured, one.agrees) for one in found.findings}
    assert verdicts["no saxophone"] == ("alto sax plays", False)
    assert verdicts["no drums"] == ("drums do not play", True)
    assert Receipt.of_json(found.as_json()) == found
