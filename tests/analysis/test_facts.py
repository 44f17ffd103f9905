"""Facts of clips must say what the notes and the source say, and nothing where they are unclear."""

from __future__ import annotations

import numpy as np
import pytest

from melisma.analysis.labels.frame_labels import frame_labels
from melisma.analysis.labels.key import estimate_tonality
from melisma.analysis.labels.moods import Character, derive_moods
from melisma.analysis.labels.pulse import clip_metre
from melisma.data.facts import clip_facts
from melisma.data.sources.pieces import Source
from melisma.data.sources.repertoire import source_style, source_tradition
from melisma.symbolic.instruments import INSTRUMENTS, instrument_name
from melisma.symbolic.performance import Part, Performance
from melisma.values.attributes import MOODS, STYLES, Facts
from melisma.values.composers import family_name, period
from melisma.values.errors import MelismaError


def make_part(
    notes: list[tuple[float, float, int]],
    *,
    program: int = 0,
    is_drum: bool = False,
    is_lead: bool = False,
    velocity: int = 75,
) -> Part:
    """A part from (start, duration, pitch)."""
    columns = np.array(notes, dtype=np.float64).reshape(-1, 3)
    return Part(
        program=program,
        is_drum=is_drum,
        is_lead=is_lead,
        start_seconds=columns[:, 0],
        duration_seconds=columns[:, 1],
        pitch=columns[:, 2].astype(np.int64),
        velocity=np.full(len(columns), velocity, dtype=np.int64),
    )


def make_source(corpus: str, **fields: str) -> Source:
    return Source(
        identity=f"{corpus}/midi/x.mid",
        corpus=corpus,
        group="x",
        licence="CC0 1.0",
        source_repo="",
        attribution="",
        midi_bytes=b"",
        title=fields.get("title"),
        composer=fields.get("composer"),
        style=fields.get("style"),
        instruments=fields.get("instruments"),
    )


def facts_of(*parts: Part, beats: np.ndarray | None = None, source: Source | None = None) -> Facts:
    marks = np.arange(0, 10.01, 0.5) if beats is None else beats
    performance = Performance(parts=parts, beat_seconds=marks, bar_seconds=marks[::3], metre="3/4")
    labels = frame_labels(performance, 0.0, 250)
    return clip_facts(performance, 0.0, 10.0, labels, source, None)


def cadence(tonic: int, minor: bool) -> list[tuple[float, float, int]]:
    """Ten seconds of I IV V I in quarter notes with its bass."""
    third = 3 if minor else 4
    chords = ((0, third, 7), (5, 5 + third, 12), (7, 11, 14), (0, third, 7), (0, third, 7))
    return [
        (2.0 * index + 0.5 * beat, 0.45, tonic + step - (24 if beat == 0 and i == 0 else 0))
        for index, chord in enumerate(chords)
        for beat in range(4)
        for i, step in enumerate(chord)
    ]


@pytest.mark.parametrize("minor", [False, True])
@pytest.mark.parametrize("tonic", range(60, 72))
def test_a_cadence_names_its_tonality(tonic: int, minor: bool) -> None:
    performance = Performance(
        parts=(make_part(cadence(tonic, minor)),),
        beat_seconds=np.zeros(0),
        bar_seconds=np.zeros(0),
        metre=None,
    )
    names = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
    expected = f"{names[tonic % 12]} {'minor' if minor else 'major'}"
    assert estimate_tonality(performance, 0.0, 10.0).tonality == expected


def test_no_tonality_in_a_chromatic_scale_or_in_silence() -> None:
    scale = make_part([(0.2 * i, 0.2, 48 + i % 24) for i in range(48)])
    assert facts_of(scale).tonality is None
    assert facts_of(make_part([(0.0, 10.0, 60)])).tonality is None
    assert facts_of().tonality is None


def test_facts_of_a_waltz() -> None:
    tune = make_part(
        [(0.5 * i, 0.5, 72 + (0, 4, 7)[i % 3]) for i in range(20)], program=73, is_lead=True
    )
    chords = make_part([(n[0], n[1], n[2] - 12) for n in cadence(60, False)], velocity=50)
    facts = facts_of(tune, chords, source=make_source("mutopia", title="Valse", style="Romantic"))
    assert facts.tempo_bpm == 120.0
    assert facts.tonality == "C major"
    assert facts.metre == "3/4"
    assert facts.families[0] == "flutes"
    assert facts.instruments == ("flute", "piano")
    assert facts.lead == "flutes"
    assert facts.style == "waltz"
    assert facts.title == "Valse"
    assert facts.density == "sparse"


def test_a_free_tempo_is_not_stated() -> None:
    beats = np.cumsum(0.5 + 0.2 * np.sin(np.arange(20)))
    assert facts_of(make_part(cadence(60, False)), beats=beats).tempo_bpm is None
    assert facts_of(make_part(cadence(60, False)), beats=np.array([0.0, 4.0])).tempo_bpm is None


@pytest.mark.parametrize(
    ("beats_a_bar", "step", "metre"),
    [(2, 0.25, "2/4"), (2, 1 / 6, "6/8"), (3, 0.25, "3/4"), (4, 0.25, "4/4"), (4, 1 / 6, None)],
)
def test_a_clip_may_keep_a_metre_that_the_piece_does_not(
    beats_a_bar: int, step: float, metre: str | None
) -> None:
    marks = np.arange(0, 20, 0.5)
    part = make_part([(step * i, step, 60) for i in range(40)])
    performance = Performance(
        parts=(part,), beat_seconds=marks, bar_seconds=marks[::beats_a_bar], metre=None
    )
    assert clip_metre(performance, 0.0, 10.0) == metre


def test_an_instrument_that_hardly_sounds_is_not_named() -> None:
    piano = make_part(cadence(60, False))
    touch = make_part([(5.0, 0.3, 90)], program=14)
    assert facts_of(piano, touch).instruments == ("piano",)


def test_articulation_dynamics_and_density_follow_the_notes() -> None:
    short = make_part([(0.1 * i, 0.03, 60 + i % 5) for i in range(100)], velocity=110)
    long = make_part([(1.0 * i, 1.0, 40 + i % 5) for i in range(10)], velocity=35)
    loud, soft = facts_of(short), facts_of(long)
    assert (loud.articulation, loud.dynamics, loud.density) == ("staccato", "loud", "busy")
    assert (soft.articulation, soft.dynamics, soft.density) == ("legato", "soft", "sparse")
    assert soft.register == "low"


def test_drums_alone_have_no_pitch_facts() -> None:
    drums = make_part([(0.25 * i, 0.1, (36, 42, 38, 42)[i % 4]) for i in range(40)], is_drum=True)
    facts = facts_of(drums, source=make_source("groove", style="funk/groove1"))
    assert facts.families == ("drums",)
    assert facts.lead is None
    assert facts.tonality is None
    assert facts.register is None
    assert facts.style == "drum groove"
    assert facts.tradition == "funk drumming"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Frédéric Chopin (1810-1849)", "Chopin"),
        ("Moniuszko, Stanisław", "Moniuszko"),
        ("J. S. Bach (1685–1750)", "Bach"),
        ("BachJS", "Bach"),
        ("Georg Friedrich Händel (1685-1759)", "Handel"),
        ("Albeniz", "Albéniz"),
        ("Saint-Georges, Joseph Bologne", "Saint-Georges"),
        ("G.F.Händel", "Handel"),
        ("Max Reger, Op. 42, Heft 2 No. 3", "Reger"),
        ("BeethovenLv", "Beethoven"),
        ("SCOTT JOPLIN.", "Joplin"),
        ("Finnish folk song", None),
        ("Traditional", None),
        ("Anonim", None),
        ("Arr. Y. Nagai, K. Obata", None),
        ("", None),
        (None, None),
    ],
)
def test_composers_have_one_name(written: str | None, name: str | None) -> None:
    assert family_name(written) == name


def test_dates_tell_the_period_of_unknown_composers() -> None:
    assert period("Jan Nieznany (1525-1594)") == "renaissance"
    assert period("Nieznany, Jan ~1660-~1720") == "baroque"
    assert period("Jan Nieznany (1740 - 1800)") == "classical"
    assert period("Jan Nieznany (1820-1890)") == "romantic"
    assert period("Jan Nieznany (1920-1990)") is None
    assert period("Nieznany, Jan 1819/05/05-1872/06/04") == "romantic"
    assert period("Bach, Johann Christian") == "classical"
    assert period("J. S. Bach") == "baroque"
    assert period("Claude Debussy (1862-1918)") == "impressionist"


@pytest.mark.parametrize(
    ("source", "style", "tradition"),
    [
        (make_source("openscore_lieder", composer="Schubert, Franz"), "song", "art song"),
        (
            make_source("openscore_quartets", composer="Haydn, Joseph"),
            "classical",
            "string quartet",
        ),
        (
            make_source("polish_scores", title="Kyrie", style="Sacred; Mass"),
            "church",
            "Polish church music",
        ),
        (
            make_source("polish_scores", title="Mazur", composer="Chopin, Fryderyk"),
            "romantic",
            "Polish mazurka",
        ),
        (make_source("freedoom", title="Zero Fort"), "game", "video game music"),
        (make_source("mutopia", style="Hymn"), "church", "church hymn"),
        (make_source("drum_patterns", style="bossa-nova"), "drum groove", "bossa nova drumming"),
    ],
)
def test_sources_tell_style_and_tradition(
    source: Source, style: str | None, tradition: str | None
) -> None:
    found = source_style(source, None)
    assert found == style
    assert found is None or found in STYLES
    assert source_tradition(source, found, ("strings",)) == tradition


def character(**scales: float) -> Character:
    names = Character.__dataclass_fields__
    return Character(**{name: scales.get(name, 0.0) for name in names})


@pytest.mark.parametrize(
    ("scales", "mood"),
    [
        ({"brightness": 1, "speed": 0.7, "loudness": 0.3}, "happy"),
        ({"brightness": -1, "speed": -0.8, "loudness": -0.5}, "sad"),
        ({"speed": 1, "loudness": 1, "drive": 1}, "energetic"),
        ({"speed": -1, "loudness": -1, "staccato": -0.5}, "calm"),
        ({"brightness": -1, "height": -1, "speed": 0.2}, "dark"),
        ({"brightness": 0.8, "speed": -0.7, "loudness": -1, "staccato": -0.5}, "tender"),
        ({"speed": -0.8, "weight": 1, "loudness": 0.3}, "solemn"),
        ({"brightness": -0.8, "speed": 0.8, "dissonance": 1}, "tense"),
        ({"speed": -0.6, "loudness": -0.8, "shimmer": 1}, "dreamy"),
        ({"brightness": 0.8, "speed": 0.6, "staccato": 1, "height": 0.5}, "playful"),
    ],
)
def test_moods_follow_valence_and_arousal(scales: dict[str, float], mood: str) -> None:
    moods = derive_moods(character(**scales))
    assert mood in moods
    assert len(moods) <= 3
    assert set(moods) <= set(MOODS)


def test_ordinary_music_need_not_have_a_mood() -> None:
    assert derive_moods(character()) == ()


def test_every_program_has_a_name() -> None:
    assert len(INSTRUMENTS) == len(set(INSTRUMENTS)) == 128
    assert instrument_name(0, True) == "drums"
    assert instrument_name(24, False) == "nylon-string guitar"
    with pytest.raises(MelismaError, match="between 0 and 127"):
        instrument_name(128, False)
