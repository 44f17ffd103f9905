"""Continuations of recordings: where the music ends, and how the new music is fitted to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import write_model

from melisma.cli.errors import USER_ERROR, run
from melisma.cli.program import program
from melisma.files import read_audio
from melisma.files.audio.writing import check_audio_format
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.recording import musical_end, recording_of
from melisma.generation.conditioning.seam import (
    CROSSFADE_SECONDS,
    Seam,
    beat_grid,
    joined_sound,
    joined_stream,
    rest_seconds,
)
from melisma.generation.ranking import _continuity
from melisma.generation.requests.facade import MelismaPipeline
from melisma.generation.requests.given import audio_context
from melisma.sound.loudness import integrated_lufs, true_peak_db
from melisma.sound.stored import StoredSound
from melisma.values.errors import MelismaError
from melisma.values.waveform import Waveform

BPM = 110.0
PERIOD = 60 / BPM


def beats(
    seconds: float, rate_hz: int, channels: int, *, first: float = 0.0, level: float = 0.3
) -> Waveform:
    """Drum strokes at `BPM` over a soft chord."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    since = (time - first) % PERIOD
    noise = np.random.default_rng(1).standard_normal(len(time))
    strokes = np.exp(-since * 40) * noise + np.exp(-since * 12) * np.sin(2 * np.pi * 80 * since)
    chord = sum(np.sin(2 * np.pi * hz * time) for hz in (220.0, 277.2, 329.6))
    sound = level * (strokes + 0.05 * chord)
    sides = np.linspace(0.6, 1.0, channels)[:, None]
    return Waveform(samples=(sides * sound).astype(np.float32), rate_hz=rate_hz)


def with_tail(sound: Waveform, seconds: float, noise: float = 0.0, offset: float = 0.0) -> Waveform:
    """Music, then silence or noise; all of it with noise and an offset."""
    silence = np.zeros((sound.samples.shape[0], round(seconds * sound.rate_hz)))
    samples = np.concatenate([sound.samples, silence], axis=1)
    samples += noise * np.random.default_rng(2).standard_normal(samples.shape) + offset
    return Waveform(samples=samples.astype(np.float32), rate_hz=sound.rate_hz)


@settings(max_examples=15, deadline=None)
@given(
    seconds=st.floats(1.0, 6.0),
    tail=st.floats(0.5, 5.0),
    rate_hz=st.sampled_from([8_000, 22_050, 44_100]),
    channels=st.sampled_from([1, 2]),
    level=st.sampled_from([0.03, 0.3]),
    noise=st.sampled_from([0.0, 1e-4]),
    offset=st.sampled_from([0.0, 0.01]),
)
def test_silence_after_the_music_is_left_out(
    seconds: float, tail: float, rate_hz: int, channels: int, level: float, noise: float,
    offset: float,
) -> None:  # fmt: skip
    music = beats(seconds, rate_hz, channels, level=level)
    given_sound = with_tail(music, tail, noise, offset)
    end = musical_end(StoredSound.of(given_sound))
    assert abs(end / rate_hz - seconds) < 0.2
    recording = recording_of(given_sound, 1.0)
    assert recording.beginning.seconds == pytest.approx(1.0, abs=1e-3)
    assert (recording.beginning.rate_hz, len(recording.beginning.samples)) == (rate_hz, channels)
    assert "of silence at the end of the recording were left out" in str(recording.remarks)


def test_a_recording_that_ends_in_music_is_kept_as_it_is() -> None:
    sound = beats(5.0, 44_100, 2, level=0.2)
    recording = recording_of(sound, 2.0, whole=True)
    assert recording.remarks == ()
    assert recording.before is not None
    parts = [recording.before.waveform.samples, recording.beginning.samples]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), sound.samples, atol=1e-6)
    everything = recording_of(sound, 60.0)
    assert everything.before is None
    assert everything.beginning.seconds == 5.0


def test_a_rest_is_no_end() -> None:
    sound = with_tail(beats(3.0, 24_000, 1), 0.2)
    assert musical_end(StoredSound.of(sound)) == sound.samples.shape[1]


@pytest.mark.parametrize("whole", [False, True])
def test_the_end_of_a_long_file_is_found_behind_minutes_of_silence(
    tmp_path: Path, whole: bool
) -> None:
    path = tmp_path / "long.flac"
    sound = with_tail(beats(4.0, 8_000, 2), 150.0)
    soundfile.write(path, sound.samples.T, 8_000)
    context = audio_context(None, path, 2.0, whole=whole)
    assert context.beginning is not None
    assert context.beginning.seconds == pytest.approx(2.0, abs=1e-3)
    assert any("s of silence at the end of long.flac" in one for one in context.remarks)
    assert context.kept_seconds == pytest.approx(4.0 if whole else 2.0, abs=0.1)


def test_a_file_that_ends_in_an_hour_of_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sound = tmp_path / "night.flac", beats(50.0, 8_000, 1)
    soundfile.write(path, with_tail(sound, 100.0).samples.T, 8_000)
    expected = recording_of(path, 2.0)
    monkeypatch.setattr("melisma.generation.conditioning.recording._MOST_SECONDS", 40.0)
    found = recording_of(path, 2.0)
    np.testing.assert_allclose(found.beginning.samples, expected.beginning.samples, atol=1e-4)
    assert found.remarks == expected.remarks
    assert found.before is not None
    assert found.before.seconds == pytest.approx(30.0, abs=0.1)
    soundfile.write(path, np.zeros((100 * 8_000, 1)), 8_000)
    with pytest.raises(MelismaError, match=r"night\.flac is silent: there is nothing to continue"):
        recording_of(path, 2.0)


def test_what_cannot_be_continued_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros((20_000, 2)), 8_000)
    with pytest.raises(MelismaError, match=r"silent\.wav is silent: there is nothing to continue"):
        recording_of(path, 2.0)
    with pytest.raises(MelismaError, match="must be above 0, not -1"):
        recording_of(path, -1)
    with pytest.raises(MelismaError, match="whole applies to continue_from"):
        audio_context(None, None, whole=True)


def decoded_piece(late: float, level: float, seconds: float = 12.0) -> tuple[StoredSound, int]:
    """What a pipeline decodes: 4 s of the recording, then music whose beats come `late`."""
    rate_hz, start = 24_000, 4 * 24_000
    # The recording has beats at multiples of the period up to its end at 20 s.
    first = (-20.0) % PERIOD + late
    music = beats(seconds, rate_hz, 1, first=first, level=level)
    kept = beats(4.0, rate_hz, 1, first=(-16.0) % PERIOD, level=level)
    samples = np.concatenate([kept.samples, music.samples], axis=1)
    return StoredSound.of(Waveform(samples=samples, rate_hz=rate_hz)), start


def joined(
    context: AudioConditions, decoded: StoredSound, start: int, seconds: float, streamed: bool
) -> tuple[Waveform, Seam | None]:
    if not streamed:
        sound, seam = joined_sound(context, decoded, start, seconds)
        return sound.waveform, seam

    def blocks() -> Iterator[Waveform]:
        for part in np.array_split(decoded.waveform.samples, 37, axis=1):
            yield Waveform(samples=part, rate_hz=decoded.rate_hz)

    found = StoredSound.of_blocks(joined_stream(context, blocks(), start, seconds))
    return found.waveform, None


def strokes(sound: Waveform) -> np.ndarray:
    """Times of the drum strokes."""
    mono = np.abs(sound.mono)
    hop = sound.rate_hz // 200
    power = np.square(mono[: len(mono) // hop * hop]).reshape(-1, hop).mean(axis=1)
    rise = np.diff(np.sqrt(power), prepend=0)
    peaks = [
        i
        for i in range(len(rise))
        if rise[i] > 0.4 * rise.max() and rise[i] == rise[max(i - 30, 0) : i + 30].max()
    ]
    return np.array(peaks) * hop / sound.rate_hz


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("late", "level", "rate_hz", "channels"),
    [
        (0.0, 0.3, 44_100, 2),
        (0.15, 0.05, 44_100, 2),
        (-0.12, 0.6, 48_000, 1),
        (0.2, 0.3, 22_050, 2),
        (-0.2, 0.1, 24_000, 1),
    ],
)
def test_beat_level_rate_and_channels_go_on(
    late: float, level: float, rate_hz: int, channels: int, streamed: bool
) -> None:
    recording = beats(20.0, rate_hz, channels, level=0.2)
    context = audio_context(None, recording, 8.0)
    decoded, start = decoded_piece(late, level)
    sound, _ = joined(context, decoded, start, 10.0, streamed)
    assert sound.rate_hz == rate_hz
    assert sound.samples.shape == (channels, 18 * rate_hz)
    assert np.abs(sound.samples).max() <= 1.0
    # The recording is untouched up to the cross-fade, but for the fade where it was cut.
    first, last = round(0.01 * rate_hz), round((8.0 - CROSSFADE_SECONDS) * rate_hz)
    kept = recording.samples[:, -8 * rate_hz :]
    assert np.array_equal(sound.samples[:, first:last], kept[:, first:last])
    # The strokes stay on the grid of the recording.
    off = (strokes(sound) + 12.0 + PERIOD / 2) % PERIOD - PERIOD / 2
    times = strokes(sound)
    after = off[(times > 8.3) & (times < 17.0)]
    assert len(after) >= 12
    assert np.abs(after).max() < 0.03
    # The level goes on.
    before, behind = (
        integrated_lufs(Waveform(samples=part, rate_hz=rate_hz))
        for part in (
            sound.samples[:, 4 * rate_hz : 8 * rate_hz],
            sound.samples[:, 8 * rate_hz : 12 * rate_hz],
        )
    )
    assert before is not None
    assert behind is not None
    assert abs(before - behind) < 2.0


def test_there_is_no_click_at_the_seam() -> None:
    rate_hz = 44_100
    tone = np.sin(2 * np.pi * 330 * np.arange(20 * rate_hz) / rate_hz)[None] * 0.2
    recording = Waveform(samples=np.repeat(tone, 2, axis=0).astype(np.float32), rate_hz=rate_hz)
    new = 0.05 * np.sin(2 * np.pi * 330 * np.arange(16 * 24_000) / 24_000 + 2.0)[None]
    decoded = StoredSound.of(Waveform(samples=new.astype(np.float32), rate_hz=24_000))
    context = audio_context(None, recording, 4.0)
    sound, seam = joined(context, decoded, 4 * 24_000, 10.0, streamed=False)
    assert seam is not None
    assert seam.period_seconds is None
    near = sound.samples[0, round(3.8 * rate_hz) : round(4.2 * rate_hz)]
    # Two equal tones in phase, cross-faded at equal power, are 3 dB louder for a moment.
    assert np.abs(np.diff(near)).max() < 1.5 * np.abs(np.diff(recording.samples[0])).max()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_rest_at_the_start_of_new_music_is_left_out(streamed: bool) -> None:
    rate_hz = 44_100
    recording = beats(20.0, rate_hz, 2, level=0.2)
    decoded, start = decoded_piece(0.1, 0.3, seconds=14.0)
    samples = decoded.waveform.samples.copy()
    samples[:, start : start + round(1.7 * 24_000)] *= 1e-3
    decoded = StoredSound.of(Waveform(samples=samples, rate_hz=24_000))
    sound, _ = joined(audio_context(None, recording, 8.0), decoded, start, 10.0, streamed)
    times = strokes(sound)
    assert len(times) >= 30
    steps = np.diff(times) / PERIOD
    np.testing.assert_allclose(steps, np.round(steps), atol=0.08)
    # The stroke at the seam may be one whose attack lay in the rest.
    assert sorted(np.round(steps))[-2:] in ([1, 1], [1, 2])


def test_candidates_that_begin_with_a_rest_count_less() -> None:
    playing = beats(6.0, 24_000, 1)
    resting = Waveform(samples=playing.samples.copy(), rate_hz=24_000)
    resting.samples[:, :24_000] = 0
    assert rest_seconds(playing) == 0
    assert rest_seconds(resting) == pytest.approx(1.0, abs=0.3)
    assert rest_seconds(Waveform(samples=np.zeros((1, 48_000)), rate_hz=24_000)) == 0
    assert rest_seconds(Waveform(samples=np.ones((2, 100)), rate_hz=24_000)) == 0
    assert _continuity(resting, None) < _continuity(playing, None)


def test_the_whole_recording_comes_first() -> None:
    recording = beats(20.0, 44_100, 2, level=0.2)
    decoded, start = decoded_piece(0.1, 0.3)
    context = audio_context(None, with_tail(recording, 2.0), 4.0, whole=True)
    sound, _ = joined(context, decoded, start, 10.0, streamed=False)
    assert sound.seconds == pytest.approx(30.0, abs=0.1)
    last = round(19.9 * 44_100)
    np.testing.assert_allclose(sound.samples[:, :last], recording.samples[:, :last], atol=1e-6)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_piece_above_full_scale_is_scaled_down_as_a_whole(whole: bool, streamed: bool) -> None:
    quiet = beats(20.0, 44_100, 2, level=0.2)
    factor = np.float32(1.45 / np.abs(quiet.samples).max())
    loud = Waveform(samples=quiet.samples * factor, rate_hz=44_100)
    context = audio_context(None, loud, 4.0, whole=whole)
    (remark,) = context.remarks
    assert "the recording exceeds full scale, by " in remark
    assert f"the whole piece is scaled down by {-context.gain_db:.1f} dB" in remark
    decoded, start = decoded_piece(0.0, 0.3)
    sound, _ = joined(context, decoded, start, 6.0, streamed)
    assert -1.5 < true_peak_db(sound) <= -0.94
    gain = 10 ** (context.gain_db / 20)
    kept = loud.samples if whole else loud.samples[:, -4 * 44_100 :]
    first, last = 500, kept.shape[1] - 2_000
    np.testing.assert_allclose(sound.samples[:, first:last], gain * kept[:, first:last], atol=1e-5)


def test_what_exceeds_full_scale_before_the_kept_part_counts_where_it_is_played() -> None:
    sound = beats(20.0, 44_100, 1, level=0.2)
    sound.samples[:, 44_100:44_200] = 1.4
    assert audio_context(None, sound, 4.0).gain_db == 0
    assert audio_context(None, sound, 4.0).remarks == ()
    assert audio_context(None, sound, 4.0, whole=True).gain_db < -3


def test_a_loud_cross_fade_scales_the_piece_down() -> None:
    rate_hz = 44_100
    tone = 0.99 * np.sin(2 * np.pi * 330 * np.arange(8 * rate_hz) / rate_hz)[None]
    recording = Waveform(samples=tone.astype(np.float32), rate_hz=rate_hz)
    new = 0.5 * np.sin(2 * np.pi * 330 * np.arange(16 * 24_000) / 24_000)[None]
    decoded = StoredSound.of(Waveform(samples=new.astype(np.float32), rate_hz=24_000))
    context = audio_context(None, recording, 4.0)
    assert context.gain_db == 0
    sound, seam = joined(context, decoded, 4 * 24_000, 6.0, streamed=False)
    assert seam is not None
    assert seam.scaled_db < 0
    assert seam.as_json()["scaled_db"] == pytest.approx(seam.scaled_db, abs=0.01)
    assert true_peak_db(sound) == pytest.approx(-1.0, abs=0.05)


def faded(seconds: float, lowest_db: float) -> Waveform:
    """Music that fades out steadily over its last seconds."""
    sound = beats(20.0, 44_100, 1, level=0.2)
    times = np.arange(sound.samples.shape[1]) / 44_100 - (20.0 - seconds)
    gains = 10.0 ** (np.clip(times / seconds, 0.0, 1.0) * lowest_db / 20.0)
    return Waveform(samples=(sound.samples * gains).astype(np.float32), rate_hz=44_100)


@pytest.mark.parametrize("streamed", [False, True])
def test_music_after_a_fade_is_as_loud_as_before_it(streamed: bool) -> None:
    context = audio_context(None, faded(6.0, -35.0), 8.0)
    assert context.beginning is not None
    assert "the new music is as loud as the loudest kept second" in context.remarks[-1]
    decoded, start = decoded_piece(0.0, 0.3)
    sound, _ = joined(context, decoded, start, 8.0, streamed)
    before, after = (
        integrated_lufs(Waveform(samples=sound.samples[:, part], rate_hz=44_100))
        for part in (slice(0, 2 * 44_100), slice(8 * 44_100 + 4_410, 12 * 44_100))
    )
    assert before is not None
    assert after is not None
    assert abs(before - after) < 3.0


def test_a_kept_end_that_is_inaudible_is_remarked_on() -> None:
    found = recording_of(faded(12.0, -42.0), 2.0)
    assert "is hardly audible (-" in found.remarks[-1]
    assert "keep more of the recording (--keep-seconds), or cut the fade off" in found.remarks[-1]
    assert recording_of(faded(12.0, -10.0), 2.0).remarks == ()


def test_a_pulse_is_found_where_there_is_one() -> None:
    grid = beat_grid(audio_context(None, beats(20.0, 44_100, 2), 8.0))
    assert grid is not None
    beat = grid.period_seconds / PERIOD
    assert abs(beat - round(beat)) < 0.01
    noise = np.random.default_rng(0).standard_normal((1, 240_000)).astype(np.float32) * 0.1
    steady = Waveform(samples=noise, rate_hz=24_000)
    assert beat_grid(audio_context(None, steady, 8.0)) is None


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> MelismaPipeline:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return MelismaPipeline(folder, threads=1)


def test_files_have_the_rate_and_the_channels_of_the_recording(
    pipeline: MelismaPipeline, tmp_path: Path
) -> None:
    recording, path = beats(6.0, 22_050, 2, level=0.2), tmp_path / "song.flac"
    soundfile.write(path, with_tail(recording, 1.0).samples.T, 22_050)
    kept = pipeline.generate(
        "a waltz", duration=3, best_of=2, continue_from=path, keep_seconds=2, receipt=True
    )
    row = kept.save(tmp_path / "kept.wav")
    assert row["seconds"] == pytest.approx(5.0, abs=1e-3)
    assert isinstance(row["seam"], dict)
    assert "of silence at the end of song.flac were left out" in str(row["remarks"])
    whole = pipeline.generate(
        "a waltz", duration=3, best_of=1, continue_from=path, keep_seconds=2, whole=True
    )
    assert whole.settings["whole"] is True
    whole.save(tmp_path / "whole.ogg")
    for name, seconds in (("kept.wav", 5.0), ("whole.ogg", 9.0)):
        found = read_audio(tmp_path / name)
        assert (found.rate_hz, len(found.samples)) == (22_050, 2)
        assert found.seconds == pytest.approx(seconds, abs=0.1)
    stored = read_audio(tmp_path / "kept.wav").samples
    last = round(1.9 * 22_050)
    # The music ends in the decay of a stroke: its end is found to a tenth of a second.
    padded = np.pad(recording.samples, ((0, 0), (0, 2_300)))
    starts = range(4 * 22_050 - 2_300, 4 * 22_050 + 2_300)
    parts = (padded[:, start:][:, 500:last] for start in starts)
    assert min(float(np.abs(stored[:, 500:last] - part).max()) for part in parts) < 1e-3


def test_a_stream_has_them_too(pipeline: MelismaPipeline, tmp_path: Path) -> None:
    recording, path = beats(6.0, 44_100, 2, level=0.25), tmp_path / "song.wav"
    soundfile.write(path, recording.samples.T, 44_100, subtype="FLOAT")
    words = ["generate", "a waltz", "--model", str(pipeline.model.folder), "--continue-from"]
    words += [str(path), "--whole", "--duration", "2", "--stream", "--quiet", "--seed", "1"]
    assert run(program, [*words, "--output", str(tmp_path / "out.wav")]) == 0
    found = read_audio(tmp_path / "out.wav")
    assert (found.rate_hz, len(found.samples)) == (44_100, 2)
    assert found.seconds == pytest.approx(8.0, abs=1e-3)
    # What was given is not limited, only rounded.
    assert np.abs(recording.samples).max() > 0.95
    last = round(5.9 * 44_100)
    np.testing.assert_allclose(found.samples[:, :last], recording.samples[:, :last], atol=1e-4)


def test_files_of_a_recording_above_full_scale_do_not_clip(
    pipeline: MelismaPipeline, tmp_path: Path
) -> None:
    recording, path = beats(6.0, 44_100, 2, level=0.2), tmp_path / "loud.wav"
    loud = recording.samples * (1.45 / np.abs(recording.samples).max())
    soundfile.write(path, loud.T, 44_100, subtype="FLOAT")
    result = pipeline.generate(
        "a waltz", duration=2, best_of=1, continue_from=path, keep_seconds=2, whole=True
    )
    for name in ("out.wav", "out.ogg"):
        row = result.save(tmp_path / name)
        assert "loud.wav exceeds full scale, by " in str(row["remarks"])
        assert row["true_peak_db"] == pytest.approx(-1.0, abs=0.06)
        assert true_peak_db(read_audio(tmp_path / name)) < 0


def test_what_a_format_lacks_is_refused_before_anything_is_sampled(
    pipeline: MelismaPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fine.wav"
    soundfile.write(path, beats(2.0, 96_000, 2).samples.T, 96_000)
    words = ["generate", "a waltz", "--model", str(pipeline.model.folder), "--continue-from"]
    words += [str(path), "--duration", "2", "--output", str(tmp_path / "out.mp3")]
    assert run(program, words) == USER_ERROR
    assert "96000 Hz cannot be written as MP3" in capsys.readouterr().err
    assert run(program, ["generate", "a waltz", "--whole"]) == USER_ERROR
    assert "--whole applies to --continue-from" in capsys.readouterr().err
    check_audio_format(".wav", 96_000, 2)
