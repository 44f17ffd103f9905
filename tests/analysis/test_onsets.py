"""Onsets of planted notes, and the matching against mir_eval."""

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.analysis.audio.onsets import find_onsets, match_onsets, score_onsets
from melisma.values import Waveform

RATE_HZ = 24_000


def notes(start_seconds: list[float], seconds: float) -> Waveform:
    """Plucked tones of changing pitch."""
    samples = np.zeros(int(seconds * RATE_HZ))
    for index, start in enumerate(start_seconds):
        first = int(start * RATE_HZ)
        time = np.arange(len(samples) - first) / RATE_HZ
        frequency = 220.0 * 2.0 ** ((index * 5 % 12) / 12.0)
        tone = sum(np.sin(2 * np.pi * frequency * h * time) / h for h in range(1, 8))
        samples[first:] += 0.2 * np.asarray(tone) * np.exp(-time * 4.0)
    return Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ)


def test_planted_notes_are_found_within_twenty_milliseconds() -> None:
    planted = [0.2, 0.5, 0.75, 1.2, 1.6, 2.3, 2.45]
    found = find_onsets(notes(planted, 3.0))
    assert score_onsets(np.array(planted), found, tolerance_seconds=0.02).f1 == 1.0


def test_silence_has_no_onsets() -> None:
    silence = Waveform(samples=np.zeros((1, RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)
    assert len(find_onsets(silence)) == 0


onset_lists = st.lists(
    st.integers(0, 600).map(lambda hundredths: hundredths / 100.0), max_size=25, unique=True
)


@settings(max_examples=60, deadline=None)
@given(reference=onset_lists, found=onset_lists)
def test_matching_agrees_with_mir_eval(reference: list[float], found: list[float]) -> None:
    ours = match_onsets(np.sort(reference), np.sort(found), 0.0523)
    theirs = len(mir_eval.util.match_events(np.sort(reference), np.sort(found), 0.0523))
    assert ours == theirs


def test_scores_at_the_edges() -> None:
    nothing = np.zeros(0)
    assert score_onsets(nothing, nothing).f1 == 1.0
    assert score_onsets(np.array([1.0]), nothing).f1 == 0.0
    half = score_onsets(np.array([1.0, 2.0]), np.array([1.01]))
    assert half.precision == 1.0
    assert half.recall == 0.5
    assert half.f1 == pytest.approx(2 / 3)
