"""Candidates are ranked by what their notes keep, and by whether they take up what they said."""

from __future__ import annotations

import numpy as np
import torch
from small_corpus import line, score
from small_score_model import small_score_composer

from melisma.compose.asking_score import AskedScore, ask_score
from melisma.compose.keeping import FORM_SHARE, kept_to
from melisma.values.score_prompt import ScorePrompt

PHRASE = [60, 64, 67, 64, 62, 65, 69, 65, 59, 62, 67, 62, 60, 64, 67, 72]


def asked(words: str) -> AskedScore:
    generator = torch.Generator().manual_seed(0)
    return ask_score(small_score_composer().joint, ScorePrompt(words=words), generator)


def test_the_key_that_was_asked_for_ranks_first() -> None:
    wish = asked("solo violin in C major, 4/4, 100 bpm")
    right = kept_to(score(line(PHRASE * 2, 40)), wish)
    wrong = kept_to(score(line([pitch + 6 for pitch in PHRASE] * 2, 40)), wish)
    assert right.tonality == "C major"
    assert (right.tonality_agreement, wrong.tonality_agreement) == (1.0, 0.0)
    assert right.total > wrong.total + 0.9


def test_a_piece_that_takes_up_its_bars_ranks_before_one_that_wanders() -> None:
    wish = asked("solo violin")
    rng = np.random.default_rng(0)
    wandering = [int(pitch) for pitch in rng.integers(55, 90, 32)]
    held, lost = (kept_to(score(line(p, 40)), wish) for p in (PHRASE * 2, wandering))
    assert held.total - lost.total > FORM_SHARE / 4


def test_nothing_keeps_to_nothing() -> None:
    wish = asked("solo violin")
    silent = kept_to(score(line([], 40)), wish)
    assert silent.empty_bars == 1.0
    assert silent.total < kept_to(score(line(PHRASE, 40)), wish).total
