"""Tunes are extracted from hums, whistles and instruments, and from nothing else."""

from __future__ import annotations

import mir_eval.melody
import numpy as np
import pytest

from melisma.melody import Tune, TuneNote, extract_tune, melody_frames
from melisma.melody.transcribe import find_notes, line_tuning
from melisma.melody.viterbi import likeliest_path
from melisma.symbolic.mixing.mixer import MixerSettings
from melisma.symbolic.render import RenderSettings, render_score
from melisma.symbolic.soundfont.discovery import packaged_soundfont
from melisma.values import Notes, Score, TempoMap, Track, Waveform
from melisma.values.errors import MelismaError

RATE_HZ = 24_000
FONT = packaged_soundfont()
TUNE = ((60, 0.5), (62, 0.25), (64, 0.25), (None, 0.4), (67, 0.6), (65, 0.3), (64, 0.3), (60, 0.6))
"""MIDI pitches and their seconds."""
VOWELS = {"hum": ((250, 1.0),), "ah": ((730, 1.0), (1_090, 0.6)), "ee": ((280, 1.0), (2_250, 0.3))}


def written_pitches(octave: int = 0) -> np.ndarray:
    """MIDI pitch of each sample, nan in the rest."""
    rows = [
        np.full(int(seconds * RATE_HZ), np.nan if pitch is None else pitch + 12.0 * octave)
        for pitch, seconds in TUNE
    ]
    return np.concatenate(rows)


def hummed(
    voice: str = "hum",
    *,
    octave: int = 0,
    cents: float = 0.0,
    drift_cents: float = 0.0,
    vibrato_cents: float = 0.0,
    noise_db: float | None = None,
) -> Waveform:
    """The tune by a voice whose pitch glides for 60 ms between notes."""
    written = written_pitches(octave)
    time = np.arange(len(written)) / RATE_HZ
    known = np.flatnonzero(~np.isnan(written))
    held = np.interp(np.arange(len(written)), known, written[known])
    glide = np.hanning(int(0.06 * RATE_HZ))
    pitch = np.convolve(np.pad(held, len(glide), mode="edge"), glide / glide.sum(), "same")
    pitch = pitch[len(glide) : -len(glide)]
    off = cents + drift_cents * time / time[-1] + vibrato_cents * np.sin(2 * np.pi * 5.5 * time)
    hz = 440.0 * 2.0 ** ((pitch + off / 100.0 - 69.0) / 12.0)
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    if voice == "whistle":
        sound = np.sin(phase)
    else:
        sound = sum(
            sum(gain / (1.0 + ((n * hz - centre) / 200.0) ** 2) for centre, gain in VOWELS[voice])
            * np.sin(n * phase)
            + 0.05 / n * np.sin(n * phase)
            for n in range(1, 12)
        )
    loud = np.convolve(~np.isnan(written), np.hanning(600) / np.hanning(600).sum(), "same")
    sound = np.asarray(sound) * loud
    if noise_db is not None:
        noise = np.random.default_rng(0).standard_normal(len(sound))
        sound = sound + noise * np.sqrt(np.mean(sound**2)) * 10 ** (-noise_db / 20)
    return wave(0.3 * sound / np.abs(sound).max())


def wave(sound: np.ndarray) -> Waveform:
    """Mono at 24 kHz."""
    return Waveform(samples=sound[None].astype(np.float32), rate_hz=RATE_HZ)


def classes_of(tune: Tune) -> list[int]:
    """Pitch classes of the notes, repeated ones once."""
    found: list[int] = []
    for note in tune.notes:
        if not found or found[-1] != note.pitch % 12:
            found.append(note.pitch % 12)
    return found


@pytest.mark.parametrize(
    ("voice", "octave"), [("hum", -1), ("hum", 0), ("ah", -1), ("ee", 0), ("whistle", 2)]
)
@pytest.mark.parametrize("noise_db", [None, 10.0])
def test_the_pitch_of_a_voice_is_followed(voice: str, octave: int, noise_db: float | None) -> None:
    tune = extract_tune(hummed(voice, octave=octave, noise_db=noise_db, vibrato_cents=40.0))
    truth = written_pitches(octave)[:: RATE_HZ // 100]

    def as_hz(pitches: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(pitches), 440.0 * 2.0 ** ((pitches - 69.0) / 12.0), 0.0)

    scores = mir_eval.melody.evaluate(
        np.arange(len(truth)) / 100, as_hz(truth), tune.times, as_hz(tune.pitches)
    )
    assert scores["Raw Pitch Accuracy"] > 0.85  # glides and vibrato leave the written pitch
    assert scores["Raw Chroma Accuracy"] > 0.85
    assert scores["Voicing Recall"] > 0.97
    assert scores["Voicing False Alarm"] < 0.4
    assert classes_of(tune) == [0, 2, 4, 7, 5, 4, 0]


@pytest.mark.parametrize("cents", [-45.0, -20.0, 0.0, 30.0, 45.0])
def test_a_voice_beside_concert_pitch_is_tracked_in_its_own_tuning(cents: float) -> None:
    tune = extract_tune(hummed(cents=cents))
    assert classes_of(tune) == [0, 2, 4, 7, 5, 4, 0]
    assert tune.tuning_cents == pytest.approx(cents, abs=5.0)


@pytest.mark.parametrize("cents", [-60.0, 60.0])
def test_a_voice_nearer_to_the_next_semitone_keeps_its_intervals(cents: float) -> None:
    shift = 1 if cents > 0 else -1
    wanted = [(pitch + shift) % 12 for pitch in (0, 2, 4, 7, 5, 4, 0)]
    assert classes_of(extract_tune(hummed(cents=cents))) == wanted


def test_a_line_that_sinks_by_more_than_half_a_semitone_stays_in_its_scale() -> None:
    pitches = np.repeat([60.0, 64.0, 67.0, 64.0, 62.0, 60.0], 150) + np.linspace(0.1, -0.6, 900)
    notes = find_notes(pitches - line_tuning(pitches), np.zeros(900))
    assert [note.pitch for note in notes] == [60, 64, 67, 64, 62, 60]


def test_vibrato_makes_no_notes_and_does_not_move_the_tuning() -> None:
    tune = extract_tune(hummed("ah", vibrato_cents=60.0, cents=20.0))
    assert classes_of(tune) == [0, 2, 4, 7, 5, 4, 0]
    assert tune.tuning_cents == pytest.approx(20.0, abs=12.0)


def test_times_of_notes_are_those_that_were_sung() -> None:
    starts = [note.onset_seconds for note in extract_tune(hummed("ah")).notes]
    assert starts == pytest.approx([0.0, 0.5, 0.75, 1.4, 2.0, 2.3, 2.6], abs=0.05)


def test_a_repeated_note_is_struck_again() -> None:
    time = np.arange(RATE_HZ) / RATE_HZ
    sound = np.sin(2 * np.pi * 440 * time) * np.exp(-8.0 * (time % 0.5))
    notes = extract_tune(wave(0.3 * sound)).notes
    assert [note.pitch for note in notes] == [69, 69]
    assert notes[1].onset_seconds == pytest.approx(0.5, abs=0.04)


def tune_of(*notes: tuple[float, float, int]) -> Tune:
    """From onset, offset and pitch."""
    frames = 400
    return Tune(
        times=np.arange(frames) / 100,
        pitches=np.full(frames, np.nan),
        rate_hz=100,
        notes=tuple(
            TuneNote(onset_seconds=onset, offset_seconds=offset, pitch=pitch)
            for onset, offset, pitch in notes
        ),
        tuning_cents=0.0,
    )


def test_frames_are_those_of_the_labels() -> None:
    found = melody_frames(tune_of((0.0, 0.2, 60), (0.2, 0.4, 71)), 12)
    assert found.dtype == np.int64
    assert found.tolist() == [1] * 5 + [12] * 5 + [0, 0]


def test_short_pauses_are_held_and_long_ones_are_not() -> None:
    found = melody_frames(tune_of((0.08, 0.2, 60), (0.36, 0.4, 62), (0.6, 0.7, 62)), 18)
    assert found.tolist() == [0, 0] + [1] * 7 + [3] + [0] * 5 + [3, 3, 0]


def test_frames_end_where_they_are_wanted_and_at_another_rate() -> None:
    tune = tune_of((0.0, 1.0, 60), (1.1, 3.0, 64))
    assert melody_frames(tune, 3).tolist() == [1, 1, 1]
    assert melody_frames(tune, 26).tolist() == [1] * 26
    assert melody_frames(tune, 4, frame_rate_hz=2).tolist() == [1, 1, 5, 5]
    assert melody_frames(tune_of(), 2).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("frames", "rate_hz"), [(0, 25.0), (-1, 25.0), (5, 0.0), (5, float("nan"))]
)
def test_frames_without_number_or_rate_are_refused(frames: int, rate_hz: float) -> None:
    with pytest.raises(MelismaError, match="one frame or more at a positive rate"):
        melody_frames(tune_of(), frames, rate_hz)


def test_silence_is_refused() -> None:
    with pytest.raises(MelismaError, match="silent"):
        extract_tune(wave(np.zeros(RATE_HZ)))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_part_of_the_sound_is_refused(seconds: float) -> None:
    with pytest.raises(MelismaError, match="above 0 s"):
        extract_tune(hummed(), seconds=seconds)


def test_less_than_half_a_second_is_refused_and_half_a_second_is_not() -> None:
    with pytest.raises(MelismaError, match="too short"):
        extract_tune(hummed(), seconds=0.49)
    assert classes_of(extract_tune(hummed(), seconds=0.5)) == [0]


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("accompanied", [False, True])
def test_noise_holds_no_tune(slope: float, accompanied: bool) -> None:
    lines = np.fft.rfft(np.random.default_rng(1).standard_normal(4 * RATE_HZ))
    noise = np.fft.irfft(lines / np.maximum(np.arange(len(lines)), 80) ** slope)
    with pytest.raises(MelismaError, match="no tune"):
        extract_tune(wave(0.1 * noise / noise.std()), accompanied=accompanied)


def test_only_the_requested_part_is_analysed() -> None:
    tune = extract_tune(hummed(), seconds=0.7)
    assert tune.seconds == pytest.approx(0.7, abs=0.02)
    assert classes_of(tune) == [0, 2]


def test_blocks_of_long_sound_join_without_a_seam() -> None:
    once = hummed("ah").samples[0]
    times = int(np.ceil(65 * RATE_HZ / len(once)))
    tune = extract_tune(wave(np.tile(once, times)))
    assert tune.seconds == pytest.approx(times * len(once) / RATE_HZ, abs=0.02)
    assert np.allclose(np.diff(tune.times), 0.01)
    assert len(tune.notes) == 6 * times + 1  # it ends on the note that it begins with


def test_stereo_at_another_rate_gives_the_same_tune() -> None:
    one = hummed("ah")
    loud = np.repeat(one.samples[:, ::1], 2, axis=0) * np.array([[1.0], [0.2]], dtype=np.float32)
    other = Waveform(samples=np.repeat(loud, 2, axis=1), rate_hz=2 * RATE_HZ)
    assert classes_of(extract_tune(other)) == classes_of(extract_tune(one))


def rendered(program: int, *, is_drum: bool = False) -> Waveform:
    """The tune, or a beat, by an instrument of the soundfont."""
    pitches = [36, 42, 38, 42, 36, 36, 38, 47] * 2 if is_drum else [67, 69, 71, 74, 72, 71, 69, 67]
    count = len(pitches)
    notes = Notes(
        start_beats=np.arange(count) * 0.5,
        duration_beats=np.full(count, 0.5),
        pitch=np.array(pitches),
        velocity=np.full(count, 90),
    )
    score = Score(
        tracks=(Track(notes=notes, program=program, is_drum=is_drum),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 90.0)),
    )
    settings = MixerSettings(room="dry")
    return render_score(score, RenderSettings(soundfont=FONT, engine="own", mixer=settings)).mix


@pytest.mark.skipif(FONT is None, reason="needs a soundfont")
@pytest.mark.parametrize("program", [0, 40, 73])
@pytest.mark.parametrize("accompanied", [False, True])
def test_instruments_have_tunes(program: int, accompanied: bool) -> None:
    tune = extract_tune(rendered(program), accompanied=accompanied)
    assert classes_of(tune) == [7, 9, 11, 2, 0, 11, 9, 7]


@pytest.mark.skipif(FONT is None, reason="needs a soundfont")
def test_drums_play_no_tune() -> None:
    with pytest.raises(MelismaError, match="no tune"):
        extract_tune(rendered(0, is_drum=True))


def test_the_likeliest_path_weighs_moves_against_scores() -> None:
    scores = np.zeros((6, 20))
    scores[:3, 4], scores[3:, 5] = 1.0, 1.0
    scores[2, 15] = 1.5
    path = likeliest_path(scores, step_cost=0.5, jump_cost=2.0, reach=2)
    assert path.tolist() == [4, 4, 4, 5, 5, 5]
    still = likeliest_path(scores, step_cost=9.0, jump_cost=9.0, reach=2)
    assert len(set(still.tolist())) == 1


@pytest.mark.parametrize("offset", [0.05, 0.2, -0.6])
def test_a_dc_offset_hides_no_tune(offset: float) -> None:
    sound = hummed().samples[0] * 0.2
    assert extract_tune(wave(sound + offset)).notes == extract_tune(wave(sound)).notes


@pytest.mark.parametrize("balance", [1.0, 0.9])
def test_sides_that_cancel_hide_no_tune(balance: float) -> None:
    sound = hummed()
    sides = np.concatenate([sound.samples, -balance * sound.samples])
    given = Waveform(samples=sides, rate_hz=RATE_HZ)
    assert extract_tune(given).notes == extract_tune(sound).notes


def test_amplitudes_of_another_scale_hide_no_tune() -> None:
    sound = hummed().samples[0]
    assert classes_of(extract_tune(wave(32_768.0 * sound))) == classes_of(extract_tune(wave(sound)))
