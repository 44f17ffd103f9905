"""Does generated music do what the words say? Lead family, tempo, tonality, similarity, faults.

Run: `python benchmarks/adherence.py --held CLIPS [--judges FOLDER] [--best-of 4 1] [--count 240]
[--drawing guidance_semantic=2]`.
Prompts: `benchmarks/prompts/stated_prompts.jsonl`. The judge is the shipped one by default. The
ceiling is the judges' result on held-out clips (balanced over the same lead families) after the
codec's round trip at the generator's levels; clips without a clear tempo or tonality do not count.
`--engine score` composes scores and judges their rendered sound, at the same rate and in mono.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr
from held_clips import (
    PROMPTS,
    balanced_clips,
    command_line,
    parser_of,
    tell,
)

from melisma.cli.commands.evaluate import read_drawing
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
from melisma.generation import ScoreComposer, SoundComposer, load, load_codec, load_scores
from melisma.generation.loading import model_folder
from melisma.generation.musiclm import MusicLMSampling
from melisma.generation.ranking import RANKS
from melisma.sound.mastering import master
from melisma.symbolic.render import render_score
from melisma.train.judge import clip_waveform
from melisma.values import Prompt, Waveform
from melisma.values.score_prompt import ScorePrompt
from melisma.values.tokens import SAMPLE_RATE_HZ

Maker = Callable[[list[RequestedAttributes], int], list[tuple[Waveform, Waveform]]]
"""From wishes and the seed of the first to pieces: what the judge hears, and what is kept."""


def drawn(composer: SoundComposer, best_of: int, settings: MusicLMSampling, rank: str) -> Maker:
    """Sound that the model draws."""

    def make(wishes: list[RequestedAttributes], seed: int) -> list[tuple[Waveform, Waveform]]:
        prompts = [Prompt(words=wish.words) for wish in wishes]
        pieces = composer.generate_pieces(
            prompts, seed=seed, best_of=best_of, settings=settings, rank=rank
        )
        return [(sound, sound) for sound in (master(piece.waveform) for piece in pieces)]

    return make


def composed(composer: ScoreComposer, best_of: int) -> Maker:
    """Scores, of whose rendered sound the first 10 s are heard, in mono at the judge's rate."""

    def make(wishes: list[RequestedAttributes], seed: int) -> list[tuple[Waveform, Waveform]]:
        prompts = [ScorePrompt(words=wish.words, duration_seconds=12.0) for wish in wishes]
        pieces = composer.compose(prompts, seed=seed, best_of=best_of)
        mixes = [render_score(piece.score).mix for piece in pieces]
        return [(_for_judge(mix), mix) for mix in mixes]

    return make


def _for_judge(mix: Waveform) -> Waveform:
    mono = soxr.resample(mix.mono, mix.rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    samples = mono[None, : 10 * SAMPLE_RATE_HZ].astype(np.float32)
    return Waveform(samples=np.ascontiguousarray(samples), rate_hz=SAMPLE_RATE_HZ)


def heard_in(
    make: Maker,
    wishes: list[RequestedAttributes],
    judge: Judge,
    *,
    seed: int,
    batch: int,
    keep: Path | None,
) -> list[MeasuredAttributes]:
    """What is heard in one piece for every wish; `keep` is a folder for the sound."""
    heard: list[MeasuredAttributes] = []
    began = time.monotonic()
    for first in range(0, len(wishes), batch):
        for sound, kept in make(wishes[first : first + batch], seed + first):
            heard.append(measure_attributes(sound, judge))
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                write_audio(keep / f"{len(heard) - 1:03d}.flac", kept, None)
        print(f"{len(heard)} of {len(wishes)} pieces, {time.monotonic() - began:.0f} s", flush=True)
    return heard


def true_renders(
    ears: AudioShards, clips: list[int], judge: Judge, model: str | None, levels: int | None
) -> tuple[list[RequestedAttributes], list[MeasuredAttributes]]:
    """Facts of held-out clips as wishes, and what is heard in them after the codec, if any."""
    codec = load_codec(model) if model is not None else None
    wishes: list[RequestedAttributes] = []
    heard: list[MeasuredAttributes] = []
    for clip in clips:
        sound = clip_waveform(ears, clip)
        if codec is not None:
            sound = codec.decode(codec.encode(sound, levels))
        captions = ears.rows[clip]["captions"]
        assert isinstance(captions, list)
        wishes.append(requested_of(ears.facts(clip), str(captions[0])))
        heard.append(measure_attributes(sound, judge))
    return wishes, heard


def main() -> None:
    """Generate, judge, tell."""
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
    parser.add_argument("--rank", choices=RANKS, default="words", help="what ranks drawn sound")
    parser.add_argument(
        "--drawing", action="append", default=[], help="how sound is drawn, as `melisma evaluate`"
    )
    given = parser.parse_args()
    settings = replace(MusicLMSampling(), **read_drawing(given.drawing, "sound"))
    judge = Judge.read(given.judges or model_folder("default"))
    wishes = read_requests(PROMPTS / "stated_prompts.jsonl")[: given.count]
    families = sorted({wish.lead for wish in wishes if wish.lead is not None})
    ears = read_audio_shards(given.held)
    clips = balanced_clips(ears, families, given.truths)
    model = None if given.raw else given.model
    asked, heard = true_renders(ears, clips, judge, model, given.levels)
    truth = compare(asked, heard, judge)
    figures: list[Figure] = adherence_figures(
        asked, truth, truth, command_line(), "true held-out renders"
    )
    if not given.ceiling_only:
        for best_of in given.best_of:
            make = (
                composed(load_scores(given.model, given.threads), best_of)
                if given.engine == "score"
                else drawn(load(given.model, given.threads), best_of, settings, given.rank)
            )
            keep = None if given.keep is None else given.keep / f"best-of-{best_of}"
            outputs = heard_in(make, wishes, judge, seed=given.seed, batch=given.batch, keep=keep)
            compared = compare(wishes, outputs, judge)
            label = f"best of {best_of}" + (", scores" if given.engine == "score" else "")
            figures += adherence_figures(wishes, compared, truth, command_line(), label)
    name = "adherence.json" if given.engine == "sound" else "adherence_score.json"
    tell(figures, given.results / name)


if __name__ == "__main__":
    main()
