"""The tables of ceilings and confidences are whole."""

import csv
from pathlib import Path

import pytest

from melisma.measure.ceilings import CEILINGS, CONFIDENCES, RECORDINGS, calibrated, ceiling_of
from melisma.values.attributes import METRES, TONALITIES

RECORDINGS_CSV = Path(__file__).parents[2] / "benchmarks" / "prompts" / "recordings.csv"


def test_ceilings_are_shares_with_counts() -> None:
    for materials in CEILINGS.values():
        for share, count in materials.values():
            assert 0.0 <= share <= 1.0
            assert count > 0
    assert set(CONFIDENCES) <= set(CEILINGS)


@pytest.mark.parametrize("detector", sorted(CONFIDENCES))
def test_confidence_never_falls_as_evidence_grows(detector: str) -> None:
    raws, shares = zip(*CONFIDENCES[detector], strict=True)
    assert list(raws) == sorted(set(raws))
    assert list(shares) == sorted(shares)
    assert calibrated(detector, raws[0] - 1.0) == shares[0]
    assert calibrated(detector, raws[-1] + 1.0) == shares[-1]
    assert 0.0 <= shares[0] <= shares[-1] <= 1.0


def test_what_was_not_measured_has_no_ceiling() -> None:
    assert ceiling_of("smell") is None
    assert ceiling_of("score tonality", RECORDINGS) is None
    assert ceiling_of("tempo") is not None
    with pytest.raises(ValueError, match="detector"):
        calibrated("smell", 0.5)


def test_the_truth_of_recordings_is_told_in_known_words_with_a_reason() -> None:
    with RECORDINGS_CSV.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["file"] for row in rows}) == len(rows) > 20
    for row in rows:
        assert row["tempo_bpm"] or row["tonality"] or row["metre"]
        assert row["why"]
        assert row["loop"] in ("yes", "no")
        assert row["metre"] in ("", *METRES)
        assert row["tonality"] in ("", *TONALITIES)
        assert row["octave"] == "" if not row["tempo_bpm"] else row["octave"] in ("certain", "open")
        assert not row["tempo_bpm"] or 60.0 <= float(row["tempo_bpm"]) <= 190.0
