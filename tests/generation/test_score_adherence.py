"""Candidates are ranked by what their notes keep, and by whether they are built like music."""

from __future__ import annotations

import numpy as np
import torch
from small_corpus import line, score
from small_score_model import small_score_composer

from melisma.generation.score.adherence import score_adherence
from melisma.generation.score.prompt_conditioning import (
    ScoreConditioning,
    condition_on_score_prompt,
)
from melisma.values.score_prompt import ScorePrompt

PHRASE = [60, 64, 67, 64, 62, 65, 69, 65, 59, 62, 67, 62, 60, 64, 67, 72]


def asked(words: str) -> ScoreConditioning:
    generator = torch.Generator().manual_seed(0)
    return condition_on_score_prompt(
        small_score_composer().joint, ScorePrompt(words=words), generator
    )


def test_the_key_that_was_asked_for_ranks_first() -> None:
    wish = asked("solo violin in C major, 4/4, 100 bpm")
    right = score_adherence(score(line(PHRASE * 2, 40)), wish)
    wrong = score_adherence(score(line([pitch + 6 for pitch in PHRASE] * 2, 40)), wish)
    assert right.tonality == "C major"
    assert (right.tonality_agreement, wrong.tonality_agreement) == (1.0, 0.0)
    assert right.total > wrong.total + 0.9


def test_a_piece_that_takes_up_its_bars_ranks_before_loops_and_wanderings() -> None:
    wish = asked("solo violin")
    rng = np.random.default_rng(0)
    wandering = [int(pitch) for pitch in rng.integers(55, 90, 48)]
    phrases = [*PHRASE, *(pitch + 5 for pitch in PHRASE), *PHRASE]
    whole, stuck, lost = (
        score_adherence(score(line(pitches, 40, step=0.5)), wish).form
        for pitches in (phrases, [60, 67] * 24, wandering)
    )
    assert whole > stuck + 0.2
    assert whole > lost + 0.05


def test_players_that_were_set_must_play() -> None:
    generator = torch.Generator().manual_seed(0)
    prompt = ScorePrompt(words="a tune in C major", programs=(40, 73))
    wish = condition_on_score_prompt(small_score_composer().joint, prompt, generator)
    one = score_adherence(score(line(PHRASE, 40)), wish)
    both = score_adherence(score(line(PHRASE[::-1], 40), line(PHRASE, 73)), wish)
    assert both.total > one.total + 0.5


def test_nothing_keeps_to_nothing() -> None:
    wish = asked("solo violin")
    silent = score_adherence(score(line([], 40)), wish)
    assert silent.empty_bars == 1.0
    assert silent.total < score_adherence(score(line(PHRASE, 40)), wish).total
