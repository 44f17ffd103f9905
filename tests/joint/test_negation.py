"""What a prompt excludes: a table of phrasings, and what holds of any text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.joint.instrument_words import families_of_names, read_mentions
from melisma.joint.negation import read_negation, without_phrases, word_set
from melisma.joint.settings_words import read_settings
from melisma.values.errors import MelismaError

PHRASINGS: tuple[tuple[str, str, str], ...] = (
    # text, excluded families, requested families
    ("no drums", "drums", ""),
    ("ambient drone, no drums", "drums", ""),
    ("piano ballad without drums", "drums", "piano"),
    ("no piano, only drums", "piano electric_piano", "drums"),
    ("only drums", "", "drums"),
    ("drums only", "", "drums"),
    ("just piano", "", "piano"),
    ("solo flute, nothing else", "", "flutes"),
    ("nothing but strings", "", "strings"),
    ("anything but strings", "strings", ""),
    ("everything except brass", "brass", ""),
    ("all instruments but drums", "drums", ""),
    ("jazz quartet without saxophone", "reeds", ""),
    ("jazz without a saxophone", "reeds", ""),
    ("jazz without any saxophones", "reeds", ""),
    ("I do not want a brass section", "brass", ""),
    ("I don't want a brass section", "brass", ""),
    ("I don’t want to hear any brass at all", "brass", ""),
    ("please do not use drums", "drums", ""),
    ("please don't add any loud drums", "drums", ""),
    ("there should be no drums", "drums", ""),
    ("there must not be any bass", "bass", ""),
    ("we can do without drums", "drums", ""),
    ("unaccompanied cello", "", "strings"),
    ("you may leave out the bass", "bass", ""),
    ("leave the drums out", "drums", ""),
    ("skip the drums", "drums", ""),
    ("drumless", "drums", ""),
    ("a drumless loop for guitar", "drums", "guitar"),
    ("no drums acoustic piano", "drums", "piano"),
    ("no percussion strings", "drums", "strings"),
    ("no drums/bass", "drums bass", ""),
    ("acoustic piano free reeds", "", "piano accordion"),
    ("slow / no drums / harp", "drums", "harp"),
    ("drum-free harp", "drums", "harp"),
    ("beatless ambient", "drums", ""),
    ("minus the drums", "drums", ""),
    ("jazz trio minus bass", "bass", ""),
    ("sans drums", "drums", ""),
    ("w/o drums", "drums", ""),
    ("avoid drums", "drums", ""),
    ("avoiding any percussion", "drums", ""),
    ("excluding strings", "strings", ""),
    ("lacking bass", "bass", ""),
    ("free of percussion", "drums", ""),
    ("zero drums", "drums", ""),
    ("drums: none", "drums", ""),
    ("no-drums groove for guitar", "drums", "guitar"),
    ("piano -drums", "drums", "piano"),
    ("no drums or bass", "drums bass", ""),
    ("no drums and no bass", "drums bass", ""),
    ("no drums, no bass, no guitar", "drums bass guitar electric_guitar", ""),
    ("without drums, bass and guitar", "drums bass guitar electric_guitar", ""),
    ("no 808 drums", "drums", ""),
    ("not a single drum", "drums", ""),
    ("the piano should be absent", "piano electric_piano", ""),
    ("drums not included", "drums", ""),
    ("piano [without drums]", "drums", "piano"),
    ("no piano or strings; flute and harp only", "piano electric_piano strings", "flutes harp"),
    ("full orchestra except the brass", "brass", ""),
    ("I'd rather not hear drums", "drums", ""),
    ("it should not contain any brass or woodwinds", "brass reeds flutes", ""),
    ("neither drums nor bass", "drums bass", ""),
    ("no drums, bass or guitar", "drums bass guitar electric_guitar", ""),
    ("no drums, solo cello", "drums", "strings"),
    ("no drums but a cello", "drums", "strings"),
    ("no drums, just a cello", "drums", "strings"),
    ("without any drums and with flute", "drums", "flutes"),
    ("cello instead of drums", "drums", "strings"),
    ("harp rather than piano", "piano electric_piano", "harp"),
    ("a flute, not a clarinet", "reeds", "flutes"),
    ("no singing", "choir", ""),
    ("no vocals", "choir", ""),
    ("without vocals, piano", "choir", "piano"),
    ("instrumental piano", "choir", "piano"),
    ("no drummer", "drums", ""),
    ("no keyboards", "piano electric_piano harpsichord organ", ""),
    ("no orchestra", "strings brass reeds flutes", ""),
    ("drums are not wanted", "drums", ""),
    ("no bongos, just a drum kit", "", "drums"),
    ("clarinet, no saxophone", "", "reeds"),
    ("no wind instruments", "reeds flutes", ""),
    ("no-drums piano", "drums", "piano"),
    ("don't let the drums come in", "drums", ""),
    ("a waltz: everything bar the drums", "drums", ""),
    ("everything save for the strings", "strings", ""),
    ("drums? no thanks", "drums", ""),
    ("drums: no, thank you", "drums", ""),
    ("drums off, piano on", "drums", "piano"),
    ("turn off the drums", "drums", ""),
    ("silence the drums", "drums", ""),
    ("ditch the drums, add a harp", "drums", "harp"),
    ("get rid of the bass", "bass", ""),
    ("do away with any strings", "strings", ""),
    ("who needs drums? a harp please", "drums", "harp"),
    ("the choir must not sing", "choir", ""),
    # what looks like a negation and is none
    ("don't you dare leave out the drums", "", "drums"),
    ("don’t leave out the drums", "", "drums"),
    ("there's nothing like a harp", "", "harp"),
    ("an off-beat drum groove", "", "drums"),
    ("drums off the beat", "", "drums"),
    ("less is more: harp", "", "harp"),
    ("not too many drums", "", "drums"),
    ("not only drums", "", "drums"),
    ("not just drums but also bass", "", "drums bass"),
    ("do not forget the drums", "", "drums"),
    ("I cannot live without drums", "", "drums"),
    ("please don't leave out the drums", "", "drums"),
    ("no less than two flutes", "", "flutes"),
    ("no wave guitar", "", "guitar"),
    ("symphony no. 5 for strings", "", "strings"),
    ("a piano without hurry", "", "piano"),
)


@pytest.mark.parametrize(("text", "excluded", "requested"), PHRASINGS)
def test_phrasings(text: str, excluded: str, requested: str) -> None:
    found = read_settings(text)
    assert set(found.absent_families) == {n.replace("_", " ") for n in excluded.split()}
    if requested:
        assert set(found.families) == {n.replace("_", " ") for n in requested.split()}
    else:
        assert not set(found.families) & set(found.absent_families)


@pytest.mark.parametrize(("text", "excluded", "requested"), PHRASINGS)
def test_what_is_embedded_names_nothing_that_is_excluded(
    text: str, excluded: str, requested: str
) -> None:
    del excluded, requested
    found = read_settings(text)
    again = read_settings(found.kept)
    assert not set(again.families) & set(found.absent_families)
    assert set(again.families) == set(found.families)


def test_only_excludes_all_others() -> None:
    for text in ("only drums", "no piano, only drums", "nothing but strings", "drums only"):
        assert read_settings(text).only
    for text in ("not only drums", "drums and bass", "if only there were drums"):
        assert not read_settings(text).only


@pytest.mark.parametrize(
    ("text", "avoided"),
    [
        ("not too fast", ("tempo", "fast")),
        ("a waltz, not slow", ("tempo", "slow")),
        ("not sad", ("moods", "sad")),
        ("nothing loud", ("dynamics", "loud")),
        ("never sad, never gloomy", ("moods", "sad")),
        ("no waltz", ("style", "waltz")),
    ],
)
def test_classes_are_excluded(text: str, avoided: tuple[str, str]) -> None:
    assert avoided in read_settings(text).avoided


def test_unknown_things_are_reported() -> None:
    assert read_settings("piano, no autotune").unresolved == ("no autotune",)


def test_names_of_instruments_to_leave_out() -> None:
    found = families_of_names(["drums", "alto sax", "vocals", "guitars", "electric piano"])
    assert found["vocals"] == ("choir",)
    assert found["guitars"] == ("guitar", "electric guitar")
    for name in ("drumz", "nothing", "no drums", "drums and bass", "\ud800", "🥁"):
        with pytest.raises(MelismaError, match="no instrument"):
            families_of_names([name])


_WORDS = st.lists(
    st.sampled_from(
        sorted(
            word_set(
                "no not without only but drums piano flute and or , . nothing anything don't leave "
                "out - bass fast sad never neither nor instead of 🥁 ſ İ less free \ud800 any the"
            )
        )
    ),
    max_size=14,
).map(" ".join)


@settings(deadline=None)
@given(st.one_of(_WORDS, st.text(max_size=60)))
def test_any_text_is_read(text: str) -> None:
    found = read_mentions(text)
    spans = [(one.first, one.stop) for one in found.mentions]
    assert spans == sorted(spans)
    assert all(0 <= first < stop <= len(text) for first, stop in (*spans, *found.phrases))
    read = read_settings(text)
    assert not set(read.families) & set(read.absent_families)
    assert len(read.kept) <= max(len(text), len("music"))


@settings(deadline=None)
@given(st.sampled_from(PHRASINGS), st.sampled_from(["calm. ", "sad, ", "In D minor: "]))
def test_what_stands_before_changes_nothing(row: tuple[str, str, str], before: str) -> None:
    text = before + row[0]
    assert set(read_settings(text).absent_families) == set(read_settings(row[0]).absent_families)


def test_phrases_are_taken_out_with_what_they_leave() -> None:
    text = "a tune, but please without any drums, for harp"
    found = read_negation(text, [(text.index("drums"), text.index("drums") + 5)])
    assert found.excluded == (True,)
    assert "drums" not in without_phrases(text, found.phrases)
