"""Where the files of a call go, checked before any work, with stand-ins for the models."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import Command, Outcome, command_of
from stand_ins import Composer, seat

from melisma.cli.errors import run
from melisma.cli.output_paths import made_folders, saved_at
from melisma.cli.places import check_places, ignores_case
from melisma.cli.program import program
from melisma.files import write_audio, write_bytes
from melisma.symbolic import write_midi
from melisma.symbolic.soundfont.discovery import VARIABLE, packaged_soundfont
from melisma.values import Metre, Notes, Score, TempoMap, Track, Waveform
from melisma.values.errors import MelismaError

WALTZ = ("generate", "a waltz", "--duration", "1", "--seed", "7")


@pytest.fixture
def composer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Composer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(packaged_soundfont()))
    return seat(monkeypatch)


@pytest.fixture
def melisma(capsys: pytest.CaptureFixture[str], composer: Composer) -> Command:
    """Runs the program in an empty folder."""
    del composer
    return command_of(capsys)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A MIDI file of one part."""
    notes = Notes(
        start_beats=np.arange(4) * 0.5, duration_beats=np.full(4, 0.5),
        pitch=np.array([60, 62, 64, 65]), velocity=np.full(4, 90),
    )  # fmt: skip
    score = Score(
        tracks=(Track(notes=notes, program=0, is_drum=False),),
        tempo=TempoMap(beats=np.array([0.0]), bpm=np.array([120.0])),
        metres=(Metre(beat=0.0, numerator=4, denominator=4),),
    )
    (tmp_path / "song.mid").write_bytes(write_midi(score))
    return tmp_path / "song.mid"


def noise(seconds: float = 1.0) -> Waveform:
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, round(seconds * 24_000)))
    return Waveform(samples=samples.astype(np.float32), rate_hz=24_000)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_named_file_is_replaced_and_the_line_says_so(melisma: Command, tmp_path: Path) -> None:
    first = melisma(*WALTZ, "--output", "x.wav")
    assert "replaced" not in first.out
    (tmp_path / "x.wav").chmod(0o640)
    again = melisma(*WALTZ, "--output", "x.wav")
    assert again.out.splitlines()[0] == first.out.splitlines()[0][:-1] + ", replaced)"
    assert (tmp_path / "x.wav").stat().st_mode & 0o777 == 0o640
    (piece,) = json.loads(melisma(*WALTZ, "-o", "x.wav", "--plot", "p.png", "--json").out)["pieces"]
    assert piece["replaced"] == ["x.wav"]
    stream = melisma(*WALTZ, "-o", "x.wav", "--stream", "-q", "--json")
    assert json.loads(stream.out)["pieces"][0]["replaced"] == ["x.wav"]
    assert names(tmp_path) == ["p.png", "x.wav"]


@pytest.mark.parametrize("extra", [[], ["--stream"], ["--plot", "p.png"]])
def test_no_clobber_refuses_before_any_work(
    melisma: Command, composer: Composer, tmp_path: Path, extra: list[str]
) -> None:
    (tmp_path / ("p.png" if extra[:1] == ["--plot"] else "x.wav")).write_bytes(b"precious")
    done = melisma(*WALTZ, "-o", "x.wav", "--no-clobber", *extra)
    assert done.code == 2
    assert "exists and is kept (--no-clobber): choose another name" in done.err
    assert composer.calls == []
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]
    assert melisma(*WALTZ, "-o", "y.wav", "--no-clobber").code == 0


def test_names_that_the_program_chooses_never_replace(melisma: Command, tmp_path: Path) -> None:
    for _ in range(3):
        assert melisma(*WALTZ).code == 0
    assert names(tmp_path) == ["a-waltz-7-2.wav", "a-waltz-7-3.wav", "a-waltz-7.wav"]
    for _ in range(2):
        assert melisma(*WALTZ, "-o", "album/", "--plot", "pictures/", "--count", "2").code == 0
    found = ["1-a-waltz-2", "1-a-waltz", "2-a-waltz-2", "2-a-waltz"]
    assert names(tmp_path / "album") == [f"{name}.wav" for name in found]
    assert names(tmp_path / "pictures") == [f"{name}.png" for name in found]
    assert melisma(*WALTZ, "--stream", "-q").code == 0
    assert "a-waltz-7-4.wav" in names(tmp_path)


def test_a_name_that_is_taken_in_the_meantime_counts_up(tmp_path: Path) -> None:
    def save(path: Path) -> dict[str, object]:
        write_bytes(path, b"ours", replace=False)
        return {"path": str(path)}

    (tmp_path / "x.wav").write_bytes(b"theirs")
    assert saved_at(tmp_path / "x.wav", save, True)["path"] == str(tmp_path / "x-2.wav")
    with pytest.raises(FileExistsError):
        saved_at(tmp_path / "x.wav", save, False)
    assert (tmp_path / "x.wav").read_bytes() == b"theirs"


def test_words_of_any_script_become_names(melisma: Command, tmp_path: Path) -> None:
    words = ["𠀀" * 60, "忧伤的钢琴曲 " * 40, "é" * 300, "x" * 500, "🎻", "../../etc/passwd"]
    done = melisma("generate", *words, "--duration", "1", "--seed", "1", "-q")
    assert (done.code, done.err) == (0, "")
    assert len(names(tmp_path)) == len(words)


def test_folders_are_made_where_a_name_ends_with_a_slash(
    melisma: Command, composer: Composer, tmp_path: Path
) -> None:
    assert melisma(*WALTZ, "-o", "new/deep/", "-q").code == 0
    assert names(tmp_path / "new" / "deep") == ["1-a-waltz.wav"]
    composer.interrupted_at = 1
    assert melisma(*WALTZ, "-o", "other/deep/", "-q").code == 130
    assert names(tmp_path) == ["new"]
    done = melisma(*WALTZ, "-o", "none/x.wav")
    assert done.code == 2
    assert "the folder none does not exist" in done.err
    (tmp_path / "file").write_bytes(b"")
    assert "file is a file" in melisma(*WALTZ, "-o", "file/").err


def test_folders_that_were_made_and_filled_stay(tmp_path: Path) -> None:
    def failing() -> None:
        with made_folders(tmp_path / "a" / "b" / "x.wav"):
            (tmp_path / "a" / "y.wav").write_bytes(b"finished")
            raise OSError("later")

    with pytest.raises(OSError, match="later"):
        failing()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["y.wav"]


def piped(path: Path, work: Callable[[], Outcome]) -> tuple[Outcome, bytes]:
    """The outcome, and what a reader of a named pipe got."""
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()
    outcome = work()
    reader.join(10)
    assert got, f"the reader waits: {outcome}"
    assert path.is_fifo()
    return outcome, got[0]


@pytest.mark.parametrize(
    ("words", "form"),
    [
        (["-o", "pipe"], "WAV"),
        (["-o", "pipe.flac"], "FLAC"),
        (["-o", "pipe", "--format", "ogg"], "OGG"),
        (["-o", "pipe.wav", "--stream", "-q"], "WAV"),
    ],
)
def test_sound_goes_into_a_pipe(
    words: list[str], form: str, melisma: Command, tmp_path: Path
) -> None:
    outcome, data = piped(tmp_path / words[1], lambda: melisma(*WALTZ, *words))
    assert (outcome.code, outcome.err) == (0, "")
    with soundfile.SoundFile(BytesIO(data)) as file:
        assert file.format == form
        assert len(file.read()) == pytest.approx(24_000, abs=2_000)


def test_all_other_writers_write_into_pipes(melisma: Command, song: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", noise())
    for words, magic in (
        ([*WALTZ, "-o", "y.wav", "--plot", "pipe1"], b"\x89PNG"),
        (["render", song.name, "-o", "pipe2", "--format", "flac"], b"fLaC"),
        (["encode", "x.wav", "pipe3"], b"\x89ML"),
    ):
        pipe = next(word for word in words if word.startswith("pipe"))
        outcome, data = piped(tmp_path / pipe, partial(melisma, *words))
        assert (outcome.code, outcome.err) == (0, ""), words
        assert data[: len(magic)].lower() == magic.lower(), words


def test_standard_output_carries_the_file_alone(
    composer: Composer, song: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for words in (
        [*WALTZ, "-o", "-"], [*WALTZ, "-o", "/dev/stdout"], ["render", song.name, "-o", "-"],
    ):  # fmt: skip
        assert run(program, words) == 0
        data = capfdbinary.readouterr().out
        with soundfile.SoundFile(BytesIO(data)) as file:
            assert file.format == "WAV"
            assert len(file.read())
    assert run(program, [*WALTZ, "-o", "-", "--json"]) == 2
    assert len(composer.calls) == 2
    assert not Path("-").exists()


def test_several_pieces_need_several_places(
    melisma: Command, composer: Composer, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in ("pipe", "/dev/null", "-"):
        done = melisma(*WALTZ, "--count", "2", "-o", place)
        assert done.code == 2
        assert "takes one piece, not 2" in done.err
    assert composer.calls == []


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_followed(melisma: Command, tmp_path: Path, dangling: bool) -> None:
    (tmp_path / "far").mkdir()
    real = tmp_path / "far" / "real.wav"
    if not dangling:
        real.write_bytes(b"old")
    (tmp_path / "link.wav").symlink_to(real)
    done = melisma(*WALTZ, "-o", "link.wav")
    assert done.code == 0
    assert ("replaced" in done.out) is not dangling
    assert (tmp_path / "link.wav").is_symlink()
    assert real.read_bytes()[:4] == b"RIFF"
    assert names(tmp_path / "far") == ["real.wav"]


def test_a_stream_touches_no_file_of_the_user(melisma: Command, tmp_path: Path) -> None:
    (tmp_path / "jig.part.wav").write_text("precious")
    (tmp_path / "victim.txt").write_text("victim")
    (tmp_path / "jug.part.wav").symlink_to("victim.txt")
    for name in ("jig.wav", "jug.wav"):
        done = melisma(*WALTZ, "--stream", "-o", name)
        assert done.code == 0
        assert "the sound grows in" in done.err
    assert (tmp_path / "jig.part.wav").read_text() == "precious"
    assert (tmp_path / "jug.part.wav").read_text() == "victim"
    assert len(names(tmp_path)) == 5


def test_a_full_disk_says_what_was_written_and_what_was_not(
    melisma: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, calls = os.fsync, []

    def filling(number: int) -> None:
        calls.append(number)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", filling)
    done = melisma(*WALTZ, "-o", "x.wav", "--count", "3")
    assert done.code == 2
    assert "is full: x-2.wav was not written; written before: x-1.wav" in done.err
    assert done.err.count("\n") == 1
    assert names(tmp_path) == ["x-1.wav"]
    assert "written before" not in melisma("inspect", "none.wav").err


COLLISIONS: list[tuple[list[str], str]] = [
    ([*WALTZ, "-o", "in.wav", "--melody", "in.wav"], "is the same file as --melody in.wav"),
    ([*WALTZ, "-o", "./in.wav", "--continue-from", "in.wav"], "the same file as --continue-from"),
    ([*WALTZ, "-o", "hard.wav", "--continue-from", "in.wav"], "the same file as --continue-from"),
    ([*WALTZ, "-o", "soft.wav", "--melody", "in.wav"], "the same file as --melody in.wav"),
    ([*WALTZ, "-o", "to.wav", "--plot", "plot.png"], "is the same file as --output to.wav"),
    (["render", "song.mid", "-o", "x.wav", "--stems", "x.wav"], "is the same file as --output"),
    (["render", "song.mid", "-o", "s/01-x.wav", "--stems", "s"], "is called like one of the stems"),
    (["encode", "in.wav", "in.mlt"], "is the same file as the recording in.wav"),
    (["compose", "a waltz", "-o", "same.mid", "--stems", "same.mid"], "is the same file as"),
    (["compose", "a waltz", "-o", "a.mid", "--plot", "a.mid/x.png"], "a.mid"),
    (["compose", "--continue-from", "song.mid", "-o", "song.mid"], "same file as --continue-from"),
    (["compose", "a waltz", "-o", "a.mid", "--audio", "to.wav", "--plot", "plot.png"],
     "is the same file as --audio to.wav"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), COLLISIONS)
def test_no_file_of_a_call_takes_the_place_of_another(
    words: list[str], said: str, melisma: Command, composer: Composer, song: Path, tmp_path: Path
) -> None:
    del song
    write_audio(tmp_path / "in.wav", noise())
    (tmp_path / "s").mkdir()
    (tmp_path / "hard.wav").hardlink_to(tmp_path / "in.wav")
    (tmp_path / "soft.wav").symlink_to("in.wav")
    (tmp_path / "in.mlt").symlink_to("in.wav")
    (tmp_path / "plot.png").symlink_to("to.wav")
    before = {path.name: path.lstat().st_mtime_ns for path in tmp_path.iterdir()}
    done = melisma(*words)
    assert done.code == 2, done
    assert said in done.err
    assert done.err.count("\n") == 1
    assert composer.calls == []
    assert {path.name: path.lstat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_capital_letters_count_where_the_file_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"--output": [tmp_path / "A.wav"], "--plot": [tmp_path / "a.WAV"]}
    assert ignores_case(tmp_path) is False
    check_places(places)
    monkeypatch.setattr("melisma.cli.places.ignores_case", lambda _: True)
    with pytest.raises(MelismaError, match="the same file"):
        check_places(places)
    composed, split = {"-o": [tmp_path / "\u00e9.wav"]}, {"-p": [tmp_path / "e\u0301.wav"]}
    with pytest.raises(MelismaError, match="the same file"):
        check_places(composed | split)


def test_devices_may_be_named_twice() -> None:
    check_places({"--output": [Path("/dev/null")], "--plot": [Path("/dev/null")]})
    with pytest.raises(MelismaError, match="the same file"):
        check_places({"--output": [Path("/dev/stdout")], "--plot": [Path("-")]})
