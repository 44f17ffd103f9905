"""Does generated music do what the words say? Lead family, tempo, key, similarity, faults.

Run: `python benchmarks/adherence.py --held CLIPS [--judges FOLDER] [--best-of 4 1] [--count 240]
[--sampling guidance_semantic=2]`.
Prompts: `benchmarks/prompts/stated_prompts.jsonl`. The judge is the shipped one by default. The
ceiling is the judge's result on held-out clips (balanced over the same lead families) after the
codec's round trip at the generator's levels; clips without a clear tempo or key do not count.
`--engine score` composes scores and judges their rendered sound, at the same rate and in mono.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from held_clips import (
    PROMPTS,
    balanced_clips,
    command_line,
    parser_of,
    report,
)

from melisma.cli.commands.evaluate import read_sampling
from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.evaluate.metrics.adherence import (
    MeasuredAttributes,
    RequestedAttributes,
    adherence_figures,
    compare,
    measure_attributes,
    read_requests,
    requested_of,
)
from melisma.evaluate.metrics.figures import Figure
from melisma.evaluate.models.judge import Judge
from melisma.files import write_audio
from melisma.generation.loading import load, load_codec, load_scores
from melisma.generation.pipeline import AudioPipeline
from melisma.generation.resolve import model_folder
from melisma.generation.score.pipeline import ScorePipeline
from melisma.sound.mastering import master
from melisma.sound.resample import resample
from melisma.symbolic.render import render_score
from melisma.train.judge import clip_waveform
from melisma.values import Prompt, Waveform
from melisma.values.sampling import RANKS, SamplingParams
from melisma.values.score_prompt import ScorePrompt
from melisma.values.tokens import SAMPLE_RATE_HZ

Generate = Callable[[list[RequestedAttributes], int], list[tuple[Waveform, Waveform]]]
"""Requests and the seed of the first -> pieces: the sound to judge, and the sound to write."""


def sampled(composer: AudioPipeline, best_of: int, sampling: SamplingParams, rank: str) -> Generate:
    """Sound that the model generates."""

    def make(requests: list[RequestedAttributes], seed: int) -> list[tuple[Waveform, Waveform]]:
        prompts = [Prompt(words=request.words) for request in requests]
        pieces = composer.generate_pieces(
            prompts, seed=seed, best_of=best_of, sampling=sampling, rank=rank
        )
        return [(sound, sound) for sound in (master(piece.waveform) for piece in pieces)]

    return make


def composed(composer: ScorePipeline, best_of: int) -> Generate:
    """Scores, whose rendered sound is judged over the first 10 s, in mono at the judge's rate."""

    def make(requests: list[RequestedAttributes], seed: int) -> list[tuple[Waveform, Waveform]]:
        prompts = [ScorePrompt(words=request.words, duration_seconds=12.0) for request in requests]
        pieces = composer.generate_pieces(prompts, seed=seed, best_of=best_of)
        mixes = [render_score(piece.score).mix for piece in pieces]
        return [(_for_judge(mix), mix) for mix in mixes]

    return make


def _for_judge(mix: Waveform) -> Waveform:
    samples = resample(mix, SAMPLE_RATE_HZ, 1).samples[:, : 10 * SAMPLE_RATE_HZ]
    return Waveform(samples=np.ascontiguousarray(samples), rate_hz=SAMPLE_RATE_HZ)


def measure_outputs(
    make: Generate,
    requests: list[RequestedAttributes],
    judge: Judge,
    *,
    seed: int,
    batch: int,
    keep: Path | None,
) -> list[MeasuredAttributes]:
    """Attributes measured in one piece for every request; `keep` is a folder for the sound."""
    measured: list[MeasuredAttributes] = []
    began = time.monotonic()
    for first in range(0, len(requests), batch):
        for sound, kept in make(requests[first : first + batch], seed + first):
            measured.append(measure_attributes(sound, judge))
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                write_audio(keep / f"{len(measured) - 1:03d}.flac", kept, None)
        print(
            f"{len(measured)} of {len(requests)} pieces, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return measured


def measure_real(
    shards: AudioShards, clips: list[int], judge: Judge, model: str | None, levels: int | None
) -> tuple[list[RequestedAttributes], list[MeasuredAttributes]]:
    """Facts of held-out clips as requests, and attributes measured after the codec, if any."""
    codec = load_codec(model) if model is not None else None
    requests: list[RequestedAttributes] = []
    measured: list[MeasuredAttributes] = []
    for clip in clips:
        sound = clip_waveform(shards, clip)
        if codec is not None:
            sound = codec.decode(codec.encode(sound, levels))
        captions = shards.rows[clip]["captions"]
        assert isinstance(captions, list)
        requests.append(requested_of(shards.facts(clip), str(captions[0])))
        measured.append(measure_attributes(sound, judge))
    return requests, measured


def main() -> None:
    """Generates, judges and reports."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--judges", type=Path, help="folder of a judge; the shipped one if missing")
    parser.add_argument("--best-of", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--count", type=int, default=240, help="prompts, from the first on")
    parser.add_argument("--truths", type=int, default=240, help="held-out clips for the ceiling")
    parser.add_argument("--levels", type=int, help="the generator's codec levels; all if missing")
    parser.add_argument("--raw", action="store_true", help="ceiling without the codec")
    parser.add_argument("--engine", choices=("sound", "score"), default="sound")
    parser.add_argument("--ceiling-only", action="store_true", help="generate nothing")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the generated sound")
    parser.add_argument(
        "--rank", choices=RANKS, default="words", help="what candidates are ranked by"
    )
    parser.add_argument(
        "--sampling", action="append", default=[], help="as `melisma evaluate` takes it"
    )
    given = parser.parse_args()
    sampling = SamplingParams.of(read_sampling(given.sampling, "sound"))
    judge = Judge.read(given.judges or model_folder("default"))
    requests = read_requests(PROMPTS / "stated_prompts.jsonl")[: given.count]
    families = sorted({request.lead for request in requests if request.lead is not None})
    shards = read_audio_shards(given.held)
    clips = balanced_clips(shards, families, given.truths)
    model = None if given.raw else given.model
    facts, measured = measure_real(shards, clips, judge, model, given.levels)
    truth = compare(facts, measured, judge)
    figures: list[Figure] = adherence_figures(
        facts, truth, truth, command_line(), "true held-out renders"
    )
    if not given.ceiling_only:
        for best_of in given.best_of:
            make = (
                composed(load_scores(given.model, given.threads), best_of)
                if given.engine == "score"
                else sampled(load(given.model, given.threads), best_of, sampling, given.rank)
            )
            keep = None if given.keep is None else given.keep / f"best-of-{best_of}"
            outputs = measure_outputs(
                make, requests, judge, seed=given.seed, batch=given.batch, keep=keep
            )
            compared = compare(requests, outputs, judge)
            label = f"best of {best_of}" + (", scores" if given.engine == "score" else "")
            figures += adherence_figures(requests, compared, truth, command_line(), label)
    name = "adherence.json" if given.engine == "sound" else "adherence_score.json"
    report(figures, given.results / name)


if __name__ == "__main__":
    main()
