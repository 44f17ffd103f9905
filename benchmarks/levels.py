"""Does music hold its level? Held-out renders, their round trip through the codec, what the coarse
stage draws for *their* semantic tokens, and what comes of words.

Run: `python benchmarks/levels.py --held CLIPS [--count 48]`. In decibels from one 0.4 s to the
next. Between the rows one sees which part makes the level wander.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from held_clips import PROMPTS, command_line, one_clip_per_piece, parser_of, tell

from melisma.analysis.audio.levels import measure_levels
from melisma.data.audio_shards import read_audio_shards
from melisma.engine.cpu import NativeEngine
from melisma.engine.generate import sample
from melisma.engine.sampling import SamplingParams
from melisma.evaluate.metrics.adherence import read_requests
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.generation import Composer, MusicLMSampling, load
from melisma.joint.attributes import BLOCKS
from melisma.lm import Conditioning
from melisma.sound.mastering import master
from melisma.tokenizers import predicted_attributes
from melisma.train.judge import clip_waveform
from melisma.values import Prompt, Waveform
from melisma.values.tokens import SAMPLE_RATE_HZ

BATCH = 8


def told_by(composer: Composer, sound: torch.Tensor) -> Conditioning:
    """Conditions as the music tower hears them, and the sound's own semantic tokens."""
    heard = composer.ears.semantic.encode_states(sound)
    vectors, rows = composer.ears.windows(sound, heard)
    nothing = Conditioning.absent(len(sound), heard.tokens.shape[2])
    attributes = np.stack([predicted_attributes(row) for row in rows[:, 0]]).astype(np.int64)
    families = rows[:, 0][:, BLOCKS["families"]] >= 0.5
    return dataclasses.replace(
        nothing,
        style=torch.from_numpy(vectors[:, 0]).float(),
        attributes=torch.from_numpy(attributes),
        families=torch.from_numpy(families).float(),
        source=heard.tokens.long(),
    )


def redrawn(composer: Composer, sound: torch.Tensor, first_seed: int) -> torch.Tensor:
    """Sound [batch, sample] drawn anew by the coarse stage from true semantic tokens."""
    told, settings = told_by(composer, sound), MusicLMSampling()
    assert told.source is not None
    drawing = SamplingParams(
        temperature=settings.temperature_coarse,
        top_k=settings.top_k_coarse,
        guidance=settings.guidance_coarse,
    )
    seeds = [torch.Generator().manual_seed(first_seed + i) for i in range(len(sound))]
    tokens = sample(NativeEngine(composer.coarse), told, told.source.shape[2], drawing, seeds)
    return composer.ears.codec.decode_tokens(tokens)


def main() -> None:
    """Draw, measure, tell."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--count", type=int, default=48, help="clips, one per work, and prompts")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    composer = load(given.model, given.threads)
    assert isinstance(composer, Composer), "a published model has no stages of ours"
    ears = read_audio_shards(given.held)
    clips = one_clip_per_piece(ears, given.count)
    sounds = torch.stack(
        [torch.from_numpy(clip_waveform(ears, clip).mono) for clip in clips]
    ).float()
    levels = composer.coarse.settings.levels
    figures: list[Figure] = []

    def row(what: str, made: Sequence[np.ndarray]) -> None:
        found = [
            measure_levels(Waveform(samples=one[None], rate_hz=SAMPLE_RATE_HZ)) for one in made
        ]
        changes = np.array([one.mean_db for one in found])
        details: dict[str, float | str] = {
            "spread_db": round(float(np.mean([one.spread_db for one in found])), 2)
        }
        figures.append(
            figure_of(
                f"change of level, {what}", mean_interval(changes), unit="dB",
                command=command_line(), details=details,
            )
        )  # fmt: skip

    row("held-out renders", list(sounds.numpy()))
    codec = composer.ears.codec
    with torch.inference_mode():
        trips = [
            codec.decode_tokens(codec.encode_sound(part, levels)) for part in sounds.split(BATCH)
        ]
        row("codec's round trip", list(torch.cat(trips).numpy()))
        drawn = [redrawn(composer, part, BATCH * i) for i, part in enumerate(sounds.split(BATCH))]
    row("coarse stage on true semantic tokens", list(torch.cat(drawn).numpy()))
    wishes = read_requests(PROMPTS / "stated_prompts.jsonl")[: given.count]
    words = [Prompt(words=wish.words) for wish in wishes]
    made: list[np.ndarray] = []
    mastered: list[np.ndarray] = []
    for start in range(0, len(words), BATCH):
        pieces = composer.generate_pieces(words[start : start + BATCH], seed=start, best_of=1)
        made += [piece.waveform.mono for piece in pieces]
        mastered += [master(piece.waveform).mono for piece in pieces]
    row("from words, best of 1", made)
    row("from words, best of 1, mastered", mastered)
    tell(figures, given.results / "levels.json")


if __name__ == "__main__":
    main()
