"""Captions say true things in many wordings."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.corpus.caption import write_captions
from melisma.values import Facts

WALTZ = Facts(
    tempo_bpm=72.0,
    tonality="D minor",
    metre="3/4",
    families=("flutes", "piano"),
    instruments=("flute", "piano"),
    lead="flutes",
    style="waltz",
    moods=("sad", "tender"),
    dynamics="soft",
)


def test_the_same_generator_gives_the_same_captions() -> None:
    one = write_captions(WALTZ, np.random.default_rng(3), 5)
    assert one == write_captions(WALTZ, np.random.default_rng(3), 5)
    assert len(one) == 5


def test_wordings_are_many() -> None:
    captions = write_captions(WALTZ, np.random.default_rng(0), 400)
    assert len(set(captions)) > 390


def test_numbers_stand_in_about_two_of_five() -> None:
    captions = write_captions(WALTZ, np.random.default_rng(1), 600)
    number = re.compile(r"72|\bd[- ]?minor", re.IGNORECASE)
    share = sum(bool(number.search(c)) for c in captions) / len(captions)
    assert 0.33 < share < 0.5


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        write_captions(WALTZ, np.random.default_rng(0), -1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_nothing_known_still_gives_words(seed: int) -> None:
    (caption,) = write_captions(Facts(), np.random.default_rng(seed), 1)
    assert caption.strip()
