"""Audio files are read by content, as far as they go, and nothing is ever lost silently."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile

from melisma.files import read_audio, read_provenance
from melisma.files.audio.formats import HEAD_BYTES, format_of
from melisma.files.audio.reading import AudioReader, read_recording
from melisma.values.errors import MelismaError

RATE_HZ = 24_000
CODINGS = (
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"),
    ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"), ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"), ("VOC", "PCM_16"), ("NIST", "PCM_16"), ("SVX", "PCM_16"),
    ("IRCAM", "PCM_16"),
)  # fmt: skip
"""Formats and codings that people have."""
SHORTENED = tuple(one for one in CODINGS if one[0] not in ("IRCAM",))
"""Those whose headers state a length."""


def signal(seconds: float = 1.5, channels: int = 1) -> np.ndarray:
    """A tone in noise, other in each channel, float64 [sample, channel]."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(0).standard_normal((len(time), channels))
    gains = np.linspace(1.0, 0.5, channels)
    return 0.4 * np.sin(2 * np.pi * 330.0 * time)[:, None] * gains + 0.02 * noise


def encoded(form: str, coding: str, sound: np.ndarray, folder: Path) -> bytes:
    """The bytes of an audio file."""
    path = folder / "encoded"
    soundfile.write(path, sound, RATE_HZ, format=form, subtype=coding)
    return path.read_bytes()


def decoded(data: bytes, form: str, folder: Path) -> np.ndarray:
    """What soundfile reads when the name gives the format, float32 [channel, sample]."""
    path = folder / f"known.{form.lower()}"
    path.write_bytes(data)
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


@pytest.mark.parametrize(("form", "coding"), CODINGS)
@pytest.mark.parametrize("name", ["song.raw", "song", "song.mp3", "ton.wav"])
def test_what_a_file_is_does_not_depend_on_its_name(
    tmp_path: Path, form: str, coding: str, name: str
) -> None:
    data = encoded(form, coding, signal(), tmp_path)
    (tmp_path / name).write_bytes(data)
    found = read_recording(tmp_path / name)
    assert found.remarks == ()
    np.testing.assert_allclose(
        found.waveform.samples, decoded(data, form, tmp_path), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(("form", "coding"), SHORTENED)
def test_a_cut_file_is_read_as_far_as_it_goes_and_never_silently(
    tmp_path: Path, form: str, coding: str
) -> None:
    data, rng = encoded(form, coding, signal(), tmp_path), random.Random(form + coding)
    whole = decoded(data, form, tmp_path)
    path, refusals = tmp_path / "cut", list[tuple[int, str]]()
    for size in sorted(rng.randrange(20, len(data)) for _ in range(12)):
        path.write_bytes(data[:size])
        try:
            found = read_recording(path)
        except MelismaError as error:
            refusals.append((size, str(error)))
            continue
        samples = found.waveform.samples
        length = samples.shape[1]
        if length < whole.shape[1] - 0.1 * RATE_HZ:
            assert any("damaged or cut short" in remark for remark in found.remarks)
        if coding not in ("VORBIS", "OPUS", "MPEG_LAYER_III"):
            np.testing.assert_allclose(samples, whole[:, :length], atol=1e-6)
    for size, sentence in refusals:
        assert "damaged or cut short" in sentence or size < 64, sentence
        # Ogg is read by the page, of which this file has few.
        assert size < (0.95 if form == "OGG" else 0.4) * len(data), f"{size} bytes were refused"


def test_random_damage_never_becomes_a_foreign_exception(tmp_path: Path) -> None:
    rng, path, sentences = random.Random(5), tmp_path / "damaged", list[str]()
    for form, coding in CODINGS:
        data = encoded(form, coding, signal(0.3), tmp_path)
        for _ in range(12):
            damaged = bytearray(data)
            for _ in range(rng.randrange(1, 20)):
                end = min(len(data), 200) if rng.random() < 0.6 else len(data)
                damaged[rng.randrange(end)] = rng.choice((0, 127, 128, 255, rng.randrange(256)))
            path.write_bytes(damaged)
            for read in (
                read_recording,
                lambda one: read_recording(one, first_seconds=0.1),
                lambda one: read_recording(one, last_seconds=0.1),
            ):
                try:
                    read(path)
                except MelismaError as error:
                    sentences.append(str(error))
            read_provenance(path)
    assert len(sentences) > 100
    assert all(str(path) in sentence and "\n" not in sentence for sentence in sentences)


@pytest.mark.parametrize("name", ["samples.raw", "samples.wav", "samples", "samples.mp3"])
def test_samples_without_a_header_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rng = np.random.default_rng(1)
    for coding in ("<i2", "<f4", "u1"):
        noise = 0.1 * rng.standard_normal(5_000)
        path.write_bytes((noise * (1 if coding == "<f4" else 100) + 100).astype(coding).tobytes())
        with pytest.raises(MelismaError, match="without a header need one") as caught:
            read_audio(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0", r"M4A \(MPEG-4 audio\), which cannot be read here.*ffmpeg"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", r"MPEG-4 \(M4A or MP4\)"),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc", "AAC"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
        (b"\x1a\x45\xdf\xa3", "a video file in the format WebM"),
        (b"RIFF\0\0\0\0AVI LIST", "a video file in the format AVI"),
        (b"#!AMR\n", "AMR"),
        (b"MThd\0\0\0\6", "holds notes and no sound: `melisma render"),
        (b"\x89MLT\r\n\x1a\n", "`melisma decode"),
        (b"PK\3\4", "not an audio file but a ZIP archive"),
        (b"<!DOCTYPE html><html>", "not an audio file but a web page"),
        (b"just some words", "not an audio file but text"),
    ],
)
@pytest.mark.parametrize("name", ["given.wav", "given.m4a", "given"])
def test_what_cannot_be_read_is_named_with_what_to_do(
    tmp_path: Path, head: bytes, words: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(head if head[:1].isalpha() or head[:1] == b"<" else head.ljust(3_000, b"\0"))
    with pytest.raises(MelismaError, match=words) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)


def test_wav_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    data = bytearray(encoded("WAV", "PCM_16", signal(), tmp_path))
    whole = decoded(bytes(data), "WAV", tmp_path)
    for length in (0, 0xFFFF_FFFF, 0x7FFF_FFFF):
        data[4:8] = data[40:44] = struct.pack("<I", length)
        (tmp_path / "open.wav").write_bytes(data)
        found = read_recording(tmp_path / "open.wav")
        np.testing.assert_array_equal(found.waveform.samples, whole)
        assert len(found.remarks) == (length == 0)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_needs_no_tag_no_first_frame_and_no_beginning(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "made.mp3"
    soundfile.write(path, signal(3.0), RATE_HZ, bitrate_mode=mode, compression_level=0.3)
    data, whole = path.read_bytes(), soundfile.read(path, dtype="float32")[0]
    second = data.index(data[:2], 200)
    for name, bytes_of in (
        ("without the first frame", data[second:]),
        ("from the middle of a frame", data[second + 40 :]),
        ("behind an empty tag", b"ID3\4\0\0\0\0\0\0" + data),
        ("behind a tag", b"ID3\3\0\0\0\0\1\0" + bytes(128) + data),
    ):
        (tmp_path / "x").write_bytes(bytes_of)
        length = read_recording(tmp_path / "x").waveform.samples.shape[1]
        assert abs(length - len(whole)) < 3 * 1152, name


@pytest.mark.parametrize("coding", [0x00, 0x50, 0x161, 0x2000])
def test_a_coding_that_cannot_be_decoded_is_no_damage(tmp_path: Path, coding: int) -> None:
    path = tmp_path / "x.wav"
    form = struct.pack("<HHIIHHH", coding, 2, 44_100, 16_000, 4, 16, 0)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", 4_000)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body) + 4_000) + body + bytes(4_000))
    with pytest.raises(MelismaError, match="cannot be read here: convert it first"):
        read_audio(path)


def test_mp3_in_wav_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.wav"
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 24_000, 8_000, 1, 0, 12, 1, 2, 192, 1, 1_393)
    sound = encoded("MP3", "MPEG_LAYER_III", signal(), tmp_path)[:3_000] + bytes(500)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data"
    body += struct.pack("<I", len(sound)) + sound
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with contextlib.suppress(MelismaError):
        read_recording(path)
    assert capfd.readouterr() == ("", "")


def test_libraries_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, rng = tmp_path / "x", random.Random(3)
    for form, coding in (("MP3", "MPEG_LAYER_III"), ("CAF", "ALAC_16"), ("SDS", "PCM_16")):
        data = encoded(form, coding, signal(), tmp_path)
        for size in (0.9, 0.5, 0.2):
            damaged = bytearray(data[: round(size * len(data))])
            for _ in range(20):
                damaged[rng.randrange(200, len(damaged))] = 0x7F
            path.write_bytes(damaged)
            with contextlib.suppress(MelismaError):
                read_recording(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("form", "coding"), CODINGS)
def test_beginning_and_end_are_those_of_the_whole(tmp_path: Path, form: str, coding: str) -> None:
    path = tmp_path / "whole"
    path.write_bytes(encoded(form, coding, signal(4.0), tmp_path))
    whole = read_recording(path).waveform
    rate_hz = whole.rate_hz
    first = read_recording(path, first_seconds=0.5).waveform.samples
    last = read_recording(path, last_seconds=0.5).waveform.samples
    count = round(0.5 * rate_hz)
    assert first.shape == last.shape == (1, count)
    tolerance = 1e-3 if coding in ("OPUS", "MPEG_LAYER_III") else 1e-6
    np.testing.assert_allclose(first, whole.samples[:, :count], atol=tolerance)
    np.testing.assert_allclose(last, whole.samples[:, -count:], atol=tolerance)
    everything = read_recording(path, last_seconds=99.0).waveform.samples
    np.testing.assert_allclose(everything, whole.samples, atol=tolerance)


def traced(work: Callable[[], object]) -> int:
    """Greatest number of bytes that Python and NumPy had at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_needed_for_what_is_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
        for _ in range(120):
            file.write(np.zeros((480_000, 2), np.float32))
    sizes = [
        traced(lambda: read_recording(path, first_seconds=2.0)),
        traced(lambda: read_recording(path, last_seconds=2.0)),
        traced(lambda: [len(block) for block in AudioReader(path).blocks(4_800_000)]),
    ]
    assert max(sizes) < 8e6  # twenty minutes are 460 MB


def test_more_than_two_channels_are_mixed_with_a_remark(tmp_path: Path) -> None:
    path, sound = tmp_path / "surround.wav", signal(channels=6)
    soundfile.write(path, sound, RATE_HZ, subtype="FLOAT")
    found = read_recording(path)
    np.testing.assert_allclose(found.waveform.samples[0], sound.mean(axis=1), atol=1e-6)
    assert found.remarks == ("the 6 channels of surround.wav were mixed to one",)


@pytest.mark.parametrize(
    "sides",
    [(1, 1, -2), (1, -1, 1, -1), (0.5, -0.5, 0.1, -0.1, 0, 0), (1, -1, 0.9, -0.9, 0.2, -0.2)],
)
def test_several_channels_that_cancel_each_other_are_not_lost(
    tmp_path: Path, sides: tuple[float, ...]
) -> None:
    path, sound = tmp_path / "surround.wav", 0.2 * signal()
    offset = np.arange(len(sides)) / 50  # a DC offset must not hide it
    soundfile.write(path, sound * sides + offset, RATE_HZ, subtype="FLOAT")
    found = read_recording(path)
    [loudest] = found.waveform.samples
    assert np.std(loudest) == pytest.approx(max(map(abs, sides)) * np.std(sound), rel=0.01)
    assert "cancel each other" in " ".join(found.remarks)


@pytest.mark.parametrize("channels", [3, 6, 16, 64])
def test_one_loud_or_unrelated_channels_are_mixed(tmp_path: Path, channels: int) -> None:
    path, rng = tmp_path / "surround.wav", np.random.default_rng(0)
    for sound in (
        0.1 * rng.standard_normal((RATE_HZ, channels)),
        np.pad(0.2 * signal(), [(0, 0), (0, channels - 1)]),
    ):
        soundfile.write(path, sound, RATE_HZ, subtype="FLOAT")
        found = read_recording(path)
        np.testing.assert_allclose(found.waveform.samples[0], sound.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_amplitudes_that_are_no_numbers_are_refused(tmp_path: Path, wrong: float) -> None:
    path, sound = tmp_path / "x.wav", signal()
    sound[-1] = wrong
    soundfile.write(path, sound, RATE_HZ, subtype="FLOAT")
    with pytest.raises(MelismaError, match="not finite numbers: export it again"):
        read_audio(path)
    assert read_recording(path, first_seconds=0.5).waveform.seconds == pytest.approx(0.5)


def test_remarks_of_a_plain_read_are_warnings(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    data = encoded("FLAC", "PCM_16", signal(), tmp_path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match=r"cut.flac is damaged or cut short: 0\.\d+ of 1\.50 s"):
        read_audio(path)


def test_pipes_are_refused_by_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MelismaError, match="is a pipe or a device"):
        read_audio(tmp_path / "pipe")


def test_tags_that_break_their_reader_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.ogg"
    path.write_bytes(encoded("OGG", "VORBIS", signal(), tmp_path))
    for error in (IndexError("index out of range"), mutagen.MutagenError(), ValueError("x")):

        def broken(_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(mutagen, "File", broken)
        assert read_provenance(path) is None


def test_every_format_that_libsndfile_writes_is_known_or_left_to_it() -> None:
    for form in soundfile.available_formats():
        data = io.BytesIO()
        if form in ("RAW", "SD2", "MP3", "WVE"):  # SD2 has two files, WVE one sample rate
            continue
        try:
            soundfile.write(data, signal(0.2), RATE_HZ, format=form)
        except (soundfile.LibsndfileError, ValueError):
            continue
        found = format_of(data.getvalue()[:HEAD_BYTES])
        assert found is None or found.group == "readable", form
