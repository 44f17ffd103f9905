"""`melisma render`: from a MIDI file to sound, whole or not at all."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from command_line import Command, command_of
from small_soundfont import Sound, write_soundfont

from melisma import files
from melisma.files import AUDIO_ENDINGS, Provenance, read_audio, read_provenance, write_audio
from melisma.sound.loudness import integrated_lufs, true_peak_db
from melisma.symbolic import read_midi, write_midi
from melisma.symbolic.soundfont.discovery import VARIABLE, packaged_soundfont
from melisma.values import Metre, Notes, Score, TempoMap, Track, Waveform


@pytest.fixture
def melisma(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Run the program in an empty folder, with the soundfont of the dependencies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(packaged_soundfont()))
    return command_of(capsys)


def track(program: int, pitches: list[int], *, is_drum: bool = False, name: str = "") -> Track:
    count = len(pitches)
    notes = Notes(
        start_beats=np.arange(count) * 0.5,
        duration_beats=np.full(count, 0.5),
        pitch=np.array(pitches),
        velocity=np.full(count, 90),
    )
    return Track(notes=notes, program=program, is_drum=is_drum, name=name)


@pytest.fixture
def trio(tmp_path: Path) -> Path:
    """Two violins and drums in 3/4, with a change of tempo."""
    score = Score(
        tracks=(
            track(40, [69, 71, 73], name="Violin I"),
            track(40, [64, 62, 61]),
            track(0, [36, 42, 38], is_drum=True),
        ),
        tempo=TempoMap(beats=np.array([0.0, 1.0]), bpm=np.array([120.0, 90.0])),
        metres=(Metre(beat=0.0, numerator=3, denominator=4),),
    )
    path = tmp_path / "trio.mid"
    path.write_bytes(write_midi(score))
    return path


@pytest.mark.usefixtures("trio")
def test_a_score_becomes_sound_beside_its_name(melisma: Command, tmp_path: Path) -> None:
    outcome = melisma("render", "trio.mid")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("trio.wav  (")
    assert "3 parts" in outcome.out
    assert "TimGM6mb.sf2" in outcome.out
    sound = read_audio(tmp_path / "trio.wav")
    assert sound.samples.shape[0] == 2
    assert sound.rate_hz == 44_100
    assert 0.8 < sound.seconds < 5
    assert true_peak_db(sound) < -1
    assert read_provenance(tmp_path / "trio.wav") is None


@pytest.mark.usefixtures("trio")
@pytest.mark.parametrize("ending", AUDIO_ENDINGS)
def test_every_format_keeps_below_the_ceiling(
    melisma: Command, tmp_path: Path, ending: str
) -> None:
    (tmp_path / "out").mkdir()
    facts = json.loads(
        melisma(
            "render", "trio.mid", "-o", "out", "--format", ending[1:], "--room", "dry", "--json"
        ).out
    )
    path = tmp_path / "out" / f"trio{ending}"
    assert facts["path"] == str(Path("out") / f"trio{ending}")
    sound = read_audio(path)
    assert true_peak_db(sound) < -1
    lufs = integrated_lufs(sound)
    assert lufs == pytest.approx(facts["loudness_lufs"], abs=0.5)
    assert (facts["parts"], facts["notes"], facts["room"]) == (3, 9, "dry")
    assert facts["ai_generated"] is False
    assert facts["remarks"] == []
    assert [p.name for p in (tmp_path / "out").iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".wav", ".mp3"])
def test_stems_come_as_sound_and_as_midi(
    melisma: Command, trio: Path, tmp_path: Path, ending: str
) -> None:
    outcome = melisma("render", trio, "-o", f"mix{ending}", "--stems", "stems")
    assert outcome.code == 0
    assert "stems  (3 stems, as audio and as MIDI)\n" in outcome.out
    names = ["01-violin-i", "02-violin", "03-drums"]
    found = sorted(path.name for path in (tmp_path / "stems").iterdir())
    assert found == sorted(f"{name}{end}" for name in names for end in (".wav", ".mid"))
    stems = [read_audio(tmp_path / "stems" / f"{name}.wav") for name in names]
    if ending == ".wav":
        mix = read_audio(tmp_path / "mix.wav")
        total = np.sum([stem.samples for stem in stems], axis=0)
        np.testing.assert_allclose(total, mix.samples, atol=5 / 32_768)  # 16 bits each
    whole = read_midi(trio.read_bytes())
    for name, wanted in zip(names, whole.tracks, strict=True):
        alone = read_midi((tmp_path / "stems" / f"{name}.mid").read_bytes())
        assert alone.metres == whole.metres
        np.testing.assert_allclose(alone.tempo.bpm, whole.tempo.bpm, rtol=1e-4)
        (only,) = alone.tracks
        assert (only.program, only.is_drum) == (wanted.program, wanted.is_drum)
        np.testing.assert_array_equal(only.notes.pitch, wanted.notes.pitch)
    # A folder that is there keeps what else is in it.
    (tmp_path / "stems" / "mine.txt").write_text("mine")
    assert melisma("render", trio, "--stems", "stems", "--quiet").out == ""
    assert len(list((tmp_path / "stems").iterdir())) == 7
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("trio")
def test_a_picture_and_remarks(
    melisma: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plot_sound(sound: Waveform, path: Path, title: str) -> None:
        path.write_text(f"{title}, {sound.samples.shape[0]} channels")

    # The true one loads torch and matplotlib, which takes seconds.
    picture = ModuleType("melisma.analysis.plots.spectrogram")
    picture.__dict__["plot_sound"] = plot_sound
    monkeypatch.setitem(sys.modules, "melisma.analysis.plots.spectrogram", picture)
    write_soundfont(tmp_path / "few.sf2", [Sound(number=41)])
    outcome = melisma("render", "trio.mid", "--soundfont", "few.sf2", "--plot", "trio.png")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1:] == [
        "note: few.sf2 has no program 40 (violin), so part 1 (Violin I) plays 41 (viola)",
        "note: few.sf2 has no program 40 (violin), so part 2 (violin) plays 41 (viola)",
        "note: few.sf2 has no drum kit, so part 3 (drums) is silent",
    ]
    assert (tmp_path / "trio.png").read_text() == "trio, 2 channels"


HEAD = b"MThd\0\0\0\6\0\1\0\1\x01\xe0"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["render"], "file"),
        (["render", "nix.mid"], "there is no file nix.mid: check the name"),
        (["render", "."], ". is a folder: give the name of a file inside it"),
        (["render", "empty.mid"], "the MIDI file is empty"),
        (["render", "junk.mid"], "are no MIDI file"),
        (["render", "cut.mid"], "the MIDI file is damaged"),
        (["render", "two.mid"], "of type 2, several pieces in one"),
        (["render", "silent.mid"], "holds no note"),
        (["render", "trio.mid", "-o", "x.aac"], "give one of .wav, .flac, .mp3, .ogg"),
        (["render", "trio.mid", "--format", "aac"], "choose one of wav, flac, mp3, ogg"),
        (["render", "trio.mid", "-o", "x.wav", "--format", "mp3"], "differ"),
        (["render", "trio.mid", "-o", "nix/x.wav"], "the folder nix does not exist"),
        (["render", "trio.mid", "--room", "cave"], "choose one of dry, studio, hall"),
        (["render", "trio.mid", "--soundfont", "nix.sf2"], "there is no soundfont nix.sf2"),
        (["render", "trio.mid", "--soundfont", "junk.mid"], "junk.mid is no soundfont"),
        (["render", "trio.mid", "--soundfont", "cut.sf2"], "cut.sf2 is cut short"),
        (["render", "trio.mid", "--stems", "nix/stems"], "the folder nix does not exist"),
        (["render", "trio.mid", "--stems", "junk.mid"], "junk.mid is a file"),
        (["render", "trio.mid", "--plot", "x.jpg"], "x.jpg must end in .png"),
        (["render", "trio.mid", "--plot", "nix/x.png"], "the folder nix does not exist"),
    ],
)
@pytest.mark.usefixtures("trio")
def test_what_cannot_be_rendered_gets_a_sentence(
    melisma: Command, tmp_path: Path, words: list[str], sentence: str
) -> None:
    font = packaged_soundfont()
    assert font is not None
    end = b"MTrk\0\0\0\4\0\xff\x2f\0"
    piece = b"MTrk\0\0\0\x0c\0\x90\x3c\x40\x60\x80\x3c\x40\0\xff\x2f\0"
    broken = {
        "empty.mid": b"",
        "junk.mid": b"words, not music",
        "cut.mid": HEAD + b"MTrk\0\0\0\x09\x90",
        "two.mid": b"MThd\0\0\0\6\0\2\0\2\x01\xe0" + piece + piece,
        "silent.mid": HEAD + end,
        "cut.sf2": font.read_bytes()[:100_000],
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    outcome = melisma(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("melisma: ")
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("trio")
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device", "x"), KeyboardInterrupt()]
)
def test_a_failure_while_writing_leaves_nothing(
    melisma: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def failing(
        path: Path, sound: Waveform, provenance: Provenance | None = None, **options: Any
    ) -> None:
        if path.name == "trio.wav":
            raise error
        write_audio(path, sound, provenance, **options)

    monkeypatch.setattr(files, "write_audio", failing)
    outcome = melisma("render", "trio.mid", "--stems", "stems")
    assert outcome.code in (2, 130)
    assert [path.name for path in tmp_path.iterdir()] == ["trio.mid"]


@pytest.mark.usefixtures("trio")
def test_stems_that_are_replaced_are_named(melisma: Command, tmp_path: Path) -> None:
    first = melisma("render", "trio.mid", "--stems", "stems", "-o", "x.wav")
    assert "replaced" not in first.out
    (tmp_path / "stems" / "mine.txt").write_text("precious")
    again = melisma("render", "trio.mid", "--stems", "stems", "-o", "x.wav")
    assert "stems  (3 stems, as audio and as MIDI, replaced)\n" in again.out
    kept_file = "note: 1 other file was in the folder stems already and stays: it is no stem of"
    assert kept_file in again.out
    assert kept_file not in first.out
    receipt = json.loads(
        melisma("render", "trio.mid", "--stems", "stems", "-o", "y.wav", "--json").out
    )
    assert receipt["replaced"] == receipt["stems"]
    kept = melisma("render", "trio.mid", "--stems", "stems", "-o", "z.wav", "--no-clobber")
    assert (kept.code, kept.out) == (2, "")
    assert "the folder stems is not empty and is kept (--no-clobber)" in kept.err
    assert (tmp_path / "stems" / "mine.txt").read_text() == "precious"


@pytest.mark.usefixtures("trio")
@pytest.mark.parametrize(("name", "missing"), [("x.wav", "x.wav"), ("02", "stems")])
def test_a_full_disk_names_what_it_is_about(
    melisma: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, missing: str
) -> None:
    def failing(path: Path, *arguments: Any, **options: Any) -> None:
        with monkeypatch.context() as patch:
            if path.name.startswith(name):
                patch.setattr(os, "fsync", full)
            write_audio(path, *arguments, **options)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_audio", failing)
    done = melisma("render", "trio.mid", "--stems", "stems", "-o", "x.wav")
    assert done.code == 2
    assert f"is full: {missing} was not written" in done.err
    assert ".melisma" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["trio.mid"]
