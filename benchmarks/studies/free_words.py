"""Free prompts: do wordings outside of the captions yield the attributes that people mean by them?

Input: readings of prompts, a probability for every class of six questions. Output: the share of
expected attributes whose likeliest class is an expected one, averaged per prompt. Our text tower
and a sentence encoder's nearest attribute answer the same questions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.joint.attributes import AttributePrediction
from melisma.values.attributes import FAMILIES, MOODS, STYLES
from melisma.values.errors import MelismaError

TEMPO_EDGES_BPM = (80.0, 112.0)
"""Slow lies below the first, fast from the second on: the limits of the captions' words."""

QUESTIONS: dict[str, tuple[str, ...]] = {
    "tempo": ("slow", "moderate", "fast"),
    "dynamics": ("soft", "loud"),
    "style": STYLES,
    "moods": MOODS,
    "families": FAMILIES,
    "mode": ("major", "minor"),
}
"""Questions about every prompt, and the possible answers."""

Answers = Mapping[str, np.ndarray]
"""Question -> a number for each of its answers, larger is likelier."""


@dataclass(frozen=True, kw_only=True)
class FreePrompt:
    """Words, and the answers that people would accept, by question."""

    words: str
    expected: Mapping[str, tuple[str, ...]]


def read_free_prompts(path: Path) -> list[FreePrompt]:
    """Reads one JSON object a line; `ValueError` on a question or answer that is unknown."""
    prompts: list[FreePrompt] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        expected: dict[str, tuple[str, ...]] = {}
        for question, answers in row["expect"].items():
            accepted = (answers,) if isinstance(answers, str) else tuple(answers)
            known = QUESTIONS.get(question)
            if known is None or not set(accepted) <= set(known):
                raise MelismaError(f"{path}: no question {question} with the answers {accepted}")
            expected[question] = accepted
        prompts.append(FreePrompt(words=row["prompt"], expected=expected))
    return prompts


def answers_of_reading(reading: AttributePrediction) -> dict[str, np.ndarray]:
    """The text tower's reading as answers."""
    tempo = reading.probabilities("tempo")
    low, high = TEMPO_EDGES_BPM
    bpm = np.array([float(name) for name in tempo])
    shares = np.array(list(tempo.values()))
    tonality = reading.probabilities("tonality")
    dynamics = reading.probabilities("dynamics")
    answers = {
        "tempo": np.array(
            [
                shares[bpm < low].sum(),
                shares[(bpm >= low) & (bpm < high)].sum(),
                shares[bpm >= high].sum(),
            ]
        ),
        "dynamics": np.array([dynamics[name] for name in QUESTIONS["dynamics"]]),
        "mode": np.array(
            [sum(p for name, p in tonality.items() if name.endswith(mode)) for mode in
             QUESTIONS["mode"]]
        ),
    }  # fmt: skip
    for question in ("style", "moods", "families"):
        found = reading.probabilities(question)
        answers[question] = np.array([found[name] for name in QUESTIONS[question]])
    return answers


def nearest_answers(
    embed: Callable[[Sequence[str]], np.ndarray], prompts: Sequence[FreePrompt]
) -> list[dict[str, np.ndarray]]:
    """A sentence encoder's answers: similarity of the prompt to each answer as a phrase.

    `embed` turns sentences into unit vectors [sentence, width].
    """
    words = embed([prompt.words for prompt in prompts])
    similarity: dict[str, np.ndarray] = {}
    for question, names in QUESTIONS.items():
        similarity[question] = words @ embed([phrase(question, name) for name in names]).T
    return [
        {question: rows[index] for question, rows in similarity.items()}
        for index in range(len(prompts))
    ]


def phrase(question: str, answer: str) -> str:
    """An answer as a listener would say it."""
    if question == "tempo":
        return f"music at a {answer} tempo"
    if question == "families":
        return f"music played by {answer}"
    if question == "mode":
        return f"music in a {answer} key"
    return f"{answer} music"


def prompt_scores(prompts: Sequence[FreePrompt], answers: Sequence[Answers]) -> np.ndarray:
    """Share of each prompt's expected attributes that the likeliest answers meet, [prompt]."""
    scores = []
    for prompt, given in zip(prompts, answers, strict=True):
        met = [
            QUESTIONS[question][int(np.argmax(given[question]))] in accepted
            for question, accepted in prompt.expected.items()
        ]
        scores.append(float(np.mean(met)))
    return np.array(scores)


def question_scores(prompts: Sequence[FreePrompt], answers: Sequence[Answers]) -> dict[str, float]:
    """Share of prompts that meet each question, among those that ask it."""
    totals: dict[str, list[bool]] = {}
    for prompt, given in zip(prompts, answers, strict=True):
        for question, accepted in prompt.expected.items():
            best = QUESTIONS[question][int(np.argmax(given[question]))]
            totals.setdefault(question, []).append(best in accepted)
    return {question: float(np.mean(met)) for question, met in totals.items()}


def guessing_score(prompts: Sequence[FreePrompt]) -> float:
    """Expected score of uniform guessing."""
    shares = [
        np.mean([len(accepted) / len(QUESTIONS[q]) for q, accepted in p.expected.items()])
        for p in prompts
    ]
    return float(np.mean(shares))
