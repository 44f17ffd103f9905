"""Sound files: what is written comes back, with its provenance, whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.files import (
    AUDIO_ENDINGS,
    Provenance,
    atomic_write,
    read_audio,
    read_provenance,
    write_audio,
    write_bytes,
)
from melisma.files.provenance import provenance_from_fields
from melisma.values import Waveform
from melisma.values.errors import MelismaError
from melisma.values.prompt import clean_text

RATE_HZ = 24_000

PROVENANCE = Provenance(
    prompt='ein Walzer, "langsam"; 90 bpm / 华尔兹\nzweite Zeile',
    seed=7,
    model="default",
    fingerprint="ab12",
    licence="CC-BY-SA-4.0",
    settings='{"guidance": 3.0}',
    version="0.1.0",
)


def tone(seconds: float = 0.5, channels: int = 1) -> Waveform:
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = 0.5 * np.sin(2 * np.pi * 440 * time)
    return Waveform(samples=np.tile(sound, (channels, 1)), rate_hz=RATE_HZ)


@pytest.mark.parametrize("ending", AUDIO_ENDINGS)
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_and_provenance_come_back(tmp_path: Path, ending: str, channels: int) -> None:
    path = tmp_path / f"tone{ending}"
    sound = tone(channels=channels)
    write_audio(path, sound, PROVENANCE)
    back = read_audio(path)
    assert back.rate_hz == RATE_HZ
    assert back.samples.shape[0] == channels
    assert abs(back.seconds - sound.seconds) < 0.1
    level = np.sqrt(np.mean(back.samples[:, 2000:10_000] ** 2))
    assert level == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    if ending in (".wav", ".flac"):
        np.testing.assert_allclose(back.samples, sound.samples, atol=2**-15)
    assert read_provenance(path) == PROVENANCE
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", AUDIO_ENDINGS)
def test_sound_without_provenance_has_none(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"tone{ending}"
    write_audio(path, tone(), None)
    assert read_provenance(path) is None


def test_title_and_comment_are_ordinary_tags(tmp_path: Path) -> None:
    import mutagen

    path = tmp_path / "tone.flac"
    write_audio(path, tone(), PROVENANCE)
    tags = mutagen.File(path)
    assert tags is not None
    assert tags["title"][0].startswith("ein Walzer")
    assert "AI-generated" in tags["comment"][0]
    assert tags["ai-generated"] == ["yes"]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=200), st.integers(0, 2**53), st.booleans())
def test_any_words_survive_the_tags(prompt: str, seed: int, generated: bool) -> None:
    made = Provenance(
        prompt=prompt, seed=seed, model="m", fingerprint="f", licence="l", ai_generated=generated
    )
    back = provenance_from_fields({name.upper(): word for name, word in made.fields().items()})
    assert back is not None
    assert back.prompt == clean_text(prompt.replace("\0", " "))
    assert (back.seed, back.ai_generated) == (seed, generated)


def test_settings_of_a_provenance_are_a_json_object() -> None:
    for wrong in ("{", "[1]"):
        with pytest.raises(MelismaError, match="JSON"):
            Provenance(prompt="p", seed=0, model="m", fingerprint="f", licence="l", settings=wrong)


def test_unknown_extensions_are_named(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match=r'ending ".aac": give one of .wav, .flac, .mp3, .ogg'):
        write_audio(tmp_path / "x.aac", tone())
    with pytest.raises(MelismaError, match="without an ending"):
        write_audio(tmp_path / "x", tone())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist: create it, or choose another"):
        write_audio(tmp_path / "nowhere" / "x.wav", tone())
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        write_audio(tmp_path / "file" / "x.wav", tone())
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_audio(tmp_path / "folder.wav", tone())


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="is read-only: choose another"):
        write_audio(tmp_path / "x.wav", tone())


def test_a_full_disk_leaves_nothing_and_spares_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"is full: x\.wav was not written") as caught:
            write_audio(path, tone())
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_write(tmp_path / "x.bin") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"x")
    write_bytes(ours, b"x")
    assert plain.stat().st_mode == ours.stat().st_mode


def test_files_that_are_not_sound_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_audio(path)
    path.write_bytes(b"")
    with pytest.raises(MelismaError, match="is empty"):
        read_audio(path)
    path.write_text("words, not sound " * 50)
    with pytest.raises(MelismaError, match="is not an audio file"):
        read_audio(path)
    assert read_provenance(path) is None
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_audio(tmp_path)


def test_sound_of_length_zero_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros((0, 1), np.float32), RATE_HZ)
    with pytest.raises(MelismaError, match="holds no sound"):
        read_audio(path)


def test_rates_that_a_format_lacks_are_refused(tmp_path: Path) -> None:
    odd = Waveform(samples=np.zeros((1, 100), np.float32), rate_hz=23_999)
    with pytest.raises(MelismaError, match="23999 Hz cannot be written as MP3"):
        write_audio(tmp_path / "x.mp3", odd)
    assert list(tmp_path.iterdir()) == []


def test_loud_sound_is_clipped_and_not_wrapped(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    write_audio(path, Waveform(samples=np.full((1, 10), 3.0, np.float32), rate_hz=RATE_HZ))
    assert (read_audio(path).samples > 0.99).all()


@pytest.mark.parametrize("ending", AUDIO_ENDINGS)
@pytest.mark.parametrize("limit", [0, 100, 20_000])
def test_a_disk_that_fills_up_while_sound_is_encoded(
    tmp_path: Path, ending: str, limit: int
) -> None:
    """The encoder calls back from C, where exceptions are lost unless somebody keeps them."""
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"old")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
    try:
        with pytest.raises(OSError, match="would be larger than its file system or limit allows"):
            write_audio(path, tone(seconds=60.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
