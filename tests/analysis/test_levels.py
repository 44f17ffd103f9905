"""Steady sound is steady, swelling sound swells, pauses do not count."""

from __future__ import annotations

import numpy as np
import pytest

from melisma.analysis.audio.levels import measure_levels
from melisma.values import Waveform

RATE_HZ = 24_000


def piece(gains_db: np.ndarray) -> Waveform:
    """A tone whose level has a step every 0.4 s."""
    gains = np.repeat(10 ** (gains_db / 20), round(0.4 * RATE_HZ))
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(gains)) / RATE_HZ)
    return Waveform(samples=(gains * tone)[None].astype(np.float32), rate_hz=RATE_HZ)


def test_a_steady_tone_does_not_change() -> None:
    found = measure_levels(piece(np.zeros(20)))
    assert found.mean_db == pytest.approx(0.0, abs=0.05)
    assert found.spread_db == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("depth_db", [3.0, 12.0])
def test_swells_are_measured_in_decibels(depth_db: float) -> None:
    found = measure_levels(piece(np.tile([0.0, -depth_db], 10)))
    # Windows on the steps change by the depth, those between them hardly at all.
    assert found.mean_db == pytest.approx(depth_db / 2, rel=0.15)
    assert found.spread_db > 0.3 * depth_db


def test_how_loud_it_is_does_not_matter_and_pauses_neither() -> None:
    changes = np.array([0.0, -4.0, -1.0, -6.0] * 5)
    loud, soft = measure_levels(piece(changes)), measure_levels(piece(changes - 20))
    assert loud.mean_db == pytest.approx(soft.mean_db, abs=0.1)
    paused = np.concatenate([changes, np.full(8, -200.0)])
    assert measure_levels(piece(paused)).spread_db == pytest.approx(loud.spread_db, abs=1.0)


def test_a_moment_of_sound_has_no_changes() -> None:
    found = measure_levels(piece(np.zeros(1)))
    assert (found.mean_db, found.spread_db) == (0.0, 0.0)
