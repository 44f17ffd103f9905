"""Rooms die away in their time, and differ between the two channels."""

from __future__ import annotations

import numpy as np
import pytest

from melisma.sound.reverberation import HIGHEST_HZ, ROOMS, room_response
from melisma.values.errors import MelismaError


@pytest.mark.parametrize("rate_hz", [24_000, 44_100])
@pytest.mark.parametrize("decay_seconds", [0.4, 1.5])
def test_a_room_falls_by_sixty_decibels_in_its_decay(decay_seconds: float, rate_hz: int) -> None:
    (answer,) = room_response(decay_seconds, rate_hz, np.random.default_rng(0)).astype(np.float64)
    left = np.cumsum(answer[::-1] ** 2)[::-1]  # Schroeder's backward integral
    level_db = 10 * np.log10(left / left[0])
    early, late = (int(share * decay_seconds * rate_hz) for share in (0.2, 0.6))
    fallen = level_db[early] - level_db[late]
    assert fallen == pytest.approx(0.4 * 60, abs=4)


def test_the_energy_of_each_channel_is_one_and_the_ears_hear_apart() -> None:
    answers = room_response(0.8, 44_100, np.random.default_rng(1), channels=2)
    assert answers.dtype == np.float32
    assert answers.shape == (2, int(0.88 * 44_100))
    np.testing.assert_allclose((answers.astype(np.float64) ** 2).sum(axis=1), 1.0, rtol=1e-4)
    assert abs(float(np.corrcoef(answers)[0, 1])) < 0.1
    assert not answers[:, : int(0.003 * 44_100)].any()  # the direct sound is left out


def test_a_room_answers_with_nothing_above_what_walls_give_back() -> None:
    (answer,) = room_response(1.0, 48_000, np.random.default_rng(2))
    spectrum = np.abs(np.fft.rfft(answer[4_800:])) ** 2  # behind the reflections, which are clicks
    hz = np.fft.rfftfreq(len(answer) - 4_800, 1 / 48_000)
    assert spectrum[hz > HIGHEST_HZ + 200].sum() < 1e-4 * spectrum.sum()


def test_the_same_seed_is_the_same_room_and_odd_rooms_are_refused() -> None:
    one, other = (room_response(0.5, 24_000, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    for wrong in (0.0, 60.0, float("nan")):
        with pytest.raises(MelismaError, match="a room decays in"):
            room_response(wrong, 24_000, np.random.default_rng(0))
    assert set(ROOMS) == {"dry", "studio", "hall"}
