"""A prompt becomes a score. Everything that happens on the way is called from this page.

Words -> the joint embedding's text tower and the exact settings say what is asked -> tempo, metre
and players are settled -> the score model draws events -> every candidate is measured, and the one
that keeps best to what was asked is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from melisma.engine.sampling import SamplingParams
from melisma.engine.score_cpu import ScoreEngine
from melisma.engine.score_generate import sample_scores
from melisma.generation.score.adherence import AdherenceScore, score_adherence
from melisma.generation.score.prompt_conditioning import (
    ScoreConditioning,
    condition_on_score_prompt,
    conditioning_of,
)
from melisma.generation.score.tasks import (
    ScoreTask,
    accompanied,
    continued,
    infilled,
    named_tracks,
    new_piece,
)
from melisma.joint import Joint
from melisma.lm.score.model import ScoreModel
from melisma.symbolic.instruments import instrument_name
from melisma.values import Facts, Score
from melisma.values.score_prompt import ScorePrompt


@dataclass(frozen=True, kw_only=True)
class ScoreSampling:
    """How events are drawn."""

    temperature: float = 1.0
    """1 as learnt, less is safer; 0 takes the likeliest value of every field (greedy)."""
    top_k: int | None = None
    """Only so many likeliest values of a field may be drawn; None: all."""
    top_p: float | None = 0.95
    """Only the likeliest values that hold this much probability together; None: all."""
    guidance: float = 3.0
    """Classifier-free guidance; 1 is none."""

    def drawing(self) -> SamplingParams:
        """The same for the language model."""
        return SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            guidance=self.guidance,
        )


@dataclass(frozen=True, kw_only=True)
class ScorePiece:
    """One score and how it came about."""

    score: Score
    prompt: ScorePrompt
    seed: int
    kept: AdherenceScore
    """How it keeps to what was asked, as measured from its notes."""
    candidates: list[float]
    """What every candidate scored; the highest was kept."""
    conditions: dict[str, str]
    """What was asked of the model, in words."""
    stated: Facts
    """What words and settings state outright, for the receipt."""


@dataclass(frozen=True, kw_only=True)
class ScoreTerms:
    """What a score begins from. At most one of them is given."""

    continue_from: Score | None = None
    infill_bars: tuple[int, int] | None = None
    """First and last bar of `continue_from`, counted from 1, that are filled in anew."""
    melody: Score | None = None

    def __post_init__(self) -> None:
        if self.melody is not None and self.continue_from is not None:
            raise ValueError("a melody to accompany and a piece to continue exclude each other")
        if self.infill_bars is not None and self.continue_from is None:
            raise ValueError("bars are filled into a piece: give it, too")

    def task(self, asked: ScoreConditioning) -> ScoreTask:
        """What is to be drawn."""
        if self.melody is not None:
            return accompanied(asked, self.melody)
        if self.continue_from is None:
            return new_piece(asked)
        if self.infill_bars is not None:
            return infilled(asked, self.continue_from, *self.infill_bars)
        return continued(asked, self.continue_from)


class ScoreComposer:
    """The text tower and the score model."""

    def __init__(
        self,
        joint: Joint,
        model: ScoreModel,
        *,
        name: str,
        licence: str,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        """`precision` and `threads` as `ScoreEngine` takes them."""
        self.joint, self.model = joint, model.eval()
        self._engine = ScoreEngine(self.model, precision=precision, threads=threads)
        self.name, self.licence = name, licence
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Twelve digits that change with anything that decides what is drawn."""
        if not self._fingerprint:
            digest = hashlib.sha256(self.joint.fingerprint.encode())
            for module in (self.joint.text, self.model):
                for tensor in module.state_dict().values():
                    digest.update(tensor.float().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:12]
        return self._fingerprint

    def compose(
        self,
        prompts: Sequence[ScorePrompt] | ScorePrompt | str,
        *,
        terms: ScoreTerms | None = None,
        seed: int = 0,
        settings: ScoreSampling | None = None,
        best_of: int = 8,
        progress: Callable[[float], None] | None = None,
    ) -> list[ScorePiece]:
        """A score for each prompt; piece i has the seed `seed + i`.

        `terms`: what they all begin from. `best_of`: candidates drawn for each, of which the one
        that keeps best to the prompt is kept. `progress` hears the share done, 0 to 1. Raises
        `ValueError` where there is nothing to do, and as `ScorePrompt` and `ScoreTerms` do.
        """
        if isinstance(prompts, str):
            prompts = ScorePrompt(words=prompts)
        prompts = [prompts] if isinstance(prompts, ScorePrompt) else list(prompts)
        if not prompts:
            raise ValueError("there is no prompt: give one or more")
        if best_of < 1:
            raise ValueError(f"best-of is at least 1, not {best_of}")
        terms, settings = terms or ScoreTerms(), settings or ScoreSampling()
        tasks: list[ScoreTask] = []
        generators: list[torch.Generator] = []
        for number, prompt in enumerate(prompts):
            asked = condition_on_score_prompt(
                self.joint, prompt, _generator(seed + number, 0, "asking")
            )
            tasks += [terms.task(asked)] * best_of
            generators += [_generator(seed + number, c, "drawing") for c in range(best_of)]
        events = sample_scores(
            self._engine,
            conditioning_of([task.asked for task in tasks]),
            [task.plan for task in tasks],
            settings.drawing(),
            generators,
            progress,
        )
        scores = [task.finish(rows) for task, rows in zip(tasks, events, strict=True)]
        measured = [score_adherence(s, task.asked) for s, task in zip(scores, tasks, strict=True)]
        pieces = []
        for number, prompt in enumerate(prompts):
            mine = range(number * best_of, (number + 1) * best_of)
            best = max(mine, key=lambda c: measured[c].total)
            asked_tonality = tasks[best].asked.tonality
            score = replace(
                scores[best],
                title=scores[best].title or prompt.words.strip(),
                tonality=asked_tonality or measured[best].tonality,
            )
            pieces.append(
                ScorePiece(
                    score=named_tracks(score, lambda t: instrument_name(t.program, t.is_drum)),
                    prompt=prompt,
                    seed=seed + number,
                    kept=measured[best],
                    candidates=[measured[c].total for c in mine],
                    conditions=tasks[best].asked.shown(),
                    stated=tasks[best].asked.stated,
                )
            )
        return pieces


def _generator(seed: int, candidate: int, purpose: str) -> torch.Generator:
    digest = hashlib.sha256(f"score/{seed}/{candidate}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
