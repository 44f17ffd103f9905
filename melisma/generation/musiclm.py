"""A prompt becomes sound. Everything that happens on the way is called from this page.

Words -> the joint embedding speaks style and attributes -> the language model draws SEMANTIC, then
COARSE, then FINE tokens, each of the whole piece, looking back over a window -> the codec decodes
-> every candidate is heard, and the one that is nearest to the words is kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from melisma.codec import AcousticCodec
from melisma.engine.cpu import NativeEngine
from melisma.engine.generate import sample, sample_parallel, sample_stream
from melisma.engine.sampling import SamplingParams
from melisma.generation.conditioning.audio import AudioConditions, at_rate, tune_classes
from melisma.generation.conditioning.prompt import (
    PromptConditioning,
    condition_on_prompt,
    conditions_of,
)
from melisma.generation.pipeline import (
    Piece,
    SoundComposer,
    changed_settings,
    generator_of,
    prompts_of,
)
from melisma.generation.ranking import check_ranking, detect_families, rank_candidates
from melisma.lm import TokenModel
from melisma.lm.conditioning import ATTRIBUTE_SIZES, Conditioning
from melisma.semantic import SemanticTokenizer
from melisma.tokenizers import AudioTokenizers
from melisma.values.prompt import Prompt
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, TokenGrid
from melisma.values.waveform import Waveform

FIRST_FRAMES = 8
"""Frames of the first block of a stream: a third of a second (chosen)."""
BLOCK_FRAMES = 25
"""Frames of every other block."""


@dataclass(frozen=True, kw_only=True)
class MusicLMSampling:
    """How every stage draws; guidance and temperature as the judge chose among eleven settings."""

    guidance_semantic: float = 2.0
    """Classifier-free guidance of the semantic stage; 1 is none."""
    temperature_semantic: float = 0.85
    top_k_semantic: int = 200
    guidance_coarse: float = 2.5
    temperature_coarse: float = 0.85
    top_k_coarse: int = 60
    temperature_fine: float = 0.4

    def semantic(self) -> SamplingParams:
        """How the semantic stage draws."""
        return SamplingParams(
            temperature=self.temperature_semantic,
            top_k=self.top_k_semantic,
            guidance=self.guidance_semantic,
        )

    def coarse(self) -> SamplingParams:
        """How the coarse stage draws."""
        return SamplingParams(
            temperature=self.temperature_coarse,
            top_k=self.top_k_coarse,
            guidance=self.guidance_coarse,
        )


class Composer(SoundComposer):
    """The frozen ears and the three stages: mono at 24 kHz."""

    def __init__(
        self,
        ears: AudioTokenizers,
        semantic: TokenModel | None,
        coarse: TokenModel,
        fine: TokenModel | None,
        *,
        name: str,
        licence: str,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        """`semantic` None: the coarse stage draws from the words alone (MusicLM's ablation, section
        5.4). `fine` None: the coarse levels alone are decoded. `precision` and `threads` of the
        drawing stages, as `NativeEngine` takes them. `ValueError` where the coarse stage reads
        semantic tokens that no stage draws."""
        if semantic is None and coarse.settings.conditions.source_levels:
            raise ValueError("the coarse stage reads semantic tokens: a semantic stage is missing")
        self.ears = ears
        self.semantic = None if semantic is None else semantic.eval()
        self.coarse = coarse.eval()
        self._engines = {
            name: NativeEngine(stage, precision=precision, threads=threads)
            for name, stage in (("semantic", self.semantic), ("coarse", self.coarse))
            if stage is not None
        }
        self.fine = None if fine is None else fine.eval()
        super().__init__(name=name, licence=licence, rate_hz=SAMPLE_RATE_HZ, best_of=4)
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Twelve digits that change with anything that decides what is drawn."""
        if not self._fingerprint:
            digest = hashlib.sha256("".join(sorted(self.ears.fingerprints.values())).encode())
            for stage in (self.semantic, self.coarse, self.fine):
                if stage is not None:
                    for tensor in stage.state_dict().values():
                        digest.update(tensor.float().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:12]
        return self._fingerprint

    def drawing(self, changes: Mapping[str, float | int]) -> MusicLMSampling:
        """The usual settings with some changed; "guidance" is that of the semantic stage.
        `ValueError` for a name that is none of them."""
        named = {"guidance": "guidance_semantic"}
        changes = {named.get(name, name): number for name, number in changes.items()}
        return changed_settings(MusicLMSampling(), changes)

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
        """Pieces for prompts, see `SoundComposer`; `settings`: `MusicLMSampling`."""
        prompts, best_of = prompts_of(prompts), self.best_of if best_of is None else best_of
        check_ranking(best_of, rank)
        settings, given = settings or MusicLMSampling(), given or AudioConditions()
        asked, generators, lengths = [], [], []
        begun = self._begun(given)
        for i, prompt in enumerate(prompts):
            one = condition_on_prompt(self.ears.joint, prompt, generator_of(seed + i, 0, "asking"))
            asked += [one] * best_of
            generators += [generator_of(seed + i, c, "drawing") for c in range(best_of)]
            lengths += [begun.frames + frames_of(prompt)] * best_of
        conditions = self._conditions(asked, max(lengths), begun, given)
        semantic, acoustic = self._draw(
            conditions, lengths, generators, settings, begun.of(len(asked)), progress
        )
        sound = self.ears.codec.decode_tokens(acoustic).numpy()
        sounds = []
        for number, one in enumerate(sound):
            last = round(prompts[number // best_of].duration_seconds * SAMPLE_RATE_HZ)
            last += begun.frames * SAMPLES_PER_FRAME
            sounds.append(Waveform(samples=one[None, :last], rate_hz=SAMPLE_RATE_HZ))
        similarities, scores = rank_candidates(self.ears, sounds, asked, rank)
        pieces = []
        for i, prompt in enumerate(prompts):
            mine = range(i * best_of, (i + 1) * best_of)
            best = max(mine, key=lambda c: scores[c])
            frames = lengths[best]
            pieces.append(
                Piece(
                    waveform=sounds[best],
                    prompt=prompt,
                    seed=seed + i,
                    similarity=similarities[best],
                    candidates=[scores[c] for c in mine],
                    semantic=None
                    if semantic is None
                    else _grid(semantic[best, :, :frames], self.ears.semantic),
                    acoustic=_grid(acoustic[best, :, :frames], self.ears.codec),
                    conditions=_shown(asked[best], given),
                    stated=asked[best].reading.stated,
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
        """The sound of one piece as its tokens are drawn, see `SoundComposer`.

        The semantic tokens of the whole piece are drawn before the first block. A model with a fine
        stage decodes its coarse levels alone.
        """
        settings, given = settings or MusicLMSampling(), given or AudioConditions()
        begun = self._begun(given)
        asked = [condition_on_prompt(self.ears.joint, prompt, generator_of(seed, 0, "asking"))]
        generators = [generator_of(seed, 0, "drawing")]
        frames = begun.frames + frames_of(prompt)
        conditions = self._conditions(asked, frames, begun, given)
        conditions = self._with_semantic(conditions, [frames], generators, settings, begun, None)[0]
        state, told, last = self.ears.codec.initial_state(), 0, None
        offset = self.coarse.pattern.offsets[-1]
        for grid in sample_stream(
            self._engines["coarse"],
            conditions,
            frames,
            settings.coarse(),
            generators,
            prefix=begun.acoustic,
            first_steps=FIRST_FRAMES + offset,
            block_steps=BLOCK_FRAMES,
        ):
            if grid.done <= told:
                continue
            tokens, told = grid.tokens(told), grid.done
            sound, state = self.ears.codec.step(tokens, state)
            last = tokens[..., -1:].clone()
            if sound.shape[1]:
                yield Waveform(samples=sound.numpy(), rate_hz=SAMPLE_RATE_HZ)
        assert last is not None
        sound = self.ears.codec.finish(last, state)
        yield Waveform(samples=sound.numpy(), rate_hz=SAMPLE_RATE_HZ)

    def _begun(self, given: AudioConditions) -> PrefixTokens:
        """What the piece begins with, as tokens of both kinds."""
        if given.beginning is None:
            return PrefixTokens(semantic=None, acoustic=None)
        mono = at_rate(given.beginning, SAMPLE_RATE_HZ, 1)
        # The last frame is whole: the piece goes on where the beginning ends.
        first = mono.samples.shape[1] % SAMPLES_PER_FRAME
        sound = torch.from_numpy(mono.samples[:, first:])
        semantic = None if self.semantic is None else self.ears.semantic.encode_states(sound).tokens
        levels = self.coarse.settings.levels
        return PrefixTokens(semantic=semantic, acoustic=self.ears.codec.encode_sound(sound, levels))

    def _conditions(
        self,
        asked: list[PromptConditioning],
        frames: int,
        begun: PrefixTokens,
        given: AudioConditions,
    ) -> Conditioning:
        conditions = conditions_of(asked, frames)
        if begun.frames or given.melody is not None:
            # Where the beats of what is given lie is not known, and how fast they follow each other
            # only where the words say it; the tokens, or the notes of the tune, tell both.
            rhythm = torch.full_like(conditions.rhythm, math.nan)
            attributes = conditions.attributes.clone()
            place = [name for name, _ in ATTRIBUTE_SIZES].index("tempo")
            for row, one in enumerate(asked):
                if one.reading.stated.tempo_bpm is None:
                    attributes[row, place] = ATTRIBUTE_SIZES[place][1]
            conditions = dataclasses.replace(conditions, rhythm=rhythm, attributes=attributes)
        if given.melody is not None:
            melody = conditions.melody.clone()
            melody[:, begun.frames :] = tune_classes(self.ears, given.melody, frames - begun.frames)
            conditions = dataclasses.replace(conditions, melody=melody)
        if self.coarse.settings.conditions.text_width:
            text, lengths = self.ears.joint.read_words([one.words for one in asked])
            conditions = dataclasses.replace(conditions, text=text, text_lengths=lengths)
        return conditions

    def _with_semantic(
        self,
        conditions: Conditioning,
        lengths: list[int],
        generators: list[torch.Generator],
        settings: MusicLMSampling,
        begun: PrefixTokens,
        progress: Callable[[int], None] | None,
    ) -> tuple[Conditioning, Tensor | None]:
        """The conditions of the coarse stage, and the semantic tokens among them."""
        if self.semantic is None:
            return conditions, None
        plain = dataclasses.replace(conditions, text=None, text_lengths=None)
        semantic = sample(
            self._engines["semantic"],
            plain,
            lengths,
            settings.semantic(),
            generators,
            prefix=begun.semantic,
            progress=progress,
        )
        return dataclasses.replace(conditions, source=semantic), semantic

    def _draw(
        self,
        conditions: Conditioning,
        lengths: list[int],
        generators: list[torch.Generator],
        settings: MusicLMSampling,
        begun: PrefixTokens,
        progress: Callable[[float], None] | None,
    ) -> tuple[Tensor | None, Tensor]:
        """All stages: (semantic [batch, level, frame], acoustic [batch, level, frame])."""
        drawn = [stage for stage in (self.semantic, self.coarse) if stage is not None]
        steps = [stage.pattern.steps(max(lengths)) for stage in drawn]

        def tell(before: int) -> Callable[[int], None] | None:
            if (hears := progress) is None:
                return None
            return lambda step: hears(0.95 * (before + step) / sum(steps))

        told, semantic = self._with_semantic(
            conditions, lengths, generators, settings, begun, tell(0)
        )
        acoustic = sample(
            self._engines["coarse"],
            told,
            lengths,
            settings.coarse(),
            generators,
            prefix=begun.acoustic,
            progress=tell(sum(steps[:-1])),
        )
        if self.fine is not None:
            acoustic = self._filled(self.fine, acoustic, told, lengths, settings, generators)
        return semantic, acoustic

    @staticmethod
    def _filled(
        fine: TokenModel,
        acoustic: Tensor,
        told: Conditioning,
        lengths: list[int],
        settings: MusicLMSampling,
        generators: list[torch.Generator],
    ) -> Tensor:
        """All levels; the fine stage looks ahead, so that pieces of each length go together."""
        drawing = SamplingParams(temperature=settings.temperature_fine)
        out = acoustic.new_zeros(len(acoustic), fine.settings.levels, acoustic.shape[2])
        for length in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == length]
            out[rows, :, :length] = sample_parallel(
                fine,
                acoustic[rows, :, :length],
                told.rows(rows).frames(0, length),
                drawing,
                [generators[row] for row in rows],
            )
        return out

    def detect_families(self, waveform: Waveform) -> dict[str, float]:
        """Probability of each family of instruments sounding, by the joint embedding's head."""
        return detect_families(self.ears, waveform)


@dataclass(frozen=True, kw_only=True)
class PrefixTokens:
    """Tokens int64 [batch, level, frame] that pieces begin with; None for none."""

    semantic: Tensor | None
    acoustic: Tensor | None

    @property
    def frames(self) -> int:
        """Frames that are given."""
        return 0 if self.acoustic is None else self.acoustic.shape[2]

    def of(self, batch: int) -> PrefixTokens:
        """The same for every piece of a batch."""

        def repeated(tokens: Tensor | None) -> Tensor | None:
            return None if tokens is None else tokens.expand(batch, -1, -1)

        return PrefixTokens(semantic=repeated(self.semantic), acoustic=repeated(self.acoustic))


def _shown(asked: PromptConditioning, given: AudioConditions) -> dict[str, str]:
    """What was told, in words: beside a tune or a beginning only a tempo that was stated."""
    shown = asked.shown()
    if given.melody is None and given.beginning is None:
        return shown
    if asked.reading.stated.tempo_bpm is None:
        del shown["tempo"]
    if given.melody is not None:
        shown["tune"] = "followed"
    if given.beginning is not None:
        shown["continues"] = f"{given.beginning.seconds:.1f} s"
    return shown


def frames_of(prompt: Prompt) -> int:
    """Frames that hold the prompt's duration."""
    return math.ceil(prompt.duration_seconds * FRAME_RATE_HZ)


def _grid(tokens: Tensor, tokenizer: AcousticCodec | SemanticTokenizer) -> TokenGrid:
    return TokenGrid(
        tokens=tokens.cpu().numpy(),
        vocabulary=tokenizer.settings.vocabulary,
        frame_rate_hz=FRAME_RATE_HZ,
        fingerprint=tokenizer.fingerprint,
    )
