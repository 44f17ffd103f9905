"""`melisma compose` and the score engine of `melisma generate`, with a small untrained model."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from small_corpus import line, score
from small_score_model import small_score_composer

from melisma.cli.errors import run
from melisma.cli.program import program
from melisma.files import read_audio, read_provenance
from melisma.files.checkpoint import Checkpoint, write_checkpoint
from melisma.generation.resolve import model_folder
from melisma.symbolic import read_midi, write_midi
from melisma.symbolic.tags import read_midi_tags


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "model"
    folder.mkdir()
    shutil.copy(model_folder("default") / "joint.safetensors", folder)
    network = small_score_composer().model
    write_checkpoint(
        folder / "score_lm.safetensors",
        Checkpoint(
            kind="score_lm", settings=asdict(network.settings), tensors=network.state_dict()
        ),
    )
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(model: Path, *words: str) -> int:
    return run(program, [*words, "--model", str(model)])


def melody_file(path: Path) -> Path:
    piece = score(
        line([60, 62, 64, 65, 67, 65, 64, 62] * 2, 40, name="melody"),
        line([48, 41, 43, 48] * 2, 0, step=2.0),
        bpm=96.0,
    )
    path.write_bytes(write_midi(piece))
    return path


def test_stems_beside_other_files_are_remarked_on(here: Path, model: Path, capsys) -> None:
    (here / "parts").mkdir()
    for name in ("07-old.wav", "07-old.mid", ".hidden"):
        (here / "parts" / name).write_bytes(b"x")
    words = ["compose", "a waltz", "--bars", "2", "--best-of", "1", "--output", "w.mid"]
    assert call(model, *words, "--stems", "parts") == 0
    said = capsys.readouterr().out
    remark = "2 other files were in the folder parts already and stay: they are no stems of this"
    assert said.count(f"  note: {remark} piece") == 1
    assert (here / "parts" / "07-old.wav").read_bytes() == b"x"


def test_all_files_are_written_with_their_provenance(here: Path, model: Path, capsys) -> None:
    code = call(
        model, "compose", "a waltz", "--instruments", "flute, cello, drums", "--bpm", "93.7",
        "--key", "Bb minor", "--time-signature", "3/4", "--bars", "4", "--seed", "5",
        "--best-of", "2", "--output", "w.mid", "--audio", "w.flac", "--stems", "parts",
        "--plot", "w.png", "--json",
    )  # fmt: skip
    assert code == 0
    (piece,) = json.loads(capsys.readouterr().out)["pieces"]
    other = pretty_midi.PrettyMIDI(str(here / "w.mid"))
    assert other.get_tempo_changes()[1] == pytest.approx([93.7], abs=0.01)
    signature = other.time_signature_changes[0]
    assert (signature.numerator, signature.denominator) == (3, 4)
    assert other.key_signature_changes[0].key_number == 22
    playing = {(i.program, i.is_drum) for i in other.instruments}
    assert playing <= {(73, False), (42, False), (0, True)}
    tags = read_midi_tags((here / "w.mid").read_bytes())
    assert tags is not None
    assert (tags["prompt"], tags["seed"], tags["AI-generated"]) == ("a waltz", "5", "yes")
    sound = read_audio(here / "w.flac")
    assert (sound.rate_hz, sound.samples.shape[0]) == (44_100, 2)
    provenance = read_provenance(here / "w.flac")
    assert provenance is not None
    assert provenance.seed == 5
    stems = sorted(path.name for path in (here / "parts").iterdir())
    assert len(stems) == 2 * len(piece["parts"])
    one = read_midi_tags(
        (here / "parts" / next(s for s in stems if s.endswith(".mid"))).read_bytes()
    )
    assert one is not None
    assert (here / "w.png").read_bytes()[:4] == b"\x89PNG"
    assert piece["remarks"] == []
    assert piece["bars"] <= 4
    assert set(piece["measured"]) >= {"tempo_bpm", "tonality", "instruments_f1", "total"}


def test_several_pieces_are_numbered_and_repeat_by_seed(here: Path, model: Path) -> None:
    words = ("compose", "a duet for two flutes", "--count", "2", "--bars", "2", "--best-of", "1")
    (here / "one").mkdir()
    (here / "two").mkdir()
    assert call(model, *words, "--seed", "9", "--output", "one/") == 0
    assert call(model, *words, "--seed", "9", "--output", "two/", "--quiet") == 0
    names = sorted(path.name for path in (here / "one").iterdir())
    assert names == ["1-a-duet-for-two-flutes.mid", "2-a-duet-for-two-flutes.mid"]
    for name in names:
        assert (here / "one" / name).read_bytes() == (here / "two" / name).read_bytes()


def test_attributes_suffice_without_a_prompt(here: Path, model: Path) -> None:
    assert call(model, "compose", "--style", "ragtime", "--bars", "2", "-o", "r.mid", "-q") == 0
    assert (here / "r.mid").is_file()


def test_files_are_continued_infilled_and_accompanied(here: Path, model: Path) -> None:
    file = melody_file(here / "t.mid")
    given = read_midi(file.read_bytes())
    for words, bars in (
        (("--continue-from", "t.mid", "--bars", "2"), 6),
        (("--continue-from", "t.mid", "--infill", "2-3"), 4),
        (("--melody", "t.mid", "--instruments", "guitar"), 4),
    ):
        assert call(model, "compose", *words, "-o", "out.mid", "--best-of", "1", "-q") == 0
        made = read_midi((here / "out.mid").read_bytes())
        assert made.end_beats <= 4.0 * bars
        opening = made.tracks[0].notes.start_beats < 4.0
        before = given.tracks[0].notes.start_beats < 4.0
        assert np.array_equal(
            made.tracks[0].notes.pitch[opening], given.tracks[0].notes.pitch[before]
        )


def test_generate_reaches_scores(here: Path, model: Path, capsys) -> None:
    words = ("generate", "a fugue for organ", "--duration", "4", "--best-of", "1", "--json")
    assert call(model, *words, "--engine", "auto", "--output", "f.wav") == 0
    (piece,) = json.loads(capsys.readouterr().out)["pieces"]
    assert piece["engine"] == "score"
    assert piece["engine_reason"].endswith("makes scores alone")
    assert (here / "f.mid").is_file()
    assert read_audio(here / "f.wav").rate_hz == 44_100


BAD: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "no prompt was given"),
    "bars": (["x", "--bars", "0"], "number from 1 to 600, not 0"),
    "two lengths": (["x", "--bars", "4", "--duration", "20"], "give one of them"),
    "metre": (["x", "--time-signature", "4/5"], "no metre 4/5"),
    "metre in words": (["x", "--time-signature", "waltz"], '"waltz" is not a time signature'),
    "contradiction": (["a march in four", "--time-signature", "3/4"], "no bar is both"),
    "instrument": (["x", "--instruments", "kazoo orchestra"], 'no instrument "kazoo orchestra"'),
    "style": (["x", "--style", "dubstep"], 'unknown style "dubstep"'),
    "greedy and bold": (
        ["x", "--greedy", "--top-k", "4"],
        "--greedy always chooses",
    ),
    "top-p": (["x", "--top-p", "1.5"], "--top-p must be a number from 0.01 to 1"),
    "ending": (["x", "-o", "x.wav"], "x.wav must end in .mid"),
    "missing folder": (["x", "-o", "nix/x.mid"], "nix does not exist"),
    "sound ending": (["x", "--audio", "x.aac"], "give one of .wav"),
    "room": (["x", "--room", "cave"], 'unknown room "cave"'),
    "infill alone": (["x", "--infill", "1-2"], "add --continue-from"),
    "infill range": (["x", "--infill", "4-2", "--continue-from", "t.mid"], "not a range of bars"),
    "infill beyond": (["x", "--infill", "3-9", "--continue-from", "t.mid"], "piece has 4 bars"),
    "both files": (["x", "--melody", "t.mid", "--continue-from", "t.mid"], "exclude each other"),
    "no such file": (["x", "--continue-from", "nix.mid"], "no file nix.mid"),
    "not MIDI": (["x", "--melody", "text.mid"], "no MIDI file"),
    "no melody": (["x", "--melody", "drums.mid"], "drums alone"),
    "melody and bars": (["x", "--melody", "t.mid", "--bars", "9"], "as long as its melody"),
    "not a soundfont": (["x", "--audio", "x.wav", "--soundfont", "text.mid"], "soundfont"),
    "stems": (["x", "--stems", "text.mid"], "is a file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence_and_leaves_nothing(
    name: str, here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, sentence = BAD[name]
    melody_file(here / "t.mid")
    (here / "text.mid").write_text("words")
    drums = score(line([36, 38] * 4, 0, is_drum=True))
    (here / "drums.mid").write_bytes(write_midi(drums))
    before = sorted(here.rglob("*"))
    assert call(model, "compose", *words, "--best-of", "1") == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_a_model_without_scores_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty").mkdir()
    assert run(program, ["compose", "x", "--model", "empty"]) == 2
    assert "empty holds no model" in capsys.readouterr().err


def test_inspect_measures_a_score(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    melody_file(here / "t.mid")
    assert run(program, ["inspect", "t.mid", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["bars"], facts["parts"], facts["melisma"]) == (4, ["melody", "piano"], False)
    assert facts["tonality"] == "C major"


def test_a_score_goes_into_a_pipe(here: Path, model: Path) -> None:
    os.mkfifo(here / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((here / "pipe").read_bytes()), daemon=True)
    reader.start()
    words = ("compose", "a duet for two flutes", "--bars", "2", "--best-of", "1", "-q")
    assert call(model, *words, "--output", "pipe") == 0
    reader.join(10)
    assert got[0][:4] == b"MThd"
    assert (here / "pipe").is_fifo()
    assert read_midi(got[0]).tracks


def test_the_summary_has_three_parts_and_nothing_excluded_plays(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compose", "a tango, not sad, no harp 🎻", "--bars", "2", "--best-of", "1")
    options = ("--without", "drums", "--without", "piano", "--output", "t.mid")
    assert call(model, *words, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("  understood: tradition tango, without harp, drums, piano, not sad")
    assert lines[2] == '  not understood: "🎻" (pictures and signs are not read)'
    assert lines[3].startswith("  chosen freely: tempo ")
    programs = {(t.program, t.is_drum) for t in read_midi((here / "t.mid").read_bytes()).tracks}
    assert not programs & {(46, False), *((p, True) for p in range(128))}
    assert not programs & {(p, False) for p in (0, 1, 2, 3)}


@pytest.mark.usefixtures("here")
def test_an_exclusion_alone_is_a_prompt(model: Path, capsys) -> None:
    assert call(model, "compose", "--without", "drums", "--bars", "2", "--json") == 0
    (piece,) = json.loads(capsys.readouterr().out)["pieces"]
    assert piece["understood"] == {"without": "drums"}
    assert call(model, "compose", "waltz", "--instruments", "drums", "--without", "drums") == 2
    assert 'excluded by "without drums"' in capsys.readouterr().err
