"""The tables of ceilings and confidences are whole."""

import csv
import json
from pathlib import Path

import pytest

from melisma.analysis.calibration import CEILINGS, CONFIDENCES, calibrated
from melisma.values.attributes import METRES, TONALITIES
from melisma.values.errors import MelismaError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECORDINGS_CSV = BENCHMARKS / "prompts" / "recordings.csv"
RESULTS = BENCHMARKS / "results" / "detectors.json"


def test_ceilings_are_those_that_were_measured() -> None:
    # Results of earlier versions say "tempo told".
    rows = {
        row["what"].replace("tempo told", "tempo given"): row
        for row in json.loads(RESULTS.read_text())
    }
    for detector, share in CEILINGS.items():
        if detector.startswith("score"):
            measured = rows[f"{detector}, held-out pieces"]
        else:
            measured = rows[f"{detector}, unseen soundfont, coded"]
        assert share == pytest.approx(measured["value"], abs=5e-4), detector
    assert set(CONFIDENCES) <= set(CEILINGS)


@pytest.mark.parametrize("detector", sorted(CONFIDENCES))
def test_confidence_never_falls_as_evidence_grows(detector: str) -> None:
    raws, shares = zip(*CONFIDENCES[detector], strict=True)
    assert list(raws) == sorted(set(raws))
    assert list(shares) == sorted(shares)
    assert calibrated(detector, raws[0] - 1.0) == shares[0]
    assert calibrated(detector, raws[-1] + 1.0) == shares[-1]
    assert 0.0 <= shares[0] <= shares[-1] <= 1.0


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(MelismaError, match="detector"):
        calibrated("smell", 0.5)


def test_the_truth_of_recordings_uses_known_words_with_a_reason() -> None:
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
