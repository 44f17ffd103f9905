"""`melisma inspect` looks at the bytes of a file, not at its name."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_card import small_card

from melisma.cli.errors import run
from melisma.cli.program import program
from melisma.evaluate.report.card import write_card
from melisma.files import write_audio, write_tokens
from melisma.files.checkpoint import Checkpoint, write_checkpoint
from melisma.symbolic import read_midi, write_midi
from melisma.values import Metre, Notes, Score, TempoMap, TokenGrid, Track, Waveform
from melisma.values.score import KeySignature

NAMES = ("piece.mid", "song.kar", "x.wav", "x.mlt", "noending", "x.safetensors", "x.json", "x.rmi")


def midi(metre: tuple[int, int] = (6, 8), quarter_bpm: float = 156.0) -> bytes:
    notes = Notes(
        start_beats=np.arange(0, 24, 0.5),
        duration_beats=np.full(48, 0.5),
        pitch=np.resize([60, 64, 67], 48),
        velocity=np.full(48, 80),
    )
    return write_midi(
        Score(
            tracks=(Track(notes=notes, program=0, is_drum=False, name="harp"),),
            tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, quarter_bpm)),
            metres=(Metre(beat=0.0, numerator=metre[0], denominator=metre[1]),),
        )
    )


def riff(data: bytes) -> bytes:
    """A MIDI file in a RIFF container (RMID)."""
    chunk = b"data" + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"RMID" + chunk


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of one file of each kind, by a fact that `inspect` shows of it alone."""
    folder = tmp_path_factory.mktemp("kinds")
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)
    sound = Waveform(samples=tone[None], rate_hz=24_000)
    for ending in (".wav", ".flac", ".ogg", ".mp3"):
        write_audio(folder / f"x{ending}", sound)
    grid = TokenGrid(
        tokens=np.zeros((2, 25), np.int64), vocabulary=16, frame_rate_hz=25, fingerprint="f"
    )
    write_tokens(folder / "x.mlt", grid)
    import torch

    tensors = {"weight": torch.zeros(3)}
    write_checkpoint(folder / "x.safetensors", Checkpoint(kind="toy", settings={}, tensors=tensors))
    write_card(folder / "card.json", small_card(np.ones(16), np.ones(16)))
    named = {
        "loudness_lufs of WAV": "x.wav", "loudness_lufs of FLAC": "x.flac",
        "loudness_lufs of OGG": "x.ogg", "loudness_lufs of MP3": "x.mp3",
        "vocabulary of tokens": "x.mlt", "weights of a checkpoint": "x.safetensors",
        "subject of a card": "card.json",
    }  # fmt: skip
    found = {fact: (folder / name).read_bytes() for fact, name in named.items()}
    return found | {"notes of MIDI": midi(), "notes of RMID": riff(midi())}


def facts_of(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    code = run(program, ["inspect", str(path), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def test_bytes_decide_and_names_do_not_matter(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for (fact, data), name in itertools.product(files.items(), NAMES):
        if (fact, name) == ("subject of a card", "x.safetensors"):
            continue  # where a card keeps its embeddings
        (tmp_path / name).write_bytes(data)
        assert fact.split()[0] in facts_of(tmp_path / name, capsys), (fact, name)
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("x.wav", b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "is a PNG picture"),
        ("x.mid", b"PK\x03\x04" + b"\0" * 99, "is a ZIP archive"),
        ("x.mid", bytes(range(200)), "MIDI"),
        ("x.kar", b"some words", "MIDI"),
        ("x.mlt", bytes(range(1, 200)), "token file"),
        ("x", b"", "is empty"),
        ("x", b"some words", "text"),
    ],
)
def test_what_holds_no_music_gets_a_sentence(
    name: str, data: bytes, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(data)
    assert run(program, ["inspect", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("metre", "quarter_bpm", "shown"),
    [
        ((6, 8), 156.0, "104 bpm (beat: dotted quarter)"),
        ((4, 4), 104.0, "104 bpm"),
        ((12, 8), 150.0, "100 bpm (beat: dotted quarter)"),
    ],
)
def test_a_tempo_is_one_number_of_one_beat(
    metre: tuple[int, int], quarter_bpm: float, shown: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "x.mid").write_bytes(midi(metre, quarter_bpm))
    assert run(program, ["inspect", str(tmp_path / "x.mid")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("tempo ")]
    assert line.split(maxsplit=1)[1] == shown


def test_all_tempi_metres_and_keys_of_a_piece_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.mid").write_bytes(midi())
    assert facts_of(tmp_path / "one.mid", capsys)["metres"] == ["6/8"]
    assert run(program, ["inspect", "one.mid"]) == 0
    assert "tempi" not in capsys.readouterr().out
    score = replace(
        read_midi(midi((4, 4), 60.0)),
        tempo=TempoMap(
            beats=np.array([0.0, 4.0, 8.0, 12.0, 16.0]), bpm=np.array([60, 160, 50, 60, 90.0])
        ),
        metres=(
            Metre(beat=0.0, numerator=4, denominator=4),
            Metre(beat=8.0, numerator=3, denominator=4),
        ),
        keys=(
            KeySignature(beat=0.0, sharps=1, is_minor=False),
            KeySignature(beat=8.0, sharps=-1, is_minor=True),
        ),
    )
    (tmp_path / "several.mid").write_bytes(write_midi(score))
    facts = facts_of(tmp_path / "several.mid", capsys)
    assert facts["tempi_bpm"] == [60.0, 160.0, 50.0, 90.0]
    assert (facts["metres"], facts["keys"]) == (["4/4", "3/4"], ["G major", "D minor"])
    assert (facts["tempo_bpm"], facts["metre"]) == (60.0, "4/4")
    assert run(program, ["inspect", str(tmp_path / "several.mid")]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["tempi"].strip() == "4 tempi, 50 to 160 bpm"
    assert lines["metres"].strip() == "4/4, 3/4"
    assert lines["keys"].strip() == "G major, D minor"


def test_json_is_json_where_the_encoding_lacks_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "café.mid"
    path.write_bytes(midi())
    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, "ascii", "backslashreplace"))
    assert run(program, ["inspect", str(path), "--json"]) == 0
    assert json.loads(output.getvalue())["path"] == str(path)
