"""A song becomes a lead sheet, and a lead sheet becomes music in eight styles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from melisma.data.arrange import LeadSheet, arrange, read_lead_sheet, styles_for
from melisma.data.arrange.accompaniment.balance import balance
from melisma.data.arrange.instruments import INSTRUMENTS
from melisma.data.arrange.metre import refit
from melisma.data.arrange.plan import parse_pattern
from melisma.data.arrange.sheet import notes_from_rows
from melisma.values import Metre, Score, TempoMap, Track
from melisma.values.attributes import STYLES, TONALITIES
from melisma.values.errors import MelismaError

ARRANGED = STYLES[:8]
_CHORDS = {"C": (48, 52, 55), "F": (53, 57, 60), "G7": (43, 53, 59), "Am": (45, 52, 60)}
_SONG = ("C", "F", "C", "G7", "Am", "F", "G7", "C")


def _song(beats_a_bar: int = 4, repeats: int = 2) -> Score:
    """A voice over block chords in C major."""
    voice: list[tuple[float, float, int, int]] = []
    piano: list[tuple[float, float, int, int]] = []
    tune = {
        "C": (67, 64, 60, 67),
        "F": (69, 72, 69, 65),
        "G7": (62, 65, 67, 71),
        "Am": (69, 72, 69, 64),
    }
    for bar in range(len(_SONG) * repeats):
        name = _SONG[bar % len(_SONG)]
        start = float(bar * beats_a_bar)
        last = bar == len(_SONG) * repeats - 1
        pitches = (72,) if last else tune[name][:beats_a_bar]
        length = beats_a_bar / len(pitches)
        voice += [(start + i * length, length, p, 80) for i, p in enumerate(pitches)]
        piano += [(start, float(beats_a_bar), p, 70) for p in _CHORDS[name]]
    return Score(
        tracks=(
            Track(notes=notes_from_rows(voice), program=52, is_drum=False, name="Voice"),
            Track(notes=notes_from_rows(piano), program=0, is_drum=False, name="Piano"),
        ),
        tempo=TempoMap(beats=np.array([0.0]), bpm=np.array([100.0])),
        metres=(Metre(beat=0.0, numerator=beats_a_bar, denominator=4),),
        title="A song",
    )


@pytest.fixture(scope="module")
def sheet() -> LeadSheet:
    found = read_lead_sheet(_song())
    assert found is not None
    return found


def test_the_lead_sheet_names_the_chords_and_the_tonality(sheet: LeadSheet) -> None:
    assert TONALITIES[sheet.tonality] == "C major"
    assert sheet.metre == "4/4"
    roots = [sheet.chord_at(4.0 * bar).root for bar in range(8)]
    assert roots == [0, 5, 0, 7, 9, 5, 7, 0]
    assert sheet.phrase_bars[0] == 0
    assert sheet.title == "A song"


def test_a_pickup_bar_at_beat_zero_is_found() -> None:
    song = _song()
    late = tuple(
        replace(t, notes=replace(t.notes, start_beats=t.notes.start_beats + 1.0))
        for t in song.tracks
    )
    found = read_lead_sheet(replace(song, tracks=late))
    assert found is not None
    assert min(start % 4.0 for start in (c.start_beat for c in found.chords)) == 0.0
    assert found.chord_at(found.bar_beats).root in (0, 5)


@pytest.mark.parametrize("kind", ["short", "piano alone", "odd metre", "noise"])
def test_unsuitable_songs_give_none(kind: str) -> None:
    song = _song()
    if kind == "short":
        song = _song(repeats=1)
        song = replace(
            song,
            tracks=tuple(
                replace(t, notes=notes_from_rows([(0.0, 4.0, 60, 80), (4.0, 4.0, 62, 80)]))
                for t in song.tracks
            ),
        )
    elif kind == "piano alone":
        song = replace(song, tracks=song.tracks[1:])
    elif kind == "odd metre":
        song = replace(song, metres=(Metre(beat=0.0, numerator=5, denominator=4),))
    else:
        rng = np.random.default_rng(1)
        rows = [(i * 0.5, 0.5, int(rng.integers(40, 80)), 80) for i in range(200)]
        noise = replace(song.tracks[1], notes=notes_from_rows(rows))
        song = replace(song, tracks=(noise, noise))
    assert read_lead_sheet(song) is None


@pytest.mark.parametrize("style", ARRANGED)
def test_every_style_gives_a_playable_band(sheet: LeadSheet, style: str) -> None:
    assert style in styles_for(sheet)
    score = arrange(sheet, style, np.random.default_rng(3))
    assert len(score.tempo.bpm) == 1
    assert score.metres[0].bar_beats == (3.0 if style == "waltz" else 4.0)
    assert not score.tracks[0].is_drum
    assert len(score.tracks) >= 2
    for track in score.tracks:
        assert len(track.notes)
        assert (track.notes.duration_beats > 0).all()
        assert ((track.notes.velocity >= 1) & (track.notes.velocity <= 127)).all()
        assert (track.notes.start_beats >= 0).all()
        if not track.is_drum:
            register = INSTRUMENTS[track.program]
            assert track.notes.pitch.min() >= register.low
            assert track.notes.pitch.max() <= register.high
    starts = np.concatenate([track.notes.start_beats for track in score.tracks])
    bars = np.bincount((starts / score.metres[0].bar_beats + 0.05).astype(int))
    assert (bars > 0).all(), "a bar is silent"


def test_the_same_seed_gives_the_same_music_and_another_seed_another(sheet: LeadSheet) -> None:
    one, two, other = (arrange(sheet, "swing", np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert one.tempo.bpm[0] == two.tempo.bpm[0] != other.tempo.bpm[0]
    for first, second in zip(one.tracks, two.tracks, strict=True):
        np.testing.assert_array_equal(first.notes.start_beats, second.notes.start_beats)
        np.testing.assert_array_equal(first.notes.pitch, second.notes.pitch)


def test_swing_delays_off_beats_and_rock_does_not() -> None:
    assert parse_pattern("x.o.", 4.0) == [(0.0, 1.0, 0.82), (2.0, 1.0, 0.64)]
    found = read_lead_sheet(_song())
    assert found is not None
    for style, expected in (("swing", (0.54, 0.7)), ("rock", (0.5, 0.5))):
        score = arrange(found, style, np.random.default_rng(2))
        drums = next(track for track in score.tracks if track.is_drum)
        parts = drums.notes.start_beats % 1.0
        middle = parts[(parts > 0.4) & (parts < 0.72)]
        assert len(middle)
        assert expected[0] - 1e-6 <= middle.min() <= middle.max() <= expected[1] + 1e-6


def test_all_keys_of_a_mode_occur(sheet: LeadSheet) -> None:
    lowest = set()
    for seed in range(40):
        score = arrange(sheet, "march", np.random.default_rng(seed))
        last = max(score.tracks[0].notes.start_beats)
        final = score.tracks[0].notes.pitch[score.tracks[0].notes.start_beats == last]
        lowest.add(int(final.min()) % 12)
    assert len(lowest) >= 10


def test_refitting_keeps_chords_and_tune_together() -> None:
    waltz = read_lead_sheet(_song(beats_a_bar=3))
    assert waltz is not None
    four = refit(waltz, "4/4")
    assert four.bars == waltz.bars
    for bar in range(waltz.bars):
        assert four.chord_at(4.0 * bar).root == waltz.chord_at(3.0 * bar).root
    assert len(four.melody) == len(waltz.melody)
    assert set(four.melody.start_beats[four.melody.start_beats % 4.0 == 0] / 4.0) == set(
        waltz.melody.start_beats[waltz.melody.start_beats % 3.0 == 0] / 3.0
    )


def test_invalid_requests_raise_errors(sheet: LeadSheet) -> None:
    with pytest.raises(MelismaError, match="polka"):
        arrange(sheet, "polka", np.random.default_rng(0))
    with pytest.raises(MelismaError, match="2/4"):
        refit(sheet, "2/4")
    wide = notes_from_rows([(float(i), 1.0, 40 + 3 * (i % 16), 80) for i in range(64)])
    with pytest.raises(MelismaError, match="semitones"):
        arrange(replace(sheet, melody=wide), "rock", np.random.default_rng(0))


def test_a_recorded_groove_replaces_the_drums(sheet: LeadSheet) -> None:
    groove = notes_from_rows([(0.0, 0.1, 36, 100), (1.02, 0.1, 38, 90), (2.0, 0.1, 36, 80)])
    score = arrange(sheet, "rock", np.random.default_rng(1), drum_bars=groove)
    drums = next(track for track in score.tracks if track.is_drum)
    assert set(drums.notes.pitch.tolist()) <= {36, 38, 49}


def test_walking_bass_is_monophonic_and_grounds_every_change(sheet: LeadSheet) -> None:
    score = arrange(sheet, "swing", np.random.default_rng(4))
    bass = next(track.notes for track in score.tracks if track.name == "bass")
    ends = bass.start_beats + bass.duration_beats
    assert (bass.start_beats[1:] >= ends[:-1] - 1e-6).all()
    assert (np.diff(bass.start_beats)[:-1] == 1.0).all(), "a walk is in quarters"
    roots = (bass.pitch[::4] - bass.pitch[-1]) % 12
    assert set(roots.tolist()) <= {0, 5, 7, 9}, "bars begin on C, F, G or A, relative to the tonic"


def test_chords_keep_clear_of_the_tune(sheet: LeadSheet) -> None:
    for seed, style in enumerate(ARRANGED):
        score = arrange(sheet, style, np.random.default_rng(seed))
        lead = score.tracks[0].notes
        lead_ends = lead.start_beats + lead.duration_beats
        clash = total = 0.0
        for track in score.tracks[1:]:
            if track.name not in ("chords", "pad"):
                continue
            for start, length, pitch in zip(
                track.notes.start_beats, track.notes.duration_beats, track.notes.pitch, strict=True
            ):
                together = np.minimum(lead_ends, start + length) - np.maximum(
                    lead.start_beats, start
                )
                near = (together > 0.3) & np.isin(lead.pitch - pitch, (1, 13, -1))
                clash += float(together[near].sum())
                total += float(length)
        assert clash <= 0.03 * total, style


def test_the_lead_is_raised() -> None:
    quiet = Track(
        notes=notes_from_rows([(float(i), 1.0, 72, 40) for i in range(8)]), program=0, is_drum=False
    )
    loud = Track(
        notes=notes_from_rows([(float(i), 1.0, 60, 110) for i in range(8)]),
        program=81,
        is_drum=False,
        name="chords",
    )
    lead, chords = balance([quiet, loud], 120.0)
    assert lead.notes.velocity.mean() > 80
    assert chords.notes.velocity.mean() < 90
    assert balance([loud, quiet], 120.0) == [loud, quiet], "balanced tracks are unchanged"
