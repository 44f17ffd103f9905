"""`melisma evaluate`: bad input gives one sentence and writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_card import small_card

from melisma.cli.commands.evaluate import read_sampling
from melisma.cli.errors import run
from melisma.cli.program import program
from melisma.evaluate.report.card import CARD_NAME, write_card
from melisma.evaluate.report.html import report_page
from melisma.files import write_audio
from melisma.generation.musicgen import MUSICGEN_SAMPLING
from melisma.generation.musiclm import MUSICLM_SAMPLING
from melisma.generation.score.pipeline import SCORE_SAMPLING
from melisma.values import Waveform
from melisma.values.sampling import SamplingParams


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said on stderr; the exit code is 2."""
    assert run(program, ["evaluate", *words]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "drums"], 'unknown engine "drums": choose one of sound, score'),
        (["--count", "0"], "--count must be a whole number from 1"),
        (["--duration", "0.2"], "--duration must be a number from 1"),
        (["--best-of", "99"], "--best-of must be a whole number"),
        (["--model", "nobody"], 'no model "nobody"'),
        (["--sampling", "boldness=2"], 'unknown sampling parameter "boldness": choose one of'),
        (["--sampling", "top_k_coarse=many"], "use the form top_k_coarse=2"),
        (["nowhere"], "nowhere does not exist: check the name"),
        (["--prompts", "nowhere.txt"], "nowhere.txt does not exist: check the name"),
        (["--compare", "a.json", "b.json"], "a.json"),
        (["--page", "a.json"], "a.json"),
        (["--page", "a.json", "--seed", "3"], "--page only writes a report: leave out --seed"),
        (["--compare", "a", "b", "--model", "m"], "only compares cards: leave out --model"),
        ([".", "--best-of", "2", "--engine", "score"], "leave out --best-of, --engine"),
        (["--engine", "score", "--duration", "5"], "are scores of a model: leave out --duration"),
        (["--subset", "eval"], "--subset chooses among the prompts of MusicCaps: add --prompts"),
    ],
)
def test_bad_arguments_give_one_sentence(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    message = said(capsys, *words)
    assert sentence in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_and_silent_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, silent = tmp_path / "empty", tmp_path / "silent"
    empty.mkdir()
    silent.mkdir()
    output = str(tmp_path / "card")
    assert "holds no piece" in said(capsys, str(empty), "--output", output)
    silence = Waveform(samples=np.zeros((1, 48_000), dtype=np.float32), rate_hz=24_000)
    write_audio(silent / "nothing.wav", silence, None)
    assert "it is silent" in said(capsys, str(silent), "--output", output)
    assert not (tmp_path / "card").exists()


def test_what_is_no_card_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    cards = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert "is no card" in said(capsys, "--compare", *cards, "--output", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_every_sampling_parameter_can_be_judged() -> None:
    for engine, defaults in (
        ("sound", MUSICLM_SAMPLING),
        ("sound", MUSICGEN_SAMPLING),
        ("score", SCORE_SAMPLING),
    ):
        found = read_sampling([f"{name}=1" for name in defaults], engine)
        assert list(found) == list(defaults)
        assert set(SamplingParams.of(found).flat()) == set(defaults)


def test_the_report_of_a_card_is_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = small_card(np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.2, 0.3, 0.4]))
    write_card(tmp_path / "judged" / CARD_NAME, card)
    output = tmp_path / "report"
    assert run(program, ["evaluate", "--page", str(tmp_path / "judged"), "-o", str(output)]) == 0
    page = (output / "report.html").read_text("utf-8")
    assert page == report_page(card)
    assert capsys.readouterr().out.strip() == str(output / "report.html")
    assert run(program, ["evaluate", "--page", str(tmp_path / "judged"), "-o", str(output)]) == 0
    assert capsys.readouterr().out.strip() == f"{output / 'report.html'}  (replaced)"


def test_the_default_folder_of_an_evaluation_counts_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    card = small_card(np.ones(8), np.linspace(0.1, 0.8, 8))
    write_card(tmp_path / "judged" / CARD_NAME, card)
    compare = ["evaluate", "--compare", "judged", "judged", "--reference", "none"]
    for folder in ("evaluation", "evaluation-2", "evaluation-3"):
        assert run(program, compare) == 0
        assert capsys.readouterr().out.strip().endswith(f"{folder}/comparison.html")
    assert run(program, [*compare, "-o", "evaluation"]) == 0
    assert capsys.readouterr().out.strip().endswith("evaluation/comparison.html  (replaced)")
