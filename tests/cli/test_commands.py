"""The commands from prompt to files, with stand-ins for the trained models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from command_line import Command, Outcome, command_of
from stand_ins import Composer, seat

from melisma.files import AUDIO_ENDINGS, read_audio, read_provenance, write_audio
from melisma.files.checkpoint import Checkpoint, write_checkpoint
from melisma.generation.requests.audio import mastered_for
from melisma.sound.loudness import integrated_lufs, true_peak_db
from melisma.sound.stored import StoredSound
from melisma.values import Prompt, Waveform


@pytest.fixture
def composer(monkeypatch: pytest.MonkeyPatch) -> Composer:
    return seat(monkeypatch)


@pytest.fixture
def melisma(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Run the program in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command_of(capsys)


@pytest.mark.parametrize("ending", AUDIO_ENDINGS)
def test_a_piece_is_mastered_and_knows_where_it_came_from(
    composer: Composer, melisma: Command, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"waltz{ending}"
    outcome = melisma(
        "generate", "a gentle waltz", "--duration", 2, "--seed", 7, "--output", path,
        "--bpm", 90, "--key", "f# minor", "--metre", "3/4",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        f"{path}  (2 s, seed 7, similarity 0.50 (good))",
        "  understood: tempo 90 bpm",
        "  not understood: nothing",
        "  chosen freely: nothing",
    ]
    sound = read_audio(path)
    assert sound.seconds == pytest.approx(2, abs=0.1)
    lufs = integrated_lufs(sound)
    assert lufs is not None
    assert lufs == pytest.approx(-16, abs=0.5)
    assert true_peak_db(sound) < -1
    assert abs(sound.samples.mean()) < 1e-3
    provenance = read_provenance(path)
    assert provenance is not None
    assert (provenance.prompt, provenance.seed) == ("a gentle waltz", 7)
    assert (provenance.model, provenance.fingerprint) == ("default", "f00d")
    assert provenance.ai_generated
    assert json.loads(provenance.settings)["tonality"] == "F# minor"
    (call,) = composer.calls
    assert call["prompts"] == [
        Prompt(
            words="a gentle waltz",
            duration_seconds=2,
            tempo_bpm=90,
            tonality="F# minor",
            metre="3/4",
        )
    ]


def test_instruments_are_left_out_on_request(composer: Composer, melisma: Command) -> None:
    words = ("generate", "a waltz", "--duration", 2, "--without", "Drums")
    assert melisma(*words, "--without", "harp,vocals").code == 0
    (call,) = composer.calls
    (prompt,) = call["prompts"]  # type: ignore[misc] # the stand-in records anything
    assert prompt.without == ("drums", "harp", "vocals")
    outcome = melisma("generate", "a waltz", "--without", "drumz")
    assert (outcome.code, outcome.out) == (2, "")
    assert 'no instrument "drumz" to leave out: did you mean drum or drums' in outcome.err


@pytest.mark.usefixtures("composer")
def test_json_says_what_was_understood(melisma: Command) -> None:
    outcome = melisma("generate", "a waltz", "--duration", 2, "--json")
    (piece,) = json.loads(outcome.out)["pieces"]
    assert piece["understood"] == {"tempo": "90 bpm"}
    assert (piece["not_understood"], piece["chosen_freely"]) == ([], {})
    assert piece["scales"]["similarity"] == {"scale": "cosine", "good_from": 0.24}


@pytest.mark.parametrize("ending", [".mp3", ".ogg"])
def test_peaks_stay_below_the_ceiling_after_lossy_coding(tmp_path: Path, ending: str) -> None:
    time = np.arange(48_000) / 24_000
    hits = np.random.default_rng(0).standard_normal(48_000) * np.exp(-(time % 0.25) * 12)
    raw = StoredSound.of(Waveform(samples=hits[None], rate_hz=24_000))
    sound = mastered_for(raw, ending).waveform
    write_audio(tmp_path / f"x{ending}", sound)
    assert true_peak_db(read_audio(tmp_path / f"x{ending}")) < -1
    lufs = integrated_lufs(sound)
    assert lufs is not None
    assert lufs > -18


def test_a_receipt_compares_measured_with_requested_attributes(
    composer: Composer, melisma: Command
) -> None:
    words = ("generate", "a waltz", "--duration", 2, "--seed", 7, "--receipt", "--rank", "receipt")
    outcome = melisma(*words)
    assert outcome.code == 0
    assert composer.calls[0]["rank"] == "receipt"
    lines = outcome.out.splitlines()[4:]
    assert lines[0].startswith("  tempo: ")
    assert "90 bpm" in lines[0]
    (instruments,) = [line for line in lines if line.startswith("  instruments: piano 0.90, ")]
    assert "piano: agrees" in instruments
    (piece,) = json.loads(melisma(*words, "--json").out)["pieces"]
    names = [finding["name"] for finding in piece["receipt"]["findings"]]
    assert names[:4] == ["tempo", "tonality", "metre", "density"]
    assert 0.0 <= piece["receipt"]["agreement"] <= 1.0
    wrong = melisma("generate", "a waltz", "--rank", "luck")
    assert wrong.code == 2
    assert 'unknown ranking "luck": choose one of words, receipt' in wrong.err


def test_several_pieces_are_numbered_and_have_seeds_of_their_own(
    composer: Composer, melisma: Command, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("# mine\n\na march\n  a ballad \n", encoding="utf-8")
    outcome = melisma(
        "generate", "a waltz", "--prompts", "prompts.txt", "--count", 2, "--duration", 1,
        "--seed", 10, "--output", "piece.flac", "--best-of", 3, "--json",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    pieces = json.loads(outcome.out)["pieces"]
    assert [p["path"] for p in pieces] == [f"piece-{i}.flac" for i in range(1, 7)]
    assert [p["seed"] for p in pieces] == [10, 11, 12, 13, 14, 15]
    assert [p["prompt"] for p in pieces] == ["a waltz"] * 2 + ["a march"] * 2 + ["a ballad"] * 2
    assert all((tmp_path / p["path"]).exists() for p in pieces)
    assert all(len(p["candidates"]) == 3 for p in pieces)
    assert [call["seed"] for call in composer.calls] == [10, 14]


@pytest.mark.usefixtures("composer")
def test_names_come_from_the_prompts_where_no_file_is_named(
    melisma: Command, tmp_path: Path
) -> None:
    melisma("generate", "A waltz, slowly!", "--duration", 1, "--seed", 3)
    assert (tmp_path / "a-waltz-slowly-3.wav").exists()
    (tmp_path / "songs").mkdir()
    outcome = melisma(
        "generate", "a", "华尔兹", "--duration", 1, "--output", "songs", "--format", "ogg"
    )
    assert outcome.code == 0
    assert sorted(p.name for p in (tmp_path / "songs").iterdir()) == ["1-a.ogg", "2-华尔兹.ogg"]


@pytest.mark.usefixtures("composer")
def test_pictures_are_numbered_like_their_pieces(melisma: Command, tmp_path: Path) -> None:
    outcome = melisma("generate", "a", "b", "--duration", 1, "-o", "x.wav", "--plot", "y.png")
    assert outcome.code == 0
    names = ["x-1.wav", "x-2.wav", "y-1.png", "y-2.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert (tmp_path / "y-2.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("composer")
def test_quiet_says_nothing(melisma: Command) -> None:
    assert melisma("generate", "a", "--duration", 1, "--quiet") == Outcome(0, "", "")


def test_sampling_parameters_reach_the_pipeline(composer: Composer, melisma: Command) -> None:
    melisma(
        "generate", "a", "--duration", 1, "--guidance", 2.5, "--guidance-coarse", 1.5,
        "--temperature-semantic", 1.1, "--top-k-semantic", 9, "--temperature-coarse", 1.2,
        "--top-k-coarse", 8,
    )  # fmt: skip
    assert composer.calls[0]["sampling"] == {
        "guidance_semantic": 2.5,
        "guidance_coarse": 1.5,
        "temperature_semantic": 1.1,
        "top_k_semantic": 9,
        "temperature_coarse": 1.2,
        "top_k_coarse": 8,
        "temperature_fine": 0.4,
    }
    refused = melisma("generate", "a", "--temperature-fine", 0.5)
    assert refused.err == "melisma: default has no fine stage: leave out --temperature-fine\n"


def test_ctrl_c_keeps_finished_pieces_and_leaves_no_halves(
    composer: Composer, melisma: Command, tmp_path: Path
) -> None:
    composer.interrupted_at = 1
    outcome = melisma("generate", "a", "--count", 6, "--duration", 1, "--output", "x.wav")
    assert outcome.code == 130
    assert outcome.err.strip() == "melisma: interrupted; no unfinished files were left behind"
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"x-{i}.wav" for i in range(1, 5)]


@pytest.mark.usefixtures("composer")
def test_inspect_reads_back_what_generate_wrote(melisma: Command) -> None:
    melisma("generate", "a waltz", "--duration", 1, "--seed", 5, "--output", "x.mp3")
    facts = json.loads(melisma("inspect", "x.mp3", "--json").out)
    assert (facts["prompt"], facts["seed"]) == ("a waltz", 5)
    assert facts["ai_generated"] is True
    assert facts["rate_hz"] == 24_000
    assert facts["loudness_lufs"] == pytest.approx(-16, abs=0.5)
    text = melisma("inspect", "x.mp3").out
    assert "prompt           a waltz\n" in text
    assert "ai generated     yes\n" in text


def test_inspect_says_when_sound_is_not_ours(melisma: Command, tmp_path: Path) -> None:
    write_audio(
        tmp_path / "x.wav", Waveform(samples=np.zeros((1, 24_000), np.float32), rate_hz=24_000)
    )
    outcome = melisma("inspect", "x.wav")
    assert outcome.code == 0
    assert "made by Melisma  no, or its tags were removed\n" in outcome.out
    assert "loudness         silence\n" in outcome.out
    assert "remarks" not in outcome.out


@pytest.mark.usefixtures("composer")
def test_sound_goes_to_tokens_and_back(melisma: Command, tmp_path: Path) -> None:
    ramp = np.linspace(0, 0.9, 48_000)
    swelling = ramp * np.where(np.arange(48_000) % 2, -1.0, 1.0)
    write_audio(tmp_path / "x.wav", Waveform(samples=swelling[None], rate_hz=24_000))
    outcome = melisma("encode", "x.wav", "x.mlt", "--levels", 2)
    assert outcome.code == 0
    facts = json.loads(melisma("inspect", "x.mlt", "--json").out)
    assert (facts["levels"], facts["frames"], facts["bits_per_second"]) == (2, 50, 500)
    assert melisma("decode", "x.mlt", "y.flac").code == 0
    back = read_audio(tmp_path / "y.flac")
    np.testing.assert_allclose(back.mono, ramp, atol=0.03)


@pytest.mark.usefixtures("composer")
def test_the_package_loads_a_composer() -> None:
    import melisma

    assert melisma.load().audio.fingerprint == "f00d"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["encode", "nix.wav", "x.mlt"], "there is no file nix.wav: check the name"),
        (["encode", "junk.wav", "x.mlt"], "junk.wav is not an audio file but text"),
        (["encode", "junk.wav", "x.bin"], 'does not end in .mlt: call it "x.mlt"'),
        (["decode", "junk.wav", "x.wav"], "junk.wav is not a token file"),
        (["decode", "junk.wav", "x.txt"], 'x.txt has the ending ".txt"'),
        (["inspect", "empty.wav"], "empty.wav is empty: it has 0 bytes"),
        (["inspect", "."], ". is a folder: give the name of a file inside it"),
    ],
)
def test_bad_files_get_a_sentence(
    melisma: Command, tmp_path: Path, words: list[str], sentence: str
) -> None:
    (tmp_path / "junk.wav").write_text("words")
    (tmp_path / "empty.wav").write_bytes(b"")
    outcome = melisma(*words)
    assert outcome.code == 2
    assert outcome.err.startswith("melisma: ")
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1


def test_train_hands_its_settings_to_the_recipes(
    melisma: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, object]]] = []
    recipes = ModuleType("melisma.recipes")

    def run_recipe(name: str, **settings: object) -> None:
        calls.append((name, settings))

    recipes.__dict__["run_recipe"] = run_recipe
    monkeypatch.setitem(sys.modules, "melisma.recipes", recipes)
    outcome = melisma(
        "train", "codec", "--data", tmp_path, "--output", "run", "--set", "loop.updates=5",
        "--set", "name = a=b", "--device", "cpu",
    )  # fmt: skip
    assert outcome == Outcome(0, "", "")
    (call,) = calls
    assert call[0] == "codec"
    assert call[1] == {
        "data": tmp_path,
        "output": Path("run"),
        "resume": False,
        "changes": {"loop.updates": "5", "name": "a=b"},
        "device": "cpu",
    }


def test_long_notes_are_cut_for_people_and_whole_for_machines(
    melisma: Command, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(
        kind="reference",
        settings={},
        tensors={"one": torch.zeros(1)},
        notes={"rows": ["x" * 9_000]},
    )
    write_checkpoint(tmp_path / "long.safetensors", checkpoint)
    shown = melisma("inspect", "long.safetensors").out
    assert "characters more)" in shown
    assert len(shown) < 3_000
    notes = json.loads(melisma("inspect", "long.safetensors", "--json").out)["notes"]
    assert len(notes["rows"][0]) == 9_000
