"""Pipeline of the score model: text prompts become scores.

The joint embedding's text tower and the exact settings condition the score model; tempo, metre and
instruments are fixed first; the score model samples events; every candidate is measured, and the
one that adheres best to the prompt is selected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from melisma.engine.score_cpu import ScoreEngine
from melisma.engine.score_generate import sample_scores
from melisma.generation.conditioning.understanding import Understanding
from melisma.generation.originality import MelodyOriginality, without_index
from melisma.generation.pipeline import (
    Pipeline,
    Progress,
    Sampling,
    best_candidates,
    check_numbers,
    generator_of,
    prompts_of,
    stage_sampling,
)
from melisma.generation.score.adherence import AdherenceScore, score_adherence
from melisma.generation.score.prompt_conditioning import (
    ScoreConditioning,
    condition_on_score_prompt,
    conditioning_of,
    understanding_of_score,
)
from melisma.generation.score.tasks import (
    ScoreTask,
    accompaniment_task,
    continuation_task,
    infilling_task,
    named_tracks,
    new_piece_task,
)
from melisma.joint import JointEmbedding
from melisma.lm.score.model import ScoreModel
from melisma.symbolic.instruments import instrument_name
from melisma.values import Facts, Score
from melisma.values.errors import MelismaError
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt

SCORE_SAMPLING: Sampling = {"temperature": 1.0, "top_k": None, "top_p": 0.95, "guidance": 3.0}
"""How the fields of events are sampled by default; a temperature of 0 takes the most likely value
of every field (greedy)."""


@dataclass(frozen=True, kw_only=True)
class ScorePiece:
    """A generated score and what it was generated from."""

    score: Score
    prompt: ScorePrompt
    seed: int
    adherence: AdherenceScore
    """Adherence to the prompt, measured from the notes."""
    candidates: list[float]
    """Total adherence of every candidate, less any penalty of its task; the best was selected."""
    conditions: dict[str, str]
    """What the model was conditioned on, in words."""
    stated: Facts
    """What words and settings state explicitly, for the receipt."""
    understanding: Understanding = field(default_factory=Understanding)
    """What of the prompt was understood."""
    absent: Mapping[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])
    """Programs that do not play, by the name under which they are excluded."""


@dataclass(frozen=True, kw_only=True)
class ScoreContext:
    """What is given besides the prompt: a piece to continue or to infill, or a melody to accompany.

    Raises:
        MelismaError: The fields contradict each other.
    """

    continue_from: Score | None = None
    infill_bars: tuple[int, int] | None = None
    """First and last bar of `continue_from`, counted from 1, that are generated anew."""
    melody: Score | None = None

    def __post_init__(self) -> None:
        if self.melody is not None and self.continue_from is not None:
            raise MelismaError("a melody to accompany and a piece to continue exclude each other")
        if self.infill_bars is not None and self.continue_from is None:
            raise MelismaError("bars are filled into a piece: give it, too")

    def task(self, conditioning: ScoreConditioning) -> ScoreTask:
        """The task of the score model for a prompt with this context."""
        if self.melody is not None:
            return accompaniment_task(conditioning, self.melody)
        if self.continue_from is None:
            return new_piece_task(conditioning)
        if self.infill_bars is not None:
            return infilling_task(conditioning, self.continue_from, *self.infill_bars)
        return continuation_task(conditioning, self.continue_from)


class ScorePipeline(Pipeline[ScorePrompt, ScoreContext, ScorePiece]):
    """Pipeline of the text tower of the joint embedding and the score model."""

    sampling_defaults = SCORE_SAMPLING

    def __init__(
        self,
        joint: JointEmbedding,
        model: ScoreModel,
        *,
        name: str,
        licence: str,
        folder: Path | None = None,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        """
        Args:
            joint: The joint embedding, whose text tower reads prompts.
            model: The score model.
            name: Name of the model in output files.
            licence: Licence of the weights.
            folder: Folder of the model; needed for its originality index.
            precision: Of the weights, as `ScoreEngine` takes it.
            threads: As `ScoreEngine` takes them.
        """
        super().__init__(name=name, licence=licence, best_of=8)
        self.joint, self.model = joint, model.eval()
        self._engine = ScoreEngine(self.model, precision=precision, threads=threads)
        self._folder, self._fingerprint = folder, ""

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of a hash of all weights that affect the samples."""
        if not self._fingerprint:
            digest = hashlib.sha256(self.joint.fingerprint.encode())
            for module in (self.joint.text, self.model):
                for tensor in module.state_dict().values():
                    digest.update(tensor.float().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:12]
        return self._fingerprint

    def originality_index(self) -> MelodyOriginality:
        """The melody fingerprints of training pieces, see `Pipeline`."""
        found = None if self._folder is None else MelodyOriginality.read(self._folder)
        if found is None:
            name = self.name if self._folder is None else self._folder.name
            raise without_index(name, "fingerprints")
        return found

    def generate_pieces(
        self,
        prompts: Sequence[ScorePrompt | str] | ScorePrompt | str,
        *,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        best_of: int | None = None,
        rank: str = "words",
        context: ScoreContext | None = None,
        progress: Progress | None = None,
    ) -> list[ScorePiece]:
        """Composes a score for each prompt, see `Pipeline`.

        Candidates are always ranked by how their notes adhere to the prompt; those whose new bars
        in a given piece are nearly empty beside their neighbours rank last.

        Raises:
            MelismaError: There is no prompt, `best_of` is below 1, or `rank` is not "words".
        """
        requested = prompts_of(prompts, ScorePrompt)
        best_of = self.best_of if best_of is None else best_of
        check_numbers(seed, best_of, len(requested))
        if rank != "words":
            raise MelismaError(
                "scores are ranked by their adherence to the prompt: leave out the ranking"
            )
        context, resolved = context or ScoreContext(), self.resolve_sampling(sampling)
        tasks: list[ScoreTask] = []
        generators: list[torch.Generator] = []
        for number, prompt in enumerate(requested):
            conditioning = condition_on_score_prompt(
                self.joint, prompt, _generator(seed + number, 0, "asking")
            )
            tasks += [context.task(conditioning)] * best_of
            generators += [_generator(seed + number, c, "drawing") for c in range(best_of)]
        events = sample_scores(
            self._engine,
            conditioning_of([task.conditioning for task in tasks]),
            [task.plan for task in tasks],
            stage_sampling(resolved),
            generators,
            progress,
        )
        scores = [task.finish(rows) for task, rows in zip(tasks, events, strict=True)]
        measured = [
            score_adherence(s, task.conditioning) for s, task in zip(scores, tasks, strict=True)
        ]
        totals = [
            one.total - task.penalty(s)
            for one, s, task in zip(measured, scores, tasks, strict=True)
        ]
        return [
            _piece(
                tasks[best],
                scores[best],
                measured[best],
                requested[i],
                seed + i,
                candidates,
            )
            for i, (best, candidates) in enumerate(best_candidates(totals, best_of))
        ]


def _piece(
    task: ScoreTask,
    score: Score,
    adherence: AdherenceScore,
    prompt: ScorePrompt,
    seed: int,
    candidates: list[float],
) -> ScorePiece:
    """The selected candidate, with a title, a key and named tracks."""
    titled = replace(
        score,
        title=score.title or prompt.words.strip(),
        tonality=task.conditioning.tonality or adherence.tonality,
    )
    return ScorePiece(
        score=named_tracks(titled, lambda track: instrument_name(track.program, track.is_drum)),
        prompt=prompt,
        seed=seed,
        adherence=adherence,
        candidates=candidates,
        conditions=task.conditioning.shown(),
        stated=task.conditioning.stated,
        understanding=understanding_of_score(task.conditioning),
        absent=task.conditioning.excluded,
    )


_generator = partial(generator_of, kind="score/")
