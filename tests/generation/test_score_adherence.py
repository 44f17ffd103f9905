"""Adherence of scores to their conditioning, and the similarity of their form to real pieces."""

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


def conditioning_of_words(words: str) -> ScoreConditioning:
    generator = torch.Generator().manual_seed(0)
    return condition_on_score_prompt(
        small_score_composer().joint, ScorePrompt(words=words), generator
    )


def test_the_requested_key_ranks_first() -> None:
    conditioning = conditioning_of_words("solo violin in C major, 4/4, 100 bpm")
    right = score_adherence(score(line(PHRASE * 2, 40)), conditioning)
    wrong = score_adherence(score(line([pitch + 6 for pitch in PHRASE] * 2, 40)), conditioning)
    assert right.tonality == "C major"
    assert (right.tonality_agreement, wrong.tonality_agreement) == (1.0, 0.0)
    assert right.total > wrong.total + 0.9


def test_a_piece_with_some_repetition_ranks_above_loops_and_random_pitches() -> None:
    conditioning = conditioning_of_words("solo violin")
    rng = np.random.default_rng(0)
    random_pitches = [int(pitch) for pitch in rng.integers(55, 90, 48)]
    phrases = [*PHRASE, *(pitch + 5 for pitch in PHRASE), *PHRASE]
    phrased, looped, random = (
        score_adherence(score(line(pitches, 40, step=0.5)), conditioning).form
        for pitches in (phrases, [60, 67] * 24, random_pitches)
    )
    assert phrased > looped + 0.2
    assert phrased > random + 0.05


def test_requested_instruments_must_play() -> None:
    generator = torch.Generator().manual_seed(0)
    prompt = ScorePrompt(words="a tune in C major", programs=(40, 73))
    conditioning = condition_on_score_prompt(small_score_composer().joint, prompt, generator)
    one = score_adherence(score(line(PHRASE, 40)), conditioning)
    both = score_adherence(score(line(PHRASE[::-1], 40), line(PHRASE, 73)), conditioning)
    assert both.total > one.total + 0.5


def test_a_silent_score_has_no_adherence() -> None:
    conditioning = conditioning_of_words("solo violin")
    silent = score_adherence(score(line([], 40)), conditioning)
    assert silent.empty_bars == 1.0
    assert silent.total < score_adherence(score(line(PHRASE, 40)), conditioning).total
