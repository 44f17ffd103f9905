"""Exact settings are read where they are stated, and only there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.joint.instrument_words import instrument_families, named_families
from melisma.joint.settings_words import read_metre, read_settings, read_tempo, read_tonality
from melisma.values.attributes import FAMILIES, METRES, PITCH_NAMES, TONALITIES


@pytest.mark.parametrize(
    ("words", "tempo"),
    [
        ("a gentle waltz, 90 bpm", 90),
        ("90bpm lofi", 90),
        ("at 90 BPM", 90),
        ("at 90 beats per minute", 90),
        ("120 beats a minute", 120),
        ("tempo 75", 75),
        ("tempo: 75, piano", 75),
        ("with a tempo of 134", 134),
        ("tempo of about 134", 134),
        ("bpm: 100", 100),
        ("BPM=66.5", 66.5),
        ("♩ = 108", 108),
        ("80-90 bpm", 85),
        ("between 80 and 90 bpm", 85),
        ("ninety bpm", 90),
        ("a hundred and twenty bpm", 120),
        ("one hundred twenty-five beats per minute", 125),
        ("first 90 bpm, then 120 bpm", 90),
        ("not 90 bpm but 120 bpm", 120),
        ("90 pianos", None),
        ("a slow tempo", None),
        ("music from 1990", None),
        ("tempo 3/4", None),
        ("5000 bpm", None),
        ("12 bpm", None),
        ("opus 90", None),
    ],
)
def test_tempo(words: str, tempo: float | None) -> None:
    assert read_tempo(words) == tempo


@pytest.mark.parametrize(
    ("words", "tonality"),
    [
        ("in F# minor", "F# minor"),
        ("C-sharp minor prelude", "C# minor"),
        ("Db major", "C# major"),
        ("D flat major", "C# major"),
        ("key of B-flat major", "Bb major"),
        ("g♯ minor", "Ab minor"),
        ("E♭ major", "Eb major"),
        ("cb major", "B major"),
        ("E# minor", "F minor"),
        ("fsharp minor", "F# minor"),
        ("d minor, harp", "D minor"),
        ("D harmonic minor", "D minor"),
        ("in A minor", "A minor"),
        ("in a minor", "A minor"),
        ("in a minor at 90 bpm", "A minor"),
        ("piano, a minor, slow", "A minor"),
        ("a-minor waltz", "A minor"),
        ("A minor waltz", "A minor"),
        ("a waltz in A minor key", "A minor"),
        ("in a minor key", None),
        ("A minor key piece", None),
        ("a major hit", None),
        ("A major upgrade of my mood", None),
        ("in a major way", None),
        ("write a minor waltz", None),
        ("a minor", "A minor"),
        ("A major", "A major"),
        ("song in Am", "A minor"),
        ("F#m, 120 bpm", "F# minor"),
        ("I am happy", None),
        ("in the key of G", "G major"),
        ("a waltz in G", "G major"),
        ("key of G minor", "G minor"),
        ("D dorian", None),
        ("in D dorian", None),
        ("not in C major, but in D minor", "D minor"),
        ("minor", None),
        ("Bb maj", "Bb major"),
        ("the bee minor", None),
        ("in the key of D-sharp minor", "Eb minor"),
        ("key of B-flat", "Bb major"),
        ("in a minor key a flute plays", None),
    ],
)
def test_tonality(words: str, tonality: str | None) -> None:
    assert read_tonality(words) == tonality


@pytest.mark.parametrize(
    ("words", "metre"),
    [
        ("in 3/4", "3/4"),
        ("3 / 4 time", "3/4"),
        ("a waltz", "3/4"),
        ("in three", "3/4"),
        ("in three parts", None),
        ("waltz in 6/8", "6/8"),
        ("six-eight lilt", "6/8"),
        ("four-four time", "4/4"),
        ("common time", "4/4"),
        ("in 5/4", None),
        ("12/8 blues", None),
        ("not a waltz", None),
        ("march in 2/4", "2/4"),
        ("on 3/4/2020", None),
        ("piano", None),
    ],
)
def test_metre(words: str, metre: str | None) -> None:
    assert read_metre(words) == metre


@pytest.mark.parametrize(
    ("words", "wanted", "absent"),
    [
        ("flute and piano", ("flutes", "piano"), ()),
        ("electric piano with bass clarinet", ("electric piano", "reeds"), ()),
        ("English horn over bass drum", ("reeds", "drums"), ()),
        ("string quartet", ("strings",), ()),
        ("no drums", (), ("drums",)),
        ("piano without drums or bass", ("piano",), ("drums", "bass")),
        ("without any drums and with flute", ("flutes",), ("drums",)),
        ("no drums, solo cello", ("strings",), ("drums",)),
        ("drumless", (), ("drums",)),
        ("drum-free harp", ("harp",), ("drums",)),
        ("don't use the guitar", (), ("guitar", "electric guitar")),
        ("no bongos, just a drum kit", ("drums",), ()),
        ("woodwinds", ("reeds", "flutes"), ()),
        ("hard rock with guitars", ("electric guitar",), ()),
        ("a recording of a bassoon", ("reeds",), ()),
        ("drum and bass", (), ()),
        ("organ, 90 beats per minute, three beats to the bar", ("organ",), ()),
        ("phat beats", ("drums",), ()),
    ],
)
def test_families(words: str, wanted: tuple[str, ...], absent: tuple[str, ...]) -> None:
    assert named_families(words) == (wanted, absent)


def test_every_name_belongs_to_a_known_family() -> None:
    names = instrument_families()
    assert set(names.values()) == set(FAMILIES)
    for name, family in names.items():
        assert named_families(f"a piece with {name}")[0] == (family,), name


@settings(deadline=None)
@given(st.sampled_from(TONALITIES), st.sampled_from(["in {}", "{}, harp", "the key of {}", "{}"]))
def test_every_tonality_is_read_back(tonality: str, template: str) -> None:
    assert read_tonality(template.format(tonality)) == tonality


@settings(deadline=None)
@given(st.integers(30, 300), st.sampled_from(["{} bpm", "tempo {}", "at {} beats per minute"]))
def test_every_tempo_is_read_back(tempo: int, template: str) -> None:
    assert read_tempo(f"a tune, {template.format(tempo)}, for lute") == tempo


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_without_complaint(words: str) -> None:
    settings = read_settings(words)
    assert settings.tonality is None or settings.tonality in TONALITIES
    assert settings.metre is None or settings.metre in METRES
    assert set(settings.families) <= set(FAMILIES)
    assert not set(settings.families) & set(settings.absent_families)


@settings(deadline=None)
@given(st.sampled_from(PITCH_NAMES))
def test_a_bare_letter_is_major_after_key_of(name: str) -> None:
    assert read_tonality(f"key of {name}") == f"{name} major"
