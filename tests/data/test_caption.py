"""Captions say true things in many wordings."""

import dataclasses
import re
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.data.captions.phrasing import CaptionState, composer_name, tradition_name
from melisma.data.captions.vocabulary import INSTRUMENT_SYNONYMS, tempo_adjectives
from melisma.data.captions.writer import write_captions
from melisma.joint.instrument_words import name_family
from melisma.joint.settings_words import read_settings
from melisma.symbolic.instruments import INSTRUMENTS
from melisma.values import Facts
from melisma.values.attributes import FAMILIES, METRES, TONALITIES, program_family
from melisma.values.errors import MelismaError

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
    with pytest.raises(MelismaError, match="0 or more"):
        write_captions(WALTZ, np.random.default_rng(0), -1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_nothing_known_still_gives_words(seed: int) -> None:
    (caption,) = write_captions(Facts(), np.random.default_rng(seed), 1)
    assert caption.strip()


FULL = st.builds(
    Facts,
    tempo_bpm=st.none() | st.floats(40, 220),
    tonality=st.none() | st.sampled_from(TONALITIES),
    metre=st.none() | st.sampled_from(METRES),
    families=st.lists(st.sampled_from(FAMILIES), max_size=5, unique=True).map(tuple),
    dynamics=st.none() | st.sampled_from(("soft", "medium", "loud")),
    density=st.none() | st.sampled_from(("sparse", "medium", "busy")),
    register=st.none() | st.sampled_from(("low", "middle", "high")),
    articulation=st.none() | st.sampled_from(("staccato", "mixed", "legato")),
)
"""Facts without style and mood, to which no scene can be added (scenes may name instruments)."""


@settings(max_examples=60, deadline=None)
@given(FULL, st.integers(0, 2**31))
def test_what_a_caption_states_is_true(facts: Facts, seed: int) -> None:
    lead = facts.families[0] if facts.families else None
    facts = dataclasses.replace(facts, lead=lead)
    with mock.patch("melisma.data.captions.writer.SLIP_SHARE", 0.0):
        captions = write_captions(facts, np.random.default_rng(seed), 3)
    for caption in captions:
        read = read_settings(caption)
        assert read.tonality in (None, facts.tonality), caption
        assert read.metre in (None, facts.metre), caption
        if read.tempo_bpm is not None:
            assert facts.tempo_bpm is not None
            assert read.tempo_bpm == round(facts.tempo_bpm), caption
        either = {"reeds", "flutes"} if "wind" in caption.lower() else set()
        assert set(read.families) <= {*facts.families, *either}, caption
        assert not set(read.absent_families) & set(facts.families), caption


def test_a_synonym_names_the_same_family() -> None:
    families = {name: program_family(i, False) for i, name in enumerate(INSTRUMENTS)}
    families["drums"] = "drums"
    for name, synonyms in INSTRUMENT_SYNONYMS.items():
        assert name in families
        for synonym in synonyms:
            assert name_family(synonym) in (None, families[name]), synonym


@pytest.mark.parametrize(
    ("bpm", "fitting", "wrong"),
    [(50, "very slow", "fast"), (70, "slow", "very slow"), (95, "moderate", "slow"),
     (130, "fast", "very fast"), (180, "very fast", "slow")],
)  # fmt: skip
def test_tempo_words_are_calibrated(bpm: float, fitting: str, wrong: str) -> None:
    assert fitting in tempo_adjectives(bpm)
    assert wrong not in tempo_adjectives(bpm)


@pytest.mark.parametrize(
    ("composer", "names"),
    [
        ("Chopin, Frédéric", {"Chopin", "Frédéric Chopin"}),
        ("Ludwig van Beethoven (1770-1827)", {"Beethoven", "Ludwig van Beethoven"}),
        ("D.Buxtehude", {"Buxtehude"}),
        ("Anonymous", {None}),
        ("Traditional Irish", {None}),
        (None, {None}),
    ],
)
def test_composers_are_named_as_people_name_them(
    composer: str | None, names: set[str | None]
) -> None:
    facts = Facts(composer=composer)
    state = CaptionState(facts=facts, rng=np.random.default_rng(0), exact=False)
    assert {composer_name(state) for _ in range(30)} == names


def test_a_repertoire_for_other_players_is_not_mentioned() -> None:
    for tradition in ("string quartet", "organ music", "orchestral music"):
        facts = Facts(families=("accordion",), tradition=tradition)
        state = CaptionState(facts=facts, rng=np.random.default_rng(0), exact=False)
        assert tradition_name(state) is None
