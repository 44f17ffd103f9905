"""Free prompts: questions, answers, scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from studies.free_words import (
    QUESTIONS,
    FreePrompt,
    answers_of_reading,
    guessing_score,
    nearest_answers,
    prompt_scores,
    question_scores,
    read_free_prompts,
)

from melisma.joint.attributes import AttributePrediction, target_row
from melisma.values import Facts
from melisma.values.errors import MelismaError

PROMPTS = Path(__file__).parents[2] / "benchmarks" / "prompts" / "free_prompts.jsonl"


def test_the_list_asks_known_questions() -> None:
    prompts = read_free_prompts(PROMPTS)
    assert len(prompts) == 100
    assert 0.2 < guessing_score(prompts) < 0.5


def test_a_reading_answers_every_question() -> None:
    facts = Facts(
        tempo_bpm=60.0, tonality="D minor", style="swing", moods=("sad",), families=("reeds",),
        dynamics="soft", lead="reeds", metre="4/4", density="sparse", register="low",
        articulation="legato",
    )  # fmt: skip
    answers = answers_of_reading(AttributePrediction(row=target_row(facts)[0]))
    best = {q: QUESTIONS[q][int(np.argmax(given))] for q, given in answers.items()}
    assert best == {
        "tempo": "slow", "dynamics": "soft", "mode": "minor", "style": "swing", "moods": "sad",
        "families": "reeds",
    }  # fmt: skip


def test_scores_average_over_what_is_expected() -> None:
    prompts = [FreePrompt(words="x", expected={"tempo": ("slow",), "mode": ("minor",)})]
    answers = [{"tempo": np.array([1.0, 0.0, 0.0]), "mode": np.array([1.0, 0.0])}]
    assert prompt_scores(prompts, answers).tolist() == [0.5]
    assert question_scores(prompts, answers) == {"tempo": 1.0, "mode": 0.0}


def test_the_nearest_phrase_answers() -> None:
    def embed(sentences: Sequence[str]) -> np.ndarray:
        return np.array([[float("slow" in s), float("fast" in s), 0.1] for s in sentences])

    prompt = FreePrompt(words="fast", expected={"tempo": ("fast",)})
    assert prompt_scores([prompt], nearest_answers(embed, [prompt])).tolist() == [1.0]


def test_an_unknown_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "x", "expect": {"tempo": ["purple"]}}')
    with pytest.raises(MelismaError, match="no question tempo"):
        read_free_prompts(path)
