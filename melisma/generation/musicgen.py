"""A prompt becomes sound by MusicGen (Copet et al., 2306.05284): one stage, published weights.

Words -> T5's states, attended to (or, with a tune's chroma, put before the piece) -> one language
model draws all codebooks of EnCodec in the delay pattern -> EnCodec decodes, block by block. A
piece longer than what the model learned goes on in windows of 30 s, each with the last 12 s of the
one before it (section 4.1 has a stride of 18 s).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from melisma.codec import EncodecCodec
from melisma.engine.cpu import Engine
from melisma.engine.generate import sample_stream
from melisma.engine.sampling import SamplingParams
from melisma.generation.catalogue import STRIDE_SECONDS, WINDOW_SECONDS
from melisma.generation.conditioning.audio import AudioConditions, at_rate, tune_chroma
from melisma.generation.conditioning.prompt import PromptConditioning, condition_on_prompt
from melisma.generation.pipeline import (
    Piece,
    SoundComposer,
    changed_settings,
    generator_of,
    prompts_of,
)
from melisma.generation.ranking import check_ranking, detect_families, rank_candidates
from melisma.lm.conditioning import Conditioning
from melisma.lm.text_encoder import PublishedWords
from melisma.tokenizers import AudioTokenizers
from melisma.values.prompt import Prompt
from melisma.values.tokens import TokenGrid
from melisma.values.waveform import Waveform

FIRST_FRAMES = 12
"""Frames drawn before a stream's first block is decoded (chosen: with the pattern's delay and the
codec's look-ahead the first sound comes before half a second of tokens is drawn)."""
BLOCK_FRAMES = 25
"""Frames of every other block."""


@dataclass(frozen=True, kw_only=True)
class MusicGenSampling:
    """How the one stage draws: the published settings (section 4.1)."""

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 1.0

    def drawing(self) -> SamplingParams:
        """As the engine takes it; a top-k of 0 or a top-p of 1 chooses among all."""
        return SamplingParams(
            guidance=self.guidance,
            temperature=self.temperature,
            top_k=self.top_k or None,
            top_p=None if self.top_p == 1 else self.top_p,
        )


class MusicGen(SoundComposer):
    """Text encoder, token model and codec of a published checkpoint."""

    def __init__(
        self,
        words: PublishedWords,
        engine: Engine,
        codec: EncodecCodec,
        *,
        name: str,
        licence: str,
        fingerprint: str,
        ears: Callable[[], AudioTokenizers],
    ) -> None:
        """`ears`: loads what ranks candidates and hears instruments; called when first needed."""
        super().__init__(name=name, licence=licence, rate_hz=codec.rate_hz, best_of=1)
        self.words, self.engine, self.codec = words, engine, codec
        self._fingerprint, self._ears = fingerprint, ears

    @property
    def fingerprint(self) -> str:
        """Twelve digits that change with the weights and with how they are rounded."""
        return self._fingerprint

    @cached_property
    def ears(self) -> AudioTokenizers:
        """What hears: the shipped joint embedding."""
        return self._ears()

    @property
    def follows_tunes(self) -> bool:
        """Whether it learned to be given a tune."""
        return bool(self.engine.model.settings.conditions.chroma_frames)

    def drawing(self, changes: Mapping[str, float | int]) -> MusicGenSampling:
        """The published settings with some changed. `ValueError` for a name that is none of
        them."""
        return changed_settings(MusicGenSampling(), changes)

    def generate_pieces(
        self,
        prompts: Sequence[Prompt] | Prompt | str,
        *,
        seed: int = 0,
        settings: Any = None,
        best_of: int | None = None,
        rank: str = "words",
        given: AudioConditions | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> list[Piece]:
        """Pieces for prompts, see `SoundComposer`; `settings`: `MusicGenSampling`. With one
        candidate nothing is ranked."""
        prompts, best_of = prompts_of(prompts), self.best_of if best_of is None else best_of
        check_ranking(best_of, rank)
        given = given or AudioConditions()
        tokens = _Tokens(self, prompts, best_of, seed, settings or MusicGenSampling(), given)
        for _ in tokens.blocks(first_frames=BLOCK_FRAMES):
            if progress is not None:
                progress(0.9 * tokens.share)
        sounds = [self._decoded(grid, given, prompts[i // best_of]) for i, grid in tokens.grids()]
        asked = self._asked(prompts, seed)
        similarities: list[float | None] = [None] * len(sounds)
        scores = [0.0] * len(sounds)
        if best_of > 1:
            each = [asked[i // best_of] for i in range(len(sounds))]
            similarities[:], scores = rank_candidates(self.ears, sounds, each, rank)
        pieces = []
        for i, prompt in enumerate(prompts):
            mine = range(i * best_of, (i + 1) * best_of)
            best = max(mine, key=lambda c: scores[c])
            pieces.append(
                Piece(
                    waveform=sounds[best],
                    prompt=prompt,
                    seed=seed + i,
                    similarity=similarities[best],
                    candidates=[scores[c] for c in mine] if best_of > 1 else [],
                    semantic=None,
                    acoustic=TokenGrid(
                        tokens=tokens.grid(best).numpy(),
                        vocabulary=self.codec.vocabulary,
                        frame_rate_hz=self.codec.frame_rate_hz,
                        fingerprint=self.codec.fingerprint,
                    ),
                    conditions=tokens.shown(i * best_of),
                    stated=asked[i].reading.stated,
                )
            )
        return pieces

    def stream(
        self,
        prompt: Prompt,
        *,
        seed: int = 0,
        settings: Any = None,
        given: AudioConditions | None = None,
    ) -> Iterator[Waveform]:
        """The sound of one piece as its tokens are drawn, see `SoundComposer`."""
        given = given or AudioConditions()
        tokens = _Tokens(self, [prompt], 1, seed, settings or MusicGenSampling(), given)
        state = self.codec.initial_state()
        left = self._samples(given, prompt)
        for block in tokens.blocks(first_frames=FIRST_FRAMES):
            sound, state = self.codec.step(block, state)
            yield from self._said(sound, left)
            left -= min(left, sound.shape[2])
        yield from self._said(self.codec.finish(state), left)

    def _said(self, sound: Tensor, left: int) -> Iterator[Waveform]:
        """A block, cut where the piece ends."""
        if (count := min(left, sound.shape[2])) > 0:
            yield Waveform(samples=sound[0, :, :count].cpu().numpy(), rate_hz=self.rate_hz)

    def _decoded(self, grid: Tensor, given: AudioConditions, prompt: Prompt) -> Waveform:
        sound = self.codec.decode_tokens(grid[None])[0, :, : self._samples(given, prompt)]
        return Waveform(samples=sound.cpu().numpy(), rate_hz=self.rate_hz)

    def _samples(self, given: AudioConditions, prompt: Prompt) -> int:
        begun = 0.0 if given.beginning is None else given.beginning.seconds
        return round((begun + prompt.duration_seconds) * self.rate_hz)

    def _asked(self, prompts: Sequence[Prompt], seed: int) -> list[PromptConditioning]:
        """What the shipped text tower reads: for ranking, and what the words state outright."""
        return [
            condition_on_prompt(self.ears.joint, prompt, generator_of(seed + i, 0, "asking"))
            for i, prompt in enumerate(prompts)
        ]

    def detect_families(self, waveform: Waveform) -> dict[str, float]:
        """Probability of each family of instruments sounding, by the joint embedding's head."""
        return detect_families(self.ears, waveform)


class _Tokens:
    """The tokens of a batch of candidates, window after window."""

    def __init__(
        self,
        composer: MusicGen,
        prompts: Sequence[Prompt],
        best_of: int,
        seed: int,
        settings: MusicGenSampling,
        given: AudioConditions,
    ) -> None:
        self._composer, self._given, self._drawing = composer, given, settings.drawing()
        rate = composer.codec.frame_rate_hz
        self._window, self._stride = round(WINDOW_SECONDS * rate), round(STRIDE_SECONDS * rate)
        states = composer.words.encode([prompt.words for prompt in prompts])
        self.remarks = states.remarks
        each = torch.arange(len(prompts)).repeat_interleave(best_of)
        self._text, self._text_lengths = states.states[each].float(), states.lengths[each]
        self._generators = [
            generator_of(seed + i, c, "drawing")
            for i in range(len(prompts))
            for c in range(best_of)
        ]
        first = self._begun()
        self._lengths = [
            first.shape[2] + math.ceil(prompts[i].duration_seconds * rate) for i in each.tolist()
        ]
        self._parts: list[Tensor] = [first.expand(len(each), -1, -1)]
        self._begun_frames = first.shape[2]
        self._chroma = self._tune()

    def _begun(self) -> Tensor:
        """Tokens of the sound that the pieces begin with, int64 [1, level, frame]."""
        codec, beginning = self._composer.codec, self._given.beginning
        if beginning is None:
            return torch.zeros(1, codec.levels, 0, dtype=torch.long)
        sound = at_rate(beginning, codec.rate_hz, codec.channels)
        tokens = torch.from_numpy(codec.encode(sound).tokens)[None]
        return tokens[..., : int(beginning.seconds * codec.frame_rate_hz)]

    def _tune(self) -> Tensor | None:
        """Chroma float32 [1, chroma frame, 12] of the tune for the whole of the new music."""
        melody = self._given.melody
        if melody is None:
            return None
        if not self._composer.follows_tunes:
            raise ValueError(
                f"{self._composer.name} never learned to follow a tune: leave out --melody, or use "
                "a melody model such as facebook/musicgen-melody"
            )
        rate = self._composer.codec.frame_rate_hz
        return tune_chroma(melody, (max(self._lengths) - self._begun_frames) / rate)

    @property
    def done(self) -> int:
        """Frames that there are of the longest piece."""
        return sum(part.shape[2] for part in self._parts)

    @property
    def share(self) -> float:
        """Share of the new frames that are drawn."""
        new = max(self._lengths) - self._begun_frames
        return (self.done - self._begun_frames) / new

    def blocks(self, first_frames: int) -> Iterator[Tensor]:
        """New frames int64 [batch, level, frame] as soon as they are whole, those that were given
        among them."""
        if self._begun_frames:
            yield self._parts[0]
        size = first_frames + self._composer.engine.model.pattern.offsets[-1]
        while self.done < max(self._lengths):
            yield from self._window_blocks(size)
            size = BLOCK_FRAMES

    def _window_blocks(self, first_steps: int) -> Iterator[Tensor]:
        """The frames of one more window."""
        start = self.done
        kept = min(start, self._window - self._stride)
        going = [i for i, length in enumerate(self._lengths) if length > start]
        frames = [min(self._window, kept + self._lengths[i] - start) for i in going]
        known = torch.cat(self._parts, dim=2)[going, :, start - kept : start] if kept else None
        told = kept
        for grid in sample_stream(
            self._composer.engine,
            self._conditions(going, start - kept, max(frames)),
            frames,
            self._drawing,
            [self._generators[i] for i in going],
            prefix=known,
            first_steps=first_steps,
            block_steps=BLOCK_FRAMES,
        ):
            if grid.done <= told:
                continue
            new = grid.tokens(told)
            told = grid.done
            # Pieces that ended before repeat their last frame: nobody reads it.
            last = self._parts[-1][..., -1:] if self.done else new[:, :, :1]
            block = last.expand(len(self._lengths), -1, new.shape[2]).clone()
            block[going] = new
            self._parts.append(block)
            yield block

    def _conditions(self, going: list[int], first: int, frames: int) -> Conditioning:
        """What a window is told that begins at frame `first`."""
        conditions = dataclasses.replace(
            Conditioning.absent(len(going), frames),
            text=self._text[going],
            text_lengths=self._text_lengths[going],
        )
        if self._chroma is None:
            return conditions
        rates = self._composer.engine.model.settings.conditions.chroma_frames / WINDOW_SECONDS
        start = (first - self._begun_frames) / self._composer.codec.frame_rate_hz
        tune = self._chroma
        if start > 0:
            tune = tune.roll(-round(start * rates), dims=1)
        else:
            # What stands before the tune is silent.
            tune = torch.cat([torch.zeros(1, round(-start * rates), tune.shape[2]), tune], dim=1)
        return dataclasses.replace(conditions, chroma=tune.expand(len(going), -1, -1))

    def grid(self, number: int) -> Tensor:
        """All tokens of one candidate, int64 [level, frame]."""
        return torch.cat(self._parts, dim=2)[number, :, : self._lengths[number]]

    def grids(self) -> Iterator[tuple[int, Tensor]]:
        """The candidates in turn."""
        for number in range(len(self._lengths)):
            yield number, self.grid(number)

    def shown(self, number: int) -> dict[str, str]:
        """What a candidate was told, in words, for receipts."""
        shown = {"text": f"{int(self._text_lengths[number])} tokens"}
        if self._chroma is not None:
            heard = int((self._chroma.numpy().max(axis=2) > 0).sum())
            shown["tune"] = f"{heard} of {self._chroma.shape[1]} chroma frames"
        if self._begun_frames:
            seconds = self._begun_frames / self._composer.codec.frame_rate_hz
            shown["continues"] = f"{seconds:.1f} s"
        return shown | {f"remark {i + 1}": one for i, one in enumerate(self.remarks)}
