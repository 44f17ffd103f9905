"""MusicGen: text to music with one language model and published weights (Copet et al., 2306.05284).

T5 encodes the words; the language model has its hidden states by cross-attention (melody models: as
a prefix, after the chroma of the melody) and samples all codebooks of EnCodec in the delay pattern;
EnCodec decodes them block by block. A piece longer than the training examples is generated in
windows of 30 s, each with the last 12 s of the previous one as its prefix (section 4.1: stride of
18 s).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from melisma.codec import EncodecCodec
from melisma.engine.cpu import Engine
from melisma.engine.generate import sample_stream
from melisma.generation.catalogue import FIRST_FRAMES, STRIDE_SECONDS, WINDOW_SECONDS
from melisma.generation.conditioning.audio import AudioConditions, melody_chroma
from melisma.generation.conditioning.prompt import condition_on_prompt
from melisma.generation.conditioning.seam import joined_stream
from melisma.generation.conditioning.spoken import spoken, spoken_settings
from melisma.generation.conditioning.understanding import Understanding, read_by_another_encoder
from melisma.generation.originality import OriginalityIndex
from melisma.generation.pipeline import (
    AudioPiece,
    AudioPipeline,
    Progress,
    Sampling,
    best_candidates,
    check_numbers,
    generator_of,
    prompts_of,
    stage_sampling,
)
from melisma.generation.ranking import check_rank, detect_families, rank_candidates
from melisma.lm.conditioning import Condition, Conditioning, text_condition
from melisma.lm.text_encoder import T5TextEncoder
from melisma.sound.resample import resample
from melisma.sound.stored import StoredSound
from melisma.tokenizers import AudioTokenizers
from melisma.values.errors import MelismaError
from melisma.values.prompt import Prompt
from melisma.values.sampling import SamplingParams
from melisma.values.tokens import TokenGrid
from melisma.values.waveform import Waveform

BLOCK_FRAMES = 25
"""Token frames of the following blocks."""


MUSICGEN_SAMPLING: Sampling = {"guidance": 3.0, "temperature": 1.0, "top_k": 250, "top_p": 1.0}
"""The published parameters (section 4.1)."""


class MusicGen(AudioPipeline):
    """Pipeline of text encoder, language model and codec of a published checkpoint."""

    sampling_defaults = MUSICGEN_SAMPLING

    def __init__(
        self,
        words: T5TextEncoder,
        engine: Engine,
        codec: EncodecCodec,
        *,
        name: str,
        licence: str,
        fingerprint: str,
        tokenizers: Callable[[], AudioTokenizers],
    ) -> None:
        """
        Args:
            words: Tokenizer and text encoder.
            engine: Inference engine of the language model.
            codec: EnCodec.
            name: Name of the model in output files.
            licence: Licence of the weights.
            fingerprint: Of the weights.
            tokenizers: Loads our own tokenizers, which rank candidates and detect instruments;
                called on first use.
        """
        super().__init__(name=name, licence=licence, rate_hz=codec.rate_hz, best_of=1)
        self.words, self.engine, self.codec = words, engine, codec
        self._fingerprint, self._load_tokenizers = fingerprint, tokenizers

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the weights and their precision."""
        return self._fingerprint

    @cached_property
    def tokenizers(self) -> AudioTokenizers:
        """Our own tokenizers."""
        return self._load_tokenizers()

    @property
    def follows_tunes(self) -> bool:
        """Whether the model was trained with melody conditioning."""
        return bool(self.engine.model.settings.conditions.chroma_frames)

    def originality_index(self) -> OriginalityIndex[AudioPiece]:
        """Not available: the training data of MusicGen is not public.

        Raises:
            MelismaError: Always.
        """
        raise MelismaError(
            f"{self.name} has no originality index, as its training data is not public: leave "
            "out --original"
        )

    def generate_pieces(
        self,
        prompts: Sequence[Prompt | str] | Prompt | str,
        *,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        best_of: int | None = None,
        rank: str = "words",
        context: AudioConditions | None = None,
        progress: Progress | None = None,
    ) -> list[AudioPiece]:
        """Generates a piece for each prompt, see `Pipeline`. One candidate alone is not ranked."""
        requested = prompts_of(prompts, Prompt)
        best_of = self.best_of if best_of is None else best_of
        check_numbers(seed, best_of, len(requested))
        check_rank(rank)
        resolved, context = self.resolve_sampling(sampling), context or AudioConditions()
        tokens = _Tokens(self, requested, best_of, seed, resolved, context)
        for _ in tokens.blocks(first_frames=BLOCK_FRAMES):
            if progress is not None:
                progress(0.9 * tokens.share)
        sounds = [
            self._decoded(grid, context, requested[i // best_of]) for i, grid in tokens.grids()
        ]
        seam = self._seam(context)
        read = [
            condition_on_prompt(self.tokenizers.joint, prompt, generator_of(seed + i, 0, "asking"))
            for i, prompt in enumerate(requested)
        ]
        similarities: list[float | None] = [None] * len(sounds)
        scores = [0.0] * len(sounds)
        if best_of > 1:
            each = [read[i // best_of] for i in range(len(sounds))]
            similarities[:], scores = rank_candidates(
                self.tokenizers, sounds, each, rank, context, seam
            )
        pieces = []
        for i, (best, candidates) in enumerate(best_candidates(scores, best_of)):
            shown = tokens.shown(i * best_of)
            pieces.append(
                AudioPiece(
                    sound=sounds[best],
                    prompt=requested[i],
                    seed=seed + i,
                    similarity=similarities[best],
                    candidates=candidates if best_of > 1 else [],
                    semantic=None,
                    acoustic=TokenGrid(
                        tokens=tokens.grid(best).numpy(),
                        vocabulary=self.codec.vocabulary,
                        frame_rate_hz=self.codec.frame_rate_hz,
                        fingerprint=self.codec.fingerprint,
                    ),
                    conditions=shown,
                    stated=read[i].reading.stated,
                    understanding=read_by_another_encoder(requested[i].words, shown),
                    absent=read[i].absent,
                    context=context,
                    new_sample=seam,
                )
            )
        return pieces

    def stream(
        self,
        prompt: Prompt,
        *,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        context: AudioConditions | None = None,
    ) -> Iterator[Waveform]:
        """Yields the sound of one piece as its tokens are sampled, see `AudioPipeline`."""
        [prompt] = prompts_of(prompt, Prompt)
        check_numbers(seed, 1)
        context = context or AudioConditions()
        tokens = _Tokens(self, [prompt], 1, seed, self.resolve_sampling(sampling), context)
        sounds = self._stream(tokens, self._samples(context, prompt))
        if context.beginning is None:
            return sounds
        return joined_stream(context, sounds, self._seam(context), prompt.duration_seconds)

    def _stream(self, tokens: _Tokens, left: int) -> Iterator[Waveform]:
        """Yields `left` samples of decoded sound as its tokens are sampled."""
        state = self.codec.initial_state()
        for block in tokens.blocks(first_frames=FIRST_FRAMES):
            sound, state = self.codec.step(block, state)
            yield from self._cut(sound, left)
            left -= min(left, sound.shape[2])
        yield from self._cut(self.codec.finish(state), left)

    def _cut(self, sound: Tensor, left: int) -> Iterator[Waveform]:
        """Yields a block, cut at the end of the piece, or nothing after it."""
        if (count := min(left, sound.shape[2])) > 0:
            yield Waveform(samples=sound[0, :, :count].cpu().numpy(), rate_hz=self.rate_hz)

    def _decoded(self, grid: Tensor, context: AudioConditions, prompt: Prompt) -> StoredSound:
        sound = StoredSound(rate_hz=self.rate_hz, channels=self.codec.channels)
        for block in self.codec.decode_blocks(grid[None]):
            sound.append(block[0].cpu().numpy())
        sound.cut(self._samples(context, prompt))
        return sound

    def _seam(self, context: AudioConditions) -> int:
        """Sample at which the new music begins."""
        given = 0.0 if context.beginning is None else context.beginning.seconds
        return round(given * self.rate_hz)

    def _samples(self, context: AudioConditions, prompt: Prompt) -> int:
        given = 0.0 if context.beginning is None else context.beginning.seconds
        seconds = given + prompt.duration_seconds + context.spare_seconds
        return round(seconds * self.rate_hz)

    def understand(
        self, prompt: Prompt, *, seed: int = 0, context: AudioConditions | None = None
    ) -> Understanding:
        """What of a prompt is understood, see `AudioPipeline`; seed and context change nothing."""
        del seed, context
        return read_by_another_encoder(prompt.words, {"text": spoken(prompt)})

    def detect_families(self, sound: StoredSound | Waveform) -> dict[str, float]:
        """Probability that each instrument family plays, see `AudioPipeline`."""
        return detect_families(self.tokenizers, sound)


class _Tokens:
    """Tokens of a batch of candidates, sampled window by window."""

    def __init__(
        self,
        pipeline: MusicGen,
        prompts: Sequence[Prompt],
        best_of: int,
        seed: int,
        sampling: Sampling,
        context: AudioConditions,
    ) -> None:
        self._pipeline, self._context = pipeline, context
        self._sampling = stage_sampling(sampling)
        rate = pipeline.codec.frame_rate_hz
        self._window, self._stride = round(WINDOW_SECONDS * rate), round(STRIDE_SECONDS * rate)
        states = pipeline.words.encode([spoken(prompt) for prompt in prompts])
        self.remarks = states.remarks
        each = torch.arange(len(prompts), dtype=torch.long, device="cpu").repeat_interleave(best_of)
        self._spoken = [spoken_settings(prompts[i]) for i in each.tolist()]
        self._text, self._text_lengths = states.states[each].float(), states.lengths[each]
        self._generators = [
            generator_of(seed + i, c, "drawing")
            for i in range(len(prompts))
            for c in range(best_of)
        ]
        first = self._prefix()
        self._lengths = [
            first.shape[2] + math.ceil((prompts[i].duration_seconds + context.spare_seconds) * rate)
            for i in each.tolist()
        ]
        self._parts: list[Tensor] = [first.expand(len(each), -1, -1)]
        self._prefix_frames = first.shape[2]
        self._chroma = self._melody_chroma()

    def _prefix(self) -> Tensor:
        """Tokens of the sound that the pieces begin with, int64 [1, level, frame]."""
        codec, beginning = self._pipeline.codec, self._context.beginning
        if beginning is None:
            return torch.zeros(1, codec.levels, 0, dtype=torch.long, device="cpu")
        sound = resample(beginning, codec.rate_hz, codec.channels)
        tokens = torch.from_numpy(codec.encode(sound).tokens)[None]
        return tokens[..., : int(beginning.seconds * codec.frame_rate_hz)]

    def _melody_chroma(self) -> Tensor | None:
        """Chroma float32 [1, chroma frame, 12] of the melody, as long as the new music."""
        melody = self._context.melody
        if melody is None:
            return None
        if not self._pipeline.follows_tunes:
            raise MelismaError(
                f"{self._pipeline.name} never learned to follow a tune: leave out --melody, or use "
                "a melody model such as facebook/musicgen-melody"
            )
        rate = self._pipeline.codec.frame_rate_hz
        return melody_chroma(melody, (max(self._lengths) - self._prefix_frames) / rate)

    @property
    def done(self) -> int:
        """Number of frames of the longest piece so far."""
        return sum(part.shape[2] for part in self._parts)

    @property
    def share(self) -> float:
        """Share of the new frames that have been sampled."""
        new = max(self._lengths) - self._prefix_frames
        return (self.done - self._prefix_frames) / new

    def blocks(self, first_frames: int) -> Iterator[Tensor]:
        """Yields new frames int64 [batch, level, frame] as soon as they are complete, beginning
        with those of the prefix."""
        if self._prefix_frames:
            yield self._parts[0]
        size = first_frames + self._pipeline.engine.model.pattern.offsets[-1]
        while self.done < max(self._lengths):
            yield from self._window_blocks(size)
            size = BLOCK_FRAMES

    def _window_blocks(self, first_steps: int) -> Iterator[Tensor]:
        """Yields the new frames of the next window."""
        start = self.done
        overlap = min(start, self._window - self._stride)
        going = [i for i, length in enumerate(self._lengths) if length > start]
        frames = [min(self._window, overlap + self._lengths[i] - start) for i in going]
        known = (
            torch.cat(self._parts, dim=2)[going, :, start - overlap : start] if overlap else None
        )
        done = overlap
        for grid in sample_stream(
            self._pipeline.engine,
            self._conditions(going, start - overlap, max(frames)),
            frames,
            self._sampling,
            [self._generators[i] for i in going],
            prefix=known,
            first_steps=first_steps,
            block_steps=BLOCK_FRAMES,
        ):
            if grid.done <= done:
                continue
            new = grid.tokens(done)
            done = grid.done
            # Finished pieces are padded with their last frame, which is cut later.
            last = self._parts[-1][..., -1:] if self.done else new[:, :, :1]
            block = last.expand(len(self._lengths), -1, new.shape[2]).clone()
            block[going] = new
            self._parts.append(block)
            yield block

    def _conditions(self, going: list[int], first: int, frames: int) -> Conditioning:
        """The conditioning of a window that begins at frame `first`."""
        conditions = dataclasses.replace(
            Conditioning.absent(len(going), frames),
            text=text_condition(self._text[going], self._text_lengths[going]),
        )
        if self._chroma is None:
            return conditions
        rates = self._pipeline.engine.model.settings.conditions.chroma_frames / WINDOW_SECONDS
        start = (first - self._prefix_frames) / self._pipeline.codec.frame_rate_hz
        chroma = self._chroma
        if start > 0:
            chroma = chroma.roll(-round(start * rates), dims=1)
        else:
            # The chroma is 0 over the given beginning.
            silence = torch.zeros(
                1, round(-start * rates), chroma.shape[2], dtype=torch.float32, device="cpu"
            )
            chroma = torch.cat([silence, chroma], dim=1)
        chroma = Condition.full(chroma.expand(len(going), -1, -1))
        return dataclasses.replace(conditions, chroma=chroma)

    def grid(self, number: int) -> Tensor:
        """All tokens of one candidate, int64 [level, frame]."""
        return torch.cat(self._parts, dim=2)[number, :, : self._lengths[number]]

    def grids(self) -> Iterator[tuple[int, Tensor]]:
        """Yields the number and the tokens of every candidate."""
        for number in range(len(self._lengths)):
            yield number, self.grid(number)

    def shown(self, number: int) -> dict[str, str]:
        """The conditioning of a candidate in words, by attribute, for receipts."""
        shown = {"text": f"{int(self._text_lengths[number])} tokens"}
        shown |= {name: f"{said} (as words)" for name, said in self._spoken[number].items()}
        if self._chroma is not None:
            voiced = int((self._chroma.numpy().max(axis=2) > 0).sum())
            shown["tune"] = f"{voiced} of {self._chroma.shape[1]} chroma frames"
        if self._prefix_frames:
            seconds = self._prefix_frames / self._pipeline.codec.frame_rate_hz
            shown["continues"] = f"{seconds:.1f} s"
        return shown | {f"remark {i + 1}": one for i, one in enumerate(self.remarks)}
