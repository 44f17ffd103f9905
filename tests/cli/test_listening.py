"""`melisma generate --stream` and what is given besides the prompt, with a stand-in model."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from stand_ins import Composer, seat

from melisma.cli.errors import run
from melisma.cli.program import program
from melisma.files import Provenance, read_provenance, write_audio
from melisma.files.audio.wav_stream import WavStream
from melisma.sound.limiter import CEILING_DB, StreamLimiter
from melisma.values import Waveform


@pytest.fixture
def composer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Composer:
    monkeypatch.chdir(tmp_path)
    return seat(monkeypatch)


def noise(seconds: float = 1.0, level: float = 0.1, rate_hz: int = 24_000) -> Waveform:
    samples = level * np.random.default_rng(0).standard_normal((1, round(seconds * rate_hz)))
    return Waveform(samples=samples.astype(np.float32), rate_hz=rate_hz)


def test_a_file_is_written_while_audio_is_generated(composer: Composer, tmp_path: Path) -> None:
    words = ["generate", "a waltz", "--seed", "5", "--stream", "--output", "song.flac", "-q"]
    assert run(program, words) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["song.flac"]
    sound, rate_hz = soundfile.read(tmp_path / "song.flac")
    assert (len(sound), rate_hz) == (240_000, 24_000)
    sign = read_provenance(tmp_path / "song.flac")
    assert sign is not None
    assert sign.seed == 5
    assert composer.streamed == 10


def test_a_stream_that_is_stopped_leaves_nothing(
    composer: Composer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    composer.interrupted_at = 4
    assert run(program, ["generate", "a waltz", "--stream", "--output", "song.wav"]) == 130
    assert list(tmp_path.iterdir()) == []
    assert "no unfinished files" in capsys.readouterr().err


class Pipe(io.BytesIO):
    """Standard output whose reader goes away after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError
        return super().write(data)


class Standard:
    """What `sys.stdout` is to a program whose output goes to a pipe."""

    def __init__(self, writes: int) -> None:
        self.buffer = Pipe(writes)

    def isatty(self) -> bool:
        return False

    def flush(self) -> None: ...


def test_a_pipe_gets_a_whole_wav_and_a_listener_may_leave(
    composer: Composer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "a waltz", "--stream", "--output", "-", "--seed", "1"]
    out = Standard(10_000)
    monkeypatch.setattr("sys.stdout", out)
    assert run(program, words) == 0
    data = out.buffer.getvalue()
    assert data[:4] == b"RIFF"
    assert struct.unpack("<I", data[4:8]) == (0xFFFFFFFF,)
    assert b"AI-generated" in data[:400]
    start = data.index(b"data") + 8
    assert len(data) - start == 2 * 240_000
    left = Standard(7)
    monkeypatch.setattr("sys.stdout", left)
    monkeypatch.setattr("melisma.cli.commands.generate.leave_output", lambda: None)
    assert run(program, words) == 2
    assert "the reader closed the stream after" in capsys.readouterr().err
    assert composer.streamed < 6


def test_a_growing_file_is_whole_after_every_block(tmp_path: Path) -> None:
    place = tmp_path / "growing.wav"
    sign = Provenance(prompt="p", seed=1, model="m", fingerprint="f", licence="CC0")
    with place.open("w+b") as file:
        wav = WavStream(file, rate_hz=32_000, channels=2, provenance=sign, rewinds=True)
        for count in range(1, 4):
            block = Waveform(samples=np.full((2, 100), 0.5, np.float32), rate_hz=32_000)
            wav.write(block)
            sound, rate_hz = soundfile.read(place)
            assert (sound.shape, rate_hz) == ((100 * count, 2), 32_000)
    np.testing.assert_allclose(sound, 0.5, atol=1e-4)


@pytest.mark.parametrize("level", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("block", [17, 1_000, 24_000])
def test_the_limiter_keeps_below_the_ceiling_and_leaves_quiet_sound_alone(
    level: float, block: int
) -> None:
    sound = noise(2.0, level)
    loud = sound.samples.copy()
    loud[0, 12_000:12_100] *= 4
    limiter = StreamLimiter(24_000, 1)
    state, parts = limiter.initial_state(), []
    for start in range(0, loud.shape[1], block):
        part = Waveform(samples=loud[:, start : start + block], rate_hz=24_000)
        given, state = limiter.step(part, state)
        parts.append(given.samples)
    parts.append(limiter.finish(state).samples)
    out = np.concatenate(parts, axis=1)
    assert out.shape == loud.shape
    assert np.abs(out).max() <= 10 ** (CEILING_DB / 20) + 1e-6
    if level == 0.05:
        np.testing.assert_array_equal(out, loud)
    else:
        gains = (out / loud)[0]
        assert gains.max() <= 1 + 1e-6
        assert np.abs(np.diff(gains)).max() < 0.1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--best-of", "4"], "leave out --best-of"),
        (["--receipt", "--plot", "p.png"], "leave out --receipt, --plot"),
        (["--count", "2"], "leave out --count"),
        (["--engine", "score"], "leave out --engine"),
    ],
)
def test_what_needs_the_whole_piece_is_not_streamed(
    words: list[str], said: str, composer: Composer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program, ["generate", "a waltz", "--stream", "--output", "x.wav", *words]) == 2
    assert said in capsys.readouterr().err
    assert composer.calls == []


def test_sound_that_is_given_reaches_the_composer(composer: Composer, tmp_path: Path) -> None:
    write_audio(tmp_path / "hum.wav", noise(2.0))
    write_audio(tmp_path / "song.wav", noise(5.0))
    words = ["generate", "a waltz", "-q", "--output", "x.wav", "--melody", "hum.wav"]
    assert run(program, [*words, "--continue-from", "song.wav", "--keep-seconds", "3"]) == 0
    given = composer.calls[0]["context"]
    assert given.melody.seconds == 2.0  # type: ignore[attr-defined]
    assert given.beginning.seconds == 3.0  # type: ignore[attr-defined]
    sign = read_provenance(tmp_path / "x.wav")
    assert sign is not None
    assert '"keep_seconds": 3' in sign.settings
    assert '"melody": "hum.wav"' in sign.settings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--melody", "none.wav"], "no file none.wav"),
        (["--continue-from", "none.wav"], "no file none.wav"),
        (["--keep-seconds", "3"], "give a file"),
        (["--melody", "hum.wav", "--engine", "score"], "melisma compose"),
        (["--continue-from", "hum.wav", "--keep-seconds", "0.1"], "--keep-seconds"),
        (["--precision", "int3"], '"int3"'),
        (["--top-p", "0"], "--top-p"),
        (["--model", "nobody"], 'no model "nobody"'),
    ],
)
def test_bad_options_are_named(
    words: list[str], said: str, composer: Composer, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_audio(tmp_path / "hum.wav", noise(2.0))
    assert run(program, ["generate", "a waltz", "--output", "x.wav", *words]) == 2
    assert said in capsys.readouterr().err
    assert composer.calls == []
