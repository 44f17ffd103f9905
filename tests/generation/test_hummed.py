"""Hums become notes on a grid of beats, and scores become tunes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from melisma.files import write_audio
from melisma.generation.requests.given import melody_for_score, melody_for_sound, score_of
from melisma.generation.score.hummed import score_of_tune, tune_of_score, with_tempo_and_metre
from melisma.melody import Tune, TuneNote
from melisma.symbolic import write_midi
from melisma.values import Metre, Notes, Score, TempoMap, Track, Waveform
from melisma.values.errors import MelismaError
from melisma.values.events import DRUM_PROGRAM

RATE_HZ = 24_000
RHYTHMS = {
    "plain": (1, 1, 1, 1, 0.5, 0.5, 1, 2, 1, 1, 0.5, 0.5, 1, 2),
    "dotted": (1.5, 0.5, 1, 1, 1.5, 0.5, 2, 1.5, 0.5, 1, 1, 1, 1, 2),
    "sixteenths": (0.5, 0.25, 0.25, 1, 0.75, 0.25, 1, 0.25, 0.25, 0.25, 0.25, 1, 0.5, 0.5, 2),
    "eighths": (0.5, 0.5, 0.5, 0.5, 1, 1, 0.5, 0.5, 0.5, 0.5, 1, 1, 2),
}
"""Beats of the notes of a tune."""
COMPOUND = (2 / 3, 1 / 3, 2 / 3, 1 / 3, 1, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 1 / 3, 1, 1)


def tune(beats: tuple[float, ...], bpm: float, *, unsteady: float = 0.0, seed: int = 0) -> Tune:
    """A tune of notes of these beats; `unsteady` is the deviation of onsets in seconds."""
    rng = np.random.default_rng(seed)
    onsets = np.concatenate([[0.0], np.cumsum(beats)]) * 60.0 / bpm
    onsets = 0.4 + onsets + unsteady * rng.standard_normal(len(onsets))
    pitches = rng.integers(57, 76, len(beats)).tolist()
    notes = [
        TuneNote(onset_seconds=on, offset_seconds=on + 0.9 * (off - on), pitch=pitch)
        for on, off, pitch in zip(onsets[:-1], onsets[1:], pitches, strict=True)
    ]
    return Tune(
        times=np.zeros(0), pitches=np.zeros(0), rate_hz=100.0, notes=tuple(notes), tuning_cents=0.0
    )


@pytest.mark.parametrize("bpm", [66.0, 84.0, 100.0, 120.0, 138.0])
@pytest.mark.parametrize("rhythm", ["dotted", "eighths", "plain"])
def test_the_beat_of_a_hum_is_found(rhythm: str, bpm: float) -> None:
    beats = RHYTHMS[rhythm]
    for seed in range(5):
        found = score_of_tune(tune(beats, bpm, unsteady=0.02, seed=seed))
        assert found.tempo_measured
        levels = np.array([0.5, 1.0, 2.0])  # a beat may be felt twice or half as fast
        ratio = levels[np.abs(levels - found.tempo_bpm / bpm).argmin()]
        assert found.tempo_bpm == pytest.approx(ratio * bpm, rel=0.05)
        written = ratio * np.concatenate([[0.0], np.cumsum(beats)[:-1]])
        assert found.score.tracks[0].notes.start_beats.tolist() == written.tolist()
        assert "bpm (measured)" in found.words


@pytest.mark.parametrize("bpm", [72.0, 90.0, 132.0])
def test_a_given_tempo_is_taken_and_the_rhythm_stays(bpm: float) -> None:
    for beats in RHYTHMS.values():
        found = score_of_tune(tune(beats, 1.06 * bpm, unsteady=0.01), tempo_bpm=bpm)
        assert (found.tempo_bpm, found.tempo_measured) == (bpm, False)
        written = np.concatenate([[0.0], np.cumsum(beats)[:-1]])
        assert found.score.tracks[0].notes.start_beats.tolist() == written.tolist()
        assert "measured" not in found.words


def test_a_voice_that_slows_down_loses_no_beat() -> None:
    for beats in RHYTHMS.values():
        steady = tune(beats, 90.0)
        slower = [
            dataclasses.replace(
                note,
                onset_seconds=note.onset_seconds + 0.004 * note.onset_seconds**2,
                offset_seconds=note.offset_seconds + 0.004 * note.offset_seconds**2,
            )
            for note in steady.notes
        ]
        found = score_of_tune(dataclasses.replace(steady, notes=tuple(slower)), tempo_bpm=90.0)
        written = np.concatenate([[0.0], np.cumsum(beats)[:-1]])
        assert found.score.tracks[0].notes.start_beats.tolist() == written.tolist()


def test_compound_metres_have_dotted_beats() -> None:
    found = score_of_tune(tune(COMPOUND, 80.0, unsteady=0.01), tempo_bpm=80.0, metre=(6, 8))
    written = 1.5 * np.concatenate([[0.0], np.cumsum(COMPOUND)[:-1]])
    np.testing.assert_allclose(found.score.tracks[0].notes.start_beats, written, atol=1e-6)
    assert float(found.score.tempo.bpm[0]) == 120.0
    assert (found.score.metres[0].numerator, found.score.metres[0].denominator) == (6, 8)


def test_notes_neither_overlap_nor_vanish() -> None:
    rng = np.random.default_rng(1)
    for seed in range(100):
        beats = tuple(rng.choice([0.1, 0.25, 0.5, 1.0, 1.5, 3.0], rng.integers(1, 30)).tolist())
        hum = tune(beats, float(rng.uniform(50, 170)), unsteady=0.03, seed=seed)
        notes = score_of_tune(hum).score.tracks[0].notes
        assert 0 <= notes.start_beats[0] < 1
        assert np.all(notes.duration_beats > 0)
        assert np.all(np.diff(notes.start_beats) > 0)
        assert np.all(notes.start_beats[1:] >= (notes.start_beats + notes.duration_beats)[:-1])
        long = sum(beat >= 0.5 for beat in beats)
        assert len(notes) >= long * 0.9
    with pytest.raises(MelismaError, match="no note"):
        score_of_tune(tune((), 100.0))


def test_score_and_tune_are_inverse() -> None:
    found = score_of_tune(tune(RHYTHMS["plain"], 100.0))
    again = score_of_tune(tune_of_score(found.score), tempo_bpm=found.tempo_bpm)
    before, after = found.score.tracks[0].notes, again.score.tracks[0].notes
    assert after.pitch.tolist() == before.pitch.tolist()
    np.testing.assert_allclose(after.start_beats, before.start_beats, atol=1e-6)


def hum(pitches: list[int], seconds: float) -> Waveform:
    """Pitches with overtones, each with a soft beginning and end."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    fade = np.minimum(1.0, np.minimum(time, time[-1] - time) / 0.04)
    parts = []
    for pitch in pitches:
        phase = 2 * np.pi * 440.0 * 2 ** ((pitch - 69) / 12) * time
        parts.append(fade * sum(np.sin(n * phase) / n**2 for n in (1, 2, 3)))
    return Waveform(samples=0.2 * np.concatenate(parts)[None], rate_hz=RATE_HZ)


def test_a_recording_is_written_down_and_a_file_is_what_its_bytes_say(tmp_path: Path) -> None:
    pitches = [60, 62, 64, 65, 67, 65, 64, 62, 60]
    write_audio(tmp_path / "x.flac", hum(pitches, 0.5))
    (tmp_path / "x.flac").rename(tmp_path / "hum.mid")
    score, found = melody_for_score(tmp_path / "hum.mid", tempo_bpm=120.0)
    assert found is not None
    assert score is not None
    assert score is found.score
    assert score.tracks[0].notes.pitch.tolist() == pitches
    assert score.tracks[0].notes.start_beats.tolist() == list(range(9))
    (tmp_path / "song.wav").write_bytes(write_midi(score))
    notes, none = melody_for_score(tmp_path / "song.wav")
    assert none is None
    assert notes is not None
    assert notes.tracks[0].notes.pitch.tolist() == pitches
    followed, _ = melody_for_sound(tmp_path / "song.wav")
    assert isinstance(followed, Tune)
    assert [note.pitch for note in followed.notes] == pitches
    words, _ = melody_for_score(tmp_path / "hum.mid", words="a waltz at 60 bpm")
    assert words is not None
    assert (words.metres[0].numerator, float(words.tempo.bpm[0])) == (3, 60.0)
    with pytest.raises(MelismaError, match=r"hum\.mid is a sound file \(FLAC\)"):
        score_of(tmp_path / "hum.mid")
    (tmp_path / "text.mid").write_text("words")
    with pytest.raises(MelismaError, match="no MIDI file"):
        melody_for_score(tmp_path / "text.mid")


@pytest.mark.parametrize(
    ("words", "programs", "without", "player"),
    [
        ("a hymn", (), (), 0),
        ("a hymn for cello and flute", (), (), 42),
        ("a hymn for tuba and clarinet", (), (), 71),  # too high for a tuba
        ("a flute with a string quartet", (), (), 73),
        ("a string quartet", (), (), 40),
        ("no flute, an oboe", (), (), 68),
        ("flute and clarinet", (), ("flute",), 71),
        ("flute and clarinet", (DRUM_PROGRAM, 56), (), 56),  # settings override the words
        ("a march for drums and timpani", (), (), 0),
    ],
)
def test_a_hum_goes_to_the_first_requested_instrument_that_can_play_it(
    words: str, programs: tuple[int, ...], without: tuple[str, ...], player: int
) -> None:
    sound = hum([65, 67, 69, 70, 72, 70, 69, 67, 65], 0.5)
    score, found = melody_for_score(sound, words=words, programs=programs, without=without)
    assert score is not None
    assert found is not None
    assert (score.tracks[0].program, found.remarks) == (player, ())


def test_a_hum_that_nobody_requested_can_play_stays_with_the_piano() -> None:
    score, found = melody_for_score(hum([65, 67, 69, 70, 72], 0.5), words="a tuba")
    assert score is not None
    assert found is not None
    assert score.tracks[0].program == 0
    assert found.remarks == ("the tune lies outside the range of tuba: a piano plays it",)


def test_a_given_melody_may_be_slower_or_in_another_metre() -> None:
    notes = Notes(
        start_beats=np.arange(4.0), duration_beats=np.ones(4),
        pitch=np.arange(60, 64), velocity=np.full(4, 80),
    )  # fmt: skip
    score = Score(
        tracks=(Track(notes=notes, program=0, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
        metres=(Metre(beat=0.0, numerator=4, denominator=4),),
    )
    assert with_tempo_and_metre(score, tempo_bpm=None, metre=None) is score
    other = with_tempo_and_metre(score, tempo_bpm=60.0, metre=(6, 8))
    assert float(other.tempo.bpm[0]) == 90.0
    assert other.tracks[0].notes is notes
    drums = Score(tracks=(Track(notes=notes, program=0, is_drum=True),), tempo=score.tempo)
    with pytest.raises(MelismaError):
        tune_of_score(drums)
