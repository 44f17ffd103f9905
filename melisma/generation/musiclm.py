"""MusicLM: text to music in three stages of language models (Agostinelli et al., 2301.11325).

The joint embedding turns words into style and attributes; the language models sample SEMANTIC, then
COARSE, then FINE tokens, each of the whole piece, with attention to a sliding window; the codec
decodes them; every candidate is ranked, and the one nearest to the words is selected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from melisma.codec import AcousticCodec
from melisma.engine.cpu import NativeEngine
from melisma.engine.generate import sample, sample_parallel, sample_stream
from melisma.generation.conditioning.audio import AudioConditions, melody_classes
from melisma.generation.conditioning.prompt import (
    PromptConditioning,
    condition_on_prompt,
    conditions_of,
    shown_conditions,
    understanding_of_prompt,
)
from melisma.generation.conditioning.seam import joined_stream
from melisma.generation.conditioning.spoken import spoken
from melisma.generation.conditioning.understanding import Understanding
from melisma.generation.originality import ClipOriginality, without_index
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
from melisma.lm import TokenModel
from melisma.lm.conditioning import ATTRIBUTE_SIZES, Condition, Conditioning, text_condition
from melisma.semantic import SemanticTokenizer
from melisma.sound.resample import resample
from melisma.sound.stored import StoredSound
from melisma.tokenizers import AudioTokenizers
from melisma.values.errors import MelismaError
from melisma.values.prompt import Prompt
from melisma.values.sampling import SamplingParams
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, TokenGrid
from melisma.values.waveform import Waveform

FIRST_FRAMES = 8
"""Token frames of the first block of a stream: a third of a second (chosen)."""
BLOCK_FRAMES = 25
"""Token frames of the following blocks."""


MUSICLM_SAMPLING: Sampling = {
    "guidance_semantic": 2.0,
    "temperature_semantic": 0.85,
    "top_k_semantic": 200,
    "guidance_coarse": 2.5,
    "temperature_coarse": 0.85,
    "top_k_coarse": 60,
    "temperature_fine": 0.4,
}
"""Default sampling parameters of every stage: guidance and temperature are the best of eleven
settings by the evaluation model."""


class MusicLM(AudioPipeline):
    """Pipeline of the frozen tokenizers and three stages: mono audio at 24 kHz."""

    sampling_defaults = MUSICLM_SAMPLING

    def __init__(
        self,
        tokenizers: AudioTokenizers,
        semantic: TokenModel | None,
        coarse: TokenModel,
        fine: TokenModel | None,
        *,
        name: str,
        licence: str,
        folder: Path | None = None,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        """
        Args:
            tokenizers: Codec, semantic tokenizer and joint embedding.
            semantic: The semantic stage; None: the coarse stage is conditioned on the words alone
                (MusicLM's ablation, section 5.4).
            coarse: The coarse acoustic stage.
            fine: The fine acoustic stage; None: the coarse levels alone are decoded.
            name: Name of the model in output files.
            licence: Licence of the weights.
            folder: Folder of the model; needed for its originality index.
            precision: Of the stages' weights, as `NativeEngine` takes it.
            threads: As `NativeEngine` takes them.

        Raises:
            MelismaError: The coarse stage reads semantic tokens that no stage samples.
        """
        if semantic is None and coarse.settings.conditions.source_levels:
            raise MelismaError(
                "the coarse stage reads semantic tokens: a semantic stage is missing"
            )
        self.tokenizers = tokenizers
        self.semantic = None if semantic is None else semantic.eval()
        self.coarse = coarse.eval()
        self._engines = {
            name: NativeEngine(stage, precision=precision, threads=threads)
            for name, stage in (("semantic", self.semantic), ("coarse", self.coarse))
            if stage is not None
        }
        self.fine = None if fine is None else fine.eval()
        super().__init__(name=name, licence=licence, rate_hz=SAMPLE_RATE_HZ, best_of=4)
        self._folder = folder
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of a hash of all weights that affect the samples."""
        if not self._fingerprint:
            digest = hashlib.sha256("".join(sorted(self.tokenizers.fingerprints.values())).encode())
            for stage in (self.semantic, self.coarse, self.fine):
                if stage is not None:
                    for tensor in stage.state_dict().values():
                        digest.update(tensor.float().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:12]
        return self._fingerprint

    @property
    def reads_captions(self) -> bool:
        """Whether a single stage is conditioned on the words alone (the recipe *single*)."""
        return bool(self.coarse.settings.conditions.text_width)

    def resolve_sampling(self, sampling: SamplingParams | None) -> Sampling:
        """All sampling parameters, see `Pipeline`; those of a single stage are the coarse stage's.

        Raises:
            MelismaError: A parameter that this model does not have, or one that is given twice.
        """
        if self.semantic is not None or sampling is None:
            return super().resolve_sampling(sampling)
        given = sampling.flat()
        for name in ("guidance", "temperature", "top_k"):
            if name in given:
                if f"{name}_coarse" in given:
                    raise MelismaError(
                        f"{name} and {name}_coarse are the same in a model of a single stage: give "
                        "one of them"
                    )
                given[f"{name}_coarse"] = given.pop(name)
        return super().resolve_sampling(SamplingParams.of(given))

    def originality_index(self) -> ClipOriginality:
        """The index of training clips, see `Pipeline`."""
        found = (
            None if self._folder is None else ClipOriginality.read(self._folder, self.tokenizers)
        )
        if found is None:
            raise without_index(self.name if self._folder is None else self._folder.name, "index")
        return found

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
        """Generates a piece for each prompt, see `Pipeline`."""
        requested = prompts_of(prompts, Prompt)
        best_of = self.best_of if best_of is None else best_of
        check_numbers(seed, best_of, len(requested))
        check_rank(rank)
        resolved, context = self.resolve_sampling(sampling), context or AudioConditions()
        conditionings, generators, lengths = [], [], []
        prefix = self._prefix(context)
        for i, prompt in enumerate(requested):
            conditionings += [self._read(prompt, seed + i)] * best_of
            generators += [generator_of(seed + i, c, "drawing") for c in range(best_of)]
            lengths += [prefix.frames + frames_of(prompt, context.spare_seconds)] * best_of
        conditioning = self._conditioning(conditionings, max(lengths), prefix, context)
        semantic, acoustic = self._sample(
            conditioning, lengths, generators, resolved, prefix.of(len(lengths)), progress
        )
        sounds = self._decode(acoustic, requested, best_of, prefix, context.spare_seconds)
        similarities, scores = rank_candidates(
            self.tokenizers, sounds, conditionings, rank, context, prefix.samples
        )
        pieces = []
        for i, (best, candidates) in enumerate(best_candidates(scores, best_of)):
            frames, one = lengths[best], conditionings[best]
            shown = shown_conditions(one, context, self.reads_captions)
            pieces.append(
                AudioPiece(
                    sound=sounds[best],
                    prompt=requested[i],
                    seed=seed + i,
                    similarity=similarities[best],
                    candidates=candidates,
                    semantic=None
                    if semantic is None
                    else _grid(semantic[best, :, :frames], self.tokenizers.semantic),
                    acoustic=_grid(acoustic[best, :, :frames], self.tokenizers.codec),
                    conditions=shown,
                    stated=one.reading.stated,
                    understanding=understanding_of_prompt(requested[i], one, shown),
                    absent=one.absent,
                    context=context,
                    new_sample=prefix.samples,
                )
            )
        return pieces

    def _read(self, prompt: Prompt, seed: int) -> PromptConditioning:
        """The conditioning of a prompt by the text tower."""
        generator = generator_of(seed, 0, "asking")
        conditioning = condition_on_prompt(self.tokenizers.joint, prompt, generator)
        if self.reads_captions:
            conditioning = dataclasses.replace(conditioning, words=spoken(prompt))
        return conditioning

    def understand(
        self, prompt: Prompt, *, seed: int = 0, context: AudioConditions | None = None
    ) -> Understanding:
        """What of a prompt is understood, see `AudioPipeline`."""
        conditioning = self._read(prompt, seed)
        shown = shown_conditions(conditioning, context or AudioConditions(), self.reads_captions)
        return understanding_of_prompt(prompt, conditioning, shown)

    def _decode(
        self,
        acoustic: Tensor,
        prompts: Sequence[Prompt],
        best_of: int,
        prefix: PrefixTokens,
        spare_seconds: float,
    ) -> list[StoredSound]:
        """Decodes every candidate and cuts it to the duration of its prompt, with what is spare."""
        sounds = [StoredSound(rate_hz=SAMPLE_RATE_HZ, channels=1) for _ in acoustic]
        for block in self.tokenizers.codec.decode_blocks(acoustic):
            for sound, samples in zip(sounds, block.numpy(), strict=True):
                sound.append(samples[None])
        for number, sound in enumerate(sounds):
            seconds = prompts[number // best_of].duration_seconds + spare_seconds
            sound.cut(prefix.samples + round(seconds * SAMPLE_RATE_HZ))
        return sounds

    def stream(
        self,
        prompt: Prompt,
        *,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        context: AudioConditions | None = None,
    ) -> Iterator[Waveform]:
        """Yields the sound of one piece as its tokens are sampled, see `AudioPipeline`.

        The semantic tokens of the whole piece are sampled before the first block. Of a model with a
        fine stage the coarse levels alone are decoded.
        """
        [prompt] = prompts_of(prompt, Prompt)
        check_numbers(seed, 1)
        resolved, context = self.resolve_sampling(sampling), context or AudioConditions()
        prefix = self._prefix(context)
        generators = [generator_of(seed, 0, "drawing")]
        frames = prefix.frames + frames_of(prompt, context.spare_seconds)
        plain = self._conditioning([self._read(prompt, seed)], frames, prefix, context)
        sounds = self._stream(plain, frames, generators, resolved, prefix)
        if context.beginning is None:
            return sounds
        return joined_stream(context, sounds, prefix.samples, prompt.duration_seconds)

    def _stream(
        self,
        plain: Conditioning,
        frames: int,
        generators: list[torch.Generator],
        resolved: Sampling,
        prefix: PrefixTokens,
    ) -> Iterator[Waveform]:
        """Yields the decoded sound as its tokens are sampled."""
        conditioning, _ = self._with_semantic(plain, [frames], generators, resolved, prefix, None)
        codec = self.tokenizers.codec
        state, done, last = codec.initial_state(), 0, None
        for grid in sample_stream(
            self._engines["coarse"],
            conditioning,
            frames,
            stage_sampling(resolved, "coarse"),
            generators,
            prefix=prefix.acoustic,
            first_steps=FIRST_FRAMES + self.coarse.pattern.offsets[-1],
            block_steps=BLOCK_FRAMES,
        ):
            if grid.done <= done:
                continue
            tokens, done = grid.tokens(done), grid.done
            sound, state = codec.step(tokens, state)
            last = tokens[..., -1:].clone()
            if sound.shape[1]:
                yield Waveform(samples=sound.numpy(), rate_hz=SAMPLE_RATE_HZ)
        assert last is not None
        sound = codec.finish(last, state)
        yield Waveform(samples=sound.numpy(), rate_hz=SAMPLE_RATE_HZ)

    def _prefix(self, context: AudioConditions) -> PrefixTokens:
        """Semantic and acoustic tokens of the audio that the piece begins with."""
        if context.beginning is None:
            return PrefixTokens(semantic=None, acoustic=None)
        mono = resample(context.beginning, SAMPLE_RATE_HZ, 1)
        # Samples are dropped at the start, so that the last frame ends where the beginning ends.
        first = mono.samples.shape[1] % SAMPLES_PER_FRAME
        sound = torch.tensor(mono.samples[:, first:], dtype=torch.float32, device="cpu")
        tokenizers, semantic = self.tokenizers, None
        if self.semantic is not None:
            semantic = tokenizers.semantic.encode_states(sound).tokens
        acoustic = tokenizers.codec.encode_sound(sound, self.coarse.settings.levels)
        return PrefixTokens(semantic=semantic, acoustic=acoustic)

    def _conditioning(
        self,
        conditionings: list[PromptConditioning],
        frames: int,
        prefix: PrefixTokens,
        context: AudioConditions,
    ) -> Conditioning:
        """What all stages are conditioned on."""
        found = conditions_of(conditionings, frames)
        if prefix.frames or context.melody is not None:
            # Where the beats of the context lie is unknown, and its tempo is known only where the
            # words state it; the tokens, or the notes of the melody, carry both.
            assert found.attributes is not None
            tempo = [name for name, _ in ATTRIBUTE_SIZES].index("tempo")
            present = found.attributes.present.clone()
            stated = [one.reading.stated.tempo_bpm is not None for one in conditionings]
            present[:, tempo] &= torch.tensor(stated, dtype=torch.bool, device="cpu")
            attributes = dataclasses.replace(found.attributes, present=present)
            found = dataclasses.replace(found, rhythm=None, attributes=attributes)
        if context.melody is not None:
            notes = torch.zeros(len(found), frames, dtype=torch.long, device="cpu")
            present = torch.zeros(len(found), frames, dtype=torch.bool, device="cpu")
            new = frames - prefix.frames
            notes[:, prefix.frames :] = melody_classes(self.tokenizers, context.melody, new)
            present[:, prefix.frames :] = True
            melody = Condition(values=notes, present=present)
            found = dataclasses.replace(found, melody=melody)
        if self.reads_captions:
            text, lengths = self.tokenizers.joint.text_states([one.words for one in conditionings])
            found = dataclasses.replace(found, text=text_condition(text, lengths))
        return found

    def _with_semantic(
        self,
        conditioning: Conditioning,
        lengths: list[int],
        generators: list[torch.Generator],
        sampling: Sampling,
        prefix: PrefixTokens,
        progress: Callable[[int], None] | None,
    ) -> tuple[Conditioning, Tensor | None]:
        """The conditioning of the coarse stage, and the semantic tokens in it."""
        if self.semantic is None:
            return conditioning, None
        semantic = sample(
            self._engines["semantic"],
            dataclasses.replace(conditioning, text=None),
            lengths,
            stage_sampling(sampling, "semantic"),
            generators,
            prefix=prefix.semantic,
            progress=progress,
        )
        return dataclasses.replace(conditioning, source=semantic), semantic

    def _sample(
        self,
        conditioning: Conditioning,
        lengths: list[int],
        generators: list[torch.Generator],
        sampling: Sampling,
        prefix: PrefixTokens,
        progress: Progress | None,
    ) -> tuple[Tensor | None, Tensor]:
        """All stages: (semantic [batch, level, frame], acoustic [batch, level, frame])."""
        stages = [stage for stage in (self.semantic, self.coarse) if stage is not None]
        steps = [stage.pattern.steps(max(lengths)) for stage in stages]

        def report(before: int) -> Callable[[int], None] | None:
            if (listener := progress) is None:
                return None
            return lambda step: listener(0.95 * (before + step) / sum(steps))

        coarse, semantic = self._with_semantic(
            conditioning, lengths, generators, sampling, prefix, report(0)
        )
        acoustic = sample(
            self._engines["coarse"],
            coarse,
            lengths,
            stage_sampling(sampling, "coarse"),
            generators,
            prefix=prefix.acoustic,
            progress=report(sum(steps[:-1])),
        )
        if self.fine is not None:
            acoustic = self._sample_fine(self.fine, acoustic, coarse, lengths, sampling, generators)
        return semantic, acoustic

    @staticmethod
    def _sample_fine(
        fine: TokenModel,
        acoustic: Tensor,
        conditioning: Conditioning,
        lengths: list[int],
        sampling: Sampling,
        generators: list[torch.Generator],
    ) -> Tensor:
        """Samples the fine levels in batches of equal length, as the fine stage is not causal."""
        out = acoustic.new_zeros(len(acoustic), fine.settings.levels, acoustic.shape[2])
        for length in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == length]
            out[rows, :, :length] = sample_parallel(
                fine,
                acoustic[rows, :, :length],
                conditioning.rows(rows).frames(0, length),
                stage_sampling(sampling, "fine"),
                [generators[row] for row in rows],
            )
        return out

    def detect_families(self, sound: StoredSound | Waveform) -> dict[str, float]:
        """Probability that each instrument family plays, see `AudioPipeline`."""
        return detect_families(self.tokenizers, sound)


@dataclass(frozen=True, kw_only=True)
class PrefixTokens:
    """Tokens int64 [batch, level, frame] that pieces begin with; None: no tokens are given."""

    semantic: Tensor | None
    acoustic: Tensor | None

    @property
    def frames(self) -> int:
        """Number of given frames."""
        return 0 if self.acoustic is None else self.acoustic.shape[2]

    @property
    def samples(self) -> int:
        """Number of their samples."""
        return self.frames * SAMPLES_PER_FRAME

    def of(self, batch: int) -> PrefixTokens:
        """The tokens, repeated for every piece of a batch."""

        def repeated(tokens: Tensor | None) -> Tensor | None:
            return None if tokens is None else tokens.expand(batch, -1, -1)

        return PrefixTokens(semantic=repeated(self.semantic), acoustic=repeated(self.acoustic))


def frames_of(prompt: Prompt, spare_seconds: float = 0.0) -> int:
    """Number of token frames of a prompt's duration and of what is spare, rounded up."""
    return math.ceil((prompt.duration_seconds + spare_seconds) * FRAME_RATE_HZ)


def _grid(tokens: Tensor, tokenizer: AcousticCodec | SemanticTokenizer) -> TokenGrid:
    return TokenGrid(
        tokens=tokens.cpu().numpy(),
        vocabulary=tokenizer.settings.vocabulary,
        frame_rate_hz=FRAME_RATE_HZ,
        fingerprint=tokenizer.fingerprint,
    )
