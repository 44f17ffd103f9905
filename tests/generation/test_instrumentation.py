"""Instrumentation from words and lists."""

from __future__ import annotations

import pytest

from melisma.generation.score.instrumentation import (
    family_choices,
    instruments_in,
    program_of_name,
    programs_of,
    solo_parts,
)
from melisma.joint.instrument_words import instrument_families
from melisma.lm.score.plan import Choice
from melisma.values.attributes import program_family
from melisma.values.errors import MelismaError
from melisma.values.events import DRUM_PROGRAM


def test_every_known_name_has_a_program_of_its_family() -> None:
    others = {"steel drum", "steel drums", "steelpan", "steel pan", "steel pans", "agogo"}
    for name, family in instrument_families().items():
        program = program_of_name(name)
        assert program is not None, name
        if program != DRUM_PROGRAM and name not in others:
            assert program_family(program, False) == family, name


@pytest.mark.parametrize(
    ("words", "fixed", "chosen"),
    [
        ("a string quartet in D minor", (40, 40, 41, 42), set()),
        ("waltz for two violins and piano, no drums", (), {40, 0}),
        ("heavy rock with guitar, bass and drums", (), {29, 33, DRUM_PROGRAM}),
        ("a jazz trio, with a tenor sax on top", (0, 32, DRUM_PROGRAM), {66}),
        ("no orchestra, just a harp", (), {46}),
        ("a sad tune for solo cello", (42,), set()),
        ("something sad", (), set()),
    ],
)
def test_words_name_instruments(words: str, fixed: tuple[int, ...], chosen: set[int]) -> None:
    parts, choices = instruments_in(words)
    assert parts == fixed
    assert {p for choice in choices for p in choice.programs} == chosen


def test_numbers_count_and_keyboards_may_have_two_staves() -> None:
    _, choices = instruments_in("three trumpets and an organ")
    assert choices == (
        Choice(programs=frozenset((56,)), least=3, most=3),
        Choice(programs=frozenset((19,)), least=1, most=2),
    )


def test_solo_instruments_have_the_usual_staves() -> None:
    (harpsichord,) = instruments_in("a minuet for harpsichord")[1]
    assert (harpsichord.least, harpsichord.most) == (2, 2)
    (choir,) = instruments_in("a motet for choir a cappella")[1]
    assert choir.least == 4
    in_ensemble = instruments_in("flute and piano")[1]
    assert [(choice.least, choice.most) for choice in in_ensemble] == [(1, 1), (1, 2)]
    assert solo_parts(73) == ((73,), ())


def test_lists_give_one_part_each() -> None:
    assert programs_of("flute, cello; drums and 24") == (73, 42, DRUM_PROGRAM, 24)
    assert programs_of("string quartet, Alto Sax") == (40, 40, 41, 42, 65)


@pytest.mark.parametrize("names", ["", " , ", "kazoo orchestra", "128", "violin, gadget"])
def test_unknown_names_are_refused(names: str) -> None:
    with pytest.raises(MelismaError, match="instrument"):
        programs_of(names)


def test_the_model_chooses_within_families() -> None:
    (choice,) = family_choices(("bass",))
    assert choice.programs == frozenset(range(32, 40))
    assert choice.most > 1
