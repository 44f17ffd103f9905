"""Every option is honoured or refused by every kind of model, and means the same everywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from melisma.cli.errors import run
from melisma.cli.options import GROUPS
from melisma.cli.program import program
from melisma.files import write_audio
from melisma.generation import catalogue
from melisma.generation.catalogue import ModelFacts, facts_of
from melisma.generation.requests import abilities, facade
from melisma.generation.requests.abilities import KINDS, TAKEN_BY, TASKS_OF, Kind, kind_of
from melisma.symbolic import write_midi
from melisma.values import Metre, Notes, Score, TempoMap, Track, Waveform
from melisma.values.errors import MelismaError

COMMANDS: dict[str, Any] = typer.main.get_command(program).commands  # type: ignore[attr-defined]
REACHED = "the model is asked"

VALUES: dict[str, list[str]] = {
    "bpm": ["--bpm", "90"],
    "key": ["--key", "F# minor"],
    "time_signature": ["--time-signature", "3/4"],
    "instruments": ["--instruments", "flute"],
    "style": ["--style", "ragtime"],
    "without": ["--without", "drums"],
    "melody": ["--melody", "tune.mid"],
    "continue_from": ["--continue-from", "tune.wav"],
    "keep_seconds": ["--continue-from", "tune.wav", "--keep-seconds", "3"],
    "whole": ["--continue-from", "tune.wav", "--whole"],
    "infill": ["--infill", "1-2"],
    "duration": ["--duration", "5"],
    "bars": ["--bars", "4"],
    "seed": ["--seed", "3"],
    "best_of": ["--best-of", "2"],
    "rank": ["--best-of", "2", "--rank", "receipt"],
    "original": ["--original"],
    "receipt": ["--receipt"],
    "guidance": ["--guidance", "2"],
    "guidance_coarse": ["--guidance-coarse", "2"],
    "temperature_semantic": ["--temperature-semantic", ".9"],
    "top_k_semantic": ["--top-k-semantic", "50"],
    "temperature_coarse": ["--temperature-coarse", ".9"],
    "top_k_coarse": ["--top-k-coarse", "50"],
    "temperature_fine": ["--temperature-fine", ".5"],
    "temperature": ["--temperature", ".9"],
    "top_k": ["--top-k", "50"],
    "top_p": ["--top-p", ".9"],
    "greedy": ["--greedy"],
    "stream": ["--stream"],
    "audio": ["--audio", "x.wav"],
    "stems": ["--stems", "parts"],
    "soundfont": ["--audio", "x.wav", "--soundfont", "f.sf2"],
    "room": ["--audio", "x.wav", "--room", "hall"],
    "plot": ["--plot", "x.png"],
    "precision": ["--precision", "int8"],
    "threads": ["--threads", "1"],
}
"""Each option with a value, and with what it needs."""
OF_THE_COMMAND = {
    "prompts", "prompts_file", "count", "output", "form", "no_clobber", "as_json", "quiet",
    "model", "engine", "help",
}  # fmt: skip
"""Options that are no matter of the model."""


def facts(kind: Kind) -> ModelFacts:
    """What is known of a model of this kind."""
    return dataclasses.replace(
        facts_of("default"),
        sound=kind != "scores",
        scores=kind == "scores",
        single=kind.startswith("musicgen"),
        melody=kind == "musicgen melody",
        captions=kind == "captions",
        stages=("semantic", "coarse", "fine") if kind == "three stages" else ("semantic", "coarse"),
    )


def names_of(verb: str) -> set[str]:
    return {param.name for param in COMMANDS[verb].params} - OF_THE_COMMAND


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tune as sound and as notes; every model says when it is asked."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    noise = Waveform(samples=0.1 * rng.standard_normal((1, 48_000)), rate_hz=24_000)
    write_audio(tmp_path / "tune.wav", noise)
    notes = Notes(
        start_beats=np.arange(8.0),
        duration_beats=np.ones(8),
        pitch=np.arange(60, 68),
        velocity=np.full(8, 80),
    )
    score = Score(
        tracks=(Track(notes=notes, program=0, is_drum=False, name="tune"),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
        metres=(Metre(beat=0.0, numerator=4, denominator=4),),
    )
    (tmp_path / "tune.mid").write_bytes(write_midi(score))
    (tmp_path / "f.sf2").write_bytes(b"")

    def asked(*_: object, **__: object) -> None:
        raise MelismaError(REACHED)

    monkeypatch.setattr(facade.MelismaPipeline, "expect_memory", lambda *_: None)
    monkeypatch.setattr(facade.MelismaPipeline, "run", asked)
    monkeypatch.setattr(facade.MelismaPipeline, "stream", asked)
    monkeypatch.setattr(facade.MelismaPipeline, "scores", property(asked))
    return tmp_path


def test_the_table_knows_every_option_and_every_kind() -> None:
    assert names_of("generate") | names_of("compose") == set(TAKEN_BY) - {"guidance_semantic"}
    assert set(VALUES) >= names_of("generate") | names_of("compose")
    assert {kind for kinds in TAKEN_BY.values() for kind in kinds} == set(KINDS)
    for kind in KINDS:
        assert kind_of(facts(kind), "score" if kind == "scores" else "sound") == kind


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "scores"])
@pytest.mark.parametrize("option", sorted(names_of("generate")))
def test_generate_honours_or_refuses(
    option: str, kind: Kind, here: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for module in (catalogue, facade):
        monkeypatch.setattr(module, "facts_of", lambda _: facts(kind))
    before = sorted(here.iterdir())
    assert run(program, ["generate", "a waltz", "-o", "new.wav", *VALUES[option]]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    if kind in TAKEN_BY[option]:
        assert said == f"melisma: {REACHED}"
    else:
        assert f"leave out --{option.replace('_', '-')}" in said
    assert sorted(here.iterdir()) == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("option", sorted(names_of("generate")))
def test_the_score_engine_of_generate_honours_or_refuses(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "a waltz", "-o", "new.wav", "--engine", "score", *VALUES[option]]
    assert run(program, words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    given = option in ("melody", "continue_from")  # `melisma compose` takes them as notes
    if "scores" in TAKEN_BY[option] and option not in abilities.OF_SAMPLING and not given:
        assert said == f"melisma: {REACHED}"
    else:
        assert "audio models only" in said


@pytest.mark.parametrize("task", ["new", "continue", "infill", "melody"])
@pytest.mark.parametrize("option", sorted(names_of("compose") - {"melody", "continue_from"}))
def test_compose_honours_or_refuses(
    option: str, task: Any, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if option == "infill":
        return  # a task itself
    given = {
        "new": [],
        "continue": ["--continue-from", "tune.mid"],
        "infill": ["--continue-from", "tune.mid", "--infill", "1-2"],
        "melody": ["--melody", "tune.mid"],
    }
    assert run(program, ["compose", "a piece", "-o", "new.mid", *given[task], *VALUES[option]]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    if task in TASKS_OF.get(option, (task,)):
        assert said == f"melisma: {REACHED}"
    else:
        assert f"leave out --{option.replace('_', '-')}" in said
    assert not (here / "new.mid").exists()


@pytest.mark.parametrize("verb", ["generate", "compose"])
def test_a_melody_may_be_sound_or_notes_whatever_its_name(
    verb: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = np.arange(36_000) / 24_000
    tones = [0.3 * np.sin(2 * np.pi * hz * seconds[:12_000]) for hz in (262, 330, 392)]
    hum = Waveform(samples=np.concatenate(tones)[None], rate_hz=24_000)
    write_audio(here / "hum.wav", hum)
    (here / "hum.wav").rename(here / "hum.mid")
    (here / "tune.mid").rename(here / "tune.wav")
    output = "x.wav" if verb == "generate" else "x.mid"
    for melody in ("hum.mid", "tune.wav"):
        assert run(program, [verb, "a waltz", "-o", output, "--melody", melody]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"melisma: {REACHED}"


def test_options_mean_the_same_in_all_verbs() -> None:
    helps: dict[str, set[str]] = {}
    for verb in ("generate", "compose"):
        for param in COMMANDS[verb].params:
            if param.name in ("duration", "bars"):
                helps.setdefault("length", set()).add(param.help.split(" in ")[0])
            if param.param_type_name == "option" and param.name != "help":
                assert param.name == param.opts[0][2:].replace("-", "_") or (
                    param.name in ("form", "as_json", "prompts_file", "temperature", "top_k")
                )
    assert helps == {"length": {"Length of the new music"}}


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_option_has_a_group_and_help(verb: str) -> None:
    for param in COMMANDS[verb].params:
        assert param.help
        if param.param_type_name == "option":
            assert param.rich_help_panel in GROUPS, param.name
