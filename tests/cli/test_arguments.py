"""Errors of the command line: one sentence, exit code 2, no traceback, no torch loaded."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from melisma.cli import sampling_options
from melisma.cli.errors import error_sentence, run
from melisma.cli.program import program
from melisma.generation.musicgen import MUSICGEN_SAMPLING
from melisma.generation.musiclm import MUSICLM_SAMPLING
from melisma.generation.score.pipeline import SCORE_SAMPLING
from melisma.values.attributes import TONALITIES, parse_key
from melisma.values.errors import MelismaError

REPOSITORY = Path(__file__).parents[2]

BAD: dict[str, tuple[list[str], str]] = {
    "no prompt": (["generate"], "no prompt was given: describe the music"),
    "empty prompt": (["generate", "  "], "the prompt is empty: say what to play"),
    "zero duration": (["generate", "a", "--duration", "0"], "between 1 and 600 seconds, not 0"),
    "negative duration": (["generate", "a", "--duration", "-3"], "600 seconds, not -3"),
    "not a number": (["generate", "a", "--duration", "nan"], "600 seconds, not nan"),
    "infinite": (["generate", "a", "--duration", "inf"], "600 seconds, not inf"),
    "too long": (["generate", "a", "--duration", "601"], "600 seconds, not 601"),
    "words for a number": (["generate", "a", "--duration", "long"], "'--duration'"),
    "unknown model": (
        ["generate", "a", "--model", "nope"],
        'no model "nope": there is no such folder',
    ),
    "unknown ending": (["generate", "a", "-o", "x.aac"], "give one of .wav, .flac, .mp3, .ogg"),
    "ending of a score": (["generate", "a", "-o", "x.mid"], "`melisma compose` writes MIDI files"),
    "unknown format": (
        ["generate", "a", "--format", "aac"],
        "choose one of wav, flac, mp3, ogg",
    ),
    "two formats": (
        ["generate", "a", "-o", "x.wav", "--format", "mp3"],
        'format "mp3" differ',
    ),
    "missing folder": (["generate", "a", "-o", "nix/x.wav"], "nix does not exist: create it"),
    "missing output folder": (
        ["generate", "a", "-o", "nix"],
        "neither an existing folder nor",
    ),
    "picture ending": (["generate", "a", "--plot", "x.jpg"], "x.jpg must end in .png"),
    "no pieces": (["generate", "a", "--count", "0"], "--count must be a whole number from 1"),
    "too many pieces": (["generate", "a", "b", "--count", "900"], "1800 pieces were requested"),
    "candidates": (["generate", "a", "--best-of", "0"], "--best-of must be a whole number"),
    "seed": (["generate", "a", "--seed", "-1"], "--seed must be a whole number from 0"),
    "threads": (["generate", "a", "--threads", "0"], "--threads must be a whole number from 1"),
    "tempo": (["generate", "a", "--bpm", "nan"], "a tempo lies between 30 and 300 bpm, not nan"),
    "key": (
        ["generate", "a", "--key", "H dur"],
        '"H dur" is not a musical key',
    ),
    "metre": (["generate", "a", "--metre", "5/4"], 'no metre "5/4": known are 2/4, 3/4'),
    "temperature": (["generate", "a", "--temperature-fine", "nan"], "from 0.01 to 5, not nan"),
    "top-k": (["generate", "a", "--top-k-coarse", "0"], "--top-k-coarse must be a whole number"),
    "guidance": (
        ["generate", "a", "--guidance", "inf"],
        "--guidance must be a number from 0",
    ),
    "prompt file": (["generate", "--prompts", "nix.txt"], "there is no file nix.txt"),
    "empty prompt file": (["generate", "--prompts", "none.txt"], "none.txt contains no prompt"),
    "binary prompt file": (["generate", "--prompts", "binary.txt"], "binary.txt is not UTF-8 text"),
    "hours": (["prepare", ".", "x", "--hours", "nan"], "--hours must be a number from 0.001"),
    "no music": (["prepare", "nix", "x"], "there is no folder nix"),
    "split": (
        ["prepare", ".", "x", "--split", "all"],
        "choose one of train, held, judge",
    ),
    "world": (
        ["prepare", ".", "x", "--world", "wide"],
        "choose one of broad, small",
    ),
    "world of tokens": (
        ["prepare", ".", "x", "--world", "broad", "--tokens", "default"],
        "--tokens always renders the small world",
    ),
    "soundfont": (["prepare", ".", "x", "--soundfont", "a.sf2"], "there is no soundfont a.sf2"),
    "no data": (["train", "codec", "--data", "nix", "--output", "x"], "there is no folder nix"),
    "no output": (["train", "codec", "--data", "."], "'--output'"),
    "setting": (
        ["train", "codec", "--data", ".", "--output", "x", "--set", "fast"],
        '"fast" is not a setting: use the form loop.updates=500',
    ),
    "device": (
        ["train", "codec", "--data", ".", "--output", "x", "--device", "gpu"],
        'unknown device "gpu": choose one of auto, cpu',
    ),
    "arithmetic": (
        ["train", "codec", "--data", ".", "--output", "x", "--precision", "int8"],
        'unknown precision "int8": choose one of auto, float32, bfloat16',
    ),
    "nothing to resume": (
        ["train", "codec", "--data", ".", "--output", "x", "--resume"],
        "there is no run in x to resume",
    ),
    "unknown option": (["generate", "a", "--loud"], "--loud"),
    "unknown verb": (["dance"], "dance"),
}

_SCRIPT = """
import contextlib, io, json, sys
from melisma.cli.errors import run
from melisma.cli.program import program
outcomes = {}
for name, words in json.load(sys.stdin).items():
    with contextlib.redirect_stderr(io.StringIO()) as err:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = run(program, words)
    outcomes[name] = [code, out.getvalue(), err.getvalue()]
heavy = [m for m in ("torch", "scipy", "matplotlib") if m in sys.modules]
print(json.dumps([outcomes, heavy]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list], list[str]]:
    """Results of all bad calls and help pages, run in one fresh interpreter."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "none.txt").write_text("# only a comment\n")
    (folder / "binary.txt").write_bytes(b"\xff\xfe\xfa")
    calls = {name: words for name, (words, _) in BAD.items()}
    calls |= {f"help {verb}": [verb, "--help"] for verb in VERBS}
    calls |= {"help": ["--help"], "nothing": [], "version": ["--version"]}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    left = sorted(p.name for p in folder.iterdir())
    assert left == ["binary.txt", "none.txt"]
    return json.loads(done.stdout)


VERBS = sorted(command.name or "" for command in program.registered_commands)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_gets_one_sentence(
    outcomes: tuple[dict[str, list], list[str]], name: str
) -> None:
    code, out, err = outcomes[0][name]
    assert (code, out) == (2, "")
    assert err.startswith("melisma: ")
    assert BAD[name][1] in err
    assert err.count("\n") == 1


def test_bad_arguments_and_help_come_without_heavy_libraries(
    outcomes: tuple[dict[str, list], list[str]],
) -> None:
    assert outcomes[1] == []


def test_help_and_version(outcomes: tuple[dict[str, list], list[str]]) -> None:
    answers = outcomes[0]
    assert answers["help"] == answers["nothing"]
    for verb in VERBS:
        assert verb in answers["help"][1]
        assert answers[f"help {verb}"][0] == 0
        assert f"Usage: melisma {verb}" in answers[f"help {verb}"][1]
    assert answers["version"][1].startswith("melisma ")


@pytest.mark.parametrize("tonality", TONALITIES)
def test_every_key_can_be_requested(tonality: str) -> None:
    assert parse_key(tonality) == tonality
    assert parse_key(tonality.lower()) == tonality


@pytest.mark.parametrize(
    ("words", "tonality"),
    [
        ("Db major", "C# major"),
        ("gb", "F# major"),
        ("am", "A minor"),
        ("Am", "A minor"),
        ("B♭ minor", "Bb minor"),
        ("bb min", "Bb minor"),
        ("c sharp minor", "C# minor"),
        ("E-flat Major", "Eb major"),
        ("B", "B major"),
    ],
)
def test_other_spellings_of_keys(words: str, tonality: str) -> None:
    assert parse_key(words) == tonality


@pytest.mark.parametrize("words", ["", "H", "C dorian", "Cbb major", "major"])
def test_unknown_keys(words: str) -> None:
    with pytest.raises(MelismaError, match="not a musical key"):
        parse_key(words)


def _failing(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (MelismaError("one\n two"), 2, "one two"),
        (FileNotFoundError("there is no file x"), 2, "there is no file x"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 2, "x cannot be used: no such"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "x cannot be used: perm"),
        (OSError(errno.ENOSPC, "the disk is full: free some"), 2, "the disk is full: free some"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/x"), 2, "/a/x is full"),
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_sentences_and_codes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    monkeypatch.delenv("MELISMA_TRACEBACK", raising=False)
    assert run(_failing(error), ["--"]) == code
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


def test_our_own_faults_keep_their_traceback() -> None:
    assert error_sentence(KeyError("x")) is None
    assert error_sentence(ValueError("of a library")) is None
    with pytest.raises(KeyError):
        run(_failing(KeyError("x")), ["--"])


def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELISMA_TRACEBACK", "1")
    with pytest.raises(MelismaError, match="wrong"):
        run(_failing(MelismaError("wrong")), ["--"])


_SLEEPER = """
import signal, sys, time
# A shell starts what it puts in the background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
def load(model, threads, **rest):
    print("loading", flush=True)
    time.sleep(60)
from melisma.generation.requests import facade
facade.load = load
from melisma.cli import main
sys.argv = ["melisma", "generate", "a", "--output", "x.wav"]
main()
"""


def test_a_real_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SLEEPER],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "melisma: interrupted; no unfinished files were left behind"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (sampling_options.Guidance, MUSICLM_SAMPLING["guidance_semantic"]),
        (sampling_options.GuidanceCoarse, MUSICLM_SAMPLING["guidance_coarse"]),
        (sampling_options.TemperatureSemantic, MUSICLM_SAMPLING["temperature_semantic"]),
        (sampling_options.TopKSemantic, MUSICLM_SAMPLING["top_k_semantic"]),
        (sampling_options.TemperatureCoarse, MUSICLM_SAMPLING["temperature_coarse"]),
        (sampling_options.TopKCoarse, MUSICLM_SAMPLING["top_k_coarse"]),
        (sampling_options.TemperatureFine, MUSICLM_SAMPLING["temperature_fine"]),
        (sampling_options.Temperature, SCORE_SAMPLING["temperature"]),
        (sampling_options.TopK, SCORE_SAMPLING["top_k"] or "all"),
        (sampling_options.TopP, SCORE_SAMPLING["top_p"]),
        (sampling_options.ScoreGuidance, SCORE_SAMPLING["guidance"]),
        (sampling_options.SoundTemperature, MUSICGEN_SAMPLING["temperature"]),
        (sampling_options.SoundTopK, MUSICGEN_SAMPLING["top_k"]),
        (sampling_options.SoundTopP, MUSICGEN_SAMPLING["top_p"]),
    ],
)
def test_help_shows_the_default_sampling_parameters(option: Any, value: object) -> None:
    (declared,) = get_args(option)[1:]
    # If several models take an option, the default of the shipped one comes first.
    assert declared.show_default.split(";")[0] == str(value)
